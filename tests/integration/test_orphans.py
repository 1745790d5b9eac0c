"""Orphans: real clicks of old links through handler, stream and writer; told in heaps, mapped, attributed, and their orders paid."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from redirector.handler import Handler
from redirector.limits import FloodLimiter
from redirector.request import Request
from tests.integration.api_client import Api, Shop
from tests.integration.click_source import Node, drain
from tests.wait import wait_until
from tracker import orphans
from tracker.adapters import postgres_orphans
from tracker.adapters.countries import CountryLookup
from tracker.adapters.lmdb_routes import RouteTable
from tracker.adapters.postgres_orphans import Owner, Wanted
from tracker.adapters.postgres_pool import database
from tracker.platforms.loader import Shelf
from workers.keeper import LinkMaker
from workers.route_publisher import publish

pytestmark = pytest.mark.integration
CHROME = b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
RECOUNT = """
    WITH owned AS (
        SELECT DISTINCT ON (c.click_id) c.click_id, c.clicked_at, c.counted, c.is_unique, coalesce(a.link, c.link, 0) AS link,
            coalesce(a.partner, c.partner, 0) AS partner, coalesce(a.campaign, c.campaign, 0) AS campaign
        FROM clicks c LEFT JOIN click_attributions a USING (click_id) ORDER BY c.click_id, a.id DESC
    ), counted AS (
        SELECT date_bin('15 minutes', clicked_at, '2000-01-01') AS bucket, campaign, partner, link, count(*) AS total,
            count(*) FILTER (WHERE counted) AS clicks, count(*) FILTER (WHERE counted AND is_unique) AS unique_clicks
        FROM owned GROUP BY 1, 2, 3, 4
    ), told AS (
        SELECT bucket, campaign, partner, link, sum(total) AS total, sum(clicks) AS clicks, sum(unique_clicks) AS unique_clicks
        FROM click_stats GROUP BY 1, 2, 3, 4
        HAVING sum(total) <> 0 OR sum(clicks) <> 0 OR sum(unique_clicks) <> 0
    )
    SELECT (SELECT count(*) FROM (SELECT * FROM counted EXCEPT SELECT * FROM told) x)
        + (SELECT count(*) FROM (SELECT * FROM told EXCEPT SELECT * FROM counted) x)
        + (SELECT abs(coalesce(sum(total), 0) - (SELECT coalesce(sum(total), 0) FROM daily_stats WHERE partner <> 0))
            FROM counted WHERE partner <> 0)
"""


@dataclass
class Host:
    """An old TUNE host that is ours now: visitors, and what is stored of them."""

    api: Api
    shop: Shop
    table: RouteTable
    dsn: str
    redis_url: str

    async def visit(self, *targets: str, name: str = "go.old.example", named="") -> list[bytes]:
        """Visits of so many people; their click ids. All are stored when it returns."""
        handler = Handler(self.table, CountryLookup(), FloodLimiter(0), ip_mode="truncate", trusted=[])
        self.table.refresh()
        answers = []
        for number, target in enumerate(targets):
            request = Request(b"GET", target.encode(), f"198.51.{number % 250}.7")
            request.read_headers([(b"host", name.encode()), (b"user-agent", CHROME)])
            answers.append(handler.handle(request))
            if named:
                answers[-1].record.destination, answers[-1].record.extra = named.encode(), {"looked_up": b"1"}
        node = Node(self.redis_url)
        node.put([answer.record for answer in answers])
        node.ship(1, 1)
        await drain(self.dsn, self.redis_url)
        return [answer.click_id for answer in answers]

    async def heaps(self):
        return (await self.api.admin("GET", "/api/v1/orphans")).json()["items"]

    async def map(self, **body):
        return await self.api.admin("POST", "/api/v1/orphans/map", {"source": "old-tune"} | body)

    async def assert_rollups_agree(self) -> None:
        assert await self.shop.value(RECOUNT) == 0


@pytest.fixture
async def host(api, shop, dsn, redis_url, tmp_path):
    path, stop = tmp_path / "routes" / "routes.mdb", asyncio.Event()
    table = RouteTable(path, fallback="https://all.example/", platforms=Shelf())
    publisher = asyncio.create_task(publish(dsn, path, stop))
    for plural, body in (
        (
            "tracking-hosts",
            {"host": "go.old.example", "platform": "tune", "source": "old-tune", "fallback_url": "https://old.example/"},
        ),
        (
            "campaigns",
            {
                "slug": "boots", "advertiser": "shop", "destination_url": "https://shop.example/boots", "payout": "5 EUR",
                "source": "old-tune", "source_id": "9",
            },
        ),
    ):  # fmt: skip
        made = await api.admin("POST", f"/api/v1/{plural}", body)
        assert made.status_code == 201, made.text
    await wait_until(lambda: table.refresh() or table.host("go.old.example"))
    await wait_until(lambda: table.refresh() or table.old_id("old-tune", "offer", "9"))
    yield Host(api, shop, table, dsn, redis_url)
    stop.set()
    await publisher
    table.close()


async def test_what_the_old_platform_said_of_orphans_is_proposed_with_the_one_campaign_that_leads_there(host):
    await host.visit(*["/aff_c?offer_id=7&aff_id=42"] * 2, named="https://shop.example/boots?transaction_id=mine&x=1")
    await host.visit("/aff_c?offer_id=8&aff_id=42", named="https://elsewhere.example/")
    await host.visit("/aff_c?offer_id=6&aff_id=42")
    told = {heap["offer"]: (heap["proposed_destination"], heap["proposed_campaign"]) for heap in await host.heaps()}
    assert told == {"7": ("https://shop.example/boots?x=1", "boots"), "8": ("https://elsewhere.example/", None), "6": (None, None)}


async def test_mapping_an_offer_attributes_its_clicks_corrects_the_rollups_and_pays_the_order_that_waited(host):
    assert (await host.map(kind="partner", source_id="42", partner="ada")).json()["attributed"]["clicks"] == 0
    clicks = await host.visit(*["/aff_c?offer_id=7&aff_id=42&aff_sub=x"] * 5, "/aff_c?offer_id=8&aff_id=42", "/aff_c?offer_id=9&aff_id=42")
    order = await host.api.get("/postback", token=host.shop.token, txid="T1", amount="50.00", click_id=clicks[0].decode())
    assert (order.status_code, order.json()["status"]) == (202, "parked")
    late = await host.api.get("/postback", token=host.shop.token, txid="T2", amount="10.00", click_id=clicks[1].decode().upper())
    await host.shop.execute("UPDATE postbacks SET parked_until = now() - interval '1 day', next_try_at = now() WHERE txid = 'T2'")
    await host.shop.sweep()
    assert late.json()["status"] == "parked"
    assert await host.shop.value("SELECT status FROM conversions WHERE txid = 'T2'") == "orphan"  # its time was over

    first, second = (await host.heaps())[:2]
    assert (first["missing"], first["source"], first["offer"], first["partner"], first["clicks"]) == ("offer", "old-tune", "7", None, 5)
    assert (first["old_partners"], first["platform"], first["shape"]) == (1, "tune", "/aff_c?aff_id&aff_sub&offer_id")
    assert (second["offer"], second["clicks"]) == ("8", 1)

    made = await host.map(kind="offer", source_id="7", campaign="shoes", reason="the export says so")
    assert made.status_code == 201
    assert made.json()["attributed"] == {"looked_at": 5, "clicks": 5, "postbacks": 2, "next_cursor": None}
    assert [heap["offer"] for heap in await host.heaps()] == ["8"]
    await host.assert_rollups_agree()
    assert await host.shop.value("SELECT count(*) FROM clicks WHERE outcome = 'unknown'") == 6  # rows of clicks are never changed
    assert await host.shop.value("SELECT reason || ' ' || actor FROM events WHERE action = 'attribute'") == "the export says so admin.key"

    await host.shop.sweep()
    for txid, payout in (("T1", 5_000_000), ("T2", 1_000_000)):
        status, owed = await paid(host, txid)
        assert (status, owed) == ("approved", payout), txid
    today = datetime.now(UTC).date()
    days = f"from={today - timedelta(days=1)}&to={today + timedelta(days=1)}"
    report = await host.api.admin("GET", f"/api/v1/reports?{days}&group_by=partner&metrics=clicks,conversions")
    rows = {row["partner"]: row for row in report.json()["rows"]}
    assert (rows["ada"]["clicks"], rows["ada"]["conversions"]) == (6, 2)


async def paid(host, txid):
    """Status of an order, and what the partner is owed for it."""
    status = await host.shop.value("SELECT status FROM conversions WHERE txid = $1", txid)
    owed = await host.shop.value(
        "SELECT sum(l.amount_micros) FROM ledger_entries l JOIN conversions c ON c.id = l.conversion_id"
        " WHERE c.txid = $1 AND l.account = 'partner'",
        txid,
    )
    return status, owed


async def test_an_id_that_was_mapped_wrongly_is_mapped_anew_for_what_comes(host):
    await host.map(kind="partner", source_id="42", partner="ada")
    await host.api.admin("POST", "/api/v1/partners", {"slug": "bob"})
    again = await host.map(kind="partner", source_id="42", partner="bob")
    assert (again.status_code, again.json()["old_id"]["partner"]) == (201, "bob")
    (click,) = await host.visit("/aff_c?offer_id=9&aff_id=0042")
    shown = (await host.api.admin("GET", f"/api/v1/clicks/{click.decode()}")).json()
    assert (shown["partner"], shown["campaign"], shown["outcome"]) == ("bob", "boots", "ok")


async def test_what_is_mapped_otherwise_is_attributed_when_it_is_asked_for(host):
    await host.visit("/summer", "/summer?x=1", "/none", "/aff_c?offer_id=9&aff_id=1")
    await host.visit("/x/1", "/x/2", name="new.example")
    heaps = {(heap["missing"], heap["shape"]): heap["clicks"] for heap in await host.heaps()}
    assert heaps == {
        ("shape", "/summer"): 1, ("shape", "/summer?x"): 1, ("shape", "/none"): 1, ("partner", "/aff_c?aff_id&offer_id"): 1,
        ("host", "/x/{n}"): 2,
    }  # fmt: skip
    await host.api.admin("POST", "/api/v1/aliases", {"url": "https://go.old.example/summer", "link": "adas"})
    await wait_until(lambda: host.table.refresh() or host.table.alias("go.old.example", "/summer"))
    assert [heap["clicks"] for heap in await host.heaps() if heap["missing"] == "nothing"] == [1]
    done = (await host.api.admin("POST", "/api/v1/orphans/attribute", {"days": 3})).json()
    assert (done["looked_at"], done["clicks"]) == (6, 1)
    link = await host.shop.value("SELECT l.slug FROM click_attributions a JOIN links l ON l.id = a.link")
    assert link == "adas"
    assert (await host.api.admin("POST", "/api/v1/orphans/attribute")).json()["clicks"] == 0
    await host.assert_rollups_agree()


async def test_two_that_attribute_at_once_count_a_click_once(host):
    await host.visit(*["/aff_c?offer_id=9&aff_id=42"] * 40)
    await host.api.admin("POST", "/api/v1/old-ids", {"source": "old-tune", "kind": "partner", "source_id": "42", "partner": "ada"})
    await wait_until(lambda: host.table.refresh() or host.table.old_id("old-tune", "partner", "42"))
    answers = await asyncio.gather(*(host.api.admin("POST", "/api/v1/orphans/attribute") for _ in range(4)))
    done = [answer.json()["clicks"] for answer in answers if answer.status_code == 200]
    assert sum(done) == 40
    assert {answer.json()["code"] for answer in answers if answer.status_code != 200} <= {"busy"}
    assert await host.shop.value("SELECT count(*) FROM click_attributions") == 40
    await host.assert_rollups_agree()


async def test_what_fails_half_way_leaves_nothing_behind(host, monkeypatch):
    await host.visit(*["/aff_c?offer_id=9&aff_id=42"] * 3)

    async def broken(*_):
        raise RuntimeError("boom")

    monkeypatch.setattr(postgres_orphans, "roll_up", broken)
    async with database(host.dsn, name="test") as opened:
        since, until = await opened_range(host)
        with pytest.raises(RuntimeError, match="boom"):
            await postgres_orphans.attribute(opened, Wanted(since, until), lambda *_: Owner(None, 1, 1), reason="r", actor="a")
    assert await host.shop.value("SELECT count(*) FROM click_attributions") == 0
    await host.assert_rollups_agree()


async def opened_range(host):
    return await host.shop.value("SELECT now() - interval '1 day'"), await host.shop.value("SELECT now() + interval '1 day'")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"kind": "partner", "source_id": "1"}, 422, "invalid_target"),
        ({"kind": "partner", "source_id": "1", "campaign": "shoes"}, 422, "invalid_target"),
        ({"kind": "partner", "source_id": "1", "partner": "ada", "link": "adas"}, 422, "invalid_target"),
        ({"kind": "partner", "source_id": "1", "partner": "nobody"}, 404, "unknown_partner"),
        ({"kind": "publisher", "source_id": "1", "partner": "ada"}, 422, "invalid_kind"),
        ({"kind": "partner", "partner": "ada"}, 422, "invalid_source_id"),
        ({"kind": "partner", "source_id": "1", "partner": "ada", "reason": 3}, 422, "invalid_reason"),
        ({"kind": "partner", "source_id": "1", "partner": "ada", "x": 3}, 422, "unknown_field"),
    ],
)
async def test_a_wrong_mapping_is_refused_with_the_field_that_is_wrong(host, body, status, code):
    answer = await host.map(**body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert await host.shop.value("SELECT count(*) FROM old_ids WHERE NOT is_own") == 0


async def test_the_source_id_of_a_thing_is_its_old_id_and_moves_with_it(host):
    await host.api.admin("POST", "/api/v1/partners", {"slug": "eve", "source": "old-tune", "source_id": "77"})
    found = (await host.api.admin("GET", "/api/v1/old-ids?source=old-tune&kind=partner")).json()["items"]
    assert [(one["source_id"], one["partner"], one["is_own"]) for one in found] == [("77", "eve", True)]
    await host.shop.execute("UPDATE partners SET source_id = '78' WHERE slug = 'eve'")
    assert await host.shop.value("SELECT string_agg(source_id, ',') FROM old_ids WHERE partner_id IS NOT NULL") == "78"
    await host.shop.execute("UPDATE partners SET name = 'Eve' WHERE slug = 'eve'")
    assert await host.shop.value("SELECT count(*) FROM old_ids WHERE partner_id IS NOT NULL") == 1


async def test_settings_of_a_host_that_cannot_be_used_are_refused(host):
    answer = await host.api.admin("PATCH", "/api/v1/tracking-hosts/go.old.example", {"settings": {"reading": {"parametres": {}}}})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_settings")
    assert "parametres" in answer.text
    assert "base_path" in answer.text
    good = {"settings": {"reading": {"parameters": {"aff_id": "partner"}, "base_path": "/track"}}}
    assert (await host.api.admin("PATCH", "/api/v1/tracking-hosts/go.old.example", good)).status_code == 200
    await wait_until(lambda: host.table.refresh() or host.table.host("go.old.example").settings == good["settings"])
    await host.map(kind="partner", source_id="42", partner="ada")
    (click,) = await host.visit("/track/aff_c?offer_id=9&partner=42")
    assert (await host.api.admin("GET", f"/api/v1/clicks/{click.decode()}")).json()["partner"] == "ada"


async def test_visitors_on_old_urls_make_links_once_and_later_clicks_have_them(host):
    maker, another = LinkMaker(host.dsn), LinkMaker(host.dsn)
    await host.map(kind="partner", source_id="42", partner="ada")
    await host.visit(*(f"/aff_c?offer_id=9&aff_id={aff}&file_id={creative}" for aff in ("42", "042") for creative in range(9)))
    await host.visit("/aff_c?offer_id=9&aff_id=43", "/none")
    await asyncio.gather(maker.once(), another.once())
    assert await host.shop.value("SELECT string_agg(name, ',') FROM links WHERE slug <> 'adas'") == "ada - boots"
    await wait_until(lambda: host.table.refresh() or table_has_made(host.table))
    (click,) = await host.visit("/aff_c?offer_id=9&aff_id=0042&file_id=b7")
    shown = (await host.api.admin("GET", f"/api/v1/clicks/{click.decode()}")).json()
    made = await host.shop.value("SELECT slug FROM links WHERE name = 'ada - boots'")
    assert (shown["link"], shown["partner"], shown["campaign"], shown["creative"]) == (made, "ada", "boots", "b7")
    await maker.once()
    assert await host.shop.value("SELECT count(*) FROM links") == 2
    for one in (maker, another):
        await one.close()


async def test_where_the_creative_decides_each_has_a_link_of_its_own(host):
    await host.api.admin("POST", "/api/v1/tracking-hosts", {"host": "trk.cake.example", "platform": "cake"})
    for body in (
        {"kind": "partner", "source_id": "42", "partner": "ada"},
        {"kind": "creative", "source_id": "700", "campaign": "shoes"},
        {"kind": "creative", "source_id": "701", "campaign": "boots"},
        {"kind": "offer", "source_id": "", "campaign": "shoes"},
    ):
        assert (await host.map(**{"source": "cake"} | body)).status_code == 201
    await wait_until(lambda: host.table.refresh() or host.table.host("trk.cake.example"))
    targets = ("/?a=42&c=700", "/?a=42&c=701", "/?a=42&c=702")
    await host.visit(*targets, name="trk.cake.example")
    maker = LinkMaker(host.dsn)
    await maker.once()
    await maker.close()
    made = await host.shop.value("SELECT string_agg(name, ', ' ORDER BY name) FROM links WHERE slug <> 'adas'")
    assert made == "ada - boots, ada - shoes"
    await wait_until(lambda: host.table.refresh() or table_has_made(host.table, 2))
    clicks = await host.visit(*targets, name="trk.cake.example")
    shown = [(await host.api.admin("GET", f"/api/v1/clicks/{click.decode()}")).json() for click in clicks]
    assert [one["campaign"] for one in shown] == ["shoes", "boots", "shoes"]
    assert all(one["link"] for one in shown)
    await host.api.admin("POST", "/api/v1/partners", {"slug": "bob"})
    await host.map(source="cake", kind="partner", source_id="42", partner="bob")  # what was made for another does not stand in the way
    (click,) = await host.visit("/?a=42&c=700", name="trk.cake.example")
    assert (await host.api.admin("GET", f"/api/v1/clicks/{click.decode()}")).json()["partner"] == "bob"


def table_has_made(table, count=1):
    """Whether so many links that old URLs made are published."""
    pairs = [f"{partner}/{campaign}" for partner in range(9) for campaign in range(9)]
    return sum(table.old_id("turnout", "made", pair) is not None for pair in pairs) >= count


async def test_a_mapping_made_by_hand_outlives_an_import(host):
    await host.api.admin("POST", "/api/v1/partners", {"slug": "eve", "source": "old-tune", "source_id": "77"})
    await host.api.admin("POST", "/api/v1/partners", {"slug": "bob"})
    assert (await host.map(kind="partner", source_id="77", partner="bob")).json()["old_id"]["is_own"] is False
    await host.shop.execute("UPDATE partners SET source = 'old-tune', source_id = '78' WHERE slug = 'bob'")
    found = {row["source_id"]: row["partner"] for row in (await host.api.admin("GET", "/api/v1/old-ids?partner=bob")).json()["items"]}
    assert found == {"77": "bob", "78": "bob"}
    await host.shop.execute("DELETE FROM partners WHERE slug = 'eve'")


async def test_an_address_that_leads_back_here_is_refused(host):
    for field in ("forward_to", "fallback_url"):
        answer = await host.api.admin("PATCH", "/api/v1/tracking-hosts/go.old.example", {field: "https://GO.old.example/x"})
        assert (answer.status_code, answer.json()["code"]) == (422, f"invalid_{field}"), answer.text
    answer = await host.api.admin("PATCH", "/api/v1/tracking-hosts/go.old.example", {"forward_to": "https://old.example/?x="})
    assert answer.json()["code"] == "invalid_forward_to"


async def test_attributing_goes_on_where_it_ended_and_leaves_cut_urls_alone(host, monkeypatch):
    monkeypatch.setattr(postgres_orphans, "BATCH", 2)
    await host.visit(*["/junk"] * 3, *["/aff_c?offer_id=9&aff_id=42"] * 2)
    cut = "UPDATE clicks SET truncated = true WHERE click_id = (SELECT click_id FROM clicks WHERE old_partner = '42' LIMIT 1)"
    await host.shop.execute(cut)
    await host.api.admin("POST", "/api/v1/old-ids", {"source": "old-tune", "kind": "partner", "source_id": "42", "partner": "ada"})
    await wait_until(lambda: host.table.refresh() or host.table.old_id("old-tune", "partner", "42"))
    monkeypatch.setattr(orphans, "BUDGET_S", 0.0)
    first = (await host.api.admin("POST", "/api/v1/orphans/attribute", {})).json()
    assert (first["looked_at"], first["next_cursor"]) == (0, "00000000-0000-0000-0000-000000000000")
    monkeypatch.setattr(orphans, "BUDGET_S", 20.0)
    rest = (await host.api.admin("POST", "/api/v1/orphans/attribute", {"cursor": first["next_cursor"]})).json()
    assert (rest["looked_at"], rest["clicks"], rest["next_cursor"]) == (4, 1, None)
    refused = await host.api.admin("POST", "/api/v1/orphans/attribute", {"cursor": "x"})
    assert refused.json()["code"] == "invalid_cursor"
