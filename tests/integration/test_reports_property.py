"""Any report over any clicks and conversions equals what plain Python counts in the raw rows; rollups as the click writer makes them.

Each of the three sources of clicks gets its own questions, each on its own rows.
"""

import asyncio
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.thorough import examples
from tracker.adapters import postgres_reports
from tracker.adapters.postgres_clicks import COLUMNS, ClickSink
from tracker.adapters.postgres_loads import Load
from tracker.adapters.postgres_pool import Database
from tracker.adapters.postgres_reports_question import COPIED, JUDGED, METRICS, OF_IMPRESSIONS, Source
from tracker.api.report_questions import read_question
from tracker.domain import click_id, money

pytestmark = pytest.mark.integration
EXAMPLES = examples(30, 60)
PROGRAMME = """
    INSERT INTO advertisers (slug, currency) VALUES ('shop', 'EUR'), ('store', 'USD');
    INSERT INTO campaigns (slug, advertiser_id, destination_url) VALUES ('shoes', 1, 'https://a/'), ('hats', 2, 'https://b/');
    INSERT INTO partners (slug) VALUES ('ada'), ('bob');
    INSERT INTO links (slug, partner_id, campaign_id, advertiser_id) VALUES ('l1', 1, 1, 1), ('l2', 2, 1, 1), ('l3', 2, 2, 2);
"""
SLUGS = {
    "partner": {1: "ada", 2: "bob"},
    "campaign": {1: "shoes", 2: "hats"},
    "link": {1: "l1", 2: "l2", 3: "l3"},
    "advertiser": {1: "shop", 2: "store"},
}
OWNERS = {1: (1, 1), 2: (2, 1), 3: (2, 2), 999: (None, None), None: (None, None)}  # link → partner, campaign; 999 is gone
CHANGES = [  # of the clocks: in autumn, in spring, by half an hour; and zones without any, two of them not in whole hours
    ("Europe/Paris", date(2026, 10, 25)),
    ("America/New_York", date(2026, 3, 8)),
    ("Australia/Lord_Howe", date(2026, 4, 5)),
    ("Asia/Kolkata", date(2026, 10, 25)),
    ("Asia/Kathmandu", date(2026, 3, 8)),
    ("UTC", date(2026, 4, 5)),
]
ZONES = {Source.DAYS: [("UTC", date(2026, 10, 25)), ("Africa/Abidjan", date(2026, 3, 8))], Source.BUCKETS: CHANGES, Source.CLICKS: CHANGES}
GROUPS = {
    Source.DAYS: ["partner", "campaign", "advertiser", "day"],
    Source.BUCKETS: ["partner", "campaign", "link", "advertiser", "day", "hour"],
    Source.CLICKS: ["partner", "campaign", "link", "advertiser", "day", "hour", "country", "device", "sub1", "sub10", "outcome", "verdict"],
}
METRICS_OF = {source: [name for name in METRICS if source is not Source.CLICKS or name not in OF_IMPRESSIONS] for source in Source}
VALUES = {
    "partner": ["ada", "bob", "nobody", ""],
    "campaign": ["shoes", "hats", ""],
    "link": ["l1", "l2", "l3", ""],
    "advertiser": ["shop", "store", ""],
    "country": ["FR", "DE", ""],
    "device": ["mobile", "desktop", ""],
    "sub1": ["a", "b,c", "=1", ""],
    "sub10": ["z", ""],
    "outcome": ["ok", "unknown"],
    "verdict": ["ok", "bot"],
}


@dataclass(frozen=True)
class Fact:
    """A click, or a conversion: what reports look at."""

    at: datetime
    facts: dict
    link: int | None
    partner: int | None
    campaign: int | None
    more: dict


def instants(day):
    """Mostly near the edges of days, hours and quarters; to the microsecond."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(days=1)
    edges = st.builds(lambda quarter, us: timedelta(minutes=15 * quarter, microseconds=us), st.integers(0, 3 * 96), st.integers(-1, 1))
    return st.one_of(edges, st.timedeltas(timedelta(), timedelta(days=3))).map(lambda since: start + since)


def known(name):
    return st.sampled_from(VALUES[name])


@st.composite
def happenings(draw, day, **more):
    link = draw(st.sampled_from(list(OWNERS)))
    partner, campaign = OWNERS[link]
    if link is None:
        campaign = draw(st.sampled_from([None, 1, 2]))
    facts = {name: draw(known(name)) for name in (*COPIED, *JUDGED) if name in VALUES}
    return Fact(draw(instants(day)), facts, link, partner, campaign, {name: draw(strategy) for name, strategy in more.items()})


def clicks_of(day):
    return st.lists(happenings(day, counted=st.booleans(), is_unique=st.sampled_from([True, False, None])), min_size=6, max_size=20)


def impressions_of(day):
    return st.lists(happenings(day, shown=st.integers(1, 9)), max_size=10)


def conversions_of(day):
    more = {
        "status": st.sampled_from(["approved", "pending", "approved", "pending", "reversed", "rejected", "orphan"]),
        "amount": st.integers(0, 10**8),
        "currency": st.sampled_from(["EUR", "EUR", "USD", "JPY"]),
        "payout": st.integers(0, 10**7),
        "payout_currency": st.sampled_from(["EUR", "EUR", "USD"]),
        "click": st.none() | st.integers(0, 15),
    }
    return st.lists(happenings(day, **more), min_size=2, max_size=10)


@st.composite
def questions(draw, source, zone, day):
    """Parameters of a question that `source` answers."""
    allowed = GROUPS[source]
    first = day + timedelta(days=draw(st.sampled_from([0, -1, 0, 1])))
    group_by = draw(st.lists(st.sampled_from(allowed), unique=True, max_size=3))
    group_by += [name for name in draw(st.sampled_from([[], ["day"], ["hour"]])) if name in allowed and name not in group_by]
    filters = draw(
        st.dictionaries(st.sampled_from([name for name in allowed if name in VALUES]), st.just(None), max_size=draw(st.integers(0, 2)))
    )
    only_here = {Source.DAYS: [], Source.BUCKETS: ["link", "hour"], Source.CLICKS: ["country", "sub1", "sub10", "outcome", "verdict"]}[
        source
    ]
    is_elsewhere = source is Source.CLICKS or zone == "UTC"  # unless it is forced to this source
    if only_here and is_elsewhere and not {*group_by, *filters} & set(only_here):
        group_by[-1:] = [draw(st.sampled_from(only_here))]
    asked = {"from": first, "to": first + timedelta(days=draw(st.integers(0, 2))), "tz": zone, "group_by": ",".join(group_by)}
    asked["metrics"] = ",".join(draw(st.lists(st.sampled_from(METRICS_OF[source]), unique=True)))
    for name in filters:
        wanted = draw(st.lists(known(name), min_size=1, max_size=3))
        asked[f"filter[{name}]"] = ",".join(value.replace(",", "\\,") for value in wanted)
    if draw(st.integers(0, 3)) == 3:
        asked["filter[day]"] = ",".join({str(first), str(day)})
    return {name: str(value) for name, value in asked.items()}


class Truth:
    """The same question, answered from the raw rows by counting."""

    def __init__(self, question, clicks, conversions, impressions=()):
        self.question = question
        self.click_of = dict(enumerate(clicks))
        self.metrics = question.metrics
        needs_clicks = {"clicks", "all_clicks", "unique_clicks", "cr", "ctr", "epc"} & set(self.metrics)
        needs_money = {"conversions", "revenue", "payout", "cr", "epc", "aov"} & set(self.metrics)
        self.clicks = [click for click in clicks if self.is_asked(click)] if needs_clicks else []
        self.sales = (
            [sale for sale in conversions if sale.more["status"] in ("approved", "pending") and self.is_asked(sale)] if needs_money else []
        )
        needs_shown = {"impressions", "ctr"} & set(self.metrics)
        self.shown = [shown for shown in impressions if self.is_asked(shown)] if needs_shown else []
        self.always = [()] if (needs_clicks or needs_shown) and not question.group_by else []

    def label(self, row, name):
        local = row.at.astimezone(self.question.zone)
        if name == "day":
            return local.strftime("%Y-%m-%d")
        if name == "hour":
            return local.strftime("%Y-%m-%dT%H:00")
        if name == "advertiser":
            return SLUGS[name].get(row.more.get("advertiser", row.campaign))
        if name in SLUGS:
            return SLUGS[name].get(getattr(row, name))
        if name in JUDGED and "status" in row.more:
            row = self.click_of.get(row.more["click"])
        return (row.facts.get(name) or None) if row else None

    def is_asked(self, row):
        day = row.at.astimezone(self.question.zone).date()
        kept = all((self.label(row, name) or "") in wanted for name, wanted in self.question.filters.items())
        return kept and self.question.first <= day <= self.question.last

    def key(self, row):
        return tuple(self.label(row, name) for name in self.question.group_by)

    def pair(self, sale):
        has_money = {"revenue", "aov"} & set(self.metrics), {"payout", "epc"} & set(self.metrics)
        return sale.more["currency"] if has_money[0] else "", sale.more["payout_currency"] if has_money[1] else ""

    def rows(self):
        keys = {*map(self.key, (*self.clicks, *self.sales, *self.shown)), *self.always}
        for key in sorted(keys, key=lambda key: [(value is None, value or "") for value in key]):
            clicks = [click for click in self.clicks if self.key(click) == key]
            shown = [one for one in self.shown if self.key(one) == key]
            sales = defaultdict(list)
            for sale in self.sales:
                if self.key(sale) == key:
                    sales[self.pair(sale)].append(sale)
            for number, pair in enumerate(sorted(sales) or [("", "")]):
                yield dict(zip(self.question.group_by, key, strict=True)) | self.told(
                    clicks, shown, sales[pair], pair, is_first=number == 0
                )

    def told(self, clicks, shown, sales, pair, *, is_first=True):
        counted = sum(click.more["counted"] for click in clicks)
        revenue, payout = (sum(sale.more[name] for sale in sales) for name in ("amount", "payout"))
        unique = sum(click.more["counted"] and click.more["is_unique"] is True for click in clicks)
        impressions = sum(one.more["shown"] for one in shown)
        counts = {"clicks": counted, "all_clicks": len(clicks), "unique_clicks": unique, "impressions": impressions}
        found = {name: count if is_first else 0 for name, count in counts.items()} | {"conversions": len(sales)}
        found |= {"revenue": amount(revenue, pair[0]), "payout": amount(payout, pair[1]), "cr": ratio(len(sales), counted)}
        found |= {"ctr": ratio(counted, impressions)}
        found |= {"epc": amount(Fraction(payout, counted), pair[1]) if counted else None}
        found |= {"aov": amount(Fraction(revenue, len(sales)), pair[0]) if sales else None}
        found = {name: found[name] for name in self.metrics}
        found |= {"currency": pair[0] or None} if {"revenue", "aov"} & set(self.metrics) else {}
        return found | ({"payout_currency": pair[1] or None} if {"payout", "epc"} & set(self.metrics) else {})

    def totals(self):
        pairs = sorted({self.pair(sale) for sale in self.sales})
        if len(pairs) <= 1:
            return {"totals": self.told(self.clicks, self.shown, self.sales, pairs[0] if pairs else ("", ""))}
        money_names = {"revenue", "payout", "epc", "aov", "currency", "payout_currency"}
        whole = self.told(self.clicks, self.shown, self.sales, ("", ""))
        each = [self.told(self.clicks, self.shown, [sale for sale in self.sales if self.pair(sale) == pair], pair) for pair in pairs]
        return {
            "totals": {name: value for name, value in whole.items() if name not in money_names},
            "totals_by_currency": [
                {name: value for name, value in told.items() if not name.endswith("clicks") and name not in OF_IMPRESSIONS} for told in each
            ],
        }


def amount(micros, currency):
    return money.format_micros(round(micros), currency)


def ratio(part, whole):
    return f"{round(Fraction(part, whole) * 10**6) / 10**6:.6f}" if whole else None


def click_row(number, click):
    """A row as the click writer stores it. Ids differ in their random part alone when times are the same."""
    facts = dict.fromkeys(COLUMNS, "") | dict.fromkeys([f"sub{n}" for n in range(1, 11)]) | click.facts
    facts |= {f"sub{n}": facts[f"sub{n}"] or None for n in range(1, 11)}
    ids = {"link": click.link, "partner": click.partner, "campaign": click.campaign, "advertiser": None}
    plain = {"rule_version": 1, "truncated": False, "boot": UUID(int=1), "seq": 1, "extra": None, "visitor_key": None}
    made = {"click_id": id_of(number, click), "clicked_at": click.at} | click.more
    return tuple((facts | ids | plain | made)[name] for name in COLUMNS)


def id_of(number, click):
    return UUID(bytes=click_id.compose(int(click.at.timestamp() * 1000), number.to_bytes(10, "big")))


SHOWN = """
    INSERT INTO impression_stats AS s (bucket, slot, campaign, partner, link, impressions)
    VALUES (date_bin('15 minutes', $1::timestamptz, 'epoch'), $2, $3, $4, $5, $6)
    ON CONFLICT (bucket, campaign, partner, link, slot) DO UPDATE SET impressions = s.impressions + excluded.impressions
"""
SALE = """
    INSERT INTO conversions (id, advertiser_id, goal, txid, postback_id, status, converted_at, received_at, amount_micros, currency,
        payout_micros, payout_currency, attribution, click_id, link, partner, campaign, country, device, sub1, sub10)
    VALUES ($1, $2, 'sale', $1::text, $1, $3, $4, $4, $5, $6, $7, $8, 'click', $9, $10, $11, $12, $13, $14, $15, $16)
"""


def sale_row(number, sale, clicks):
    click = sale.more["click"]
    at = None if click is None else id_of(click, clicks[click]) if click < len(clicks) else UUID(int=click)
    facts = [sale.facts[name] for name in ("country", "device", "sub1", "sub10")]
    facts[2:] = [value or None for value in facts[2:]]
    money_facts = [sale.more[name] for name in ("amount", "currency", "payout", "payout_currency")]
    return (
        UUID(int=number + 1),
        sale.more["advertiser"],
        sale.more["status"],
        sale.at,
        *money_facts,
        at,
        sale.link,
        sale.partner,
        sale.campaign,
        *facts,
    )


class World:
    """One database for all examples; each starts with empty tables."""

    def __init__(self, dsn):
        self.runner = asyncio.Runner()
        self.dsn, self.sink, self.database = dsn, ClickSink(dsn, slot=0), Database(dsn, name="test", size=2)
        self.connection = self.runner.run(asyncpg.connect(dsn))
        self.runner.run(self.connection.execute(PROGRAMME))

    async def report(self, question, clicks, conversions, impressions=()):
        await self.connection.execute(
            "DELETE FROM clicks; DELETE FROM click_stats; DELETE FROM impression_stats; DELETE FROM daily_stats; DELETE FROM conversions"
        )
        await self.sink.store(Load(rows=[click_row(number, click) for number, click in enumerate(clicks)]))
        for number, sale in enumerate(conversions):
            values = sale_row(number, sale, clicks)
            await self.connection.execute(SALE.replace("$1::text", f"'{number}'"), *values)
        for number, one in enumerate(impressions):
            ids = (one.campaign or 0, one.partner or 0, one.link or 0)
            await self.connection.execute(SHOWN, one.at, number % 2, *ids, one.more["shown"])
        return await postgres_reports.report(self.database, question)

    def close(self):
        self.sink.close()
        with suppress(Exception):
            self.runner.run(self.database.close())
        self.connection.terminate()
        self.runner.close()


@pytest.fixture
def world(dsn):
    made = World(dsn)
    yield made
    made.close()


@pytest.mark.parametrize("source", list(Source), ids=lambda source: source.value)
def test_a_report_is_what_the_raw_rows_say(world, source):
    @settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(st.data())
    def holds(data):
        zone, day = data.draw(st.sampled_from(ZONES[source]))
        question = read_question(data.draw(questions(source, zone, day)))
        clicks, sales = data.draw(clicks_of(day)), data.draw(conversions_of(day))
        impressions = data.draw(impressions_of(day))
        for sale in sales:
            sale.more["advertiser"] = sale.campaign or 1
        assert question.source is source
        truth = Truth(question, clicks, sales, impressions)
        expected = {"rows": list(truth.rows())} | truth.totals()
        found = world.runner.run(world.report(question, clicks, sales, impressions))
        event(f"{min(len(expected['rows']), 5)} rows, {'several currencies' if 'totals_by_currency' in expected else 'one currency'}")
        assert found == expected

    holds()
