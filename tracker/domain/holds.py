"""How long a conversion that its store approves waits before it counts: its campaign's hold. Pure."""

from datetime import datetime, timedelta

DAY = timedelta(days=1)


def ends_at(converted_at: datetime, hold_days: int) -> datetime:
    """When the hold of a sale is over."""
    return converted_at + hold_days * DAY


def days(converted_at: datetime, end: datetime) -> int:
    """How many days a hold was that ended at `end`."""
    return (end - converted_at) // DAY


def until(converted_at: datetime, hold_days: int, now: datetime) -> tuple[str, datetime | None]:
    """The status of a sale that its store approves, and when it will be approved by itself if its hold is not over."""
    end = ends_at(converted_at, hold_days)
    return ("pending", end) if hold_days and end > now else ("approved", None)


def standing(
    status: str, *, before: str, was_held: bool, unverified: bool, converted_at: datetime, hold_days: int, now: datetime
) -> tuple[str, datetime | None]:
    """The status of a conversion that a report of `status` makes or tells anew, and when it will be approved by itself.

    `before`: its status until then, "" when there was none; `was_held`: whether it waited to be approved. Approved before stays approved;
    `unverified`, what only a pixel says, waits for people. Without a hold (0 days) a report's status is taken as it is.
    """
    if status == "pending" and was_held:
        return "pending", ends_at(converted_at, hold_days)
    if status != "approved" or before == "approved" or hold_days == 0:
        return status, None
    return ("pending", None) if unverified else until(converted_at, hold_days, now)
