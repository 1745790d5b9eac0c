"""What is left of an old platform: the counts, the curve and the date."""

from datetime import UTC, datetime, timedelta

import pytest

from tracker.domain.drain import Heap, remaining, share_after

NOW = datetime(2026, 3, 1, tzinfo=UTC)
EVENLY = [day + 0.5 for day in range(30)]  # conversions that come evenly over thirty days


def heap(age, clicks=100, window=30, ages=EVENLY, **more):
    return Heap(age, window, clicks, NOW - timedelta(days=age), ages, **more)


def test_nothing_is_left_of_nothing():
    found = remaining([], conversions=0, seen_days=0)
    assert (found.in_window, found.unmapped, found.expected, found.until) == (0, 0, 0, None)


def test_clicks_count_until_their_window_is_over():
    found = remaining([heap(0), heap(29), heap(30), heap(40, window=60, is_mapped=False)], conversions=0, seen_days=9)
    assert (found.in_window, found.unmapped) == (300, 100)
    assert found.until == NOW + timedelta(days=30)
    over = remaining([heap(30), heap(90)], conversions=5, seen_days=9)
    assert (over.until, over.expected) == (None, 0)


@pytest.mark.parametrize("seen_days", [1, 3, 10])
def test_soon_after_the_move_as_much_is_expected_as_comes(seen_days):
    """A thousand clicks a day until the move, 3 % of them with an order, at any age up to thirty days."""
    ages = sorted(n / 10 for n in range(300))
    heaps = [heap(age, 1000, ages=ages) for age in range(seen_days, 30 + seen_days)]
    came = sum(1000 * 0.03 * (min(age + 0.5, 30) - (age + 0.5 - seen_days)) / 30 for age in range(seen_days, 30 + seen_days))
    to_come = sum(1000 * 0.03 * (1 - (age + 0.5) / 30) for age in range(seen_days, 30))
    found = remaining(heaps, conversions=round(came), seen_days=seen_days)
    assert found.basis == "curve"
    assert found.expected == pytest.approx(to_come, rel=0.05)


@pytest.mark.parametrize(("age", "share"), [(0, 29 / 30), (14, 15 / 30), (29, 0)])
def test_older_clicks_have_fewer_orders_before_them(age, share):
    found = remaining([heap(age), heap(60, clicks=1000)], conversions=50, seen_days=90)
    assert found.expected == pytest.approx(100 * 50 / (1000 + 100 * (1 - share)) * share)


def test_a_curve_ends_with_the_window():
    ages = [*EVENLY, *[100.5] * 1000]  # of a campaign with a longer window
    assert remaining([heap(14, clicks=1000, ages=ages)], conversions=50, seen_days=90).expected == pytest.approx(50)


@pytest.mark.parametrize(
    ("conversions", "ages", "seen_days"), [(19, EVENLY, 90), (100, EVENLY[:19], 90), (100, (), 90), (100, [29.9] * 20, 1)]
)
def test_too_few_conversions_tell_nothing(conversions, ages, seen_days):
    found = remaining([heap(14, ages=ages)], conversions=conversions, seen_days=seen_days)
    assert (found.basis, found.expected) == ("few", None)


def test_no_more_orders_come_than_clicks():
    assert remaining([heap(14, clicks=30)], conversions=500, seen_days=90).expected == pytest.approx(15)


def test_the_share_that_comes_later():
    assert share_after([], 3) == 1
    assert [share_after([1, 2, 2, 4], age) for age in (0.5, 1, 2, 3, 4)] == [1, 0.75, 0.25, 0.25, 0]
