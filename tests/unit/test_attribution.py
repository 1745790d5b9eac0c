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
    assert attribution.is_in_window(AT - age, AT, 30 * DAY) is earns


def test_a_window_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        attribution.is_in_window(AT, AT, timedelta(0))


def test_the_lifecycle_has_three_moves() -> None:
    statuses = ("pending", "approved", "rejected", "reversed", "orphan")
    found = {(a, b): attribution.action_between(a, b) for a, b in product(statuses, statuses)}
    assert {move: action for move, action in found.items() if action} == {
        ("pending", "approved"): "approve",
        ("pending", "rejected"): "reject",
        ("approved", "reversed"): "reverse",
    }


@pytest.mark.parametrize("path", [["pending", "approved", "reversed"], ["pending", "rejected"], ["approved"], ["rejected"]])
def test_ledger_entries_sum_to_what_is_owed_in_the_status_it_has(path: list[str]) -> None:
    sums: dict[str, int] = {}
    for before, after in zip(["", *path], path, strict=False):
        for status, micros in attribution.ledger_moves(before, after, 500):
            sums[status] = sums.get(status, 0) + micros
    owed = {path[-1]: 500} if path[-1] in attribution.EARNING else {}
    assert {status: micros for status, micros in sums.items() if micros} == owed


def test_retries_are_spaced_from_one_second_to_one_hour() -> None:
    pauses = [attribution.retry_after(n) for n in range(100)]
    assert (pauses[0], pauses[-1]) == (timedelta(seconds=1), timedelta(hours=1))
    assert pauses == sorted(pauses)
