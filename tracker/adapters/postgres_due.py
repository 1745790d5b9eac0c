"""Conversions whose hold is over, approved: booked as by hand."""

from datetime import datetime
from typing import Any

from tracker.adapters import postgres_conversions_sql as sql
from tracker.adapters.postgres_moves import Move, move_all
from tracker.adapters.postgres_pool import Connection
from tracker.domain import holds

ROUND = 500  # in a transaction: whoever reports one of these orders waits for its end
ACTOR = "keeper"
# What another keeper, or whoever decides on a report, holds is theirs.
DUE = sql.EXISTING.format("c.status = 'pending' AND c.approve_at <= $1 ORDER BY c.approve_at, c.id LIMIT $2").rstrip() + " SKIP LOCKED"
OLDEST = "SELECT min(approve_at) FROM conversions WHERE status = 'pending' AND approve_at <= $1"


async def approve_due(connection: Connection, now: datetime) -> int:
    """Approve up to 500 conversions whose hold is over at `now`, as part of the caller's transaction; how many. Audited in `events`."""
    rows = await connection.fetch(DUE, now, ROUND)
    await move_all(connection, [Move(row, "approve", _reason(row)) for row in rows], actor=ACTOR)
    return len(rows)


def _reason(row: Any) -> str:
    return f"hold of {holds.days(row['converted_at'], row['approve_at'])} days is over"


async def overdue_s(connection: Connection, now: datetime) -> float:
    """For how long the oldest conversion whose hold is over waits to be approved; 0: none does."""
    oldest = await connection.fetchval(OLDEST, now)
    return (now - oldest).total_seconds() if oldest else 0.0
