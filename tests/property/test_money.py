"""Laws of money: text round trips, percentages never invent or lose more than half a minor unit."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tracker.domain import money
from tracker.domain.plans import Plan, Rate, Sale, earned

amounts = st.integers(-money.MAX_MICROS, money.MAX_MICROS)
currencies = st.sampled_from(["EUR", "USD", "JPY", "KWD", "CLF", "XXX"])
percents = st.integers(0, money.PERCENT_MICROS)


@given(amounts, currencies)
def test_an_amount_survives_being_written_and_read(micros: int, currency: str) -> None:
    assert money.parse_micros(money.format_micros(micros, currency)) == micros


@given(amounts, currencies)
def test_an_amount_is_written_with_at_least_the_digits_of_its_currency(micros: int, currency: str) -> None:
    _, _, fraction = money.format_micros(micros, currency).partition(".")
    assert money.minor_unit(currency) <= len(fraction) <= max(6, money.minor_unit(currency))


def percent_of(micros: int, percent: int, currency: str) -> int:
    return earned(Plan(Rate(percent_micros=percent)), Sale(micros, currency), partner=1).micros


@given(amounts, percents, currencies)
def test_a_percentage_is_within_half_a_minor_unit_and_payable(micros: int, percent: int, currency: str) -> None:
    found = percent_of(micros, percent, currency)
    unit = 10 ** (6 - money.minor_unit(currency))
    exact = Decimal(micros) * percent / money.PERCENT_MICROS
    assert abs(found - exact) * 2 <= unit
    assert found % unit == 0


@given(st.integers(0, money.MAX_MICROS), percents, currencies)
def test_a_percentage_grows_with_the_amount(micros: int, percent: int, currency: str) -> None:
    assert 0 <= percent_of(micros // 2, percent, currency) <= percent_of(micros, percent, currency)


@given(st.text())
def test_reading_never_fails_in_any_other_way(text: str) -> None:
    try:
        money.parse_micros(text)
    except ValueError:
        return
