"""Conversions on hold: approved by their store, pending here until the days that their campaign asks for are over."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from tracker.adapters.postgres_attribution import Source
from tracker.adapters.postgres_pool import Connection
from tracker.domain import holds
from tracker.domain.postback import Postback

HOLD = "UPDATE conversions SET approve_at = $2 WHERE id = $1"
HOLD_LATER = "UPDATE conversions SET approve_at = $2, trace = trace || $3, updated_at = now() WHERE id = $1"


def days_of(source: Source | None, existing: Any = None) -> int | None:
    """The days that a conversion keeps: those of its campaign when it was made, or came to that campaign; None of an orphan.

    `existing`: the conversion as it was until then, a row of `EXISTING`; None when it is new.
    """
    if source is None:
        return None
    if existing is not None and existing["campaign"] == source.campaign:
        return int(existing["hold_days"])
    return source.hold_days


def standing(postback: Postback, status: str, hold_days: int | None, existing: Any = None) -> tuple[str, datetime | None]:
    """The status that `status` of a report comes to under the hold of `days_of`, and when the conversion is approved by itself."""
    if hold_days is None:
        return status, None
    return holds.standing(
        status,
        before=existing["status"] if existing is not None else "",
        was_held=existing is not None and existing["approve_at"] is not None,
        unverified=postback.unverified,
        converted_at=postback.converted_at,
        hold_days=hold_days,
        now=datetime.now(UTC),
    )


async def hold(connection: Connection, number: UUID, until: datetime | None, *, known: datetime | None = None) -> None:
    """Have a conversion approved by itself at `until`, or not at all (None); `known`: what was said of that before."""
    if until != known:
        await connection.execute(HOLD, number, until)


async def hold_instead(connection: Connection, existing: Any) -> str | None:
    """Hold a pending conversion (a row of `EXISTING`) that its store approves now; what was done, None when its hold is over."""
    if existing["approve_at"] is not None:
        return said(existing["approve_at"])
    _, until = holds.until(existing["converted_at"], existing["hold_days"], datetime.now(UTC))
    if until is None:
        return None
    await connection.execute(HOLD_LATER, existing["id"], until, [said(until)])
    return said(until)


def said(until: datetime) -> str:
    """For traces and reasons."""
    return f"approved by its store, on hold until {until.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
