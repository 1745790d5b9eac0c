"""Exchange rates: what files say, which day's rate is taken, cross rates, and what is refused."""

from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest

from tracker.domain.exchange import BadRate, Quote, Rates, read_csv, read_fields

DAILY = "Date, USD, JPY, GBP, \n20 November 2026, 1.0905, 162.34, 0.8765, \n"
HISTORY = "Date,USD,JPY,TRY,\n2026-11-20,1.0905,162.34,N/A,\n2026-11-19,1.0900,162.00,38.5,\n"
FRIDAY, THURSDAY = date(2026, 11, 20), date(2026, 11, 19)


def test_the_ecbs_daily_file_has_one_day_in_words() -> None:
    usd, jpy, gbp = read_csv(DAILY)
    assert usd == Quote(FRIDAY, "USD", Decimal("1.0905"), "EUR", "ecb")
    assert (jpy.currency, jpy.rate, gbp.currency, gbp.rate) == ("JPY", Decimal("162.34"), "GBP", Decimal("0.8765"))


def test_the_ecbs_history_leaves_out_what_was_not_published() -> None:
    found = {(quote.day, quote.currency): str(quote.rate) for quote in read_csv("\ufeff" + HISTORY.replace("\n", "\r\n"))}
    assert found == {
        (FRIDAY, "USD"): "1.0905",
        (FRIDAY, "JPY"): "162.34",
        (THURSDAY, "USD"): "1.0900",
        (THURSDAY, "JPY"): "162.00",
        (THURSDAY, "TRY"): "38.5",
    }


def test_a_plain_file_has_a_row_for_each_rate() -> None:
    assert read_csv("rate,currency,day\n0.3340,KWD,2026-11-20\n\n") == [Quote(FRIDAY, "KWD", Decimal("0.3340"), "EUR", "")]
    (of_bank,) = read_csv("day,currency,rate,base,source\n2026-11-20,ARS,1450.5,USD,bcra\n")
    assert of_bank == Quote(FRIDAY, "ARS", Decimal("1450.5"), "USD", "bcra")


NO_RATES = ("0", "0.00", "-1", "1e3", "NaN", "1.", ".5", "9" * 13)
BAD = [
    ("", "line 1: the header must be that of the ECB"),
    ("day,currency\n", "line 1: the header"),
    ("Date,USD\n", "no rates in it"),
    ("Date,USD,usd\n", "line 1, column 3: must be a currency that no other column has"),
    ("Date,USD,EUR\n", "line 1, column 3"),
    ("Date,USD,USD\n", "line 1, column 3"),
    ("Date,,USD\n", "line 1, column 2"),
    ("Date,USD\n2026-11-20\n", "line 2: has 1 values, the header has 2"),
    ("Date,USD\n2026-11-20,1,2\n", "line 2: has 3 values, the header has 2"),
    ("Date,USD\n2026-11-31,1\n", "line 2, column Date: must be a day such as 2026-11-20; got '2026-11-31'"),
    ("Date,USD\n31 November 2026,1\n", "line 2, column Date"),
    ("Date,USD\n20 Novembre 2026,1\n", "line 2, column Date"),
    ("Date,USD\n20261120,1\n", "line 2, column Date"),
    ("Date,USD\n2026-11-20,1.09\n\n2026-11-19,\n", "line 4, column USD: must be a decimal above 0 with a point, such as 1.0905; got ''"),
    ("Date,USD\n2026-11-20,1.09\n2026-11-20,1.09\n", "line 3: USD of 2026-11-20 stands in line 2 already"),
    ('Date,USD\n"2026-11-20,1\n', "line 2: is no CSV"),
    ("day,currency,rate,colour\n", "line 1, column 4: columns are day, currency, rate, base, source, each once; got 'colour'"),
    ("day,currency,rate,rate\n", "line 1, column 4"),
    ("day,currency,rate\n2026-11-20,dollar,1\n", "line 2, column currency: must be an ISO 4217 code"),
    ("day,currency,rate\n2026-11-20,EUR,1\n", "line 2, column currency: must be another than the base EUR"),
    ("day,currency,rate\n2026-11-20,,1\n", "line 2, column currency: is missing"),
    ("day,currency,rate,base\n2026-11-20,USD,1,eur\n", "line 2, column base"),
    *(
        (f"day,currency,rate\n2026-11-20,USD,{rate}\n", "line 2, column rate")
        for rate in ("0", "0.00", "-1", "1e3", "NaN", "1.", ".5", "9" * 13)
    ),
    ('day,currency,rate\n2026-11-20,USD,"1,09"\n', "line 2, column rate"),
]


@pytest.mark.parametrize(("text", "problem"), BAD)
def test_a_bad_file_is_refused_with_line_and_column(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=r"line|no rates") as caught:
        read_csv(text)
    assert problem in str(caught.value)


def test_a_value_alone_is_refused_by_its_name() -> None:
    with pytest.raises(BadRate) as caught:
        read_fields({"day": "2026-11-20", "currency": "USD"})
    assert (caught.value.field, str(caught.value)) == ("rate", "is missing")


RATES = Rates(
    [
        Quote(FRIDAY, "USD", Decimal("1.0905")),
        Quote(FRIDAY, "GBP", Decimal("0.8765")),
        Quote(THURSDAY, "TRY", Decimal(40)),
        Quote(THURSDAY, "USD", Decimal("1.0900")),
    ]
)


def rate(source: str, target: str, day: date) -> Fraction | None:
    found = RATES.find(source, target, day)
    return found.rate if found else None


def test_rates_are_exact_in_both_directions_and_across() -> None:
    assert rate("EUR", "USD", FRIDAY) == Fraction(10905, 10000)
    assert rate("USD", "EUR", FRIDAY) == Fraction(10000, 10905)
    assert rate("USD", "GBP", FRIDAY) == Fraction(8765, 10905)  # 0.8765 / 1.0905
    assert rate("XXX", "XXX", FRIDAY) == 1


def test_a_day_without_a_rate_takes_that_of_at_most_seven_days_before() -> None:
    assert rate("EUR", "USD", date(2026, 11, 22)) == Fraction(10905, 10000)  # Sunday
    assert rate("EUR", "USD", date(2026, 11, 27)) == Fraction(10905, 10000)
    assert rate("EUR", "USD", date(2026, 11, 28)) is None  # the eighth day
    assert rate("EUR", "USD", date(2026, 11, 18)) is None  # never that of a later day
    assert rate("EUR", "ARS", FRIDAY) is None


def test_both_sides_of_a_cross_rate_are_of_the_last_day_that_has_both() -> None:
    found = RATES.find("USD", "TRY", FRIDAY)
    assert found is not None
    assert (found.rate, found.day) == (Fraction(4000, 109), THURSDAY)  # 40 / 1.0900, not / 1.0905
    assert [quote.currency for quote in found.quotes] == ["USD", "TRY"]
    assert rate("GBP", "TRY", FRIDAY) is None


def test_of_several_bases_one_of_the_two_currencies_goes_first() -> None:
    euro = [Quote(FRIDAY, "USD", Decimal("1.1")), Quote(FRIDAY, "ARS", Decimal(1600))]
    dollar = [Quote(FRIDAY, "ARS", Decimal(1450), "USD"), Quote(FRIDAY, "EUR", Decimal("0.9"), "USD")]
    both = Rates([*euro, *dollar])
    found = [both.find(*pair, FRIDAY) for pair in (("USD", "ARS"), ("EUR", "ARS"), ("EUR", "USD"))]
    assert [one and one.rate for one in found] == [1450, 1600, Fraction(11, 10)]
