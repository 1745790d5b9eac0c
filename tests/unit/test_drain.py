"""What is left of an old platform: the counts, the curve and the date."""

from datetime import UTC, datetime, timedelta

import pytest

from tracker.domain.drain import Heap, remaining, share_after

NOW = datetime(2026, 3, 1, tzinfo=UTC)
EVENLY = [day + 0.5 for day in range(30)]  # conversions that come evenly over thirty days


def heap(age, clicks=100, window=30, ages=EVENLY, **more):
    return Heap(age, window, clicks, NOW - timedelta(days=age), ages, **more)


def test_nothing_is_left_of_nothing():
    found = remaining([], conversions=0, clicks=0)
    assert (found.in_window, found.unmapped, found.expected, found.until) == (0, 0, 0, None)


def test_clicks_count_until_their_window_is_over():
    found = remaining([heap(0), heap(29), heap(30), heap(40, window=60, is_mapped=False)], conversions=0, clicks=400)
    assert (found.in_window, found.unmapped) == (300, 100)
    assert found.until == NOW + timedelta(days=30)
    assert remaining([heap(30), heap(90)], conversions=5, clicks=100).until is None


@pytest.mark.parametrize(("age", "share"), [(0, 29 / 30), (14, 15 / 30), (29, 0)])
def test_older_clicks_have_fewer_orders_before_them(age, share):
    found = remaining([heap(age)], conversions=100, clicks=1000)
    assert found.basis == "curve"
    assert found.expected == pytest.approx(100 * 0.1 * share)


def test_a_curve_ends_with_the_window():
    ages = [*EVENLY, *[100.5] * 1000]  # of a campaign with a longer window
    assert remaining([heap(14, ages=ages)], conversions=100, clicks=1000).expected == pytest.approx(5)


@pytest.mark.parametrize(("conversions", "ages"), [(19, EVENLY), (100, EVENLY[:19]), (100, ())])
def test_too_few_conversions_make_no_curve(conversions, ages):
    found = remaining([heap(14, ages=ages)], conversions=conversions, clicks=1000)
    assert found.basis == "few"
    assert found.expected == pytest.approx(conversions / 10)


def test_no_more_orders_come_than_clicks():
    assert remaining([heap(1, ages=())], conversions=50, clicks=10).expected == 100


def test_the_share_that_comes_later():
    assert share_after([], 3) == 1
    assert [share_after([1, 2, 2, 4], age) for age in (0.5, 1, 2, 3, 4)] == [1, 0.75, 0.25, 0.25, 0]
