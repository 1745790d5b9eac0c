"""Postbacks become conversions: one transaction each, idempotent by postback id, one conversion an order unless its goal says otherwise.

The same `settle` serves a postback that arrives, a parked one that is tried again (`postgres_parked`), and one from the
journal (`postgres_receipts`).
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from tracker.adapters import postgres_conversions_sql as sql
from tracker.adapters import postgres_known_orders
from tracker.adapters.postgres_attribution import Finding, find
from tracker.adapters.postgres_deals import Deal, deal_of, make
from tracker.adapters.postgres_pool import Connection, Database
from tracker.adapters.postgres_repeats import again, first_of_order, known_event, waits
from tracker.domain import attribution
from tracker.domain.postback import Postback, Verdict

_TOLD = {"parked": "parked", "rejected": "ignored"}
RECEIVE_BUDGET_S = 2.0  # after this a postback is journaled, so that no store waits for a frozen database


async def receive(database: Database, postback: Postback, *, timeout_s: float = RECEIVE_BUDGET_S) -> Verdict:
    """Store `postback` and what follows from it, in one transaction. The same postback id again: the stored verdict.

    Raises:
        StoreUnavailable: nothing is known to be stored; the same call may be repeated safely.
        StoreBusy: nothing is stored: somebody holds its order.
    """

    async def work(connection: Connection) -> Verdict:
        return await take(connection, postback, now=postback.received_at) or await _stored(connection, postback)

    return await database.transaction(work, timeout_s=timeout_s, lock_wait_s=timeout_s / 4)  # three waits are within it: no outage


async def take(connection: Connection, postback: Postback, *, now: datetime) -> Verdict | None:
    """Store `postback` and what follows from it, as part of the caller's transaction. None: it was stored before, and not refused."""
    row = _postback_row(postback)
    is_new = await connection.fetchval(sql.INSERT_POSTBACK, *row)
    if not is_new and await connection.fetchval(sql.DROP_REFUSED, postback.postback_id):
        is_new = await connection.fetchval(sql.INSERT_POSTBACK, *row)
    return await settle(connection, postback, now=now) if is_new else None


async def reject(database: Database, row: Sequence[Any], *, timeout_s: float = RECEIVE_BUDGET_S) -> None:
    """Keep a postback that was refused, so that its store can be told why. `row`: the columns of `REJECTED_POSTBACK`."""
    async with database.connection(timeout_s) as connection:
        await connection.execute(sql.REJECTED_POSTBACK, *row)


async def settle(connection: Connection, postback: Postback, *, now: datetime) -> Verdict:
    """Decide on a postback whose row exists, write all that follows, and finish its row. Part of the caller's transaction."""
    verdict, until = await _decide(connection, postback, now)
    waiting = verdict.status == "parked"
    retry_at = now + attribution.retry_after(postback.tries) if waiting else None
    tries = postback.tries + 1 if waiting else postback.tries
    await connection.execute(
        sql.FINISH, postback.postback_id, verdict.outcome, verdict.reason, verdict.conversion_id, tries, retry_at, until
    )
    return verdict


async def _decide(connection: Connection, postback: Postback, now: datetime) -> tuple[Verdict, datetime | None]:
    """The verdict, and until when it is parked."""
    if postgres_known_orders.is_about_known(postback):
        return await postgres_known_orders.decide(connection, postback, now)
    verdict = await _earned(connection, postback, now)
    waits = verdict.status == "parked"
    return verdict, (postback.parked_until or await _parked_until(connection, postback)) if waits else None


async def _earned(connection: Connection, postback: Postback, now: datetime) -> Verdict:
    finding = await find(connection, postback)
    expired = postback.parked_until is not None and now >= postback.parked_until
    if finding.source is None and finding.may_come and not expired:
        existing = await first_of_order(connection, postback)
        if existing and not waits(postback, existing):
            return await again(connection, postback, existing, await deal_of(connection, postback, None, finding.trace))
        return Verdict("parked", "parked", postback.postback_id, reason="; ".join(finding.trace))
    return await _convert(connection, postback, finding)


async def _convert(connection: Connection, postback: Postback, finding: Finding) -> Verdict:
    deal = await deal_of(connection, postback, finding.source, finding.trace)
    if known := await known_event(connection, postback, deal):
        return await again(connection, postback, known, deal)
    if _is_nobodys(postback, deal):
        known = await first_of_order(connection, postback)
        return await again(connection, postback, known, deal) if known else _ignored(postback, deal)
    if made := await make(connection, postback, deal):
        return made
    return await again(connection, postback, await first_of_order(connection, postback), deal)


def _is_nobodys(postback: Postback, deal: Deal) -> bool:
    """Whether this is one of the orders that a shop tells all of, and no partner brought it: no orphan for anybody to look into."""
    return postback.source == "webhook" and deal.source is None and not postback.click_id


def _ignored(postback: Postback, deal: Deal) -> Verdict:
    reason = "; ".join(["nobody brought this order", *deal.trace])
    return Verdict("rejected", "ignored", postback.postback_id, reason=reason)


async def _stored(connection: Connection, postback: Postback) -> Verdict:
    row = await connection.fetchrow(sql.STORED_VERDICT, postback.postback_id)
    if row is None:
        raise RuntimeError(f"postback {postback.postback_id} conflicts with nothing")
    told = _TOLD.get(row["outcome"]) or ("orphan" if row["status"] == "orphan" else "attributed")
    repeated = row["outcome"] in ("duplicate", "conflict")
    return Verdict(row["outcome"], told, postback.postback_id, row["conversion_id"], repeated, row["reason"])


async def _parked_until(connection: Connection, postback: Postback) -> datetime:
    days = await connection.fetchval(sql.LONGEST_WINDOW, postback.advertiser_id)
    return postback.received_at + timedelta(days=days)


def _postback_row(postback: Postback) -> tuple[Any, ...]:
    names = (
        "postback_id received_at source advertiser_id txid goal click_id coupon amount_micros currency amount_original "
        "currency_original status status_original happened_at parameters ip unverified customer event_id visits details "
        "stated_at campaign partner old_source"
    )
    return tuple(getattr(postback, name) for name in names.split())
