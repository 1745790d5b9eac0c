"""Who may do what: every operation of the API's own document, with every kind of key.

The programme is the shop's; `own` is the shop's key, `foreign` that of another advertiser, which must neither see nor change it.
"""

import json
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, timedelta
from uuid import UUID

import asyncpg
import httpx
import pytest
import pytest_asyncio

from tests.integration.api_client import ADMIN_KEY, Api, Shop, click_text, open_shop
from tests.integration.conftest import Servers, database_url
from tracker.adapters.postgres_pool import database
from tracker.api.app import create
from tracker.settings import Settings

pytestmark = pytest.mark.integration
in_one_loop = pytest.mark.asyncio(loop_scope="module")

TABLE = """
                                                     none wrong revoked viewer operator admin own foreign
GET   /api/v1/advertisers                            401  401   401     200    200      200   200 200
POST  /api/v1/advertisers                            401  401   401     403    201      201   403 403
GET   /api/v1/advertisers/{key}                      401  401   401     200    200      200   200 404
PATCH /api/v1/advertisers/{key}                      401  401   401     403    200      200   403 403
POST  /api/v1/advertisers/{slug}/rotate-token        401  401   401     403    201      201   403 403
POST  /api/v1/advertisers/{slug}/revoke-token        401  401   401     403    200      200   403 403
GET   /api/v1/advertisers/{slug}/signing-secrets     401  401   401     200    200      200   200 404
POST  /api/v1/advertisers/{slug}/signing-secrets     401  401   401     403    201      201   403 403
POST  /api/v1/advertisers/{slug}/signing-secrets/revoke 401 401 401     403    200      200   403 403
GET   /api/v1/campaigns                              401  401   401     200    200      200   200 200
POST  /api/v1/campaigns                              401  401   401     403    201      201   403 403
GET   /api/v1/campaigns/{key}                        401  401   401     200    200      200   200 404
PATCH /api/v1/campaigns/{key}                        401  401   401     403    200      200   403 403
GET   /api/v1/partners                               401  401   401     200    200      200   403 403
POST  /api/v1/partners                               401  401   401     403    201      201   403 403
GET   /api/v1/partners/{key}                         401  401   401     200    200      200   403 403
PATCH /api/v1/partners/{key}                         401  401   401     403    200      200   403 403
GET   /api/v1/links                                  401  401   401     200    200      200   200 200
POST  /api/v1/links                                  401  401   401     403    201      201   403 403
GET   /api/v1/links/{key}                            401  401   401     200    200      200   200 404
PATCH /api/v1/links/{key}                            401  401   401     403    200      200   403 403
GET   /api/v1/aliases                                401  401   401     200    200      200   200 200
POST  /api/v1/aliases                                401  401   401     403    201      201   403 403
GET   /api/v1/aliases/{key}                          401  401   401     200    200      200   200 404
PATCH /api/v1/aliases/{key}                          401  401   401     403    200      200   403 403
GET   /api/v1/coupons                                401  401   401     200    200      200   200 200
POST  /api/v1/coupons                                401  401   401     403    201      201   403 403
GET   /api/v1/coupons/{key}                          401  401   401     200    200      200   200 404
PATCH /api/v1/coupons/{key}                          401  401   401     403    200      200   403 403
GET   /api/v1/goals                                  401  401   401     200    200      200   200 200
POST  /api/v1/goals                                  401  401   401     403    201      201   403 403
GET   /api/v1/goals/{key}                            401  401   401     200    200      200   200 404
PATCH /api/v1/goals/{key}                            401  401   401     403    200      200   403 403
GET   /api/v1/tracking-hosts                         401  401   401     200    200      200   403 403
POST  /api/v1/tracking-hosts                         401  401   401     403    201      201   403 403
GET   /api/v1/tracking-hosts/{key}                   401  401   401     200    200      200   403 403
PATCH /api/v1/tracking-hosts/{key}                   401  401   401     403    200      200   403 403
GET   /api/v1/old-ids                                401  401   401     200    200      200   403 403
POST  /api/v1/old-ids                                401  401   401     403    201      201   403 403
GET   /api/v1/old-ids/{key}                          401  401   401     200    200      200   403 403
PATCH /api/v1/old-ids/{key}                          401  401   401     403    200      200   403 403
GET   /api/v1/orphans                                401  401   401     200    200      200   403 403
POST  /api/v1/orphans/map                            401  401   401     403    201      201   403 403
POST  /api/v1/orphans/attribute                      401  401   401     403    200      200   403 403
GET   /api/v1/keys                                   401  401   401     403    403      200   403 403
POST  /api/v1/keys                                   401  401   401     403    403      201   403 403
POST  /api/v1/keys/{number}/revoke                   401  401   401     403    403      200   403 403
GET   /api/v1/clicks/{click_id}                      401  401   401     200    200      200   200 404
GET   /api/v1/conversions                            401  401   401     200    200      200   200 200
GET   /api/v1/conversions/{conversion_id}            401  401   401     200    200      200   200 404
POST  /api/v1/conversions/{conversion_id}/{action}   401  401   401     403    200      200   200 404
POST  /api/v1/conversions/match                      401  401   401     403    200      200   200 200
POST  /api/v1/conversions/bulk                       401  401   401     403    200      200   200 422
GET   /api/v1/balances                               401  401   401     200    200      200   200 200
GET   /api/v1/ledger                                 401  401   401     200    200      200   200 200
GET   /api/v1/terms                                  401  401   401     200    200      200   200 200
POST  /api/v1/terms                                  401  401   401     403    201      201   403 403
POST  /api/v1/campaigns/{slug}/recompute             401  401   401     403    200      200   403 403
GET   /api/v1/reports                                401  401   401     200    200      200   200 200
GET   /api/v1/rates                                  401  401   401     200    200      200   403 403
POST  /api/v1/rates                                  401  401   401     403    200      200   403 403
GET   /api/v1/payout-runs                            401  401   401     200    200      200   403 403
POST  /api/v1/payout-runs                            401  401   401     403    201      201   403 403
GET   /api/v1/payout-runs/{run}                      401  401   401     200    200      200   403 403
POST  /api/v1/payout-runs/{run}/export               401  401   401     403    200      200   403 403
POST  /api/v1/payout-runs/{run}/{action}             401  401   401     403    200      200   403 403
GET   /api/v1/payout-runs/{run}/statements/{partner} 401  401   401     200    200      200   403 403
GET   /api/v1/payout-details/{partner}               401  401   401     403    200      200   403 403
PUT   /api/v1/payout-details/{partner}               401  401   401     403    200      200   403 403
DELETE /api/v1/payout-details/{partner}              401  401   401     403    204      204   403 403
GET   /api/v1/old-reports                            401  401   401     200    200      200   403 403
GET   /api/v1/old-reports/{postback_id}              401  401   401     200    200      200   403 403
POST  /api/v1/old-reports/retry                      401  401   401     403    200      200   403 403
GET   /api/v1/tee                                    401  401   401     200    200      200   403 403
GET   /api/v1/tee/{postback_id}                      401  401   401     200    200      200   403 403
POST  /api/v1/tee/retry                              401  401   401     403    200      200   403 403
GET   /api/v1/audit                                  401  401   401     200    200      200   403 403
POST  /api/v1/explain                                401  401   401     200    200      200   403 403
GET   /postback                                      200  200   200     200    200      200   200 200
GET   /visit.gif                                     200  200   200     200    200      200   200 200
GET   /turnout.js                                    200  200   200     200    200      200   200 200
POST  /postback                                      200  200   200     200    200      200   200 200
GET   /postback/status                               200  200   200     200    200      200   200 200
GET   /pixel.gif                                     200  200   200     200    200      200   200 200
POST  /pixel.gif                                     200  200   200     200    200      200   200 200
POST  /webhooks/{shop}/{advertiser}                  401  401   401     401    401      401   401 401
GET   /healthz                                       200  200   200     200    200      200   200 200
GET   /readyz                                        200  200   200     200    200      200   200 200
GET   /metrics                                       200  200   200     200    200      200   200 200
"""
ROLES, *_ROWS = (line.split() for line in TABLE.strip().splitlines())
EXPECTED = {f"{method} {path}": dict(zip(ROLES, map(int, statuses), strict=True)) for method, path, *statuses in _ROWS}
STAFF = ("viewer", "operator", "admin")
# What nobody but its advertiser and the staff may read, as it stands in the answers.
OF_SHOP = ("Shop", "shop.example", "shoes", "adas", "ada", "TEN", "lead", "order-")
OF_OTHER = ("Rival", "rival.example", "boots", "bobs", "bob", "FIVE", "signup", "purchase-")
CHANGEABLE = """
    advertisers campaigns partners links aliases coupons goals tracking_hosts old_ids api_keys postback_tokens terms
    conversions ledger_entries events exchange_rates payout_runs statements payout_details tee_deliveries
    old_reports
"""
EARNED = """
    INSERT INTO ledger_entries (effective_on, account, partner_id, advertiser_id, kind, status, amount_micros, currency, actor)
    SELECT '2020-01-01', 'partner', p.id, a.id, 'conversion', 'approved', 1000000, 'EUR', 'test' FROM partners p, advertisers a
    WHERE p.slug = 'ada' AND a.slug = 'shop'
"""
PASSED_ON = """
    INSERT INTO tee_deliveries (postback_id, received_at, kind, platform, source, host, forward_to, origin, target, method, our_status,
        our_body)
    VALUES (gen_random_uuid(), now(), 'postback', 'tune', 'tune', 'go.shop.example', 'https://old.example', 'https://old.example:443', '/x',
        'GET', 200, '') RETURNING postback_id
"""
CAME = """
    INSERT INTO old_reports (postback_id, received_at, kind, platform, source, host, method, target, state)
    VALUES (gen_random_uuid(), now(), 'postback', 'tune', 'tune', 'go.shop.example', 'GET', '/aff_lsr?transaction_id=x', 'refused')
    RETURNING postback_id
"""
REPORTED = {"tee": PASSED_ON, "old-reports": CAME}
STATE = " UNION ALL ".join(
    f"SELECT '{table}', md5(coalesce(string_agg(t::text, ';' ORDER BY t::text), '')) FROM {table} t" for table in CHANGEABLE.split()
)


@dataclass
class World:
    """Two advertisers with the same things each; a key of each role; a click and as many pending conversions of each as are asked for."""

    api: Api
    shop: Shop
    keys: dict[str, str]
    click: UUID
    orders: int = 0

    async def ask(self, role: str, method: str, path: str, body: object = None) -> httpx.Response:
        headers = {} if role == "none" else {"Authorization": f"Bearer {self.keys[role]}"}
        return await self.api.client.request(method, path, json=body, headers=headers)

    async def made(self, path: str, body: object) -> dict[str, object]:
        answer = await self.ask("admin", "POST", path, body)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    async def pending(self) -> str:
        """A new pending conversion of the shop."""
        self.orders += 1
        order = f"token={self.shop.token}&click_id={click_text(self.click)}&txid=order-{self.orders}&amount=10&status=pending"
        answer = await self.api.client.get(f"/postback?{order}")
        assert answer.json()["status"] == "attributed", answer.text
        return answer.json()["conversion_id"]

    async def state(self) -> dict[str, str]:
        """A digest of every table that requests change."""
        async with self.shop.database.connection() as connection:
            return dict(await connection.fetch(STATE))


async def keys_of(api: Api) -> dict[str, str]:
    async def key(role: str, advertiser: str | None = None) -> dict[str, str]:
        made = await api.admin("POST", "/api/v1/keys", {"role": role, "name": role, "advertiser": advertiser})
        return made.json()

    revoked = await key("admin")
    await api.admin("POST", f"/api/v1/keys/{revoked['id']}/revoke")
    keys = {name: (await key(name))["key"] for name in STAFF}
    scoped = {"own": (await key("advertiser", "shop"))["key"], "foreign": (await key("advertiser", "rival"))["key"]}
    return keys | scoped | {"wrong": ADMIN_KEY + "x", "revoked": revoked["key"]}


RIVAL = {
    "advertisers": {"slug": "rival", "name": "Rival", "currency": "EUR", "domains": ["rival.example"]},
    "campaigns": {"slug": "boots", "advertiser": "rival", "name": "Boots", "destination_url": "https://rival.example/", "payout": "10%"},
    "partners": {"slug": "bob", "name": "Bob", "email": "bob@example.com"},
    "links": {"slug": "bobs", "partner": "bob", "campaign": "boots"},
    "aliases": {"url": "https://go.rival.example/x", "link": "bobs"},
    "coupons": {"code": "FIVE", "partner": "bob", "campaign": "boots"},
    "goals": {"slug": "signup", "campaign": "boots", "payout": "1 EUR"},
    "tracking-hosts": {"host": "go.rival.example", "advertiser": "rival"},
}
SHOPS = {
    "aliases": {"url": "https://go.shop.example/x", "link": "adas"},
    "coupons": {"code": "TEN", "partner": "ada", "campaign": "shoes"},
    "goals": {"slug": "lead", "campaign": "shoes", "payout": "1 EUR"},
    "tracking-hosts": {"host": "go.shop.example", "advertiser": "shop"},
    "old-ids": {"source": "tune", "kind": "partner", "source_id": "42", "partner": "ada"},
}


async def furnished(api: Api, shop: Shop) -> World:
    """The shop and its rival, each with all it can have."""
    tokens = {}
    for things in (RIVAL, SHOPS):
        for plural, body in things.items():
            made = await api.admin("POST", f"/api/v1/{plural}", body)
            assert made.status_code == 201, made.text
            tokens.setdefault(plural, made.json().get("postback_token"))
    world = World(api, shop, await keys_of(api), await shop.click())
    await world.made("/api/v1/advertisers/shop/signing-secrets", {"kind": "woocommerce", "secret": "the-shops-own-secret"})
    await world.pending()
    sale = f"token={tokens['advertisers']}&coupon=FIVE&txid=purchase-1&amount=7"
    assert (await api.client.get(f"/postback?{sale}")).json()["status"] == "attributed"
    return world


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """One for all tests: what one changes, the next does not look at, whatever their order."""
    name = f"turnout_roles_{os.getpid()}"
    administration = await asyncpg.connect(servers.dsn)
    await administration.execute(f"CREATE DATABASE {name} TEMPLATE {servers.template}")
    dsn = database_url(servers.dsn, name)
    settings = Settings(database_url=dsn, data_dir=str(tmp_path_factory.mktemp("roles")), admin_key=ADMIN_KEY, _env_file=None)
    app = create(settings)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://tracker") as client,
        database(dsn, name="test") as opened,
    ):
        api = Api(client)
        yield await furnished(api, await open_shop(api, opened))
    await administration.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await administration.close()


ONE = {  # what stands for {key}, {slug} …: the shop's
    "advertisers": "shop", "campaigns": "shoes", "partners": "ada", "links": "adas", "coupons": "TEN", "goals": "lead",
    "tracking-hosts": "go.shop.example",
}  # fmt: skip
CHANGE = {"aliases": {"status": "paused"}, "tracking-hosts": {"fallback_url": "https://shop.example/"}, "goals": {"name": "renamed"}}
CHANGE |= {"coupons": {"status": "paused"}, "old-ids": {"status": "archived"}}


def creation(noun: str, role: str) -> dict[str, object]:
    """A body that makes one more of the shop's things."""
    new = {
        "advertisers": {"slug": f"new-{role}", "currency": "EUR"},
        "campaigns": {"slug": f"new-{role}", "advertiser": "shop", "destination_url": "https://shop.example/"},
        "partners": {"slug": f"new-{role}"},
        "links": {"slug": f"new-{role}", "partner": "ada", "campaign": "shoes"},
        "aliases": {"url": f"https://go.shop.example/{role}", "link": "adas"},
        "coupons": {"code": f"NEW-{role}", "partner": "ada", "campaign": "shoes"},
        "goals": {"slug": f"new-{role}", "campaign": "shoes"},
        "tracking-hosts": {"host": f"{role}.shop.example", "advertiser": "shop"},
        "old-ids": {"source": "tune", "kind": "partner", "source_id": role, "partner": "ada"},
        "keys": {"role": "viewer", "name": role},
        "explain": {"url": "https://go.shop.example/x"},
        "orphans": {"days": 1},
        "tee": {"reason": role},
        "old-reports": {"reason": role},
        "conversions": {"txid": f"of-{role}"},
        "terms": {"campaign": "shoes", "partner": "ada", "payout": "11%"},
        "rates": {"source": role, "rates": [{"day": "2026-11-20", "currency": "USD", "rate": "1.0905"}]},
    }
    return new[noun]


async def request_of(world: World, operation: str, role: str) -> tuple[str, str, object]:
    """Method, path and body of a request that would succeed if the role may."""
    method, path = operation.split()
    noun = path.removeprefix("/api/v1/").partition("/")[0]
    if not path.startswith("/api/"):
        return method, await public(world, path), None
    if path.endswith("/rotate-token"):
        await drop_second_token(world)
        return method, "/api/v1/advertisers/shop/rotate-token", None
    if path.endswith("/revoke-token"):
        await drop_second_token(world)
        await world.made("/api/v1/advertisers/shop/rotate-token", None)
        return method, "/api/v1/advertisers/shop/revoke-token", {"slot": 2}
    if "/signing-secrets" in path or noun.startswith("payout-"):
        return await (request_of_secrets if noun == "advertisers" else request_of_payouts)(world, method, path)
    if path.rpartition("/")[2] in ("map", "bulk", "recompute"):
        return method, path.format(slug="shoes"), await work_of(world, path, role)
    values = await made_for(world, noun, path)
    if noun in ("aliases", "old-ids"):
        values["key"] = str((await world.ask("admin", "GET", f"/api/v1/{noun}")).json()["items"][1 if noun == "aliases" else -1]["id"])
    path = path.format(**{"key": ONE.get(noun)} | values) if "{" in path else path
    if method == "POST" and not path.endswith("/approve"):
        return method, path, None if "/revoke" in path else creation(noun, role)
    body = CHANGE.get(noun, {"name": f"named by {role}"}) if method == "PATCH" else None
    return method, path + ("?group_by=advertiser,campaign,link,partner" if noun == "reports" else ""), body


async def made_for(world: World, noun: str, path: str) -> dict[str, str]:
    """What stands for the names in a path, made for this one request where it is used up."""
    values = {"click_id": click_text(world.click), "action": "approve", "postback_id": await reported(world, noun)}
    if "{conversion_id}" in path:
        values["conversion_id"] = await world.pending()
    if "{number}" in path:
        values["number"] = str((await world.made("/api/v1/keys", {"role": "viewer", "name": "to be revoked"}))["id"])
    return values


async def reported(world: World, noun: str) -> str:
    """The id of a new report of an old host, where the operation is about one."""
    return str(await world.shop.value(REPORTED[noun])) if noun in REPORTED else ""


async def work_of(world: World, path: str, role: str) -> object:
    """A body that has something done to many."""
    if path.endswith("/bulk"):
        return {"rows": [{"id": await world.pending(), "action": "approve"}]}
    if path.endswith("/recompute"):
        return {"from": "2026-01-01", "to": "2026-01-31"}
    return {"source": "tune", "kind": "partner", "source_id": f"mapped by {role}", "partner": "ada"}


async def request_of_payouts(world: World, method: str, path: str) -> tuple[str, str, object]:
    """A run of a day of its own, after all before it, that pays the shop's partner."""
    account = {"method": "paypal", "name": "A", "account": "a@example.com"}
    await world.ask("admin", "PUT", "/api/v1/payout-details/ada", account)
    if "{partner}" in path and "{run}" not in path:
        return method, path.format(partner="ada"), account if method == "PUT" else None
    world.orders += 1
    day = (date(2020, 1, 1) + timedelta(days=world.orders)).isoformat()
    body = {"from": day, "to": day, "currency": "EUR"}
    if "{run}" not in path:
        return method, path, body if method == "POST" else None
    await world.shop.execute(EARNED)
    run = (await world.made("/api/v1/payout-runs", body))["run"]
    action = "mark-paid" if method == "POST" else None
    return method, path.format(run=run, partner="ada", action=action), {"format": "csv"} if path.endswith("/export") else action and {}


async def request_of_secrets(world: World, method: str, path: str) -> tuple[str, str, object]:
    secrets, first = "/api/v1/advertisers/shop/signing-secrets", {"kind": "hmac", "slot": 1}
    await world.ask("admin", "POST", f"{secrets}/revoke", first)
    if not path.endswith("/revoke"):
        return method, secrets, {"kind": "hmac"} if method == "POST" else None
    await world.made(secrets, {"kind": "hmac"})
    return method, f"{secrets}/revoke", first


async def drop_second_token(world: World) -> None:
    await world.ask("admin", "POST", "/api/v1/advertisers/shop/revoke-token", {"slot": 2})


async def public(world: World, path: str) -> str:
    if path.startswith("/webhooks/"):  # a key is no signature
        return path.format(shop="woocommerce", advertiser="shop")
    secret = f"pixel_key={world.shop.pixel_key}" if path == "/pixel.gif" else f"token={world.shop.token}"
    txid = "order-1" if path == "/postback/status" else "order-public"
    needs_secret = path in ("/postback", "/pixel.gif", "/postback/status")
    return f"{path}?{secret}&txid={txid}&amount=1&click_id={click_text(world.click)}" if needs_secret else path


def shown(answer: httpx.Response, secrets: tuple[str, ...], asked: str) -> list[str]:
    """Which of the secrets an answer tells, those left out that the request named itself."""
    return [word for word in secrets if word not in asked and re.search(rf"\b{re.escape(word)}", answer.text)]


def test_every_operation_of_the_document_has_a_row(tmp_path) -> None:
    settings = Settings(database_url="postgresql://nowhere/x", data_dir=str(tmp_path), admin_key=ADMIN_KEY, _env_file=None)
    document = create(settings).openapi()
    operations = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    assert operations == set(EXPECTED), "decide for each role, and write it into TABLE"


@in_one_loop
@pytest.mark.parametrize("operation", EXPECTED)
async def test_an_operation_does_for_each_role_what_the_table_says(world: World, operation: str) -> None:
    """Who is refused changes nothing; an advertiser is told nothing of another."""
    got, wrong = {}, []
    for role in EXPECTED[operation]:
        method, path, body = await request_of(world, operation, role)
        before = await world.state()
        answer = await world.ask(role, method, path, body)
        got[role] = answer.status_code
        asked = path + json.dumps(body)
        may_change = answer.status_code < 400 and (method != "GET" or path.startswith(("/postback?", "/pixel.gif?")))
        if not may_change and await world.state() != before:
            wrong.append(f"{role}: was refused, or only asked, and something changed")
        if role in ("own", "foreign") and path.startswith("/api/"):
            secrets = OF_OTHER if role == "own" else OF_SHOP
            wrong += [f"{role}: is shown {word}" for word in shown(answer, secrets, asked)]
        if answer.status_code == 401:
            assert answer.headers["www-authenticate"] == "Bearer"
    assert got == EXPECTED[operation]
    assert not wrong
    await nothing_of_another_is_told_from_nothing(world, operation)


async def nothing_of_another_is_told_from_nothing(world: World, operation: str) -> None:
    """404 for what is another's, word for word as for what is not there at all."""
    if EXPECTED[operation]["foreign"] != 404:
        return
    method, path, body = await request_of(world, operation, "foreign")
    (key,) = [part for part in path.split("/") if part in (*ONE.values(), click_text(world.click)) or part[:1].isdigit()]
    absent = key[:-2] + ("00" if key[-2:] != "00" else "11") if len(key) > 20 else "99" if key.isdigit() else "absent"
    answers = [await world.ask("foreign", method, path.replace(key, name), body) for name in (key, absent)]
    told = [answer.text.replace(name, "…") for answer, name in zip(answers, (key, absent), strict=True)]
    assert told[0] == told[1]
    assert {answer.status_code for answer in answers} == {404}


LOOKS = (
    "/api/v1/terms?campaign=shoes",
    "/api/v1/terms?partner=ada",
    "/api/v1/conversions?campaign=shoes",
    "/api/v1/conversions?partner=ada",
    "/api/v1/conversions?txid=order-1",
    "/api/v1/ledger?advertiser=shop",
    "/api/v1/ledger?campaign=shoes",
    "/api/v1/ledger?partner=ada",
    "/api/v1/balances?advertiser=shop",
    "/api/v1/balances?partner=ada",
    "/api/v1/links?campaign=shoes",
    "/api/v1/coupons?campaign=shoes",
    "/api/v1/goals?campaign=shoes",
    "/api/v1/campaigns?advertiser=shop",
    "/api/v1/campaigns?limit=1&cursor=0",
    "/api/v1/reports?filter[advertiser]=shop",
    "/api/v1/reports?filter[campaign]=shoes&group_by=campaign",
    "/api/v1/reports?filter[partner]=ada&group_by=partner,day",
    "/api/v1/reports?group_by=advertiser,campaign,link,partner&format=csv",
    "/api/v1/goals/lead?campaign=shoes",
    "/api/v1/coupons/TEN?campaign=shoes",
)


@in_one_loop
@pytest.mark.parametrize("path", LOOKS)
async def test_no_filter_cursor_or_grouping_shows_an_advertiser_anything_of_another(world: World, path: str) -> None:
    answer = await world.ask("foreign", "GET", path)
    assert answer.status_code in (200, 404, 422), answer.text
    assert not shown(answer, OF_SHOP, path)
    if answer.status_code == 200 and "json" in answer.headers["content-type"]:
        content = answer.json()
        assert not [item for item in content.get("items", []) if "boots" not in item.values()]
        assert all(float(value or 0) == 0 for row in content.get("rows", []) for name, value in row.items() if name == "all_clicks")
    seen_by_its_owner = await world.ask("own", "GET", path)
    assert seen_by_its_owner.status_code == 200
    assert not shown(seen_by_its_owner, OF_OTHER, path)
