"""Parked postbacks, tried again: what cannot be settled yet is put off in one statement, each order else has its own transaction."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from tracker.adapters import postgres_conversions_sql as sql
from tracker.adapters import postgres_known_orders
from tracker.adapters.postgres_attribution import GRACE_TRIES
from tracker.adapters.postgres_conversions import settle
from tracker.adapters.postgres_pool import Connection, Database, is_its_own_fault
from tracker.domain import attribution, click_id
from tracker.domain.old_click_rows import other_cases
from tracker.domain.postback import Postback, Verdict, from_row

log = logging.getLogger(__name__)

SWEEP_ROUND = 500
EVER = datetime(9999, 1, 1, tzinfo=UTC)
TOGETHER = 20  # postbacks of one order in a transaction: a live postback of that order waits no longer than these take
ORDER_TIMEOUT_S = 10.0
Order = tuple[int, str, str]  # advertiser, goal, txid


@dataclass(slots=True)
class Round:
    """What a round did: how many due postbacks it looked at, those settled with their verdicts, and how many raised an error."""

    looked_at: int = 0
    settled: list[tuple[Postback, Verdict]] = field(default_factory=list)
    failed: int = 0


async def sweep_round(database: Database, *, limit: int = SWEEP_ROUND) -> Round:
    """Try the parked postbacks that are due, at most `limit`. Any number of sweepers may run at once.

    Of an order with a postback that is due all are tried, in the order in which they happened. A postback that raises an
    error is logged and put off, and holds up no other. Raises StoreUnavailable; what is settled by then stays so.
    """
    now = datetime.now(UTC)
    due = [from_row(row) for row in await database.fetch(sql.TO_TRY, now, limit)]
    found = Round(looked_at=len(due))
    ready = await settleable(database, due, now)
    await _defer(database, [postback for postback in due if postback.postback_id not in ready], now)
    orders = dict.fromkeys(postback.identity for postback in due if postback.postback_id in ready)
    for order in orders:
        await settle_order(database, order, found)
    return found


async def settleable(database: Database, due: Sequence[Postback], now: datetime) -> set[UUID]:
    """Those worth a transaction of their own: something is there to go by, or their time is over."""
    over = {p.postback_id for p in due if p.parked_until and p.parked_until <= now}
    about_known = [p for p in due if p.postback_id not in over and postgres_known_orders.is_about_known(p)]
    others = [p for p in due if p.postback_id not in over and not postgres_known_orders.is_about_known(p)]
    return over | await postgres_known_orders.known(database, about_known) | await _of_clicks(database, others)


async def _of_clicks(database: Database, due: Sequence[Postback]) -> set[UUID]:
    sure = {p.postback_id for p in due if not p.click_id or p.tries == GRACE_TRIES}
    unsure = [p for p in due if p.postback_id not in sure]
    if not unsure:
        return sure
    columns = [(p.postback_id, _number(p.click_id or ""), p.click_id, p.advertiser_id, p.goal, p.txid) for p in unsure]
    ids = {postback.click_id for postback in unsure if postback.click_id}
    spelled = [*ids, *(other for one in ids for other in other_cases(one))]
    rows = await database.fetch(sql.SETTLEABLE, *map(list, zip(*columns, strict=True)), spelled)
    return sure | {row["postback_id"] for row in rows}


def _number(text: str) -> UUID | None:
    raw = click_id.from_any(text)
    return UUID(bytes=raw) if raw else None


async def _defer(database: Database, postbacks: Sequence[Postback], now: datetime) -> None:
    if postbacks:
        await database.transaction(lambda connection: _put_off(connection, postbacks, now))


async def _put_off(connection: Connection, postbacks: Sequence[Postback], now: datetime) -> None:
    tries = [postback.tries for postback in postbacks]
    times = [now + attribution.retry_after(count) for count in tries]
    await connection.execute(sql.DEFER, [postback.postback_id for postback in postbacks], tries, times)


async def settle_order(database: Database, order: Order, found: Round) -> None:
    """Try one order's first 20, due or not, for they belong together; then what else of it is due, 20 a transaction. Adds to `found`."""

    async def work(connection: Connection) -> list[tuple[Postback, Verdict | None]]:
        rows = [from_row(dict(row)) for row in await connection.fetch(sql.PARKED_OF_ORDER, *order, due_by, TOGETHER)]
        return [(postback, await _isolated(connection, postback)) for postback in rows]

    due_by, is_through = EVER, False
    while not is_through:  # what was tried is put off, so the next ones are others
        tried = await database.transaction(work, timeout_s=ORDER_TIMEOUT_S)
        found.settled += [(postback, verdict) for postback, verdict in tried if verdict and verdict.outcome != "parked"]
        found.failed += sum(verdict is None for _, verdict in tried)
        due_by, is_through = datetime.now(UTC), len(tried) < TOGETHER


async def _isolated(connection: Connection, postback: Postback) -> Verdict | None:
    """The verdict on one postback; None when it raised an error, which is logged, and the postback put off."""
    now = datetime.now(UTC)
    try:
        async with connection.transaction():  # a savepoint: an error takes this postback's writes back, and no other's
            return await settle(connection, postback, now=now)
    except Exception as exc:
        if not is_its_own_fault(exc):
            raise
        log.exception("parked_sweeper.postback_failed", extra={"postback_id": str(postback.postback_id)})
    await _put_off(connection, [postback], now)
    return None
