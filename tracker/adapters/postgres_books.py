"""The rows of `boots`: what is covered, and the counts that go with it. For clicks and conversions alike."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from tracker.adapters.postgres_pool import Connection
from tracker.domain.books import Account, Delta
from tracker.domain.intervals import SeqSet
from tracker.wire import CoveredState

OPEN = """
    INSERT INTO boots (boot, node, kind, host_id)
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) ON CONFLICT (boot) DO NOTHING
"""
LOCK = "SELECT boot, covered::text AS covered FROM boots WHERE boot = ANY($1::uuid[]) ORDER BY boot FOR UPDATE"
COVERED = "SELECT boot, covered::text AS covered FROM boots WHERE boot = ANY($1::uuid[])"
ADD = """
    UPDATE boots b SET
        covered = b.covered + n.fresh::int8multirange, lost = b.lost + n.lost::int8multirange,
        stored = b.stored + n.stored, duplicate = b.duplicate + n.duplicate,
        rejected = b.rejected + n.rejected, redelivered = b.redelivered + n.redelivered,
        accepted = greatest(b.accepted, n.accepted), last_seq = greatest(b.last_seq, n.last_seq),
        unrecorded = greatest(b.unrecorded, n.unrecorded), closed_seq = greatest(b.closed_seq, n.closed_seq),
        closed_at = CASE WHEN n.closed_seq IS NULL THEN b.closed_at ELSE coalesce(b.closed_at, now()) END, last_heard_at = now()
    FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
        $9::bigint[], $10::bigint[], $11::text[])
        AS n (boot, fresh, stored, duplicate, rejected, redelivered, accepted, last_seq, unrecorded, closed_seq, lost)
    WHERE b.boot = n.boot
"""
# Read in one statement, so that `at_ms` orders what several writers publish.
STATES = """
    SELECT a.boot, coalesce(b.covered, '{}')::text AS covered, coalesce(b.accepted, 0) AS accepted, coalesce(b.stored, 0) AS stored,
        coalesce(b.duplicate, 0) AS duplicate, coalesce(b.rejected, 0) AS rejected, coalesce(b.unrecorded, 0) AS unrecorded, b.closed_seq,
        s.system_identifier::text AS system_id, c.timeline_id AS timeline, (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS at_ms
    FROM unnest($1::uuid[]) AS a (boot) LEFT JOIN boots b USING (boot), pg_control_system() s, pg_control_checkpoint() c
"""
HEARD = """
    UPDATE boots b SET last_heard_at = greatest(b.last_heard_at, least(now(), to_timestamp(n.at_ms / 1000.0)))
    FROM unnest($1::uuid[], $2::bigint[]) AS n (boot, at_ms) WHERE b.boot = n.boot AND b.closed_seq IS NULL
"""
# Settled = closed with every record accounted for; those need no look at their batches, and there may be many thousands.
SETTLED = "closed_seq IS NOT NULL AND accepted = stored + duplicate + rejected + unrecorded"
ACCOUNTS = f"""
    SELECT boot, node, kind, covered::text AS covered, lost::text AS lost,
        accepted, stored, duplicate, rejected, unrecorded, redelivered, last_seq, closed_seq,
        last_heard_at FROM boots WHERE NOT ({SETTLED}) OR boot = ANY($1::uuid[]) ORDER BY opened_at
"""  # noqa: S608 - no text from outside
SETTLED_SUMS = f"""
    SELECT kind, node, count(*) AS boots, sum(accepted)::bigint AS accepted, sum(stored)::bigint AS stored,
        sum(duplicate)::bigint AS duplicate, sum(rejected)::bigint AS rejected, sum(unrecorded)::bigint AS unrecorded,
        sum(redelivered)::bigint AS redelivered FROM boots WHERE ({SETTLED}) AND boot <> ALL($1::uuid[])
    GROUP BY kind, node ORDER BY kind, node
"""  # noqa: S608 - no text from outside


CLOSE_SILENT = """
    WITH before AS (
        SELECT boot, int8multirange(int8range(1, last_seq + 1)) - covered - lost AS gap, accepted - stored - duplicate - rejected AS absent
        FROM boots WHERE boot = $1 AND closed_seq IS NULL AND last_heard_at < now() - interval '60 seconds' FOR UPDATE
    ), closed AS (
        UPDATE boots b SET closed_seq = b.last_seq, closed_at = now(), lost = b.lost + n.gap, unrecorded = greatest(n.absent, 0)
        FROM before n WHERE b.boot = n.boot RETURNING b.boot, b.node, b.last_seq, b.accepted, b.unrecorded, b.lost::text AS lost
    ), told AS (
        INSERT INTO events (actor, action, entity, entity_id, reason, after)
        SELECT $2, 'close', 'boot', boot::text, $3, to_jsonb(closed) FROM closed
    )
    SELECT boot, node, accepted, unrecorded FROM closed
"""


class Overlap(Exception):
    """Another writer was first: what is covered is not what this transaction was planned for."""

    def __init__(self, covered: dict[bytes, SeqSet]) -> None:
        super().__init__("covered has changed")
        self.covered = covered


def uuids(boots: Iterable[bytes]) -> list[UUID]:
    """Boots as PostgreSQL has them."""
    return [UUID(bytes=boot) for boot in boots]


async def read_covered(connection: Connection, boots: Iterable[bytes]) -> dict[bytes, SeqSet]:
    """What is covered, without a lock: a hint. Unknown boots have an empty set."""
    rows = await connection.fetch(COVERED, uuids(boots))
    return dict.fromkeys(boots, SeqSet()) | _covered(rows)


def _covered(rows: Sequence[asyncpg.Record]) -> dict[bytes, SeqSet]:
    return {row["boot"].bytes: SeqSet.parse(row["covered"]) for row in rows}


async def account(connection: Connection, deltas: Iterable[Delta]) -> None:
    """Add `deltas` to the books: must be the last statements of the transaction, for they lock the boots.

    Raises Overlap, with what is covered now, when a delta's split into fresh and seen is not true any more: roll back, plan anew.
    """
    ordered = sorted(deltas, key=lambda delta: delta.boot)
    boots = uuids(delta.boot for delta in ordered)
    covered = _covered(await connection.fetch(LOCK, boots))
    if len(covered) < len(ordered):
        facts = [[getattr(delta, name) for delta in ordered] for name in ("node", "kind", "host_id")]
        await connection.execute(OPEN, boots, *facts)
        covered = _covered(await connection.fetch(LOCK, boots))
    if not all(delta.fits(covered[delta.boot]) for delta in ordered):
        raise Overlap(covered)
    columns = ("stored", "duplicate", "rejected", "redelivered", "accepted", "last_seq", "unrecorded", "closed_seq")
    counts = [[getattr(delta, name) for delta in ordered] for name in columns]
    await connection.execute(ADD, boots, [str(delta.fresh) for delta in ordered], *counts, [str(delta.lost) for delta in ordered])


async def close_silent(connection: Connection, boot: bytes, *, actor: str, reason: str) -> dict[str, Any] | None:
    """Close a boot that nobody will close: its journal is gone for good. What is missing of it is lost, and counted as unrecorded.

    None when the boot is closed already, was heard of in the last minute, or is not known. Audited in `events`.
    """
    row = await connection.fetchrow(CLOSE_SILENT, UUID(bytes=boot), actor, reason)
    return dict(row) if row else None


async def states(connection: Connection, boots: Iterable[bytes]) -> dict[bytes, CoveredState]:
    """What PostgreSQL says of each boot now, zeros for one that it does not know."""
    rows = await connection.fetch(STATES, uuids(boots))
    return {row["boot"].bytes: CoveredState(**{name: row[name] for name in CoveredState.__struct_fields__}) for row in rows}


async def heard(connection: Connection, reports: dict[bytes, int]) -> None:
    """Note when boots that exist were last heard of (by boot: milliseconds since 1970 of the node's clock, never in the future)."""
    await connection.execute(HEARD, uuids(reports), list(reports.values()))


async def accounts(connection: Connection, boots: Iterable[bytes]) -> tuple[list[Account], list[dict[str, Any]], datetime]:
    """The boots that are open, incomplete or among `boots`, one by one; sums of all others by kind and node; PostgreSQL's clock.

    All of one moment.
    """
    asked = uuids(boots)
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        found = await connection.fetch(ACCOUNTS, asked)
        settled = await connection.fetch(SETTLED_SUMS, asked)
        now = await connection.fetchval("SELECT now()")
    return [_account(row) for row in found], [dict(row) for row in settled], now


def _account(row: asyncpg.Record) -> Account:
    return Account(**{**row, "boot": row["boot"].bytes, "covered": SeqSet.parse(row["covered"]), "lost": SeqSet.parse(row["lost"])})
