"""Many conversions moved along the lifecycle by three statements: what `postgres_repeats.move` does to one, with its row of `events`."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from tracker.adapters.postgres_ledger import KINDS, Booking, enter_all, owed_of
from tracker.adapters.postgres_pool import Connection
from tracker.domain.attribution import LIFECYCLE

SET_STATUSES = """
    UPDATE conversions c SET status = r.status, approve_at = NULL, updated_at = now()
    FROM unnest($1::uuid[], $2::text[]) AS r(id, status) WHERE c.id = r.id
"""
EVENTS = """
    INSERT INTO events (actor, action, entity, entity_id, reason, before, after)
    SELECT $1, r.action, 'conversion', r.id, r.reason, r.before::jsonb, r.after::jsonb
    FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[]) AS r(action, id, reason, before, after)
"""


class Move(NamedTuple):
    """A locked conversion (a row of `EXISTING`), the action of `LIFECYCLE` that it is due, and why."""

    existing: Any
    action: str
    reason: str


class Event(NamedTuple):
    """A row of `events` about a conversion: what was done, and what changed, as JSON."""

    action: str
    conversion_id: str
    reason: str
    before: str
    after: str


async def move_all(connection: Connection, moves: Sequence[Move], *, actor: str) -> None:
    """Move conversions, each once, from the status that their action asks for; by ledger entries, audited in `events`."""
    if not moves:
        return
    numbers, statuses = [move.existing["id"] for move in moves], [LIFECYCLE[move.action] for move in moves]
    await connection.execute(SET_STATUSES, numbers, [after for _, after in statuses])
    bookings = [
        Booking(await owed_of(connection, move.existing), before, after, KINDS[move.action], move.reason)
        for move, (before, after) in zip(moves, statuses, strict=True)
    ]
    await enter_all(connection, bookings, on=datetime.now(UTC), actor=actor)
    told = [
        Event(move.action, str(move.existing["id"]), move.reason, json(status=before), json(status=after))
        for move, (before, after) in zip(moves, statuses, strict=True)
    ]
    await tell_all(connection, told, actor=actor)


async def tell_all(connection: Connection, events: Sequence[Event], *, actor: str) -> None:
    """Write rows of `events`."""
    if events:
        await connection.execute(EVENTS, actor, *map(list, zip(*events, strict=True)))


def json(**values: Any) -> str:
    """`values` as an event keeps them."""
    return orjson.dumps(values).decode()
