"""Amounts as shops write them, in every declared format, and what is refused."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.domain.amounts import FORMATS, micros_of
from tracker.domain.money import MAX_MICROS, MICROS, minor_unit, parse_micros


@pytest.mark.parametrize(
    ("text", "amount_format", "currency", "units"),
    [
        ("12.50", "point", "EUR", "12.5"),
        ("12", "point", "EUR", "12"),
        (".5", "point", "EUR", ".5"),
        ("12.", "point", "EUR", "12"),
        ("1.234,56", "comma", "EUR", "1234.56"),
        ("12,50", "comma", "EUR", "12.5"),
        ("1.234", "comma", "EUR", "1234"),
        ("1234,5", "comma", "EUR", "1234.5"),
        ("1 234,56", "comma", "EUR", "1234.56"),
        (",5", "comma", "EUR", ".5"),
        ("1.234.567,89", "comma", "EUR", "1234567.89"),
        ("1,234.56", "thousands", "USD", "1234.56"),
        ("12.50", "thousands", "USD", "12.5"),
        ("1,234", "thousands", "USD", "1234"),
        ("1250", "minor", "EUR", "12.5"),
        ("1250", "minor", "JPY", "1250"),
        ("1250", "minor", "KWD", "1.25"),
        ("12500", "minor", "CLF", "1.25"),
        ("-5", "point", "EUR", "-5"),
        ("-1.234,5", "comma", "EUR", "-1234.5"),
        ("-5", "minor", "EUR", "-.05"),
    ],
)
def test_amounts_are_read_exactly(text, amount_format, currency, units):
    assert micros_of(text, amount_format, currency) == int(Decimal(units) * MICROS)


@pytest.mark.parametrize(
    ("text", "amount_format", "said"),
    [
        ("1.234,56", "point", "point, such as 12.50; if the shop writes it otherwise, set postbacks.amount_format"),
        ("12,50", "point", "such as 12.50"),
        ("1,234.56", "point", "such as 12.50"),
        ("1e3", "point", "such as 12.50"),
        ("12.50", "comma", "such as 1.234,56"),
        ("1.23,4", "comma", "such as 1.234,56"),
        (",", "comma", "such as 1.234,56"),
        (".", "comma", "such as"),
        ("1.234,56", "thousands", "such as 1,234.56"),
        ("12,50", "thousands", "such as 1,234.56"),
        ("12.50", "minor", "smallest unit"),
        ("", "minor", "smallest unit"),
        ("١٢", "point", "such as"),
        ("9" * 20, "minor", "larger than"),
        ("9" * 20, "point", "larger than"),
        ("1.1234567", "point", "six digits"),
    ],
)
def test_what_is_not_declared_is_refused_with_what_is_allowed(text, amount_format, said):
    with pytest.raises(ValueError, match=said.replace(".", r"\.")):
        micros_of(text, amount_format, "EUR")


@given(st.integers(0, MAX_MICROS // 10_000).map(lambda cents: cents * 10_000), st.sampled_from(["EUR", "JPY", "KWD"]))
def test_one_amount_in_all_formats_is_one_amount(micros, currency):
    whole, part = divmod(micros, MICROS)
    grouped = f"{whole:,}"
    written = {
        "point": f"{whole}.{part:06d}",
        "comma": f"{grouped.replace(',', '.')},{part:06d}",
        "thousands": f"{grouped}.{part:06d}",
    }
    assert {micros_of(text, name, currency) for name, text in written.items()} == {micros}
    unit = 10 ** (6 - minor_unit(currency))
    assert micros_of(str(micros // unit), "minor", currency) == micros // unit * unit


@given(st.text(max_size=20), st.sampled_from(sorted(FORMATS)), st.sampled_from(["EUR", "JPY", "KWD", "CLF"]))
def test_whatever_is_sent_is_an_amount_or_a_clear_refusal(text, amount_format, currency):
    try:
        found = micros_of(text, amount_format, currency)
    except ValueError as exc:
        found = str(exc)
    assert found or found == 0


@pytest.mark.parametrize(
    ("text", "micros"),
    [("5.0000000", 5_000_000), ("0.000000000000", 0), ("-1.5000000", -1_500_000), ("1e3", 1_000_000_000), ("0.000001", 1), ("1e-6", 1)],
)
def test_zeros_beyond_the_millionth_say_nothing(text, micros):
    assert parse_micros(text) == micros


@pytest.mark.parametrize("text", ["1e-7", "1e-40", "0.0000001", "123456789.00000000000000000000000000001"])
def test_digits_beyond_the_millionth_are_refused(text):
    with pytest.raises(ValueError, match="at most six digits"):
        parse_micros(text)
