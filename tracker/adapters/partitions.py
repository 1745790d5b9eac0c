"""The daily partitions of `clicks`, and the two edge partitions around them.

A day's partition holds the ids whose UUIDv7 time is on that UTC day. `clicks_edge_low` and `clicks_edge_high` take what lies
outside of all days, so that a node with a wrong clock never stops a writer; both should be empty, and are watched. There is no
DEFAULT partition: with one, a single stray click would block its day's partition for ever, and nothing could be detached
concurrently.
"""

import asyncio
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import asyncpg

from tracker.adapters.postgres_pool import Connection
from tracker.domain import click_id
from tracker.errors import StoreUnavailable

EDGE_LOW = "clicks_edge_low"
EDGE_HIGH = "clicks_edge_high"
KEEPER_LOCK = 0x6B6565706572  # "keeper": two keepers take turns
RETENTION_LOCK = KEEPER_LOCK + 1
RETENTION_FLOOR_KEY = "retention_floor"  # row of `installation`: the first UTC day that is kept, ISO
LOCK_TIMEOUT_S = 2  # how long writers may have to queue behind us
ATTEMPTS = 5
PAUSE_S = 0.25  # doubled each time
STATEMENT_TIMEOUT_S = 60.0
DETACH_TIMEOUT_S = 300.0  # DETACH CONCURRENTLY waits for open reports; it goes on where it stopped at the next call
DAY = timedelta(days=1)

LIST = """
    SELECT c.relname AS name, pg_get_expr(c.relpartbound, c.oid) AS bound, i.inhdetachpending AS pending
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'clicks'::regclass
"""
LEFT_OVER = """
    SELECT c.relname AS name FROM pg_class c
    WHERE c.relkind = 'r' AND c.relname ~ '^clicks_[0-9]{8}$' AND NOT c.relispartition
        AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'clicks'::regclass)
"""
READ_FLOOR = "SELECT value FROM installation WHERE key = 'retention_floor'"
WRITE_FLOOR = """
    INSERT INTO installation (key, value) VALUES ('retention_floor', $1)
    ON CONFLICT (key) DO UPDATE SET value = greatest(installation.value, excluded.value), updated_at = now()
"""
EDGE_ROWS = "SELECT (SELECT count(*) FROM clicks_edge_low) + (SELECT count(*) FROM clicks_edge_high)"
_UUID = re.compile(r"'([0-9a-f-]{36})'")


@dataclass(frozen=True, slots=True)
class Layout:
    """What partitions there are. An edge's bound is None where that edge does not exist."""

    days: frozenset[date]
    pending: tuple[str, ...]
    low: UUID | None
    high: UUID | None


def name_of(day: date) -> str:
    """`clicks_20261122`."""
    return f"clicks_{day:%Y%m%d}"


def floor_of(day: date) -> UUID:
    """The least click id of a UTC day."""
    return click_id.floor(datetime(day.year, day.month, day.day, tzinfo=UTC))


async def layout(connection: Connection) -> Layout:
    """The partitions as they are."""
    rows = await connection.fetch(LIST, timeout=STATEMENT_TIMEOUT_S)
    bounds = {row["name"]: _UUID.search(row["bound"] or "") for row in rows}
    days = (row["name"].removeprefix("clicks_") for row in rows)
    return Layout(
        days=frozenset(datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC).date() for day in days if re.fullmatch(r"\d{8}", day)),
        pending=tuple(row["name"] for row in rows if row["pending"]),
        low=_bound(bounds.get(EDGE_LOW)),
        high=_bound(bounds.get(EDGE_HIGH)),
    )


def _bound(match: re.Match[str] | None) -> UUID | None:
    return UUID(match[1]) if match else None


async def ensure(connection: Connection, today: date, ahead: int = 30, behind: int = 35) -> None:
    """Make sure that there is a partition for each UTC day from `today - behind` to `today + ahead`, both included, and the edges.

    Idempotent and all or nothing; two callers take turns. Days below the retention floor are not made again. Rows of a new day
    that lie in an edge partition move in the same transaction. Adding a day moves an edge, which needs `clicks` for itself for some
    milliseconds: an open report makes it wait at most 2 s, five times, then StoreUnavailable (there are `ahead` days to try again).
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'", timeout=STATEMENT_TIMEOUT_S)
                await _ensure(connection, today - behind * DAY, today + ahead * DAY)
                break
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as exc:
            if attempt == ATTEMPTS:
                raise StoreUnavailable("partitions: `clicks` is in use by a long transaction") from exc
            await asyncio.sleep(PAUSE_S * 2**attempt)  # writers queued behind us get through


async def _ensure(connection: Connection, first: date, last: date) -> None:
    await connection.execute(f"SELECT pg_advisory_xact_lock({KEEPER_LOCK})", timeout=STATEMENT_TIMEOUT_S)
    found = await layout(connection)
    floor = await retention_floor(connection)
    first = max(first, floor) if floor else first
    first, last = min({*found.days, first}), max({*found.days, last})
    wanted = {first + n * DAY for n in range((last - first).days + 1)}
    missing = sorted(wanted - found.days)
    low, high = floor_of(first), floor_of(last + DAY)
    if missing or (found.low, found.high) != (low, high):
        await _rearrange(connection, found, missing, low, high)


async def _rearrange(connection: Connection, found: Layout, missing: list[date], low: UUID, high: UUID) -> None:
    edges = {EDGE_LOW: (found.low, low, f"FROM (MINVALUE) TO ('{low}')"), EDGE_HIGH: (found.high, high, f"FROM ('{high}') TO (MAXVALUE)")}
    moving = {name: bounds for name, (old, new, bounds) in edges.items() if old != new}
    absent = [name for name, (old, _, _) in edges.items() if old is None]
    created = [*map(name_of, missing), *absent]
    # Everything slow comes before the first lock on `clicks` that others would feel.
    for name in created:
        await _run(connection, f"CREATE TABLE {name} (LIKE clicks INCLUDING ALL)")
    for name in moving.keys() - set(absent):
        await _run(connection, f"ALTER TABLE clicks DETACH PARTITION {name}")
    for day in missing:
        await _run(
            connection,
            f"ALTER TABLE clicks ATTACH PARTITION {name_of(day)} FOR VALUES FROM ('{floor_of(day)}') TO ('{floor_of(day + DAY)}')",
        )
    for name in moving.keys() - set(absent):
        strays = f"DELETE FROM {name} WHERE click_id >= '{low}' AND click_id < '{high}' RETURNING *"  # noqa: S608 - names and bounds of our own
        await _run(connection, f"WITH moved AS ({strays}) INSERT INTO clicks SELECT * FROM moved")  # noqa: S608
    for name, bounds in moving.items():
        await _run(connection, f"ALTER TABLE clicks ATTACH PARTITION {name} FOR VALUES {bounds}")


async def _run(connection: Connection, statement: str) -> None:
    await connection.execute(statement, timeout=STATEMENT_TIMEOUT_S)


async def retention_floor(connection: Connection) -> date | None:
    """The first UTC day that is kept; None when nothing was ever dropped. Clicks below it are not stored again."""
    value = await connection.fetchval(READ_FLOOR, timeout=STATEMENT_TIMEOUT_S)
    return date.fromisoformat(value) if value else None


async def drop_before(connection: Connection, day: date) -> list[str]:
    """Drop the partitions of all UTC days before `day`, for ever; return their names.

    The floor is recorded first, so that a late replay cannot bring dropped clicks back. Must not run inside a transaction. Waits for
    open reports, without holding anybody up; safe to run again after a crash or a timeout anywhere, and by two at once.
    """
    await connection.execute(WRITE_FLOOR, day.isoformat(), timeout=STATEMENT_TIMEOUT_S)
    if not await connection.fetchval(f"SELECT pg_try_advisory_lock({RETENTION_LOCK})", timeout=STATEMENT_TIMEOUT_S):
        return []  # another keeper is at it
    try:
        await _detach_before(connection, day)
        return await _drop_left_over(connection, day)
    finally:
        await connection.execute(f"SELECT pg_advisory_unlock({RETENTION_LOCK})", timeout=STATEMENT_TIMEOUT_S)


async def _detach_before(connection: Connection, day: date) -> None:
    found = await layout(connection)
    for name in found.pending:
        await connection.execute(f"ALTER TABLE clicks DETACH PARTITION {name} FINALIZE", timeout=DETACH_TIMEOUT_S)
    for old in sorted(old for old in found.days if old < day and name_of(old) not in found.pending):
        await connection.execute(f"ALTER TABLE clicks DETACH PARTITION {name_of(old)} CONCURRENTLY", timeout=DETACH_TIMEOUT_S)


async def _drop_left_over(connection: Connection, day: date) -> list[str]:
    rows = await connection.fetch(LEFT_OVER, timeout=STATEMENT_TIMEOUT_S)
    dropped = sorted(row["name"] for row in rows if row["name"] < name_of(day))
    for name in dropped:
        await _run(connection, f"DROP TABLE IF EXISTS {name}")
    await _run(connection, f"DELETE FROM {EDGE_LOW} WHERE click_id < '{floor_of(day)}'")  # noqa: S608
    return dropped


async def edge_rows(connection: Connection) -> int:
    """How many rows lie in the two edge partitions. Anything but 0 means that some node's clock is wrong."""
    return int(await connection.fetchval(EDGE_ROWS, timeout=STATEMENT_TIMEOUT_S))
