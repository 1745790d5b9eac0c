"""The window's bounds, the lifecycle, and ledger moves that always sum to what is owed."""

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from tracker.domain import attribution

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("age", "earns"),
    [
        (timedelta(0), True),
        (30 * DAY, True),
        (30 * DAY + timedelta(microseconds=1), False),
        (-attribution.CLOCK_SKEW, True),
        (-attribution.CLOCK_SKEW - timedelta(microseconds=1), False),
    ],
)
def test_both_ends_of_the_window_earn(age: timedelta, earns: bool) -> None:
    assert attribution.is_in_window(AT - age, AT, 30 * DAY, received_at=AT + DAY) is earns


def test_a_window_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        attribution.is_in_window(AT, AT, timedelta(0), received_at=AT)


@pytest.mark.parametrize(
    ("happened_before_heard", "earns"), [(timedelta(0), True), (timedelta(hours=1), True), (30 * DAY, True), (31 * DAY, False)]
)
def test_a_click_from_a_clock_that_is_ahead_earns_all_the_same(happened_before_heard, earns):
    heard_at = AT
    clicked_at = heard_at + timedelta(hours=2)
    found = attribution.is_in_window(clicked_at, heard_at - happened_before_heard, 30 * DAY, received_at=heard_at)
    assert found is earns


def test_a_stated_status_moves_along_the_lifecycle_and_taking_back_is_one_wish() -> None:
    statuses = ("pending", "approved", "rejected", "reversed", "orphan")
    found = {(a, b): attribution.action_towards(a, b) for a, b in product(statuses, statuses)}
    assert {move: action for move, action in found.items() if action} == {
        ("pending", "approved"): "approve",
        ("pending", "rejected"): "reject",
        ("pending", "reversed"): "reject",
        ("approved", "reversed"): "reverse",
        ("approved", "rejected"): "reverse",
    }


@pytest.mark.parametrize(
    ("status", "unverified", "known_status", "known_unverified", "expected"),
    [
        ("approved", False, "orphan", False, True),
        ("approved", False, "orphan", True, True),
        ("reversed", False, "orphan", True, True),
        ("pending", True, "orphan", True, True),
        ("pending", True, "orphan", False, False),  # a pixel never changes what a store said
        ("approved", False, "pending", True, True),
        ("approved", False, "approved", True, True),
        ("reversed", False, "pending", True, False),  # taken back as it is
        ("approved", False, "rejected", True, False),
        ("approved", False, "pending", False, False),
        ("pending", True, "pending", True, False),
    ],
)
def test_who_goes_before_whom(status: str, unverified: bool, known_status: str, known_unverified: bool, expected: bool) -> None:
    found = attribution.replaces(status, unverified=unverified, known_status=known_status, known_unverified=known_unverified)
    assert found is expected


@pytest.mark.parametrize(
    ("status", "known", "first", "after"),
    [
        ("approved", "pending", "pending", "approved"),
        ("pending", "approved", "pending", "approved"),  # approved by hand
        ("pending", "approved", "approved", "pending"),
        ("approved", "orphan", "pending", "approved"),
    ],
)
def test_an_approval_by_hand_outlives_a_replacement(status: str, known: str, first: str, after: str) -> None:
    assert attribution.status_after(status, known_status=known, first_status=first) == after


@pytest.mark.parametrize("path", [["pending", "approved", "reversed"], ["pending", "rejected"], ["approved"], ["rejected"]])
def test_ledger_entries_sum_to_what_is_owed_in_the_status_it_has(path: list[str]) -> None:
    sums: dict[str, int] = {}
    for before, after in zip(["", *path], path, strict=False):
        for status, micros in attribution.ledger_moves(before, after, 500):
            sums[status] = sums.get(status, 0) + micros
    owed = {path[-1]: 500} if path[-1] in attribution.EARNING else {}
    assert {status: micros for status, micros in sums.items() if micros} == owed


def test_retries_are_spaced_from_one_second_to_one_day() -> None:
    pauses = [attribution.retry_after(n) for n in range(100)]
    assert (pauses[0], pauses[-1]) == (timedelta(seconds=1), timedelta(days=1))
    assert pauses == sorted(pauses)
