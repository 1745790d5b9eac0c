"""Payouts of the simplest terms, to the minor unit."""

import pytest

from tracker.domain.payout import Payout, Terms, payout

EUR = 1_000_000


def test_a_fixed_payout_is_what_it_says_in_its_own_currency():
    assert payout(Terms(1, "fixed", amount_micros=5 * EUR, currency="EUR"), 99 * EUR, "USD") == Payout(5 * EUR, "EUR")
    assert payout(Terms(1, "fixed", amount_micros=EUR // 1000), 0, "USD") == Payout(1000, "USD")


@pytest.mark.parametrize(
    ("amount", "percent", "currency", "expected"),
    [
        (49_900_000, 10, "EUR", 4_990_000),
        (10_250_000, 10, "EUR", 1_020_000),  # 1.025: half to even
        (10_350_000, 10, "EUR", 1_040_000),  # 1.035: half to even
        (1_005_000_000, 10, "JPY", 100_000_000),  # 100.5 yen: half to even
        (1_015_000_000, 10, "JPY", 102_000_000),
        (1_000, 10, "KWD", 0),
        (10_005_000, 10, "KWD", 1_000_000),  # 1.0005: half to even at three digits
        (0, 50, "EUR", 0),
    ],
)
def test_a_percentage_is_rounded_half_even_at_the_minor_unit(amount, percent, currency, expected):
    assert payout(Terms(1, "percent", percent_micros=percent * 1_000_000), amount, currency) == Payout(expected, currency)
