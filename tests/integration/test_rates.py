"""Exchange rates from file to report: imported, refused, replaced; money in one currency at the rate of each conversion's day."""

import csv
import io
import json
from datetime import UTC, date, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.integration.api_client import ADMIN_KEY, Api, Shop
from tests.integration.test_reports import FACTS, NOON, Reports, click, sale
from tests.integration.test_reports_property import Fact, World
from tracker.adapters import postgres_rates
from tracker.api.report_questions import read_question
from tracker.cli.rates import rates as command
from tracker.domain import money
from tracker.domain.exchange import Rates, read_csv
from tracker.errors import Conflict, RejectedInput

pytestmark = pytest.mark.integration
# Friday 27 February, Friday 6, Monday 9 and Tuesday 10 March 2026, as the ECB writes its history.
ECB = """Date,USD,JPY,GBP,TRY,
2026-03-10,1.0905,160.20,0.8440,N/A,
2026-03-09,1.0850,159.00,0.8400,N/A,
2026-03-06,1.0800,158.00,0.8350,N/A,
2026-02-27,1.0400,150.00,0.8300,38.00,
"""
KUWAIT = "day,currency,rate\n2026-03-10,KWD,0.3340\n"
SATURDAY = datetime(2026, 3, 7, 23, 59, 59, tzinfo=UTC)
FRIDAY = datetime(2026, 3, 6, 1, tzinfo=UTC)
MARCH = "from=2026-03-01&to=2026-03-31"
MONEY = "metrics=conversions,revenue,payout"


class Desk:
    """The API, by which rates are imported and reports asked for."""

    def __init__(self, reports: Reports) -> None:
        self.reports, self.api, self.shop = reports, reports.api, reports.shop

    async def bring(self, text: str, query: str = "", *, kind: str = "text/csv") -> httpx.Response:
        headers = {"Authorization": f"Bearer {ADMIN_KEY}", "Content-Type": kind}
        return await self.api.client.post(f"/api/v1/rates?{query}", content=text.encode(), headers=headers)

    async def has(self, *files: str) -> None:
        for text in files:
            assert (await self.bring(text, "source=bank")).status_code == 200

    async def report(self, query: str) -> dict[str, Any]:
        answer = await self.reports.get(f"{MARCH}&{query}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def stored(self) -> int:
        return int(await self.shop.value("SELECT count(*) FROM exchange_rates"))


@pytest.fixture
def desk(api: Api, shop: Shop, dsn: str) -> Desk:
    return Desk(Reports(api, shop, dsn))


async def test_a_file_is_stored_whole_once_or_not_at_all(desk: Desk) -> None:
    first = {"rates": 13, "added": 13, "replaced": 0, "known": 0, "first": "2026-02-27", "last": "2026-03-10"}
    assert (await desk.bring(ECB, "dry_run=true")).json() == first | {"dry_run": True}
    assert await desk.stored() == 0
    assert (await desk.bring(ECB)).json() == first | {"dry_run": False}
    again = await desk.bring(ECB.replace("1.0905", "1.09050"))
    assert again.json() == first | {"added": 0, "known": 13, "dry_run": False}
    assert await desk.shop.value("SELECT count(*) FROM events WHERE action = 'import'") == 1

    changed = ECB.replace("160.20", "161.20").replace("2026-02-27", "2026-02-26")
    refused = await desk.bring(changed)
    assert (refused.status_code, refused.json()["code"]) == (409, "rate_differs")
    assert "JPY of 2026-03-10 is 160.20 (ecb), not 161.20" in refused.json()["detail"]
    assert await desk.stored() == 13
    replaced = await desk.bring(changed, "replace=true")
    assert {name: replaced.json()[name] for name in ("added", "replaced", "known")} == {"added": 4, "replaced": 1, "known": 8}
    event = await desk.shop.value(
        "SELECT jsonb_build_array(actor, entity_id, before, after) FROM events WHERE action = 'replace' AND entity = 'exchange_rate'"
    )
    assert event == [
        "admin.key",
        "EUR/JPY 2026-03-10",
        {"rate": "160.20", "source": "ecb"},
        {"rate": "161.20", "source": "ecb"},
    ]


async def test_what_cannot_be_read_is_refused_with_its_place_and_stores_nothing(desk: Desk) -> None:
    def one(**more: Any) -> str:
        return json.dumps({"source": "bank", "rates": [{"day": "2026-03-10", "currency": "USD", "rate": "1"} | more]})

    as_json, as_text = "application/json", "text/csv"
    for kind, text, query, code, told in (
        (as_text, ECB + "2026-02-26,1.04,150.00,0,N/A,\n", "", "invalid_rates", "line 6, column GBP"),
        (as_text, "when,what\n", "", "invalid_rates", "line 1"),
        (as_text, KUWAIT, "", "missing_source", "source"),
        (as_text, ECB, "source=" + "x" * 101, "invalid_source", "100"),
        (as_text, ECB, "replace=perhaps", "invalid_replace", "replace"),
        (as_json, one(rate="1,5"), "", "invalid_rates", "rates[0].rate must be a decimal"),
        (as_json, one(rate=1.5), "", "invalid_rates", "rates[0].rate must be a string"),
        (as_json, one(colour="red"), "", "invalid_rates", "rates[0] must be an object of day"),
        (as_json, one(source="\x00"), "", "invalid_source", "control"),
        (as_json, '{"rates":[]}', "", "invalid_rates", "at most"),
        (as_json, "[]", "", "invalid_rates", "at most"),
        (as_json, '{"source":5,"rates":[{"day":"2026-03-10","currency":"USD","rate":"1"}]}', "", "invalid_source", "string"),
    ):
        answer = await desk.bring(text, query, kind=kind)
        assert (answer.status_code, answer.json()["code"]) == (422, code), (text, answer.text)
        assert told in answer.json()["detail"], answer.text
    answer = await desk.api.client.post(
        "/api/v1/rates", content=b"\xff", headers={"Authorization": f"Bearer {ADMIN_KEY}", "Content-Type": as_text}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_rates")
    assert await desk.stored() == 0


async def test_rates_are_listed_by_day_and_currency_page_by_page(desk: Desk) -> None:
    await desk.has(ECB)
    body = {"source": "bank", "rates": [{"day": "2026-03-10", "currency": "ARS", "rate": "1450", "base": "USD"}]}
    assert (await desk.api.admin("POST", "/api/v1/rates", body)).json()["added"] == 1
    found, cursor = [], ""
    while cursor is not None:
        page = (await desk.api.admin("GET", f"/api/v1/rates?from=2026-03-09&to=2026-03-10&limit=3{cursor and '&cursor=' + cursor}")).json()
        found += [(row["day"], row["currency"], row["base"], row["rate"], row["source"]) for row in page["items"]]
        cursor = page["next_cursor"]
    assert [row[:2] for row in found] == sorted(row[:2] for row in found)
    assert found[3:5] == [("2026-03-10", "ARS", "USD", "1450", "bank"), ("2026-03-10", "GBP", "EUR", "0.8440", "ecb")]
    week = (await desk.api.admin("GET", "/api/v1/rates?to=2026-03-10&currency=usd")).json()["items"]
    assert [row["day"] for row in week] == ["2026-03-06", "2026-03-09", "2026-03-10"]
    for query, code in (("from=monday", "invalid_from"), ("to=0001-01-01", "invalid_to"), ("currency=euro", "invalid_currency"),
                        ("cursor=1", "invalid_cursor"), ("limit=0", "invalid_limit"), ("colour=red", "invalid_parameter")):  # fmt: skip
        answer = await desk.api.admin("GET", f"/api/v1/rates?{query}")
        assert (answer.status_code, answer.json()["code"]) == (422, code), query


async def test_the_rate_of_a_day_for_whoever_pays_in_another_currency(desk: Desk) -> None:
    await desk.has(ECB)
    async with desk.shop.database.connection() as connection:

        async def rate(*pair: str, day: int) -> Fraction | None:
            return await postgres_rates.exchange(connection, *pair, date(2026, 3, day))

        assert await rate("USD", "GBP", day=10) == Fraction(8440, 10905)
        assert await rate("EUR", "USD", day=8) == Fraction(10800, 10000)  # Sunday: Friday's
        assert await rate("EUR", "TRY", day=6) == 38  # seven days before
        assert await rate("EUR", "TRY", day=7) is None
        assert await rate("XXX", "XXX", day=1) == 1
        many = await postgres_rates.load(connection, ("USD", "JPY"), date(2026, 3, 1), date(2026, 3, 10))
    found = [many.find("USD", "JPY", date(2026, 3, day)) for day in (1, 10)]
    assert [one and one.rate for one in found] == [Fraction(15000, 104), Fraction(1602000, 10905)]


def of(amount: str, currency: str, payout: str, *, at: datetime = NOON, payout_currency: str | None = None, **facts: Any) -> Fact:
    return sale(amount, payout=payout, at=at, currency=currency, payout_currency=payout_currency or currency, **facts)


async def test_each_conversion_is_turned_at_the_rate_of_its_own_day(desk: Desk) -> None:
    """In euro:
    109.05 USD of the 10th  / 1.0905 = 100.00        10.905 / 1.0905 = 10.00
     54.00 USD of Saturday  / 1.0800 =  50.00 (Friday's rate)  5.40 / 1.08 = 5.00
      1602 JPY of the 10th  / 160.20 =  10.00        no payout
    10.000 KWD of the 10th  / 0.3340 =  29.9401197…  in GBP 8.44 / 0.8440 = 10.00
     38.00 TRY of Friday    / 38.00  =   1.00 (the rate of the Friday before, seven days ago)
     76.00 TRY of Saturday: eight days ago, no rate; its payout 2.18100 USD at Friday's 1.08 = 2.0194444…
      5000 ARS of the 10th: no rate at all, nor for its payout
      7.00 EUR
    revenue 100 + 50 + 10 + 29.9401197… + 1 + 7 = 197.9401197…; payout 10 + 5 + 10 + 2.0194444… = 27.0194444…
    """
    await desk.has(ECB, KUWAIT)
    clicks = [click(sub1="a"), click(sub1="a"), click(sub1="z")]
    await desk.reports.put(clicks, [
        of("109.05", "USD", "10.905", sub1="a"), of("54", "USD", "5.4", at=SATURDAY, sub1="a"), of("1602", "JPY", "0", sub1="b"),
        of("10", "KWD", "8.44", payout_currency="GBP", sub1="b"), of("38", "TRY", "0", at=FRIDAY, sub1="c"),
        of("76", "TRY", "2.181", payout_currency="USD", at=SATURDAY, sub1="c"), of("5000", "ARS", "500", sub1="c"),
        of("7", "EUR", "0", sub1="c"),
    ])  # fmt: skip
    lira = {"conversions": 1, "revenue": "76.00", "currency": "TRY", "payout": None, "payout_currency": None}
    peso = {"conversions": 1, "revenue": "5000.00", "currency": "ARS", "payout": "500.00", "payout_currency": "ARS"}
    report = await desk.report(f"group_by=sub1&{MONEY},epc,aov&currency=eur")
    names = ("conversions", "revenue", "payout", "epc", "aov", "unconverted")
    assert [[row[name] for name in names] for row in (*report["rows"], report["totals"])] == [
        [2, "150.00", "15.00", "7.50", "75.00", []],  # two clicks
        [2, "39.94", "10.00", None, "19.97006", []],  # 39.9401197… / 2
        [4, "8.00", "2.02", None, "4.00", [peso, lira]],  # 38 TRY and 7 EUR are in: 8 / 2
        [0, "0.00", "0.00", "0.00", None, []],
        [8, "197.94", "27.02", "9.006481", "32.99002", [peso, lira]],  # 27.0194444… / 3 clicks, 197.9401197… / 6
    ]
    assert {(row["currency"], row["payout_currency"]) for row in (*report["rows"], report["totals"])} == {("EUR", "EUR")}
    assert report["missing_rates"] == [{"day": "2026-03-07", "currency": "TRY"}, {"day": "2026-03-10", "currency": "ARS"}]
    assert set(report) == {"rows", "totals", "missing_rates"}
    # 100 × 160.20 + 54 / 1.08 × 158.00 + 1602 + 10 / 0.3340 × 160.20 + 38 / 38 × 150.00 + 7 × 160.20
    # = 16020 + 7900 + 1602 + 4796.407… + 150 + 1121.4 = 31589.807…: yen have no minor unit.
    assert (await desk.report(f"{MONEY}&currency=JPY"))["totals"]["revenue"] == "31590"
    # KWD is known on the 10th alone: 100 × 0.3340 + 1602 / 160.20 × 0.3340 + 10 + 7 × 0.3340 = 33.4 + 3.34 + 10 + 2.338
    dinar = (await desk.report("metrics=revenue&currency=KWD"))["totals"]
    assert dinar["revenue"] == "49.078"
    assert dinar["unconverted"] == [
        {"conversions": 1, "revenue": "5000.00", "currency": "ARS"},
        {"conversions": 2, "revenue": "114.00", "currency": "TRY"},
        {"conversions": 1, "revenue": "54.00", "currency": "USD"},
    ]
    # 10 KWD / 0.3340 × 0.8440 = 25.2694…; what is asked for by sub id alone
    assert (await desk.report("metrics=revenue&currency=GBP&filter[sub1]=b"))["totals"]["revenue"] == "33.71"  # + 10 × 0.8440
    # No money asked for, nothing is turned; without `currency` each row has its own.
    assert (await desk.report("metrics=conversions&currency=EUR"))["totals"] == {"conversions": 8}
    assert "unconverted" not in (await desk.report(MONEY))["rows"][0]

    answer = await desk.reports.get(f"{MARCH}&group_by=sub1&{MONEY}&currency=EUR&format=csv")
    header, *rows = csv.reader(io.StringIO(answer.text, newline=""))
    assert header == ["sub1", "conversions", "revenue", "payout", "currency", "payout_currency", "unconverted"]
    assert rows[0] == ["a", "2", "150.00", "15.00", "EUR", "EUR", ""]
    assert rows[2][-1] == "1 conversion: revenue 5000.00 ARS, payout 500.00 ARS; 1 conversion: revenue 76.00 TRY"


async def test_a_day_is_that_of_utc_for_rates_whatever_the_time_zone_of_the_report(desk: Desk) -> None:
    await desk.has(ECB)
    late = datetime(2026, 3, 9, 23, 30, tzinfo=UTC)  # the 10th in Kolkata: 10.85 USD / 1.0850
    await desk.reports.put([click(late, sub1="a")], [of("10.85", "USD", "2.17", at=late, sub1="a")])
    asked = "from=2026-03-10&to=2026-03-10&tz=Asia/Kolkata&group_by=day&metrics=clicks,revenue,epc&currency=EUR&filter[sub1]=a"
    (row,) = (await desk.reports.get(asked)).json()["rows"]
    assert (row["day"], row["clicks"], row["revenue"], row["epc"]) == ("2026-03-10", 1, "10.00", "2.00")


async def test_by_click_time_a_conversion_stands_when_its_click_was_and_is_turned_at_its_own_day(desk: Desk) -> None:
    """A click of 28 February at 23:00, its conversion of 10 March: 109.05 USD / 1.0905 = 100.00, not / 1.0400 = 104.86."""
    await desk.has(ECB)
    before, on = datetime(2026, 2, 28, 23, tzinfo=UTC), datetime(2026, 3, 10, 12, tzinfo=UTC)
    await desk.reports.put([click(before)], [of("109.05", "USD", "21.81", at=on, of=0), of("54", "USD", "5.4", at=SATURDAY)])
    await desk.shop.execute("UPDATE conversions SET clicked_at = $1 WHERE click_id IS NOT NULL", before)
    february, both = "from=2026-02-01&to=2026-02-28", "from=2026-02-01&to=2026-03-31"

    async def revenue(days: str, more: str) -> list[Any]:
        totals = (await desk.reports.get(f"{days}&metrics=clicks,conversions,revenue,payout,cr&{more}")).json()["totals"]
        return [totals[name] for name in ("clicks", "conversions", "revenue", "payout", "cr")]

    for turned, dollar_click, dollar_alone, whole in (
        ("", ["109.05", "21.81"], ["54.00", "5.40"], ["163.05", "27.21"]),
        ("&currency=EUR", ["100.00", "20.00"], ["50.00", "5.00"], ["150.00", "25.00"]),
    ):
        assert await revenue(february, "time=click" + turned) == [1, 1, *dollar_click, "1.000000"]
        assert await revenue(MARCH, "time=click" + turned) == [0, 1, *dollar_alone, None]  # no click: at its own time
        assert (await revenue(february, "time=conversion" + turned))[:2] == [1, 0]
        assert await revenue(MARCH, turned.removeprefix("&")) == [0, 2, *whole, None]
        assert await revenue(both, "time=click" + turned) == await revenue(both, turned.removeprefix("&")) == [1, 2, *whole, "2.000000"]
    rows = (await desk.reports.get(f"{both}&group_by=day&metrics=conversions&time=click")).json()["rows"]
    assert [row["day"] for row in rows] == ["2026-02-28", "2026-03-07"]


# -- the command


def test_the_command_imports_lists_and_shows(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in (
        ("hist.csv", ECB),
        ("other.csv", ECB.replace("1.0905", "1.0906")),
        ("kw.csv", KUWAIT),
        ("bad.csv", "Date,USD\n1,2\n"),
    ):
        Path(name).write_text(text)

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(command, arguments, env={"TURNOUT_DATABASE_URL": dsn, "TURNOUT_DATA_DIR": str(tmp_path)})

    assert run("import", "hist.csv", "--dry-run").stdout.startswith("13 of 13 rates of 2026-02-27 to 2026-03-10 would be stored")
    assert json.loads(run("import", "hist.csv", "--json").stdout)["added"] == 13
    assert run("import", "hist.csv").stdout == "0 of 13 rates of 2026-02-27 to 2026-03-10 are stored, 0 replaced, 13 known already\n"
    assert isinstance(run("import", "other.csv").exception, Conflict)
    assert json.loads(run("import", "other.csv", "--replace", "--json").stdout)["replaced"] == 1
    assert json.loads(run("import", "kw.csv", "--source", "cbk", "--json").stdout)["added"] == 1
    for wrong in (("bad.csv",), ("none.csv",), ("kw.csv",)):
        assert isinstance(run("import", *wrong).exception, RejectedInput), wrong
    listed = run("list", "--from", "2026-03-10", "--to", "2026-03-10", "--csv").stdout
    assert {quote.source for quote in read_csv(listed)} == {"ecb", "cbk"}
    assert len(json.loads(run("list", "--to", "2026-03-10", "--currency", "USD", "--json").stdout)["items"]) == 3
    assert "0.3340" in run("list", "--to", "2026-03-10").stdout
    shown = "1 KWD = 3.265269461078 USD on 2026-03-11, of 2026-03-10: 1 EUR = 0.3340 KWD (cbk), 1 EUR = 1.0906 USD (ecb)\n"
    assert run("show", "kwd", "usd", "2026-03-11").stdout == shown  # 1.0906 / 0.3340
    assert json.loads(run("show", "EUR", "EUR", "2026-03-11", "--json").stdout)["rate"] == "1"
    assert run("show", "EUR", "ARS", "2026-03-11").exit_code == 1


# -- any report


def sales() -> st.SearchStrategy[list[Fact]]:
    """At instants of twenty days, two of them edges; in currencies with and without a rate."""
    instants = st.datetimes(datetime(2026, 3, 1), datetime(2026, 3, 20)).map(lambda at: at.replace(tzinfo=UTC))
    names = st.sampled_from(["EUR", "USD", "JPY", "GBP", "ARS"])
    facts = {
        "status": st.just("approved"), "amount": st.integers(0, 10**9), "currency": names, "payout": st.integers(0, 10**8),
        "payout_currency": names, "advertiser": st.just(1), "click": st.none(),
    }  # fmt: skip
    made = st.builds(
        lambda at, sub, more: Fact(at, FACTS | {"sub1": sub}, 1, 1, 1, more), instants, st.sampled_from("ab"), st.fixed_dictionaries(facts)
    )
    return st.lists(made, min_size=1, max_size=12)


def test_any_report_in_one_currency_is_the_sum_of_exact_fractions(dsn: str) -> None:
    world = World(dsn)
    known = read_csv(ECB)
    world.runner.run(postgres_rates.store(world.database, known, "test"))

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(sales(), st.sampled_from(["EUR", "USD", "JPY"]))
    def holds(made: list[Fact], target: str) -> None:
        question = read_question(
            {"from": "2026-03-01", "to": "2026-03-20", "group_by": "sub1", "metrics": "revenue,payout", "currency": target}
        )
        found = world.runner.run(world.report(question, [], made))
        for row in found["rows"]:
            mine = [one for one in made if one.facts["sub1"] == row["sub1"]]
            for name, currency, amount in (("revenue", "currency", "amount"), ("payout", "payout_currency", "payout")):
                assert row[name] == exactly(mine, Rates(known), target, currency, amount)

    try:
        holds()
    finally:
        world.close()


def exactly(made: list[Fact], rates: Rates, target: str, currency: str, amount: str) -> str:
    total = Fraction(0)
    for one in made:
        found = rates.find(one.more[currency], target, one.at.date())
        total += one.more[amount] * found.rate if found else 0
    unit = 10 ** (6 - money.minor_unit(target))
    return money.format_micros(round(total / unit) * unit, target)
