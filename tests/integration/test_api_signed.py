"""Signed postbacks over HTTP on real PostgreSQL: good, wrong, late, replayed, rotated; and who may report from where."""

import asyncio
import json
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from tests.integration.api_client import ADMIN_KEY, Api, Shop, click_text
from tests.integration.signing import hexed, signed_headers, signed_path
from tracker.api.app import create
from tracker.settings import Settings

pytestmark = pytest.mark.integration
README = Path(__file__).parents[2] / "tracker" / "README.md"
SECRETS = "/api/v1/advertisers/shop/signing-secrets"


async def new_secret(api: Api, kind: str = "hmac", secret: str | None = None) -> dict[str, Any]:
    made = await api.admin("POST", SECRETS, {"kind": kind, "secret": secret})
    assert made.status_code == 201, made.text
    return made.json()


@pytest.fixture
async def secret(api: Api, shop: Shop) -> str:
    return (await new_secret(api))["signing_secret"]


async def conversions(shop: Shop) -> int:
    return await shop.value("SELECT count(*) FROM conversions")


async def test_a_signed_query_needs_no_token(api: Api, shop: Shop, secret: str) -> None:
    click = click_text(await shop.click())
    answer = await api.client.get(signed_path(secret, click_id=click, txid="A 1/é", amount="50.00"))
    assert (answer.status_code, answer.json()["status"]) == (200, "attributed"), answer.text
    kept = json.loads(await shop.value("SELECT parameters::text FROM postbacks"))
    assert "sig" not in kept
    assert kept["txid"] == "A 1/é"


async def test_a_signed_body_may_name_the_time_of_the_sale(api: Api, shop: Shop, secret: str) -> None:
    body = json.dumps({"click_id": click_text(await shop.click()), "txid": "A-1", "amount": "50", "ts": "2026-01-31T12:00:00Z"}).encode()
    answer = await api.client.post("/postback", content=body, headers=signed_headers(secret, body))
    assert answer.status_code == 200, answer.text
    assert str(await shop.value("SELECT happened_at FROM postbacks")).startswith("2026-01-31 12:00")
    in_query = {"advertiser": "shop", "ts": str(int(time.time()))}
    signature = hexed(secret, body, int(in_query["ts"]))
    again = await api.client.post("/postback?" + urlencode(in_query | {"sig": signature.upper()}), content=body)
    assert (again.status_code, await conversions(shop)) == (200, 1)


async def test_whatever_is_wrong_with_a_signature_the_same_is_said(api: Api, shop: Shop, secret: str) -> None:
    ask = {"click_id": click_text(await shop.click()), "txid": "A-1"}
    good = signed_path(secret, **ask)
    body = json.dumps(ask).encode()
    answers = [
        await api.client.get(path)
        for path in (
            signed_path("hs_" + "0" * 40, **ask),
            signed_path(secret, late_s=301, **ask),
            signed_path(secret, late_s=-310, **ask),
            signed_path(secret, advertiser="rival", **ask),
            good + "&amount=1",
            good.replace("txid=A-1", "txid=A-2"),
            good + "&" + good.rpartition("&")[2],
            good.replace("ts=", "tz="),
            f"{good[:-64]}{'0' * 64}&token={shop.token}",
            f"/postback?advertiser=shop&sig={'0' * 64}",
        )
    ]
    headers = signed_headers(secret, body)
    answers.append(await api.client.post("/postback", content=body + b" ", headers=headers))
    answers.append(await api.client.post("/postback?amount=99", content=body, headers=headers))
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1
    assert answers[0].json()["code"] == "bad_signature"
    assert await shop.value("SELECT count(*) FROM postbacks") == 0
    assert f'turnout_postback_refusals_total{{reason="bad_signature"}} {len(answers)}.0' in (await api.get("/metrics")).text


@pytest.mark.parametrize("policy", ["ignore", "increment", "always_new"])
async def test_a_replayed_signature_takes_effect_once_under_every_policy(api: Api, shop: Shop, secret: str, policy: str) -> None:
    made = await api.admin("POST", "/api/v1/goals", {"slug": "sale", "campaign": "shoes", "duplicate_policy": policy})
    assert made.status_code == 201, made.text
    path = signed_path(secret, click_id=click_text(await shop.click()), txid="A-1", amount="50.00")
    moved = path.replace("/postback?", "/postback?" + path.rpartition("&")[2] + "&", 1).rpartition("&")[0]
    answers = [await api.client.get(path), await api.client.get(path), await api.client.get(moved)]
    answers += await asyncio.gather(*(api.client.get(path) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["postback_id"] for answer in answers}) == 1
    assert (await conversions(shop), await shop.value("SELECT sum(amount_micros) FROM conversions")) == (1, 50_000_000)


async def test_a_signed_list_has_an_id_for_each_of_its_reports(api: Api, shop: Shop, secret: str) -> None:
    click = click_text(await shop.click())
    body = json.dumps([{"click_id": click, "txid": f"L-{number}", "amount": "1"} for number in range(3)]).encode()
    headers = signed_headers(secret, body) | {"Content-Type": "application/json"}
    answers = [(await api.client.post("/postback", content=body, headers=headers)).json()["results"] for _ in range(2)]
    ids = [[found["postback_id"] for found in results] for results in answers]
    assert ids[0] == ids[1]
    assert (len(set(ids[0])), await conversions(shop)) == (3, 3)


async def test_two_secrets_are_good_until_one_is_revoked(api: Api, shop: Shop, secret: str) -> None:
    click = click_text(await shop.click())

    async def works(which: str) -> bool:
        return (await api.client.get(signed_path(which, click_id=click, txid="A-1"))).status_code == 200

    assert await works(secret)
    made = await new_secret(api)
    other = made["signing_secret"]
    assert (made["slot"], [one["slot"] for one in made["secrets"]]) == (2, [1, 2])
    await asyncio.sleep(1.1)
    assert [await works(secret), await works(other)] == [True, True]
    refused = await api.admin("POST", SECRETS, {"kind": "hmac"})
    assert (refused.status_code, refused.json()["code"]) == (409, "two_secrets")
    assert (await api.admin("POST", f"{SECRETS}/revoke", {"kind": "hmac", "slot": 1})).status_code == 200
    assert (await api.admin("POST", f"{SECRETS}/revoke", {"kind": "hmac", "slot": 1})).json()["code"] == "unknown_secret"
    await asyncio.sleep(1.1)
    assert [await works(secret), await works(other)] == [False, True]
    assert (await new_secret(api))["slot"] == 1
    told = (await api.admin("GET", SECRETS)).text
    events = await shop.database.fetch("SELECT action, after::text AS after FROM events WHERE action LIKE '%signing-secret' ORDER BY id")
    assert [event["action"] for event in events] == [*["add-signing-secret"] * 2, "revoke-signing-secret", "add-signing-secret"]
    assert not [text for text in (told, *(event["after"] for event in events)) if "hs_" in text]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid_kind"),
        ([], "invalid_kind"),
        ({"kind": "paypal"}, "invalid_kind"),
        ({"kind": "token"}, "invalid_kind"),
        ({"kind": "hmac", "secret": "mine-and-mine"}, "invalid_secret"),
        ({"kind": "stripe"}, "invalid_secret"),
        ({"kind": "stripe", "secret": 5}, "invalid_secret"),
        *(({"kind": "stripe", "secret": odd}, "invalid_secret") for odd in ("short", "x" * 256, "tab\there", " blanks ", "nul\x00" * 3)),
    ],
)
async def test_what_is_no_secret_is_refused(api: Api, shop: Shop, body: Any, code: str) -> None:
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    answer = await api.client.post(SECRETS, content=json.dumps(body), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text


async def test_secrets_are_told_to_their_own_advertiser_and_changed_by_staff(api: Api, shop: Shop) -> None:
    await api.admin("POST", "/api/v1/advertisers", {"slug": "rival", "currency": "EUR"})
    keys = {
        slug: (await api.admin("POST", "/api/v1/keys", {"role": "advertiser", "advertiser": slug})).json()["key"]
        for slug in ("shop", "rival")
    }
    assert [(await api.call(keys[slug], "GET", SECRETS)).status_code for slug in ("shop", "rival")] == [200, 404]
    assert (await api.call(keys["shop"], "POST", SECRETS, {"kind": "hmac"})).status_code == 403
    for path in (SECRETS, f"{SECRETS}/revoke"):
        lost = await api.admin("POST", path.replace("shop", "nobody"), {"kind": "hmac", "slot": 1})
        assert (lost.status_code, lost.json()["code"]) == (404, "unknown_advertiser")


async def test_a_token_may_stand_in_the_header(api: Api, shop: Shop) -> None:
    click = click_text(await shop.click())
    good = await api.client.get("/postback", params={"click_id": click, "txid": "A-1"}, headers={"Authorization": f"bearer {shop.token}"})
    assert good.status_code == 200, good.text
    for header in (f"Basic {shop.token}", "Bearer", "Bearer wrong", shop.token):
        bad = await api.client.get("/postback", params={"click_id": click, "txid": "A-1"}, headers={"Authorization": header})
        assert (bad.status_code, bad.json()["code"]) == (401, "bad_token")


async def test_reports_are_taken_from_allowed_addresses_only(api: Api, shop: Shop, secret: str, dsn: str, tmp_path) -> None:
    settings = Settings(
        database_url=dsn, data_dir=str(tmp_path / "other"), admin_key=ADMIN_KEY, trusted_proxies="10.0.0.0/8", _env_file=None
    )
    app = create(settings)
    await api.admin("PATCH", "/api/v1/advertisers/shop", {"settings": {"postbacks": {"allow_ips": ["192.0.2.0/24", "2001:db8::1"]}}})
    click = click_text(await shop.click())

    async def status(peer: str, path: str, **headers: str) -> tuple[int, str]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app, client=(peer, 1)), base_url="http://tracker") as client:
            answer = await client.get(path, headers=headers)
        return answer.status_code, answer.json().get("code", "")

    by_token = f"/postback?token={shop.token}&click_id={click}&txid=A-1"
    async with app.router.lifespan_context(app):
        for path in (by_token, signed_path(secret, click_id=click, txid="A-1")):
            for peer in ("192.0.2.7", "::ffff:192.0.2.7", "2001:db8::1"):
                assert await status(peer, path) == (200, "")
            for peer in ("198.51.100.7", "::ffff:198.51.100.7", "2001:db8::2", "not-an-address"):
                assert await status(peer, path) == (403, "ip_not_allowed")
            assert await status("10.0.0.1", path, **{"X-Forwarded-For": "192.0.2.7"}) == (200, "")
            assert await status("198.51.100.7", path, **{"X-Forwarded-For": "192.0.2.7"}) == (403, "ip_not_allowed")
        assert await status("198.51.100.7", "/postback?token=wrong") == (401, "bad_token")


async def test_the_example_of_the_readme_works(api: Api, shop: Shop, secret: str) -> None:
    script = 'query="advertiser=shop&txid=ORDER-1&click_id=$CLICK&amount=49.90&ts=$(date +%s)"\n'
    script += 'sig=$(printf \'%s.%s\' "${query##*ts=}" "$query" | openssl dgst -sha256 -hmac "$SECRET" | sed \'s/.* //\')\n'
    assert script in README.read_text()
    environment = {"CLICK": click_text(await shop.click()), "SECRET": secret, "PATH": "/usr/bin:/bin"}
    done = await asyncio.to_thread(
        lambda: subprocess.run(
            ["bash", "-c", script + 'echo "$query&sig=$sig"'], env=environment, capture_output=True, text=True, check=True
        )
    )
    assert (await api.client.get(f"/postback?{done.stdout.strip()}")).json()["status"] == "attributed"
