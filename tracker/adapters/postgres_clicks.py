"""Storing clicks: rows, rollups, dead letters and books in one transaction."""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any

import asyncpg

from tracker.adapters import postgres_books
from tracker.adapters.partitions import floor_of, retention_floor
from tracker.adapters.postgres_books import Overlap
from tracker.adapters.postgres_loads import (
    READ_TIMEOUT_S,
    TRANSACTION_TIMEOUT_S,
    TRIES,
    DeadLetter,
    Load,
    Stored,
    WriterSink,
    bury,
    uuid_of,
)
from tracker.adapters.postgres_old_clicks_sql import SEEN
from tracker.adapters.postgres_pool import AGAIN, Connection
from tracker.crash import crash_at
from tracker.domain import click_id
from tracker.domain.books import Delta
from tracker.domain.enrichment import Counts, Tally
from tracker.errors import StoreUnavailable

log = logging.getLogger(__name__)

TYPES = {
    "click_id": "uuid", "clicked_at": "timestamptz", "kind": "text", "method": "text", "host": "text", "url": "text", "link": "bigint",
    "partner": "bigint", "campaign": "bigint", "advertiser": "bigint", "creative": "text", "outcome": "text", "verdict": "text",
    "rule_version": "smallint", "counted": "boolean", "is_unique": "boolean", "redirected_to": "text", "ip": "text", "country": "text",
    "network": "text", "device": "text", "os": "text", "browser": "text", "user_agent": "text", "referrer": "text", "language": "text",
    **{f"sub{n}": "text" for n in range(1, 11)}, "ref": "text", "visitor_key": "bytea", "platform": "text", "old_partner": "text",
    "old_offer": "text", "old_creative": "text", "old_click_id": "text", "extra": "jsonb", "truncated": "boolean", "node": "text",
    "boot": "uuid", "seq": "bigint",
}  # fmt: skip
COLUMNS = tuple(TYPES)
CLICK_ID, CLICKED_AT, BOOT, SEQ = (COLUMNS.index(name) for name in ("click_id", "clicked_at", "boot", "seq"))
OLD_CLICK_ID = COLUMNS.index("old_click_id")
LINK, PARTNER, CAMPAIGN, COUNTED, IS_UNIQUE = (COLUMNS.index(name) for name in ("link", "partner", "campaign", "counted", "is_unique"))
# What makes two rows of one click id the same click; the rest is derived, or tells only how the row came here.
CONTENT = (
    "clicked_at",
    "kind",
    "method",
    "host",
    "url",
    "link",
    "partner",
    "campaign",
    "outcome",
    "redirected_to",
    "ip",
    "user_agent",
    "referrer",
)
CONTENT_AT = tuple(COLUMNS.index(name) for name in CONTENT)
Row = tuple[Any, ...]

_NAMES = ", ".join(COLUMNS)
INSERT = f"""
    INSERT INTO clicks ({_NAMES}) SELECT * FROM unnest({", ".join(f"${n}::{kind}[]" for n, kind in enumerate(TYPES.values(), 1))})
    ON CONFLICT (click_id) DO NOTHING RETURNING click_id
"""  # noqa: S608 - names of our own columns
EXISTING = f"SELECT click_id, boot, seq, {', '.join(CONTENT)} FROM clicks WHERE click_id = ANY($1::uuid[])"  # noqa: S608
BUCKETS = """
    INSERT INTO click_stats AS s (bucket, campaign, partner, link, slot, clicks, unique_clicks, total)
    SELECT * FROM unnest($1::timestamptz[], $2::bigint[], $3::bigint[], $4::bigint[], $5::smallint[], $6::bigint[], $7::bigint[],
        $8::bigint[])
    ON CONFLICT (bucket, campaign, partner, link, slot) DO UPDATE SET
        clicks = s.clicks + excluded.clicks, unique_clicks = s.unique_clicks + excluded.unique_clicks, total = s.total + excluded.total
"""
DAYS = """
    INSERT INTO daily_stats AS s (day, campaign, partner, slot, clicks, unique_clicks, total)
    SELECT * FROM unnest($1::date[], $2::bigint[], $3::bigint[], $4::smallint[], $5::bigint[], $6::bigint[], $7::bigint[])
    ON CONFLICT (day, campaign, partner, slot) DO UPDATE SET
        clicks = s.clicks + excluded.clicks, unique_clicks = s.unique_clicks + excluded.unique_clicks, total = s.total + excluded.total
"""


# `tries` anew: a sweeper that looked a moment before the click was there puts nothing off that it did not see like this.
WAKE = "UPDATE postbacks SET next_try_at = now(), tries = 0 WHERE outcome = 'parked' AND click_id = ANY($1::text[])"
LATE_AFTER = timedelta(minutes=1)  # what waits for a younger click is tried each few seconds anyway
REFUSED = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError, OverflowError)


@dataclass(slots=True)
class _Tried:
    """What one try found out; nothing of it outlives a rollback."""

    rows: list[Row]
    letters: list[DeadLetter]
    duplicate: Counter[bytes] = field(default_factory=Counter)


class ClickSink(WriterSink):
    """Clicks on their way into PostgreSQL."""

    def __init__(self, dsn: str, *, slot: int, name: str = "click writer") -> None:
        """`slot` (0 … 32767) keeps this writer's rollup rows apart from other writers'."""
        super().__init__(dsn, name=name)
        self._slot = slot

    async def floor(self) -> bytes:
        """The least click id that may still be stored; all zeros when retention never dropped anything."""
        async with self._session.use(READ_TIMEOUT_S) as connection:
            day = await retention_floor(connection)
        return floor_of(day).bytes if day else bytes(16)

    async def store(self, load: Load) -> Stored:
        """Store `load` in one transaction, all or nothing; each click is stored once however often this is called with it.

        Raises Overlap when another writer accounted for some of its batches (plan anew with what it carries), StoreUnavailable on an
        outage; the transaction may have taken effect then, which the next try finds out. Rows that PostgreSQL refuses become dead
        letters.
        """
        stored = await self._tried(load)
        await self._wake(load.rows)
        return stored

    async def _tried(self, load: Load) -> Stored:
        write = self._copy
        again: Exception | None = None
        for _ in range(TRIES):
            try:
                return await self._once(load, write)
            except AGAIN as exc:
                again = exc
                continue
            except asyncpg.UniqueViolationError:
                write = self._exact
            except REFUSED as exc:
                if isinstance(exc, asyncpg.CheckViolationError) and not getattr(exc, "constraint_name", None):
                    raise StoreUnavailable("postgres: clicks has no partition for a click; run: turnout db upgrade") from exc
                if write == self._one_by_one:
                    raise
                write = self._one_by_one
        raise StoreUnavailable(f"postgres: not stored after {TRIES} tries in a row") from again

    async def _wake(self, rows: list[Row]) -> None:
        """Have postbacks tried now that wait for one of these clicks. Only a short cut: the sweeper tries each again in any case."""
        if ids := awaited(rows, datetime.now(UTC)):
            try:
                async with self._session.use(READ_TIMEOUT_S) as connection:
                    await connection.execute(WAKE, ids)
            except (StoreUnavailable, *AGAIN) as exc:
                log.warning("click_writer.parked_not_woken", extra={"error": str(exc)})

    async def _once(self, load: Load, write: Callable[[Connection, Load], Awaitable[_Tried]]) -> Stored:
        async with self._session.transaction(TRANSACTION_TIMEOUT_S, Overlap) as connection:
            tried = await write(connection, load)
            await _remember(connection, tried.rows)
            await roll_up(connection, tally_of(tried.rows), self._slot)
            await bury(connection, tried.letters)
            await postgres_books.account(connection, _deltas(load, tried))
            crash_at("click_writer.before_commit")
        return Stored(len(tried.rows), tried.duplicate.total(), tried.letters, load.redelivered)

    async def _copy(self, connection: Connection, load: Load) -> _Tried:
        if load.rows:
            await connection.copy_records_to_table("clicks", records=load.rows, columns=COLUMNS)
        return _Tried(load.rows, load.letters)

    async def _exact(self, connection: Connection, load: Load) -> _Tried:
        tried = _Tried([], list(load.letters))
        await _insert(connection, load.rows, tried)
        return tried

    async def _one_by_one(self, connection: Connection, load: Load) -> _Tried:
        """As `_exact`, but halves what PostgreSQL refuses until the refused rows stand alone."""
        tried, left = _Tried([], list(load.letters)), [load.rows]
        while left:
            rows = left.pop()
            await connection.execute("SAVEPOINT part")
            try:
                await _insert(connection, rows, tried)
            except REFUSED as exc:
                await connection.execute("ROLLBACK TO SAVEPOINT part")
                if len(rows) == 1:
                    tried.letters.append(_letter("refused", str(exc), rows[0]))
                else:
                    left += [rows[len(rows) // 2 :], rows[: len(rows) // 2]]
        return tried


def awaited(rows: list[Row], now: datetime) -> list[str]:
    """The ids by which postbacks may wait for these clicks: those of an old platform, and ours where the click comes late."""
    late = [click_id.to_text(row[CLICK_ID].bytes).decode("ascii") for row in rows if now - row[CLICKED_AT] > LATE_AFTER]
    return late + [row[OLD_CLICK_ID] for row in rows if row[OLD_CLICK_ID]]


async def roll_up(connection: Connection, tally: Tally, slot: int) -> None:
    """Add what was tallied to the rollups, in the order of their keys. Part of the caller's transaction."""
    if buckets := sorted(tally.buckets.items()):
        keys, counts = [key for key, _ in buckets], [count for _, count in buckets]
        columns: list[list[Any]] = [[key[0] for key in keys], *([key[n] for key in keys] for n in (1, 2, 3)), [slot] * len(keys)]
        await connection.execute(BUCKETS, *columns, *_columns(counts))
    if days := sorted(tally.days.items()):
        day_keys, counts = [key for key, _ in days], [count for _, count in days]
        columns = [[key[0] for key in day_keys], *([key[n] for key in day_keys] for n in (1, 2)), [slot] * len(days)]
        await connection.execute(DAYS, *columns, *_columns(counts))


def tally_of(rows: list[Row]) -> Tally:
    """The rollups of `rows`."""
    tally = Tally()
    for row in rows:
        tally.add(row[CLICKED_AT], row[CAMPAIGN], row[PARTNER], row[LINK], row[COUNTED], row[IS_UNIQUE])
    tally.close()
    return tally


def _columns(counts: list[Counts]) -> list[list[int]]:
    return [[getattr(count, name) for count in counts] for name in ("clicks", "unique_clicks", "total")]


async def _remember(connection: Connection, rows: list[Row]) -> None:
    """Keep the old platforms' ids of `rows`, which are stored: orders of their clicks may come when retention has dropped these."""
    if named := [row[CLICK_ID] for row in rows if row[OLD_CLICK_ID]]:
        await connection.execute(SEEN, named)


async def _insert(connection: Connection, rows: list[Row], tried: _Tried) -> None:
    """Insert the rows whose id is new, and tell what the others are. `tried` changes only when all went well."""
    ordered = sorted(rows, key=itemgetter(CLICK_ID))  # two writers lock ids in one order
    inserted = {row["click_id"] for row in await connection.fetch(INSERT, *map(list, zip(*ordered, strict=True)))} if ordered else set()
    new, others = list[Row](), list[Row]()
    for row in ordered:
        is_first = row[CLICK_ID] in inserted and (not new or new[-1][CLICK_ID] != row[CLICK_ID])
        (new if is_first else others).append(row)
    found = {row["click_id"]: row for row in await connection.fetch(EXISTING, [row[CLICK_ID] for row in others])} if others else {}
    for row in others:
        _settle(row, found[row[CLICK_ID]], tried, is_mended=row[CLICK_ID] not in inserted)
    tried.rows += new


def _settle(row: Row, found: asyncpg.Record, tried: _Tried, *, is_mended: bool) -> None:
    if is_mended and (found["boot"], found["seq"]) == (row[BOOT], row[SEQ]):
        return  # this very batch was accounted before, and only `covered` had lost it
    if all(found[name] == row[at] for name, at in zip(CONTENT, CONTENT_AT, strict=True)):
        tried.duplicate[row[BOOT].bytes] += 1
    else:
        tried.letters.append(_letter("id_collision", f"click id of {found['boot']} seq {found['seq']}", row))


def _letter(reason: str, detail: str, row: Row) -> DeadLetter:
    facts = dict(zip(COLUMNS, row, strict=True))
    return DeadLetter(reason, detail, facts["node"], facts["boot"].bytes, facts["seq"], 1, repr(facts).encode("utf-8", "replace"), "clicks")


def _deltas(load: Load, tried: _Tried) -> list[Delta]:
    """The deltas of `load`, completed by what the try found out; the originals stay as they are."""
    stored = Counter(row[BOOT] for row in tried.rows)
    late = Counter(letter.boot for letter in tried.letters[len(load.letters) :])
    return [
        replace(
            delta,
            stored=stored[uuid_of(boot)],
            duplicate=tried.duplicate[boot],
            rejected=delta.rejected + late[boot],
        )
        for boot, delta in load.deltas.items()
    ]
