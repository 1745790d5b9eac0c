"""When a hold lets a conversion count."""

from datetime import UTC, datetime, timedelta

import pytest

from tracker.domain import holds

AT = datetime(2026, 10, 1, 12, tzinfo=UTC)
END = AT + timedelta(days=14)
BEFORE = END - timedelta(microseconds=1)


def standing(status, *, before="", was_held=False, unverified=False, hold_days=14, now=BEFORE):
    return holds.standing(
        status, before=before, was_held=was_held, unverified=unverified, converted_at=AT, hold_days=hold_days, now=now
    )  # fmt: skip


@pytest.mark.parametrize(
    ("status", "more", "expected"),
    [
        ("approved", {}, ("pending", END)),
        ("approved", {"now": END}, ("approved", None)),
        ("approved", {"hold_days": 0}, ("approved", None)),
        ("approved", {"before": "pending"}, ("pending", END)),
        ("approved", {"before": "orphan"}, ("pending", END)),
        ("approved", {"before": "approved"}, ("approved", None)),
        ("approved", {"unverified": True}, ("pending", None)),
        ("approved", {"unverified": True, "now": END}, ("pending", None)),
        ("approved", {"unverified": True, "hold_days": 0}, ("approved", None)),
        ("pending", {}, ("pending", None)),
        ("pending", {"before": "pending", "was_held": True}, ("pending", END)),
        ("pending", {"before": "pending", "was_held": True, "hold_days": 0}, ("pending", AT)),
        ("rejected", {}, ("rejected", None)),
        ("rejected", {"before": "pending", "was_held": True}, ("rejected", None)),
    ],
)
def test_what_a_report_comes_to_under_a_hold(status, more, expected):
    assert standing(status, **more) == expected


def test_a_hold_is_told_in_days():
    assert holds.days(AT, END) == 14
    assert holds.until(AT, 0, AT - timedelta(days=1)) == ("approved", None)
