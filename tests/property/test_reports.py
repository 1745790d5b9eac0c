"""Laws of reports that need no database: days without gaps, order, limits, sums of rows."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from tracker.adapters.postgres_reports_question import BASIC, METRICS, ROWS_MAX, Question
from tracker.adapters.postgres_reports_rows import shape
from tracker.api.report_questions import joined, read_question

DAY = timedelta(days=1)
ZONES = (
    "UTC",
    "Europe/Paris",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "America/Havana",
    "America/Sao_Paulo",
    "Pacific/Apia",
)
zones = st.sampled_from(ZONES).map(ZoneInfo)
days = st.dates(date(1990, 1, 1), date(2035, 12, 31))
subs = st.none() | st.sampled_from(["a", "b", "c"])
devices = st.sampled_from(["x", "y"])


@given(zones, days, st.integers(0, 400))
def test_a_range_is_its_days_one_after_the_other_without_gap_or_overlap(zone, first, count):
    last = first + count * DAY
    each = [Question(day, day, (), (), zone).bounds for day in (first + n * DAY for n in range(count + 1))]
    assert all(ends == starts for (_, ends), (starts, _) in pairwise(each))
    assert Question(first, last, (), (), zone).bounds == (each[0][0], each[-1][1])


@given(zones, days, st.integers(0, 400), st.data())
def test_the_offsets_tell_local_time_at_any_second(zone, first, count, data):
    question = Question(first, first + count * DAY, (), (), zone)
    start, end = question.bounds
    at = start + timedelta(seconds=data.draw(st.integers(0, int((end - start).total_seconds()))))
    offsets = question.offsets()
    told = [offset for since, offset in offsets if since <= at][-1]
    assert told == at.astimezone(zone).utcoffset()
    assert offsets[0][0] == start
    for since, offset in offsets[1:]:
        assert since.astimezone(zone).utcoffset() == offset != (since - timedelta(seconds=1)).astimezone(zone).utcoffset()


@st.composite
def sums(draw):
    """What the two statements find: each group of clicks once, each group of conversions once a pair of currencies."""
    keys = st.tuples(subs, devices)
    clicks = [
        {"sub1": sub, "device": device, "clicks": draw(st.integers(0, 5)), "all_clicks": draw(st.integers(5, 9)), "unique_clicks": 0}
        for sub, device in draw(st.lists(keys, unique=True))
    ]
    money = st.tuples(keys, st.sampled_from(["EUR", "USD", "JPY"]), st.sampled_from(["EUR", "USD"]))
    conversions = [
        {"sub1": sub, "device": device, "currency": currency, "payout_currency": payout_currency}
        | {"conversions": draw(st.integers(1, 3)), "revenue": draw(st.integers(0, 10**8)), "payout": draw(st.integers(0, 10**7))}
        for (sub, device), currency, payout_currency in draw(st.lists(money, unique=True))
    ]
    return clicks, conversions


def question(metrics, sort=(), limit=ROWS_MAX):
    return Question(date(2026, 1, 1), date(2026, 1, 1), ("sub1", "device"), tuple(metrics), ZoneInfo("UTC"), sort=tuple(sort), limit=limit)


metric_lists = st.lists(st.sampled_from(METRICS), unique=True, min_size=1)


@given(sums(), metric_lists, st.data())
def test_order_and_limit_change_neither_what_the_rows_are_nor_the_totals(found, metrics, data):
    names = st.sampled_from(["sub1", "device", *metrics])
    sort = [sign + name for name, sign in data.draw(st.lists(st.tuples(names, st.sampled_from(["", "-"])), max_size=3))]
    limit = data.draw(st.integers(1, 12))
    plain, ordered = shape(question(metrics), *found), shape(question(metrics, sort), *found)
    cut = shape(question(metrics, sort, limit), *found)
    assert cut["rows"] == ordered["rows"][:limit]
    assert cut.get("rows_left_out", 0) == max(0, len(plain["rows"]) - limit)
    for name in plain.keys() - {"rows"}:
        assert plain[name] == ordered[name] == cut[name]
    counts = {"clicks", "all_clicks", "unique_clicks", "impressions"}  # stand in the first row of a group, whichever that is
    without = [sorted(repr({k: v for k, v in row.items() if k not in counts}) for row in one["rows"]) for one in (plain, ordered)]
    assert without[0] == without[1]


@given(sums(), st.sampled_from(["sub1", "conversions", "revenue", "payout", "cr", "ctr", "epc", "aov"]), st.booleans())
def test_what_there_is_none_of_is_last_in_either_direction(found, name, is_down):
    rows = shape(question(METRICS, [f"{'-' * is_down}{name}"]), *found)["rows"]
    values = [row[name] for row in rows]
    there = [value if name == "sub1" else Decimal(value) for value in values if value is not None]
    assert there == sorted(there, reverse=is_down)
    assert values[len(there) :] == [None] * (len(values) - len(there))


@given(sums(), st.lists(st.sampled_from(["clicks", "-revenue", "device", "-conversions"]), max_size=2))
def test_rows_sum_to_the_totals_in_each_currency(found, sort):
    report = shape(question(BASIC, sort), *found)
    for name in ("clicks", "all_clicks", "conversions"):
        assert sum(row[name] for row in report["rows"]) == report["totals"][name]
    for name, currency in (("revenue", "currency"), ("payout", "payout_currency")):
        totals = report.get("totals_by_currency", [report["totals"]])
        for unit in {row[currency] for row in report["rows"]}:
            mine, whole = (sum(Decimal(row[name]) for row in rows if row[currency] == unit) for rows in (report["rows"], totals))
            assert mine == whole


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\\"), max_size=5), min_size=1, unique=True))
def test_filters_carry_any_text_however_they_are_sent(values):
    escaped = [value.replace(",", "\\,") for value in values]
    for pairs in ([("filter[sub3]", ",".join(escaped))], [("filter[sub3]", value) for value in escaped]):
        assert read_question(joined(pairs)).filters == {"sub3": tuple(values)}


def test_without_from_and_to_it_is_the_last_days_that_were_asked_for():
    before = datetime.now(UTC).date()
    found = [read_question({}, days=days) for days in (1, 7)]
    after = datetime.now(UTC).date()
    assert {question.last for question in found} <= {before, after}
    assert [(question.last - question.first).days for question in found] == [0, 6]
    assert found[0].metrics == BASIC
