"""Reports over HTTP: groups, filters, derived metrics, order, time zones, CSV, what they read, and what they refuse."""

import asyncio
import csv
import io
import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from tests.integration.api_client import ADMIN_KEY, Api, Shop
from tests.integration.conftest import Servers
from tests.integration.test_reports_property import SALE, SHOWN, Fact, click_row, id_of, sale_row
from tracker.adapters import partitions, postgres_reports
from tracker.adapters import postgres_reports_sql as sql
from tracker.adapters.postgres_clicks import COLUMNS, ClickSink
from tracker.adapters.postgres_loads import Load
from tracker.adapters.postgres_pool import Database, database
from tracker.adapters.postgres_reports_question import ROWS_MAX, Question, Source
from tracker.api.app import create
from tracker.api.report_questions import read_question
from tracker.errors import StoreUnavailable
from tracker.settings import Settings

pytestmark = pytest.mark.integration
DAY = date(2026, 3, 10)
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
FACTS = {"country": "FR", "device": "mobile", "outcome": "ok", "verdict": "ok", "sub1": "", "sub10": ""}


def click(at: datetime = NOON, *, counted: bool = True, link: int | None = 1, **facts: str) -> Fact:
    """A click on the shop's link."""
    owner = 1 if link else None
    return Fact(at, FACTS | facts, link, owner, owner, {"counted": counted, "is_unique": counted})


def sale(amount: str, *, payout: str = "0", at: datetime = NOON, of: int | None = None, status: str = "approved", **more: Any) -> Fact:
    """A conversion of click number `of`, with its facts."""
    micros = {name: round(float(value) * 10**6) for name, value in (("amount", amount), ("payout", payout))}
    money = {"currency": more.pop("currency", "EUR"), "payout_currency": more.pop("payout_currency", "EUR")} | micros
    return Fact(at, FACTS | more, 1, 1, 1, {"status": status, "click": of, "advertiser": 1} | money)


class Reports:
    """Puts rows where the workers would, and asks for reports of the day unless told otherwise."""

    def __init__(self, api: Api, shop: Shop, dsn: str) -> None:
        self.api, self.shop, self.dsn = api, shop, dsn

    async def put(self, clicks: list[Fact], sales: list[Fact] | None = None) -> None:
        sink = ClickSink(self.dsn, slot=0)
        await sink.store(Load(rows=[click_row(number, fact) for number, fact in enumerate(clicks)]))
        sink.close()
        for number, fact in enumerate(sales or ()):
            await self.shop.execute(SALE.replace("$1::text", f"'{number}'"), *sale_row(number, fact, clicks))

    async def get(self, query: str) -> httpx.Response:
        days = "" if "from=" in query else f"from={DAY}&to={DAY}&"
        return await self.api.admin("GET", f"/api/v1/reports?{days}{query}")

    async def rows(self, query: str) -> list[dict[str, Any]]:
        answer = await self.get(query)
        assert answer.status_code == 200, answer.text
        return answer.json()["rows"]

    async def counts(self, name: str, query: str = "") -> dict[Any, int]:
        """Clicks by one group."""
        return {row[name]: row["clicks"] for row in await self.rows(f"group_by={name}&metrics=clicks&{query}")}


@pytest.fixture
def reports(api: Api, shop: Shop, dsn: str) -> Reports:
    return Reports(api, shop, dsn)


async def test_derived_metrics_are_decimal_strings_and_null_where_they_divide_by_nothing(reports: Reports) -> None:
    await reports.put(
        [click(sub1="a"), click(sub1="a"), click(sub1="a"), click(sub1="a", counted=False), click(sub1="b")],
        [sale("10", payout="1", sub1="a"), sale("10.01", payout="0.5", sub1="a"), sale("7", payout="1", sub1="c")],
    )
    rows = {row.pop("sub1"): row for row in await reports.rows("group_by=sub1&metrics=cr,epc,aov")}
    eur = {"currency": "EUR", "payout_currency": "EUR"}
    assert rows == {
        "a": {"cr": "0.666667", "epc": "0.50", "aov": "10.005"} | eur,
        "b": {"cr": "0.000000", "epc": "0.00", "aov": None, "currency": None, "payout_currency": None},
        "c": {"cr": None, "epc": None, "aov": "7.00"} | eur,
    }
    totals = (await reports.get("metrics=clicks,cr,epc,aov")).json()["totals"]
    assert totals == {"clicks": 4, "cr": "0.750000", "epc": "0.625", "aov": "9.003333"} | eur


async def test_in_several_currencies_each_row_divides_by_the_clicks_of_its_group(reports: Reports) -> None:
    await reports.put([click(), click()], [sale("10", payout="1"), sale("900", payout="3", currency="JPY", payout_currency="JPY")])
    found = (await reports.get("group_by=partner&metrics=clicks,conversions,revenue,cr,epc,aov")).json()
    eur = {
        "conversions": 1,
        "revenue": "10.00",
        "currency": "EUR",
        "cr": "0.500000",
        "epc": "0.50",
        "payout_currency": "EUR",
        "aov": "10.00",
    }
    jpy = {"conversions": 1, "revenue": "900", "currency": "JPY", "cr": "0.500000", "epc": "1.5", "payout_currency": "JPY", "aov": "900"}
    assert found == {
        "rows": [{"partner": "ada", "clicks": 2} | eur, {"partner": "ada", "clicks": 0} | jpy],
        "totals": {"clicks": 2, "conversions": 2, "cr": "1.000000"},
        "totals_by_currency": [eur, jpy],
    }


async def test_reversed_and_rejected_conversions_and_uncounted_clicks_are_not_earned(reports: Reports) -> None:
    states = [sale("1", status=status) for status in ("approved", "pending", "reversed", "rejected", "orphan")]
    await reports.put([click(), click(counted=False, verdict="bot")], states)
    for group in ("partner", "link", "country"):
        (row,) = await reports.rows(f"group_by={group}&metrics=clicks,all_clicks,conversions,revenue")
        assert (row["clicks"], row["all_clicks"], row["conversions"], row["revenue"]) == (1, 2, 2, "2.00"), group


async def test_filters_take_several_values_commas_of_their_own_and_none(reports: Reports) -> None:
    clicks = [click(sub1="a"), click(sub1="b"), click(sub1="b"), click(sub1="x,y"), click(sub1="", country=""), click(link=None, sub1="a")]
    await reports.put(clicks)
    assert await reports.counts("sub1") == {"a": 2, "b": 2, "x,y": 1, None: 1}
    assert await reports.counts("sub1", "filter[sub1]=a,b") == {"a": 2, "b": 2}
    assert await reports.counts("sub1", "filter[sub1]=a&filter[sub1]=b") == {"a": 2, "b": 2}
    assert await reports.counts("sub1", "filter[sub1]=x\\,y") == {"x,y": 1}
    assert await reports.counts("sub1", "filter[sub1]=") == {None: 1}
    assert await reports.counts("sub1", "filter[sub1]=,a&filter[partner]=ada") == {"a": 1, None: 1}
    assert await reports.counts("country", "filter[device]=mobile&filter[verdict]=ok,bot") == {"FR": 5, None: 1}
    assert await reports.counts("partner", "filter[partner]=") == {None: 1}
    assert await reports.counts("hour", f"filter[day]={DAY}&filter[hour]={DAY}T12:00,{DAY}T13:00") == {f"{DAY}T12:00": 6}
    assert await reports.counts("hour", f"filter[hour]={DAY}T13:00") == {}


PROBLEMS = [
    ("group_by=partner,colour", "invalid_group_by", "group_by", "sub10"),
    ("group_by=sub11", "invalid_group_by", "group_by", "sub10"),
    ("group_by=partner,campaign,link,day,hour,country", "invalid_group_by", "group_by", "at most 5"),
    ("metrics=clicks,colour", "invalid_metrics", "metrics", "epc"),
    ("filter[colour]=red", "invalid_filter", "filter[colour]", "verdict"),
    ("filter[sub 1]=red", "invalid_filter", "filter[sub 1]", "sub1"),
    ("filter[day]=monday", "invalid_filter", "filter[day]", "2026-01-31"),
    ("filter[hour]=noon", "invalid_filter", "filter[hour]", "T09:00"),
    ("group_by=partner&metrics=clicks&sort=revenue", "invalid_sort", "sort", "partner, clicks"),
    ("sort=--clicks", "invalid_sort", "sort", "clicks"),
    ("limit=0", "invalid_limit", "limit", str(ROWS_MAX)),
    ("limit=1e3", "invalid_limit", "limit", str(ROWS_MAX)),
    ("tz=Mars/Base", "invalid_tz", "tz", "Europe/Paris"),
    ("currency=euro", "invalid_currency", "currency", "EUR"),
    ("time=noon", "invalid_time", "time", "click"),
    ("format=xml", "invalid_format", "format", "csv"),
    ("page=2", "invalid_parameter", "page", "limit"),
]


async def test_what_is_unknown_is_one_problem_that_names_the_field_and_what_is_allowed(reports: Reports) -> None:
    for query, code, field, allowed in PROBLEMS:
        answer = await reports.get(query)
        problem = answer.json()
        assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json"), query
        assert (problem["code"], problem["field"]) == (code, field), query
        assert allowed in problem["detail"], query


async def test_rows_are_in_a_total_order_and_a_limit_leaves_totals_whole(reports: Reports) -> None:
    clicks = [click(sub1=sub, device=device) for sub, device in (("a", "x"), ("b", "x"), ("b", "y"), ("c", "x"), ("", "x"))]
    await reports.put(clicks, [sale("5", sub1="c"), sale("20", sub1="a"), sale("3", sub1="a", currency="USD")])
    asked = "group_by=sub1&metrics=clicks,revenue"

    async def order(query: str) -> list[Any]:
        return [row["sub1"] for row in await reports.rows(f"{asked}&{query}")]

    assert await order("") == ["a", "a", "b", "c", None]
    assert await order("sort=-sub1") == ["c", "b", "a", "a", None]
    assert await order("sort=-clicks,sub1") == ["b", "a", "a", "c", None]
    assert await order("sort=-revenue") == ["a", "c", "a", "b", None]
    assert await order("sort=revenue&sort=-sub1") == ["b", None, "a", "c", "a"]
    whole = (await reports.get(f"{asked}&sort=-revenue")).json()
    cut = (await reports.get(f"{asked}&sort=-revenue&limit=2")).json()
    assert cut == whole | {"rows": whole["rows"][:2], "rows_left_out": 3}
    assert cut["totals"] == {"clicks": 5}
    text = await reports.get(f"{asked}&sort=-revenue&limit=2&format=csv")
    assert text.headers["x-rows-left-out"] == "3"
    assert len(text.text.splitlines()) == 3


async def test_a_conversion_is_grouped_by_its_own_copies_and_by_the_outcome_and_verdict_of_its_click(reports: Reports) -> None:
    clicks = [click(sub1="a", verdict="bot", country="DE"), click(sub1="a")]
    await reports.put(clicks, [sale("1", of=0, sub1="a", country="DE"), sale("2", of=1, sub1="a"), sale("4", sub1="a")])
    rows = await reports.rows("group_by=verdict,country&metrics=clicks,revenue")
    assert [(row["verdict"], row["country"], row["clicks"], row["revenue"]) for row in rows] == [
        ("bot", "DE", 1, "1.00"),
        ("ok", "FR", 1, "2.00"),
        (None, "FR", 0, "4.00"),  # no click, or one that is not kept any more
    ]
    (row,) = await reports.rows("group_by=sub1&metrics=revenue&filter[verdict]=bot&filter[outcome]=ok")
    assert row == {"sub1": "a", "revenue": "1.00", "currency": "EUR"}


async def test_days_and_hours_are_those_of_the_time_zone_when_the_clocks_change(reports: Reports) -> None:
    moments = ["2026-10-24T21:59", "2026-10-24T22:00", "2026-10-25T00:30", "2026-10-25T01:30", "2026-10-25T22:59", "2026-10-25T23:00"]
    await reports.put([click(datetime.fromisoformat(moment).replace(tzinfo=UTC)) for moment in moments])
    for facts in ("", "&filter[country]=FR"):  # from the rollups, from the clicks
        day = "from=2026-10-25&to=2026-10-25&tz=Europe/Paris" + facts
        assert await reports.counts("day", day) == {"2026-10-25": 4}
        hours = {"2026-10-25T00:00": 1, "2026-10-25T02:00": 2, "2026-10-25T23:00": 1}
        assert await reports.counts("hour", day) == hours
        assert await reports.counts("day", day.replace("Europe/Paris", "CET")) == {"2026-10-25": 4}
        days = await reports.counts("day", "from=2026-10-25&to=2026-10-26&tz=Asia/Kolkata" + facts)
        assert days == {"2026-10-25": 4, "2026-10-26": 2}
        days = await reports.counts("hour", "from=2026-10-25&to=2026-10-25&tz=Asia/Kathmandu" + facts)
        assert days == {"2026-10-25T03:00": 2, "2026-10-25T06:00": 1, "2026-10-25T07:00": 1}
    spring = "from=2026-03-29&to=2026-03-29&tz=Europe/Paris"
    assert read_question(dict(part.split("=") for part in spring.split("&"))).bounds == (
        datetime(2026, 3, 28, 23, tzinfo=UTC),
        datetime(2026, 3, 29, 22, tzinfo=UTC),
    )


async def test_a_spreadsheet_runs_nothing_of_a_csv(reports: Reports) -> None:
    subs = ["=1+1", "+A1", "-A1", "@SUM(1)", "\tx", "\rx", "-12.50", "+7", "plain, with comma", "a=b"]
    await reports.put([click(sub1=sub) for sub in subs], [sale("-5", sub1="-12.50")])
    answer = await reports.get("group_by=sub1&metrics=clicks,revenue&format=csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    header, *rows = csv.reader(io.StringIO(answer.text, newline=""))
    assert header == ["sub1", "clicks", "revenue", "currency"]
    guarded = ["'=1+1", "'+A1", "'-A1", "'@SUM(1)", "'\tx", "'\rx", "-12.50", "+7", "plain, with comma", "a=b"]
    assert {row[0] for row in rows} == set(guarded)
    assert ["-12.50", "1", "-5.00", "EUR"] in rows


async def test_an_advertisers_key_sees_its_own_alone(reports: Reports) -> None:
    await reports.api.admin("POST", "/api/v1/advertisers", {"slug": "other", "name": "Other", "currency": "EUR", "domains": ["o.example"]})
    key = (await reports.api.admin("POST", "/api/v1/keys", {"role": "advertiser", "advertiser": "other", "name": "o"})).json()["key"]
    await reports.put([click(sub1="a")], [sale("1", sub1="a")])
    for group in ("partner", "link", "sub1"):
        path = f"/api/v1/reports?from={DAY}&to={DAY}&group_by={group}&filter[advertiser]=shop"
        assert (await reports.api.call(key, "GET", path)).json()["rows"] == [], group
        assert len((await reports.api.admin("GET", path)).json()["rows"]) == 1, group


async def test_an_orphan_counts_where_it_was_attributed_to(reports: Reports) -> None:
    orphan = click(link=None, outcome="unknown")
    await reports.put([orphan])
    assert await reports.counts("partner", "filter[outcome]=unknown") == {None: 1}
    await reports.shop.execute(
        "INSERT INTO click_attributions (click_id, clicked_at, link, partner, campaign, reason, actor) VALUES ($1, $2, 1, 1, 1, 'r', 'a')",
        id_of(0, orphan),
        orphan.at,
    )
    (row,) = await reports.rows("group_by=partner,link,advertiser&metrics=clicks&filter[outcome]=unknown")
    assert row == {"partner": "ada", "link": "adas", "advertiser": "shop", "clicks": 1}


async def test_it_is_said_when_single_clicks_are_not_kept_so_long(reports: Reports) -> None:
    await reports.put([click()])
    await reports.shop.execute("INSERT INTO installation (key, value) VALUES ('retention_floor', '2026-03-11')")
    assert "clicks_kept_from" not in (await reports.get("group_by=link")).json()
    assert (await reports.get("group_by=country")).json()["clicks_kept_from"] == "2026-03-11"
    assert "clicks_kept_from" not in (await reports.get("from=2026-03-11&to=2026-03-11&group_by=country")).json()


async def test_more_groups_than_an_answer_holds_are_refused(reports: Reports) -> None:
    await reports.put([click()])
    others = {"click_id": "(left(click_id::text, 24) || lpad(to_hex(n), 12, '0'))::uuid", "sub1": "n"}
    chosen = ", ".join(others.get(name, name) for name in COLUMNS)
    many = f"INSERT INTO clicks ({', '.join(COLUMNS)}) SELECT {chosen} FROM clicks, generate_series(1, {ROWS_MAX}) n"
    await reports.shop.execute(many)
    answer = await reports.get("group_by=sub1&metrics=clicks&limit=1")
    assert (answer.status_code, answer.json()["code"]) == (422, "too_many_groups")
    assert (await reports.get("metrics=clicks&filter[country]=FR")).json()["totals"] == {"clicks": ROWS_MAX + 1}


# -- what is read


def question(group_by: str = "", first: date = DAY, last: date = DAY, tz: str = "UTC", **filters: str) -> Question:
    asked = {"from": str(first), "to": str(last), "group_by": group_by, "tz": tz}
    return read_question(asked | {f"filter[{name}]": value for name, value in filters.items()})


SOURCES = [
    (question("partner,day"), Source.DAYS),
    (question("campaign,advertiser", partner="ada"), Source.DAYS),
    (question("day", tz="Africa/Abidjan"), Source.DAYS),
    (question("day", tz="Europe/London"), Source.DAYS),  # as UTC in winter
    (question("day", date(2026, 7, 1), date(2026, 7, 1), tz="Europe/London"), Source.BUCKETS),
    (question("partner", tz="Asia/Kolkata"), Source.BUCKETS),
    (question("hour", tz="Asia/Kathmandu"), Source.BUCKETS),
    (question("partner", link="adas"), Source.BUCKETS),
    (question("partner,country"), Source.CLICKS),
    (question("partner", sub1="a"), Source.CLICKS),
    (question("verdict"), Source.CLICKS),
    (question("day", date(1971, 1, 1), date(1971, 1, 1), tz="Africa/Monrovia"), Source.CLICKS),  # 44 minutes and 30 seconds off
]


async def test_clicks_are_read_from_the_smallest_table_that_can_tell(dsn: str) -> None:
    for asked, source in SOURCES:
        read = {"clicks" if name.startswith("clicks") else name for name in relations(await explained(dsn, *sql.clicks(asked)))}
        assert read & {"daily_stats", "click_stats", "clicks"} == {source.value}, asked


async def explained(dsn: str, statement: str, values: list[Any], *, options: str = "") -> dict[str, Any]:
    """The plan of a statement, as the API's own connections make it."""
    async with database(dsn, name="test") as opened:
        (row,) = await opened.fetch(f"EXPLAIN ({options}FORMAT JSON) {statement}", *values)
    return dict(json.loads(row["QUERY PLAN"])[0]["Plan"])


def relations(plan: dict[str, Any], *, executed: bool = False) -> set[str]:
    """The tables in a plan; with `executed` those that were looked into."""
    found = {plan["Relation Name"]} if "Relation Name" in plan and (not executed or plan["Actual Loops"]) else set()
    return found.union(*(relations(part, executed=executed) for part in plan.get("Plans", ())))


async def days_with_partitions(dsn: str) -> list[date]:
    connection = await asyncpg.connect(dsn)
    try:
        return sorted((await partitions.layout(connection)).days)
    finally:
        await connection.close()


async def test_only_the_partitions_of_the_days_asked_for_are_read(dsn: str) -> None:
    days = await days_with_partitions(dsn)
    first, last = days[10], days[12]
    three = {partitions.name_of(day) for day in (first, first + timedelta(days=1), last)}
    plan = await explained(dsn, *sql.clicks(question("sub1,day", first, last, country="FR")))
    assert {name for name in relations(plan) if name.startswith("clicks")} == three
    plan = await explained(dsn, *sql.clicks(question("sub1", first, first, tz="Asia/Kolkata")))
    before = first - timedelta(days=1)
    assert {name for name in relations(plan) if name.startswith("clicks")} == {partitions.name_of(before), partitions.name_of(first)}


async def test_the_verdict_of_a_conversions_click_is_looked_up_in_its_partition_alone(reports: Reports) -> None:
    days = await days_with_partitions(reports.dsn)
    noon = [datetime(day.year, day.month, day.day, 12, tzinfo=UTC) for day in days[5:20]]
    await reports.put([click(at) for at in noon], [sale("1", of=3, at=noon[10])])
    await reports.shop.execute(
        "INSERT INTO conversions SELECT (jsonb_populate_record(c, jsonb_build_object('id', gen_random_uuid(), 'txid', 'n' || n))).*"
        " FROM conversions c, generate_series(1, 2000) n"
    )
    await reports.shop.execute("ANALYZE clicks, conversions")
    asked = question("verdict", days[15], days[15])
    plan = await explained(reports.dsn, *sql.conversions(asked), options="ANALYZE, ")
    read = {name for name in relations(plan, executed=True) if name.startswith("clicks")}
    assert read == {partitions.name_of(days[8])}


async def test_conversions_by_the_time_of_their_click_are_found_by_an_index(reports: Reports) -> None:
    await reports.put([], [sale("1")])
    await reports.shop.execute(
        "INSERT INTO conversions SELECT (jsonb_populate_record(c, jsonb_build_object('id', gen_random_uuid(), 'txid', 'n' || n,"
        " 'clicked_at', c.converted_at - n * interval '1 hour'))).* FROM conversions c, generate_series(1, 5000) n"
    )
    await reports.shop.execute("ANALYZE conversions")
    asked = read_question({"from": str(DAY), "to": str(DAY), "time": "click", "currency": "USD"})
    plan = json.dumps(await explained(reports.dsn, *sql.conversions(asked)))
    assert "conversions_clicked_at" in plan


# -- when PostgreSQL does not answer


async def test_without_postgresql_a_report_is_a_503(tmp_path: Path) -> None:
    settings = Settings(database_url="postgresql://x@127.0.0.1:1/x", data_dir=str(tmp_path), admin_key=ADMIN_KEY, _env_file=None)
    app = create(settings)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://tracker") as client:
        for form in ("json", "csv"):
            answer = await Api(client).admin("GET", f"/api/v1/reports?group_by=sub1&format={form}")
            assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "unavailable", "2")
            assert answer.headers["content-type"] == "application/problem+json"


async def test_a_report_that_postgresql_does_not_finish_is_a_503(reports: Reports, tmp_path: Path) -> None:
    connection = await asyncpg.connect(reports.dsn)
    try:
        name = await connection.fetchval("SELECT current_database()")
        await connection.execute(f"ALTER DATABASE {name} SET statement_timeout = '200ms'")
        await connection.execute("SET statement_timeout = 0; BEGIN; LOCK TABLE clicks IN ACCESS EXCLUSIVE MODE")
        settings = Settings(database_url=reports.dsn, data_dir=str(tmp_path), admin_key=ADMIN_KEY, _env_file=None)
        app = create(settings)
        transport = httpx.ASGITransport(app)
        async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://tracker") as client:
            answer = await Api(client).admin("GET", "/api/v1/reports?group_by=country")
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            await connection.execute("ROLLBACK")
            assert (await Api(client).admin("GET", "/api/v1/reports?group_by=country")).status_code == 200
    finally:
        await connection.close()


async def test_a_frozen_postgresql_ends_a_report_in_its_time(reports: Reports, servers: Servers) -> None:
    if servers.local is None:
        pytest.skip("only an embedded server can be paused")
    opened = Database(reports.dsn, name="test")
    asked = question("country")
    assert (await postgres_reports.report(opened, asked))["totals"]["clicks"] == 0
    servers.local.postgres.pause()
    try:
        async with asyncio.timeout(20):
            with pytest.raises(StoreUnavailable):
                await postgres_reports.report(opened, asked, timeout_s=0.3)
    finally:
        servers.local.postgres.resume()
    assert (await postgres_reports.report(opened, asked))["totals"]["clicks"] == 0
    await opened.close()


async def test_impressions_stand_beside_the_clicks_of_their_group(reports: Reports) -> None:
    await reports.put([click(), click(), click(counted=False)], [sale("10"), sale("900", currency="JPY")])
    for number, (at, ids, shown) in enumerate([(NOON, (1, 1, 1), 6), (NOON, (1, 1, 0), 2), (NOON, (0, 0, 0), 5), (NOON, (7, 0, 0), 0)]):
        await reports.shop.execute(SHOWN, at, number, *ids, shown)
    rows = {row.pop("partner"): row for row in await reports.rows("group_by=partner&metrics=impressions,clicks,ctr")}
    assert rows == {
        "ada": {"impressions": 8, "clicks": 2, "ctr": "0.250000"},
        None: {"impressions": 5, "clicks": 0, "ctr": "0.000000"},
    }
    by_link = {(row["day"], row["link"]): row["impressions"] for row in await reports.rows("group_by=day,link&metrics=impressions")}
    assert by_link == {(str(DAY), "adas"): 6, (str(DAY), None): 7}
    split = (await reports.get("group_by=advertiser&filter[partner]=ada&metrics=impressions,ctr,revenue")).json()
    assert [(row["impressions"], row["ctr"], row["currency"]) for row in split["rows"]] == [(8, "0.250000", "EUR"), (0, "0.250000", "JPY")]
    assert split["totals"] == {"impressions": 8, "ctr": "0.250000"}
    assert (await reports.get("metrics=impressions&from=2026-01-01&to=2026-01-01")).json()["totals"] == {"impressions": 0}


@pytest.mark.parametrize(
    "query", ["group_by=country&metrics=impressions", "metrics=clicks,ctr&filter[sub1]=a", "group_by=verdict&metrics=ctr"]
)
async def test_impressions_are_not_counted_by_what_only_clicks_have(reports: Reports, query: str) -> None:
    answer = await reports.get(query)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_metrics")
    assert "impressions and ctr are counted by partner, campaign, link" in answer.text
