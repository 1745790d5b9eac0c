"""Postbacks become conversions: one transaction each, idempotent by postback id, one conversion an order.

The same `settle` serves a postback that arrives, a parked one that is tried again, and (later) one from the journal.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from tracker.adapters import postgres_conversions_sql as sql
from tracker.adapters.postgres_pool import Connection, Database
from tracker.domain import attribution, click_id, money
from tracker.domain.payout import Payout, Terms, payout
from tracker.domain.postback import Postback, Verdict, from_row

RECEIVE_BUDGET_S = 2.0  # after this a postback is journaled, so that no store waits for a frozen database
SWEEP_ROUND = 500
FACT_NAMES = tuple(name.strip() for name in sql.FACTS.split(","))


@dataclass(frozen=True, slots=True)
class Source:
    """Who earns: the click's or the coupon's partner and campaign, with the click's facts."""

    attribution: str
    partner: int
    campaign: int
    link: int | None = None
    click_id: UUID | None = None
    clicked_at: datetime | None = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found for a postback: a source, or none and whether waiting may help. `trace` says why, in order."""

    source: Source | None
    trace: list[str]
    may_come: bool = False


def new_id() -> UUID:
    """A UUIDv7 of now."""
    return UUID(bytes=click_id.compose(time.time_ns() // 1_000_000, os.urandom(click_id.RANDOM_BYTES)))


async def receive(database: Database, postback: Postback, *, timeout_s: float = RECEIVE_BUDGET_S) -> Verdict:
    """Store `postback` and what follows from it, in one transaction. The same postback id again: the stored verdict.

    Raises:
        StoreUnavailable: nothing is known to be stored; the same call may be repeated safely.
    """

    async def work(connection: Connection) -> Verdict:
        if not await connection.fetchval(sql.INSERT_POSTBACK, *_postback_row(postback)):
            return await _stored(connection, postback)
        return await settle(connection, postback, now=postback.received_at)

    return await database.transaction(work, timeout_s=timeout_s)


async def reject(database: Database, row: Sequence[Any], *, timeout_s: float = RECEIVE_BUDGET_S) -> None:
    """Keep a postback that was refused, so that its store can be told why. `row`: the columns of `REJECTED_POSTBACK`."""
    async with database.connection(timeout_s) as connection:
        await connection.execute(sql.REJECTED_POSTBACK, *row)


async def settle(connection: Connection, postback: Postback, *, now: datetime) -> Verdict:
    """Decide on a postback whose row exists, write all that follows, and finish its row. Part of the caller's transaction."""
    verdict = await _decide(connection, postback, now)
    waiting = verdict.status == "parked"
    until = (postback.parked_until or await _parked_until(connection, postback)) if waiting else None
    retry_at = now + attribution.retry_after(postback.tries) if waiting else None
    tries = postback.tries + 1 if waiting else postback.tries
    await connection.execute(
        sql.FINISH, postback.postback_id, verdict.outcome, verdict.reason, verdict.conversion_id, tries, retry_at, until
    )
    return verdict


async def sweep_round(database: Database, *, limit: int = SWEEP_ROUND) -> list[Verdict]:
    """Try the parked postbacks that are due, at most `limit`, in one transaction; rows that another sweeper holds are passed over."""

    async def work(connection: Connection) -> list[Verdict]:
        now = datetime.now(UTC)
        rows = await connection.fetch(sql.TO_TRY, now, limit)
        return [await settle(connection, from_row(dict(row)), now=now) for row in rows]

    return await database.transaction(work, timeout_s=60)


async def _decide(connection: Connection, postback: Postback, now: datetime) -> Verdict:
    finding = await _find(connection, postback)
    expired = postback.parked_until is not None and now >= postback.parked_until
    if finding.source is None and finding.may_come and not expired:
        existing = await connection.fetchrow(sql.EXISTING_BY_TXID, postback.advertiser_id, postback.goal, postback.txid)
        if existing:  # the order is known already, whatever this click is
            return await _repeat(connection, postback, existing)
        return Verdict("parked", "parked", postback.postback_id, reason="; ".join(finding.trace))
    return await _convert(connection, postback, finding)


async def _find(connection: Connection, postback: Postback) -> Finding:
    """The click inside its window, else a valid coupon, else nothing."""
    trace: list[str] = []
    row = await _click(connection, postback) if postback.click_id else None
    if postback.click_id and row is None:
        trace.append("no click has this id")
    elif row and (row["campaign"] is None or row["partner"] is None):
        trace.append("the click's link is not known yet")
        row = None
    elif row and row["advertiser"] != postback.advertiser_id:
        return Finding(None, ["the click is another advertiser's"])
    if row:
        window = timedelta(days=row["attribution_window_days"])
        if attribution.is_in_window(row["clicked_at"], postback.converted_at, window):
            return Finding(_source_of_click(row), [f"click inside its window of {window.days} days"])
        trace.append(f"click outside its window of {window.days} days")
    if postback.coupon:
        coupon = await connection.fetchrow(sql.COUPON, postback.advertiser_id, postback.coupon, postback.converted_at)
        if coupon:
            return Finding(Source("coupon", coupon["partner"], coupon["campaign"]), [*trace, "coupon"])
        trace.append("no valid coupon has this code")
    return Finding(None, trace, may_come=bool(postback.click_id) and row is None)


async def _click(connection: Connection, postback: Postback) -> Any:
    raw = click_id.from_any(postback.click_id or "")
    row = await connection.fetchrow(sql.CLICK_BY_ID, UUID(bytes=raw)) if raw else None
    for statement in (sql.CLICK_BY_OLD_ID, sql.OLD_CLICK):
        row = row or await connection.fetchrow(statement, postback.click_id, postback.advertiser_id)
    return row


def _source_of_click(row: Any) -> Source:
    facts = {name: row[name] for name in FACT_NAMES}
    return Source("click", row["partner"], row["campaign"], row["link"], row["click_id"], row["clicked_at"], facts)


async def _convert(connection: Connection, postback: Postback, finding: Finding) -> Verdict:
    source, status = finding.source, postback.status if finding.source else "orphan"
    terms = await _terms(connection, postback, source) if source else None
    earned = payout(terms, postback.amount_micros, postback.currency) if terms else Payout(0, postback.currency)
    number = new_id()
    row = _conversion_row(number, postback, source, status=status, terms=terms, earned=earned, trace=finding.trace)
    if not await connection.fetchval(sql.INSERT_CONVERSION, *row):
        existing = await connection.fetchrow(sql.EXISTING_BY_TXID, postback.advertiser_id, postback.goal, postback.txid)
        return await _repeat(connection, postback, existing)
    if source and terms:
        await connection.execute(sql.SHARE, number, source.partner, earned.micros, earned.currency, terms.terms_id, terms.version)
    if source:
        owed = Owed(number, postback.advertiser_id, source.partner, earned, Payout(postback.amount_micros, postback.currency))
        await _enter(connection, owed, "", status, kind="conversion", postback=postback, on=postback.converted_at)
    told: Literal["attributed", "orphan"] = "attributed" if source else "orphan"
    return Verdict(
        told,
        told,
        postback.postback_id,
        number,
        reason="; ".join(finding.trace),
        created=status,
        payout_micros=earned.micros,
        payout_currency=earned.currency,
    )


async def _terms(connection: Connection, postback: Postback, source: Source) -> Terms | None:
    row = await connection.fetchrow(sql.TERMS, source.campaign, source.partner, postback.goal, postback.converted_at)
    return Terms(**dict(row)) if row else None


async def _repeat(connection: Connection, postback: Postback, existing: Any) -> Verdict:
    """The order is known: the first amount stays; a status that the store states moves it along the lifecycle."""
    told = "orphan" if existing["status"] == "orphan" else "attributed"
    if postback.amount_original and (existing["amount_micros"], existing["currency"]) != (postback.amount_micros, postback.currency):
        kept, sent = (money.format_micros(a, c) + " " + c for a, c in _amounts(existing, postback))
        reason = f"amount differs: {kept} is kept, {sent} was sent"
        if existing["duplicate_policy"] == "conflict":
            return Verdict("conflict", "conflict", postback.postback_id, existing["id"], duplicate=True, reason=reason)
        return Verdict("conflict", told, postback.postback_id, existing["id"], duplicate=True, reason=reason)
    reason = "the same order again"
    action = attribution.action_between(existing["status"], postback.status) if postback.status_original else None
    if action:
        await move(connection, existing, action, reason=f"{postback.source} says {postback.status}", actor="postback", postback=postback)
        reason = f"status {existing['status']} → {postback.status}"
    return Verdict("duplicate", told, postback.postback_id, existing["id"], duplicate=True, reason=reason)


def _amounts(existing: Any, postback: Postback) -> tuple[tuple[int, str], tuple[int, str]]:
    return (existing["amount_micros"], existing["currency"]), (postback.amount_micros, postback.currency)


@dataclass(frozen=True, slots=True)
class Owed:
    """Who is owed what for a conversion: the partner its payout, the advertiser the revenue it is billed for."""

    conversion_id: UUID
    advertiser_id: int
    partner: int | None
    payout: Payout
    revenue: Payout


async def move(connection: Connection, existing: Any, action: str, *, reason: str, actor: str, postback: Postback | None = None) -> str:
    """Move a locked conversion (a row of `EXISTING`) along the lifecycle by ledger entries; returns its new status."""
    before, after = attribution.LIFECYCLE[action]
    await connection.execute(sql.SET_STATUS, existing["id"], after)
    owed = Owed(
        existing["id"],
        existing["advertiser_id"],
        existing["partner"],
        Payout(existing["payout_micros"], existing["payout_currency"]),
        Payout(existing["amount_micros"], existing["currency"]),
    )
    kind = {"approve": "approval", "reject": "rejection", "reverse": "reversal"}[action]
    await _enter(connection, owed, before, after, kind=kind, postback=postback, on=datetime.now(UTC), reason=reason, actor=actor)
    return after


async def _enter(
    connection: Connection,
    owed: Owed,
    before: str,
    after: str,
    *,
    kind: str,
    postback: Postback | None,
    on: datetime,
    reason: str = "",
    actor: str = "postback",
) -> None:
    entries = [
        (account, partner, status, micros, amount.currency)
        for account, partner, amount in (("partner", owed.partner, owed.payout), ("advertiser", None, owed.revenue))
        for status, micros in attribution.ledger_moves(before, after, amount.micros)
        if account == "advertiser" or partner is not None
    ]
    if entries:
        columns = [list(column) for column in zip(*entries, strict=True)]
        number = postback.postback_id if postback else None
        await connection.execute(
            sql.LEDGER, on.astimezone(UTC).date(), owed.advertiser_id, owed.conversion_id, number, kind, reason, actor, *columns
        )


async def _stored(connection: Connection, postback: Postback) -> Verdict:
    row = await connection.fetchrow(sql.STORED_VERDICT, postback.postback_id)
    if row is None:
        raise RuntimeError(f"postback {postback.postback_id} conflicts with nothing")
    told = "parked" if row["outcome"] == "parked" else "orphan" if row["status"] == "orphan" else "attributed"
    return Verdict(row["outcome"], told, postback.postback_id, row["conversion_id"], row["outcome"] == "duplicate", row["reason"])


async def _parked_until(connection: Connection, postback: Postback) -> datetime:
    days = await connection.fetchval(sql.LONGEST_WINDOW, postback.advertiser_id)
    return postback.received_at + timedelta(days=days)


def _postback_row(postback: Postback) -> tuple[Any, ...]:
    names = (
        "postback_id received_at source advertiser_id txid goal click_id coupon amount_micros currency amount_original "
        "currency_original status status_original happened_at parameters ip unverified"
    )
    return tuple(getattr(postback, name) for name in names.split())


def _conversion_row(
    number: UUID, postback: Postback, source: Source | None, *, status: str, terms: Terms | None, earned: Payout, trace: list[str]
) -> tuple[Any, ...]:
    keyed = [] if not postback.txid.startswith("click:") else ["no txid: the click id is the key"]
    return (
        *(number, postback.advertiser_id, postback.goal, postback.txid, postback.postback_id, status),
        *(postback.converted_at, postback.received_at, postback.amount_micros, postback.currency),
        *(postback.amount_original, postback.currency_original, postback.status_original),
        *(earned.micros, earned.currency, terms.terms_id if terms else None),
        *(source.attribution if source else "none", [*trace, *keyed]),
        *((source.click_id, source.clicked_at, source.link, source.partner, source.campaign) if source else (None,) * 5),
        postback.parameters,
        *((source.facts.get(name) if source else None) for name in FACT_NAMES),
    )
