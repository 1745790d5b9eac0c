"""Clicks under the ids of an old platform: found for orders, kept when clicks come through, imported from its exports."""

import asyncio
import gzip
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from tests.integration.api_client import Shop
from tests.integration.click_source import Node, drain, record
from tracker.adapters import postgres_old_clicks, postgres_old_drain
from tracker.adapters.log_files import LogFile
from tracker.adapters.postgres_conversions_sql import CLICK_BY_ID
from tracker.adapters.postgres_deals import new_id
from tracker.adapters.postgres_old_clicks import profile_of
from tracker.cli.main import app
from tracker.domain import click_id
from tracker.domain.old_click_rows import Times
from tracker.errors import NotFound, RejectedInput
from tracker.old_clicks import OldClicks, time_zone
from tracker.platforms.loader import Shelf
from workers.keeper_old_clicks import OldClickKeeper, OldClickMetrics

pytestmark = pytest.mark.integration
NOW = datetime.now(UTC).replace(microsecond=0)
PUT = """
    INSERT INTO old_clicks (source, old_click_id, clicked_at, campaign, partner, old_partner, old_offer, old_creative, click_id, facts)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING id
"""
MAP = "INSERT INTO old_ids (source, kind, source_id, partner_id, campaign_id, link_id) VALUES ($1, $2, $3, $4, $5, $6)"
OTHERS = """
    WITH a AS (INSERT INTO advertisers (slug, name, currency) VALUES ('other', 'Other', 'EUR') RETURNING id)
    INSERT INTO campaigns (slug, advertiser_id, destination_url) SELECT 'others', id, 'https://other.example/' FROM a
"""


class Old:
    """The shop with what an old platform knows of it."""

    def __init__(self, shop: Shop, campaign: int, partner: int, link: int) -> None:
        self.shop, self.campaign, self.partner, self.link = shop, campaign, partner, link

    async def put(self, name: str, age_days: float = 1, **facts: Any) -> int:
        """A row of old_clicks."""
        columns = ("campaign", "partner", "old_partner", "old_offer", "old_creative", "click_id")
        values = [facts.get(column) for column in columns]
        at = NOW - timedelta(days=age_days)
        return await self.shop.value(PUT, facts.get("source", "tune"), name, at, *values, facts.get("facts", {}))

    async def map(self, kind: str, source_id: str, source: str = "tune", **to: int) -> None:
        """A row of an id map."""
        await self.shop.execute(MAP, source, kind, source_id, to.get("partner"), to.get("campaign"), to.get("link"))

    async def find(self, name: str, campaign: int | None = None, **asked: Any) -> list[Any]:
        """What an order of this id may belong to."""
        advertiser = await self.shop.value("SELECT id FROM advertisers WHERE slug = 'shop'")
        async with self.shop.database.connection() as connection:
            return await postgres_old_clicks.find(
                connection, goal="sale", old_click_id=name, advertiser_id=advertiser, campaign_id=campaign, **asked
            )

    async def whose(self, name: str, campaign: int | None = None, **asked: Any) -> list[tuple[Any, ...]]:
        """The same: campaign, partner and link."""
        return [(row["campaign"], row["partner"], row["link"]) for row in await self.find(name, campaign, **asked)]

    async def exported(self, name: str, age_days: float = 1, **facts: Any) -> int:
        """A row of old_clicks that the old platform's export has."""
        number = await self.put(name, age_days, **facts)
        await self.shop.execute("UPDATE old_clicks SET grade = 'raw' WHERE id = $1", number)
        return number

    async def bob(self) -> int:
        """Another partner."""
        return await self.shop.value("INSERT INTO partners (slug, name) VALUES ('bob', 'Bob') RETURNING id")


@pytest.fixture
async def old(shop: Shop) -> Old:
    ids = [await shop.value(f"SELECT id FROM {table} WHERE slug = $1", slug) for table, slug in (
        ("campaigns", "shoes"), ("partners", "ada"), ("links", "adas"))]  # fmt: skip
    return Old(shop, *ids)


async def second_campaign(old: Old) -> int:
    await old.shop.execute(
        "INSERT INTO campaigns (slug, advertiser_id, destination_url)"
        " SELECT 'hats', advertiser_id, destination_url FROM campaigns WHERE slug = 'shoes'"
    )
    return await old.shop.value("SELECT id FROM campaigns WHERE slug = 'hats'")


async def test_clicks_of_an_id_come_newest_first_with_all_that_a_click_has(old):
    click = await old.shop.click(clicked_at=NOW - timedelta(days=2))
    await old.shop.execute("UPDATE clicks SET old_click_id = '102ab', sub1 = 'spring' WHERE click_id = $1", click)
    await old.put("102ab", 1, campaign=old.campaign, partner=old.partner, facts={"sub1": "autumn", "country": "DE"})
    await old.put("102ab", 3, campaign=old.campaign, partner=old.partner)
    found = await old.find("102ab")
    assert [(NOW - row["clicked_at"]).days for row in found] == [1, 2, 3]
    assert [(row["click_id"], row["sub1"], row["country"]) for row in found] == [(None, "autumn", "DE"), (click, "spring", "FR"),
                                                                                 (None, None, None)]  # fmt: skip
    async with old.shop.database.connection() as connection:
        ours = await connection.fetchrow(CLICK_BY_ID, "sale", click)
    assert tuple(ours.keys()) == tuple(found[0].keys())
    assert dict(ours) == dict(found[1])


async def test_at_most_fifty_clicks_are_looked_at(old):
    for age in range(60):
        await old.put("many", age, campaign=old.campaign, partner=old.partner)
    found = await old.find("many")
    assert len(found) == 50
    assert (NOW - found[-1]["clicked_at"]).days == 49


async def test_only_the_advertisers_own_campaigns_and_the_offers_campaign_before_others(old):
    await old.shop.execute(OTHERS)
    others = await old.shop.value("SELECT id FROM campaigns WHERE slug = 'others'")
    hats = await second_campaign(old)
    await old.put("x1", 1, campaign=others, partner=old.partner)
    assert await old.whose("x1") == []
    await old.put("x1", 2, campaign=hats, partner=old.partner)
    await old.put("x1", 3, campaign=old.campaign, partner=old.partner)
    assert await old.whose("x1") == [(hats, old.partner, None), (old.campaign, old.partner, None)]
    assert await old.whose("x1", old.campaign) == [(old.campaign, old.partner, None)]
    assert len(await old.whose("x1", others)) == 2  # none is of it: all count


async def test_what_the_old_platform_exported_goes_before_what_anybody_can_write_into_a_url(old):
    hats, bob = await second_campaign(old), await old.bob()
    await old.put("x2", 2, campaign=hats, partner=bob)
    await old.put("x2", 1, campaign=old.campaign, partner=bob)
    await old.exported("x2", 5, campaign=old.campaign, partner=old.partner)
    assert await old.whose("x2") == await old.whose("x2", old.campaign) == [(old.campaign, old.partner, None)]
    assert await old.whose("x2", hats) == [(hats, bob, None)]  # the export says nothing of that offer


async def test_an_exported_click_hides_others_only_inside_its_window(old):
    bob = await old.bob()
    await old.exported("x3", 60, campaign=old.campaign, partner=old.partner)
    await old.put("x3", 1, campaign=old.campaign, partner=bob)
    assert [row[1] for row in await old.whose("x3")] == [bob, old.partner]
    assert [row[1] for row in await old.whose("x3", at=NOW - timedelta(days=31))] == [old.partner]
    assert [row[1] for row in await old.whose("x3", at=NOW - timedelta(days=61))] == [bob, old.partner]  # before it


async def test_an_id_of_two_sources_is_two_clicks(old):
    bob = await old.bob()
    await old.put("5512", 2, campaign=old.campaign, partner=old.partner, source="cake-a")
    await old.put("5512", 1, campaign=old.campaign, partner=bob, source="cake-b")
    for source, partner in (("cake-a", old.partner), ("cake-b", bob)):
        assert [row[1] for row in await old.whose("5512", source=source)] == [partner]
    await old.put("5512", 1, old_offer="unknown", source="cake-c")
    assert await old.whose("5512", source="cake-c") == []  # its own, whosever it may be
    assert len(await old.whose("5512", source="cake-d")) == 1
    await old.put("abc", 2, campaign=old.campaign, partner=old.partner, source="cake-a")
    await old.put("ABC", 1, campaign=old.campaign, partner=bob, source="cake-b")
    for source, partners in (("cake-a", [old.partner]), ("cake-b", [bob]), (None, [])):
        assert [row[1] for row in await old.whose("Abc", source=source)] == partners


async def test_a_click_of_ours_has_an_id_of_its_hosts_source(old):
    for host, source in (("a.example", "cake-a"), ("b.example", "cake-b")):
        await old.shop.execute("INSERT INTO tracking_hosts (host, platform, source) VALUES ($1, 'cake', $2)", host, source)
        click = await old.shop.click(clicked_at=NOW - timedelta(days=1))
        await old.shop.execute("UPDATE clicks SET old_click_id = '5512', host = $2 WHERE click_id = $1", click, host)
        assert [row["click_id"] for row in await old.find("5512", source=source)] == [click]


async def test_who_told_of_an_id_first_has_it(old):
    bob = await old.bob()
    await old.put("771", 5, campaign=old.campaign, partner=old.partner)
    await old.put("771", 1, campaign=old.campaign, partner=bob)
    await old.put("771", 2, campaign=old.campaign, partner=old.partner)
    assert [row[1] for row in await old.whose("771")] == [old.partner] * 2
    await old.put("772", 40, campaign=old.campaign, partner=old.partner)
    await old.put("772", 1, campaign=old.campaign, partner=bob)
    assert [row[1] for row in await old.whose("772")] == [bob]  # the first one's is over


async def test_a_click_of_ours_is_told_when_its_row_of_old_clicks_is(old):
    bob = await old.bob()
    click = await old.shop.click(clicked_at=NOW - timedelta(days=1))
    await old.shop.execute("UPDATE clicks SET old_click_id = '773' WHERE click_id = $1", click)
    await old.put("773", 5, campaign=old.campaign, partner=bob)
    assert [row["click_id"] for row in await old.find("773")] == [click]  # without a row it is of before there were any
    await old.put("773", 1, campaign=old.campaign, partner=old.partner, click_id=click)
    assert [row[1] for row in await old.whose("773")] == [bob]


async def test_one_click_stands_for_three_ids(old):
    click = await old.shop.click(clicked_at=NOW - timedelta(days=1))
    async with old.shop.database.connection() as connection:
        for name in ("1", "2", "3", "4", "3", "5"):
            assert await postgres_old_clicks.remember_landing(connection, source="cake", old_click_id=name, click_id=click)
    assert await old.shop.value("SELECT string_agg(old_click_id, ',' ORDER BY id) FROM old_clicks") == "1,2,3"


async def test_old_ids_mean_what_the_map_says_now(old):
    await old.put("m1", old_partner="0077", old_offer="5")
    assert await old.whose("m1") == []
    await old.map("offer", "5", campaign=old.campaign)
    assert await old.whose("m1") == [(old.campaign, None, None)]
    await old.map("partner", "77", partner=old.partner)
    assert await old.whose("m1") == [(old.campaign, old.partner, None)]  # TUNE's ids are numbers
    await old.map("pair", "0077/5", link=old.link)
    assert await old.whose("m1") == [(old.campaign, old.partner, old.link)]


async def test_ids_are_spelled_by_the_rule_of_the_hosts_platform(old):
    await old.put("s1", old_partner="ABC", old_offer="5", source="own")
    await old.map("offer", "5", source="own", campaign=old.campaign)
    await old.map("partner", "abc", source="own", partner=old.partner)
    assert await old.whose("s1") == [(old.campaign, None, None)]
    await old.shop.execute("INSERT INTO tracking_hosts (host, platform, source) VALUES ('go.old.example', 'tradedoubler', 'own')")
    by_host = await old.whose("s1")
    assert by_host[0][0] == old.campaign
    assert by_host[0][1] == (old.partner if profile_of("tradedoubler").ids == "folded" else None)


async def test_another_case_counts_only_where_nothing_else_does(old):
    await old.put("abc1", campaign=old.campaign, partner=old.partner)
    assert len(await old.find("ABC1")) == 1
    await old.put("ABC1", 5, campaign=old.campaign, partner=old.partner)
    assert [(NOW - row["clicked_at"]).days for row in await old.find("ABC1")] == [5]
    assert await old.find("aBc1") == []  # two are known


async def test_a_click_that_came_through_is_kept_beyond_its_retention(old, dsn, redis_url):
    await old.shop.execute("INSERT INTO tracking_hosts (host, platform, source) VALUES ('go.example', 'tune', 'my-tune')")
    at = int((NOW - timedelta(days=3)).timestamp() * 1000)
    ids = {"link_id": old.link, "campaign_id": old.campaign, "partner_id": old.partner, "platform": "tune"}
    named = [record(at + n, **ids, old_click_id=b"t-%d" % n, old_offer=b"5", old_partner=b"77", host=b"GO.example:8080") for n in range(3)]
    node = Node(redis_url)
    node.put([*named, record(at + 9, **ids), record(at + 10, **ids, old_click_id=b"u", host=b"unknown.example")])
    node.ship(1, 1)
    await drain(dsn, redis_url)
    node.put(named)  # stored again by another batch: the exact path
    node.ship(2, 2)
    await drain(dsn, redis_url)
    rows = (
        "SELECT string_agg(concat_ws(' ', source, old_click_id, old_partner, old_offer, facts ->> 'sub1'), ',' ORDER BY id) FROM old_clicks"
    )
    assert await old.shop.value(rows) == "my-tune t-0 77 5 a,my-tune t-1 77 5 a,my-tune t-2 77 5 a,tune u a"
    before = await old.find("t-1")
    assert [row["click_id"].bytes for row in before] == [named[1].click_id]
    await old.shop.execute("DELETE FROM clicks")
    after = await old.find("t-1")
    assert list(map(dict, after)) == list(map(dict, before))


async def test_a_landing_tells_another_id_of_a_click_once_it_is_there(old):
    number = old.shop.new_click_id(NOW - timedelta(days=1))
    tell = {"source": "tune", "old_click_id": "cookie-1", "click_id": number}
    async with old.shop.database.connection() as connection:
        assert not await postgres_old_clicks.remember_landing(connection, **tell)
        await old.shop.click(number, clicked_at=NOW - timedelta(days=1))
        assert await postgres_old_clicks.remember_landing(connection, **tell)
        assert await postgres_old_clicks.remember_landing(connection, **tell)
    assert await old.shop.value("SELECT count(*) FROM old_clicks") == 1
    assert [row["click_id"] for row in await old.find("cookie-1")] == [number]
    assert click_id.from_any(str(number)) == number.bytes


async def imported(old: Old, path: Path, *, is_dry: bool = False, batch: str | None = None, **where: Any) -> dict[str, Any]:
    clicks = OldClicks(old.shop.database, Shelf())
    origin = await clicks.origin(**(where or {"source": "my-tune", "platform": "tune"}))
    times, moves = Times(time_zone("Europe/Berlin")), []
    batch = batch or str(new_id())
    found = await clicks.load(
        LogFile(str(path)), origin, times=times, batch=batch, actor="test", is_dry=is_dry, moved=lambda: moves.append(1)
    )
    return found.as_dict() | {"batch": batch}


def counts(found: dict[str, Any]) -> tuple[int, ...]:
    return tuple(found[name] for name in ("rows", "imported", "already_there", "refused", "unknown"))


EXPORT = """Stat.ad_id;Stat.session_datetime;Stat.affiliate_id;Stat.offer_id;Stat.affiliate_info1;Stat.ip
102a;{at};77;5;mail;192.0.2.1
102b;{at};78;5;;192.0.2.1
;{at};77;5;;
102c;{at};77;6
102d;{at};77;6;;
102a;{at};77;5;again;
"""


def export(tmp_path: Path, age_days: float = 2) -> Path:
    at = (NOW - timedelta(days=age_days)).astimezone(ZoneInfo("Europe/Berlin")).strftime("%Y-%m-%d %H:%M:%S")
    path = tmp_path / "clicks.csv"
    path.write_text(EXPORT.replace("{at}", at))
    return path


async def test_an_export_is_imported_once_and_every_row_is_accounted_for(old, tmp_path):
    await old.map("offer", "5", source="my-tune", campaign=old.campaign)
    await old.map("partner", "77", source="my-tune", partner=old.partner)
    path = export(tmp_path)
    dry = await imported(old, path, is_dry=True)
    assert counts(dry) == (6, 3, 1, 2, 2)
    assert await old.shop.value("SELECT count(*) FROM old_clicks") == 0
    first = await imported(old, path)
    assert counts(first) == counts(dry)
    assert first["problems"] == [
        {"line": 4, "problem": "no click id in stat.ad_id or click_id"}, {"line": 5, "problem": "fewer cells than the header has"},
    ]  # fmt: skip
    assert (first["unknown_partners"], first["unknown_offers"]) == ({"78": 1}, {"6": 1})
    assert first["first_clicked_at"] == first["last_clicked_at"] == NOW - timedelta(days=2)
    assert counts(await imported(old, path)) == (6, 0, 4, 2, 2)
    row = dict(await only(old, "SELECT * FROM old_clicks WHERE old_click_id = '102a'"))
    assert (row["source"], row["old_partner"], row["old_offer"], row["grade"], row["import_batch"]) == (
        "my-tune",
        "77",
        "5",
        "raw",
        first["batch"],
    )
    assert (row["facts"], row["campaign"], row["click_id"]) == ({"sub1": "mail"}, None, None)
    assert await old.whose("102a") == [(old.campaign, old.partner, None)]
    assert await old.whose("102d") == []
    await old.map("offer", "6", source="my-tune", campaign=old.campaign)
    assert await old.whose("102d") == [(old.campaign, old.partner, None)]


async def only(old: Old, statement: str) -> Any:
    async with old.shop.database.connection() as connection:
        return await connection.fetchrow(statement)


async def test_an_import_may_be_taken_back_but_for_the_clicks_of_conversions(old, api, tmp_path):
    await old.map("offer", "5", source="my-tune", campaign=old.campaign)
    await old.map("partner", "77", source="my-tune", partner=old.partner)
    order = {"click_id": "102A", "txid": "order-1", "amount": "10.00", "currency": "EUR"}
    parked = await api.client.get("/postback", params={**order, "token": old.shop.token})
    assert parked.json()["status"] == "parked", parked.text
    found = await imported(old, export(tmp_path))
    await old.shop.sweep()
    conversion = dict(await only(old, "SELECT status, click_id, clicked_at, partner, campaign, sub1 FROM conversions"))
    assert conversion == {
        "status": "approved", "click_id": None, "clicked_at": NOW - timedelta(days=2), "partner": old.partner, "campaign": old.campaign,
        "sub1": "mail",
    }  # fmt: skip
    clicks = OldClicks(old.shop.database, Shelf())
    assert await clicks.undo(found["batch"], actor="test") == {"batch": found["batch"], "removed": 2, "used": 1}
    assert await old.shop.value("SELECT string_agg(old_click_id, ',') FROM old_clicks") == "102a"
    for unknown in (str(new_id()), "nonsense"):
        with pytest.raises(NotFound):
            await clicks.undo(unknown, actor="test")


async def test_a_click_that_a_cookie_named_stays_when_its_import_is_taken_back(old, tmp_path):
    found = await imported(old, export(tmp_path))
    number, made = new_id(), NOW - timedelta(days=1)
    await old.shop.execute(POSTBACK, number, made, None)
    await old.shop.execute("UPDATE postbacks SET visits = $2 WHERE postback_id = $1", number, ["old:102B"])
    await old.shop.execute(CONVERSION, number, made, NOW - timedelta(days=2), "order-1")
    undone = await OldClicks(old.shop.database, Shelf()).undo(found["batch"], actor="test")
    assert (undone["removed"], undone["used"]) == (2, 1)
    assert await old.shop.value("SELECT string_agg(old_click_id, ',') FROM old_clicks") == "102b"


async def test_an_import_that_stops_says_what_it_stored(old, tmp_path, monkeypatch):
    monkeypatch.setattr("tracker.old_clicks.BATCH", 2)
    at, path, batch = NOW - timedelta(days=1), tmp_path / "half.csv", str(new_id())
    rows = [f"{n},{at.isoformat()}" for n in range(4)]
    path.write_text("\n".join(["click_id,clicked_at", *rows, f"5,{at:%Y-%m-%d %H:%M}"]))
    tried = []
    monkeypatch.setattr("tracker.adapters.postgres_old_imports.try_again", lambda _, source: asyncio.sleep(0, tried.append(source)))
    clicks = OldClicks(old.shop.database, Shelf())
    origin = await clicks.origin(source="my-tune", platform="tune")
    how = {"times": Times(None), "actor": "test", "is_dry": False, "moved": lambda: None}
    with pytest.raises(RejectedInput, match=f"line 6.* the 4 rows before it are imported as batch {batch}"):
        await clicks.load(LogFile(str(path)), origin, batch=batch, **how)
    assert tried == ["my-tune"]
    assert (await clicks.undo(batch, actor="test"))["removed"] == 4
    path.write_text("\n".join(["click_id,clicked_at", f"5,{at:%Y-%m-%d %H:%M}"]))
    with pytest.raises(RejectedInput, match=r"Europe/Berlin$"):
        await clicks.load(LogFile(str(path)), origin, batch=str(new_id()), **how)
    assert await old.shop.value("SELECT count(*) FROM events WHERE entity = 'old_clicks' AND action = 'import'") == 1


async def test_shown_is_who_would_be_paid(old):
    bob = await old.bob()
    await old.exported("102a", 3, campaign=old.campaign, partner=old.partner)
    await old.put("102a", 1, campaign=old.campaign, partner=bob)
    found = await OldClicks(old.shop.database, Shelf()).shown("102a", None)
    assert [(row["partner"], row["earns"]) for row in found] == [("bob", False), ("ada", True)]


async def test_a_file_that_cannot_be_what_it_is_said_to_be_is_refused_at_once(old, tmp_path):
    path = tmp_path / "some.csv"
    for text, why in (("", "no rows"), ("a,b\n1,2\n", "no column stat.ad_id or click_id"), ("[1]\n", "no column")):
        path.write_text(text)
        with pytest.raises(RejectedInput, match=why):
            await imported(old, path)
    clicks = OldClicks(old.shop.database, Shelf())
    for where in ({}, {"host": "a.example", "source": "x"}, {"host": "a.example"}, {"source": "x"}, {"source": "x", "platform": "nope"}):
        with pytest.raises(RejectedInput):
            await clicks.origin(**where)
    with pytest.raises(RejectedInput):
        time_zone("Mars/Olympus")


async def test_the_hosts_row_says_whose_ids_and_times_they_are(old, tmp_path):
    await old.shop.execute(
        "INSERT INTO tracking_hosts (host, platform, source, settings) VALUES ('go.old.example', 'tune', 'my-tune', $1)",
        {"reading": {"time_zone": "America/New_York"}},
    )
    clicks = OldClicks(old.shop.database, Shelf())
    origin = await clicks.origin(host="GO.old.example.")
    assert (origin.source, origin.platform, clicks.zone_of(origin)) == ("my-tune", "tune", "America/New_York")
    assert (await clicks.origin(source="my-tune")).platform == "tune"
    assert clicks.zone_of(await clicks.origin(source="x", platform="tune")) == Shelf().source("tune").profile.export["clicks"].time_zone


async def test_large_files_go_in_batches(old, tmp_path):
    path = tmp_path / "many.jsonl.gz"
    at = int((NOW - timedelta(days=1)).timestamp())
    with gzip.open(path, "wt") as file:
        file.writelines(f'{{"click_id": "c{n}", "clicked_at": {at + n % 7}, "partner_id": {n % 3}}}\n' for n in range(11_000))
    assert counts(await imported(old, path)) == (11_000, 11_000, 0, 0, 11_000)
    assert await old.shop.value("SELECT count(*) FROM old_clicks") == 11_000


async def test_what_an_id_would_earn_by_is_shown(old, tmp_path):
    await old.map("offer", "5", source="my-tune", campaign=old.campaign)
    await old.map("partner", "77", source="my-tune", partner=old.partner)
    await imported(old, export(tmp_path))
    await old.put("102a", 40, campaign=old.campaign, partner=old.partner)
    await old.put("102a", 1, old_offer="9")
    found = await OldClicks(old.shop.database, Shelf()).shown("102a", None)
    assert [(row["source"], row["advertiser"], row["partner"], row["earns"]) for row in found] == [
        ("tune", None, None, False), ("my-tune", "shop", "ada", True), ("tune", "shop", "ada", False),
    ]  # fmt: skip
    assert len(await OldClicks(old.shop.database, Shelf()).shown("102a", "my-tune")) == 1


def test_the_command_imports_shows_and_takes_back(dsn, tmp_path, monkeypatch):
    monkeypatch.setenv("TURNOUT_DATABASE_URL", dsn)
    monkeypatch.setenv("TURNOUT_DATA_DIR", str(tmp_path))
    where = ["--source", "my-tune", "--platform", "tune"]

    def turnout(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["old-clicks", *arguments])

    path = str(export(tmp_path))
    refused = turnout("import", path, *where)
    assert isinstance(refused.exception, RejectedInput)
    assert "--time-zone" in str(refused.exception)
    done = turnout("import", path, *where, "--time-zone", "Europe/Berlin")
    assert done.exit_code == 1  # two rows were refused
    assert "6 rows: 3 imported, 1 already there, 2 refused" in done.output
    again = json.loads(turnout("import", path, *where, "--time-zone", "Europe/Berlin", "--json").stdout)
    assert (again["imported"], again["already_there"]) == (0, 4)
    assert "102a" not in turnout("show", "102a").output
    assert len(json.loads(turnout("show", "102a", "--json").stdout)["items"]) == 1
    batch = re.search(r"batch (\S+) of source my-tune", done.output)[1]
    assert turnout("undo", batch).output == "3 clicks removed; 0 stay, conversions came from them\n"


async def measured(old: Old, source: str = "tune") -> dict[str, Any]:
    rates = await postgres_old_drain.rates(old.shop.database)
    found = await postgres_old_drain.left(old.shop.database, rates, source=source)
    return found[0].as_dict() if found else {}


async def convert(old: Old, name: str, days: float, age_days: float = 1) -> None:
    """An order of an old click, `days` after it."""
    await old.put(name, days + age_days, campaign=old.campaign, partner=old.partner)
    clicked, made = NOW - timedelta(days=days + age_days), NOW - timedelta(days=age_days)
    number = new_id()
    await old.shop.execute(POSTBACK, number, made, name)
    await old.shop.execute(CONVERSION, number, made, clicked, f"order {number}")


POSTBACK = """
    INSERT INTO postbacks (postback_id, received_at, source, advertiser_id, txid, goal, click_id, status, outcome, parameters, ip,
        unverified)
    VALUES ($1, $2, 'postback', 1, $1::uuid::text, 'sale', $3, 'approved', 'attributed', '{}', '', false)
"""
CONVERSION = """
    INSERT INTO conversions (id, advertiser_id, goal, txid, postback_id, status, converted_at, received_at, amount_micros, currency,
        payout_micros, payout_currency, attribution, clicked_at, partner, campaign)
    VALUES ($1, 1, 'sale', $4, $1, 'approved', $2, $2, 0, 'EUR', 0, 'EUR', 'click', $3, 1, 1)
"""


async def test_what_is_left_of_an_old_platform_is_measured_by_source(old):
    assert await measured(old) == {}
    await old.map("offer", "5", campaign=old.campaign)
    for name, age, facts in (("a", 1.5, {"campaign": old.campaign}), ("b", 10.5, {"old_offer": "5"}), ("c", 29.5, {"old_offer": "9"})):
        await old.put(name, age, **facts)
    await old.put("over", 30.5, campaign=old.campaign)
    await old.put("x", 2, source="other", campaign=old.campaign)
    found = await measured(old)
    assert found == {
        "source": "tune", "in_window": 3, "unmapped": 1, "expected_conversions": None, "basis": "few",
        "needed_until": NOW - timedelta(days=1.5) + timedelta(days=30), "last_report_at": None,
    }  # fmt: skip
    await old.shop.execute("UPDATE campaigns SET attribution_window_days = 5")
    assert (await measured(old))["in_window"] == 1
    await old.shop.execute(
        "INSERT INTO goals (advertiser_id, campaign_id, slug, name, attribution_window_days) VALUES (1, $1, 'sale', 'Sale', 60)",
        old.campaign,
    )
    assert (await measured(old))["in_window"] == 4
    assert (await measured(old, "other"))["in_window"] == 1


async def test_the_orders_to_come_follow_the_ages_of_those_that_came(old):
    for number in range(20):
        await convert(old, f"c{number}", number + 0.5, age_days=25)
    found = await measured(old)
    assert (found["in_window"], found["basis"]) == (5, "curve")  # made 25.5 to 29.5 days ago
    assert found["expected_conversions"] == 0
    for number in range(20):
        await old.put(f"n{number}", 9.75, campaign=old.campaign)
    seen = 10 + sum((20 - number) / 20 for number in range(20))  # the shares of orders since the first one, 25 days ago
    assert (await measured(old))["expected_conversions"] == pytest.approx(20 * 20 / seen * 10 / 20, abs=0.6)


async def test_conversions_by_cookies_count_as_those_by_ids(old):
    for number in range(20):
        await convert(old, f"c{number}", number + 0.5, age_days=1)
    before = await measured(old)
    await old.shop.execute("UPDATE postbacks SET visits = ARRAY['old:' || click_id], click_id = NULL")
    assert before["basis"] == "curve"
    assert (await measured(old))["expected_conversions"] == before["expected_conversions"] > 0


async def test_a_click_that_is_exported_too_counts_once(old):
    await old.put("seen", 2, campaign=old.campaign)
    number = await old.exported("seen", 2, old_offer="9")
    await old.shop.execute("UPDATE old_clicks SET clicked_at = clicked_at + interval '20 s' WHERE id = $1", number)
    await old.exported("seen", 3)
    await old.exported("other", 2)
    assert (await measured(old))["in_window"] == 3


async def test_the_keeper_shows_what_is_left_and_drops_what_is_long_over(old):
    registry = CollectorRegistry()
    keeper = OldClickKeeper(old.shop.database, OldClickMetrics(registry))
    for age in (1, 40, 119, 121, 500):
        await old.put(f"a{age}", age, campaign=old.campaign)
    await keeper.once()
    left = "SELECT string_agg(old_click_id, ',' ORDER BY clicked_at DESC) FROM old_clicks"
    assert await old.shop.value(left) == "a1,a40,a119"

    def shown(name: str) -> float | None:
        return registry.get_sample_value(name, {"source": "tune"})

    assert (shown("turnout_old_clicks_in_window"), shown("turnout_old_conversions_expected")) == (1, None)
    assert shown("turnout_old_platform_needed_until_timestamp_seconds") == (NOW + timedelta(days=29)).timestamp()
    await old.shop.execute("DELETE FROM old_clicks WHERE old_click_id = 'a1'")
    await keeper.once()
    assert (shown("turnout_old_clicks_in_window"), shown("turnout_old_platform_needed_until_timestamp_seconds")) == (0, 0)
    await old.shop.execute("DELETE FROM old_clicks")
    await keeper.once()
    assert shown("turnout_old_clicks_in_window") is None
