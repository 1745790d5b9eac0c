"""Laws of exchange: rates are consistent with one another; sums by day and currency are the sums of single conversions."""

from collections import defaultdict
from contextlib import suppress
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from tracker.adapters.postgres_reports_exchange import Turning, together
from tracker.adapters.postgres_reports_question import Question
from tracker.adapters.postgres_reports_rows import Group, shape, turn
from tracker.domain import money
from tracker.domain.exchange import DAYS_BACK, Quote, Rates, read_csv

FIRST = date(2026, 3, 1)
CURRENCIES = ("EUR", "USD", "JPY", "KWD", "ARS")
currencies = st.sampled_from(CURRENCIES)
days = st.integers(0, 20).map(lambda number: FIRST + timedelta(days=number))
values = st.decimals("0.0001", 20000, places=4)
quotes = st.lists(
    st.builds(Quote, days, st.sampled_from(CURRENCIES[1:4]), values), unique_by=lambda quote: (quote.day, quote.currency), max_size=30
)


@given(quotes, currencies, currencies, days)
def test_a_rate_and_its_inverse_are_those_of_the_last_week_alone(known, source, target, day):
    there, back = Rates(known).find(source, target, day), Rates(known).find(target, source, day)
    assert (there is None) == (back is None)
    if there and back:
        assert there.rate * back.rate == 1
        assert there.day == back.day
        assert day - timedelta(days=DAYS_BACK) <= there.day <= day
    within = [quote for quote in known if day - timedelta(days=DAYS_BACK) <= quote.day <= day]
    assert Rates(within).find(source, target, day) == there


@given(st.lists(values, min_size=3, max_size=3), st.permutations(["EUR", "USD", "JPY", "KWD"]))
def test_by_way_of_a_third_currency_the_rate_is_the_same(rates, order):
    of_day = Rates(Quote(FIRST, currency, rate) for currency, rate in zip(CURRENCIES[1:4], rates, strict=True))
    first, second, third, _ = order
    one, other, whole = (of_day.find(*pair, FIRST) for pair in ((first, second), (second, third), (first, third)))
    assert one.rate * other.rate == whole.rate


conversions = st.lists(
    st.tuples(days, st.sampled_from(["a", "b", None]), st.integers(0, 10**9), currencies, st.integers(0, 10**8), currencies), max_size=40
)


@given(quotes, conversions, currencies)
def test_what_is_turned_by_day_and_currency_is_what_each_conversion_comes_to(known, sales, target):
    """The rows are grouped as the statement groups them; the figures are worked out for one conversion after the other."""
    rates, grouped = Rates(known), defaultdict(lambda: [0, 0, 0])
    whole, lacking, kept = defaultdict(lambda: [0, Fraction(0), Fraction(0)]), set(), defaultdict(Decimal)
    for day, sub, revenue, currency, payout, payout_currency in sales:
        of = currency if currency != target and revenue else None
        payout_of = payout_currency if payout_currency != target and payout else None
        for number, value in enumerate((1, revenue, payout)):
            grouped[sub, of, payout_of, day if of or payout_of else None][number] += value
        whole[sub][0] += 1
        for number, micros, name in ((1, revenue, of), (2, payout, payout_of)):
            found = rates.find(name or target, target, day)
            whole[sub][number] += micros * found.rate if found else 0
            if found is None:
                lacking.add((day.isoformat(), name))
                kept[number, name] += Decimal(micros) / money.MICROS
    question = Question(FIRST, FIRST, ("sub1",), ("conversions", "revenue", "payout"), ZoneInfo("UTC"), currency=target)
    names = ("sub1", "currency", "payout_currency", "rate_day", "conversions", "revenue", "payout")
    report = shape(question, [], [dict(zip(names, (*key, *sums), strict=True)) for key, sums in grouped.items()], rates)
    told = {row["sub1"]: (row["conversions"], row["revenue"], row["payout"]) for row in report["rows"]}
    assert told == {sub: (count, shown(revenue, target), shown(payout, target)) for sub, (count, revenue, payout) in whole.items()}
    assert report["totals"]["revenue"] == shown(sum((sums[1] for sums in whole.values()), Fraction(0)), target)
    assert {(one["day"], one["currency"]) for one in report.get("missing_rates", ())} == lacking
    found = defaultdict(Decimal)
    for item in report["totals"]["unconverted"]:
        for number, name, unit in ((1, "revenue", "currency"), (2, "payout", "payout_currency")):
            if item[unit] is not None:
                found[number, item[unit]] += Decimal(item[name])
    assert found == kept


@given(st.lists(st.tuples(st.fractions(0, 9, max_denominator=50), st.integers(-100, 100)), max_size=9, unique_by=lambda part: part[0]))
def test_amounts_by_rate_together_are_the_sum_of_each_turned(parts):
    assert together(dict(parts)) == sum((rate * micros for rate, micros in parts), Fraction(0))


def test_a_group_keeps_whole_numbers_by_the_rates_of_its_own_days():
    """However many rates the others have: five years in ten currencies have a common denominator of thousands of digits."""
    rates = Rates(Quote(FIRST + timedelta(days=number), "USD", 1 + Decimal(number) / 10_000) for number in range(1500))
    names = ("sub1", "currency", "payout_currency", "rate_day", "conversions", "revenue", "payout")
    rows = [
        dict(zip(names, (str(number), "USD", "USD", FIRST + timedelta(days=number), 1, 10**6, 10**5), strict=True))
        for number in range(1500)
    ]
    question = Question(FIRST, FIRST, ("sub1",), ("conversions", "revenue", "payout"), ZoneInfo("UTC"), currency="EUR")
    group, turning = Group(), Turning(question, rows, rates)
    lines = [one.lines()[0] for one in (group_of(turning, row) for row in rows)]
    assert max(line.sums[1].denominator for line in lines) < 10**6
    for row in rows[:3] * 2:
        turn(turning, group, row)
    assert group.turned[0] == {Fraction(10_000, 10_000 + number): 2 * 10**6 for number in range(3)}


def group_of(turning, row):
    group = Group()
    turn(turning, group, row)
    return group


def shown(micros, currency):
    unit = 10 ** (6 - money.minor_unit(currency))
    return money.format_micros(round(micros / unit) * unit, currency)


@given(
    st.lists(st.sampled_from(["Date", "day", "currency", "rate", "USD", "EUR", "2026-11-20", "1.5", "N/A", ",", "\n", '"', "x"])).map(
        "".join
    )
)
def test_any_text_is_read_or_refused(text):
    with suppress(ValueError):
        assert read_csv(text)
