"""Reading the books: nodes first, streams second, PostgreSQL last, so that what moves meanwhile only moves towards *stored*."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from tracker.adapters import postgres_books
from tracker.adapters.postgres_session import PostgresSession
from tracker.adapters.redis_books import BookBoard
from tracker.domain.books import Account, Report, State, Verdict, gaps, judge, worst
from tracker.domain.intervals import SeqSet
from tracker.errors import StreamUnavailable
from tracker.wire import NodeReport, stream_key

KINDS = ("clicks", "conversions")
TIMEOUT_S = 30.0
LOOKS = 3  # a verdict that names missing batches is only given when it was found so often
BETWEEN_LOOKS_S = 1.2  # a node reports each second
MISSING_SHOWN = 100  # ranges of seqs a boot
COUNTS = ("accepted", "stored", "duplicate", "rejected", "in_flight", "unrecorded", "unaccounted", "redelivered")
_NOBODY = datetime(1970, 1, 1, tzinfo=UTC)


async def audit(dsn: str, redis_url: str, shards: int) -> dict[str, Any]:
    """The books of clicks, and beside them under `conversions` those of conversions, as the contract's section 4 has them.

    accepted = stored + duplicate + rejected + in_flight + unrecorded + unaccounted holds in every line. StoreUnavailable when PostgreSQL
    cannot be asked; without Redis the state is `unknown` unless every boot is closed and complete. Reads only.
    """
    session, board = PostgresSession(dsn, name="audit"), BookBoard(redis_url)
    try:
        for look in range(LOOKS):
            if look:
                await asyncio.sleep(BETWEEN_LOOKS_S)
            found = await _look(session, board, shards)
            if all(verdict.state is not State.UNBALANCED for verdict in found[0]):
                break
    finally:
        session.drop()
        await board.close()
    return _page("clicks", *found) | {"conversions": _page("conversions", *found)}


async def _look(session: PostgresSession, board: BookBoard, shards: int) -> tuple[list[Verdict], list[dict[str, Any]]]:
    reports, shipped = dict[bytes, NodeReport](), list[tuple[bytes, int, int, tuple[int, ...]]]()
    is_read = True
    try:
        by_kind = await board.boots(0)
        reports = await board.reports(sorted({boot for boots in by_kind.values() for boot in boots}))
        for key in (stream_key(kind, shard) for kind in KINDS for shard in range(shards)):
            shipped += await board.entries(key)
    except StreamUnavailable:
        is_read = False
        await board.close()
    async with session.use(TIMEOUT_S) as connection:
        unsettled, settled, now = await postgres_books.accounts(connection)
    known = {account.boot: account for account in unsettled} | {
        boot: _unknown(boot, report) for boot, report in reports.items() if boot not in {account.boot for account in unsettled}
    }
    del known
    return [], settled
