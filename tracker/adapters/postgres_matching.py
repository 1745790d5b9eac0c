"""Postbacks that nobody earned by yet, tried again because somebody asks: the parked ones, and those that made an orphan conversion."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from tracker.adapters import postgres_conversions_sql as sql
from tracker.adapters.postgres_parked import Round, settle_order, settleable
from tracker.adapters.postgres_pool import Connection, Database
from tracker.adapters.postgres_programme_sql import EVENT
from tracker.domain.postback import Postback, Verdict, from_row
from tracker.errors import NotFound

FIRST = UUID(int=0)
BATCH = 500  # looked at together; of these only those with something to go by are written
ADVERTISER = "SELECT id FROM advertisers WHERE slug = $1 AND ($2::bigint IS NULL OR id = $2)"

Decided = Callable[[Postback, Verdict], None]


@dataclass(frozen=True, slots=True)
class Unmatched:
    """Which postbacks: of an advertiser, with an order number, received since, after an id. None: all."""

    advertiser_id: int | None = None
    txid: str | None = None
    since: datetime | None = None
    after: UUID = FIRST


@dataclass(slots=True)
class Matched:
    """What was done with those looked at: attributed, found to repeat what is known, or still parked or an orphan.

    `last`: the last one looked at; `is_complete`: whether there is none after it.
    """

    looked_at: int = 0
    attributed: int = 0
    repeated: int = 0
    still_open: int = 0
    last: UUID = FIRST
    is_complete: bool = False


async def advertiser_id(database: Database, slug: str, *, among: int | None = None) -> int:
    """Whose slug this is. NotFound `unknown_advertiser`, also when it is not that of `among`."""
    row = await database.fetchrow(ADVERTISER, slug, among)
    if row is None:
        raise NotFound("unknown_advertiser", f"there is no advertiser {slug[:80]!r}", field="advertiser")
    return int(row["id"])


def unheard(postback: Postback, verdict: Verdict) -> None:
    """Nobody who wants to hear."""


async def match(
    database: Database,
    wanted: Unmatched,
    *,
    reason: str,
    actor: str,
    goes_on: Callable[[], bool] = lambda: True,
    decided: Decided = unheard,
) -> Matched:
    """Decide on them anew, 500 looked at together, an order a transaction, while `goes_on`; at least one batch.

    Interrupted anywhere, what is done is done, and the sweeper does what was begun; go on after `last`. Audited in `events` with what
    is tried; `decided` hears of each postback that is settled, as soon as it is. StoreUnavailable.
    """
    done = Matched(last=wanted.after)
    while True:
        await _batch(database, wanted, done, reason, actor, decided)
        if done.is_complete or not goes_on():
            return done


async def _batch(database: Database, wanted: Unmatched, done: Matched, reason: str, actor: str, decided: Decided) -> None:
    rows = await database.fetch(sql.UNMATCHED, done.last, wanted.advertiser_id, wanted.txid, wanted.since, BATCH)
    page = [from_row(row) for row in rows]
    ready = await settleable(database, page, datetime.now(UTC))
    tried = [postback for postback in page if postback.postback_id in ready]
    found = Round()
    if tried:
        await _reopen(database, tried, reason, actor)
    for order in dict.fromkeys(postback.identity for postback in tried):
        known = len(found.settled)
        try:
            await settle_order(database, order, found)
        finally:  # of an order that was interrupted, what is settled stays so
            for postback, verdict in found.settled[known:]:
                decided(postback, verdict)
    _count(done, page, found)


async def _reopen(database: Database, tried: Sequence[Postback], reason: str, actor: str) -> None:
    numbers = [postback.postback_id for postback in tried]
    told: dict[str, Any] = {"postbacks": len(numbers), "last": str(numbers[-1])}

    async def work(connection: Connection) -> None:
        await connection.execute(sql.REOPEN_BY_ID, numbers)
        await connection.execute(EVENT, actor, "match", "postbacks", str(numbers[0]), reason, None, told)

    await database.transaction(work)


def _count(done: Matched, page: Sequence[Postback], found: Round) -> None:
    """Others of an order that were settled with it are looked at as well, and on no later page."""
    outcomes: dict[UUID, str] = {postback.postback_id: "parked" for postback in page}
    outcomes |= {postback.postback_id: verdict.outcome for postback, verdict in found.settled}
    told = list(outcomes.values())
    done.looked_at += len(told)
    done.attributed += told.count("attributed")
    done.still_open += told.count("parked") + told.count("orphan")
    done.repeated += told.count("duplicate") + told.count("conflict")
    done.last = page[-1].postback_id if page else done.last
    done.is_complete = len(page) < BATCH
