"""Postbacks become conversions: one transaction each, idempotent by postback id, one conversion an order.

The same `settle` serves a postback that arrives, a parked one that is tried again (`postgres_parked`), and one from the
journal (`postgres_receipts`).
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from tracker.adapters import postgres_conversions_sql as sql
from tracker.adapters.postgres_pool import Connection, Database
from tracker.domain import attribution, click_id, money
from tracker.domain.payout import Payout, Terms, payout
from tracker.domain.postback import Postback, Verdict

RECEIVE_BUDGET_S = 2.0  # after this a postback is journaled, so that no store waits for a frozen database
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
        return await take(connection, postback, now=postback.received_at) or await _stored(connection, postback)

    return await database.transaction(work, timeout_s=timeout_s)


async def take(connection: Connection, postback: Postback, *, now: datetime) -> Verdict | None:
    """Store `postback` and what follows from it, as part of the caller's transaction. None: it was stored before."""
    if not await connection.fetchval(sql.INSERT_POSTBACK, *_postback_row(postback)):
        return None
    return await settle(connection, postback, now=now)


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


async def _decide(connection: Connection, postback: Postback, now: datetime) -> Verdict:
    finding = await _find(connection, postback)
    expired = postback.parked_until is not None and now >= postback.parked_until
    if finding.source is None and finding.may_come and not expired:
        existing = await connection.fetchrow(sql.EXISTING_BY_TXID, postback.advertiser_id, postback.goal, postback.txid)
        if existing and not (_replaces(postback, existing) and postback.click_id != existing["first_click_id"]):
            return await _repeat(connection, postback, existing)  # the order is known already, whatever this click is
        return Verdict("parked", "parked", postback.postback_id, reason="; ".join(finding.trace))
    return await _convert(connection, postback, finding)


async def _find(connection: Connection, postback: Postback) -> Finding:
    """The click inside its window, else a valid coupon, else nothing."""
    trace: list[str] = []
    row = await _click(connection, postback) if postback.click_id else None
    may_come = bool(postback.click_id) and (row is None or row["campaign"] is None or row["partner"] is None)
    if may_come:
        trace.append("the click's link is not known yet" if row else "no click has this id")
    elif row and row["advertiser"] != postback.advertiser_id:
        trace.append("the click is another advertiser's")
    elif row:
        window = timedelta(days=row["attribution_window_days"])
        if attribution.is_in_window(row["clicked_at"], postback.converted_at, window, received_at=postback.received_at):
            ahead = ["the click's clock is ahead of ours"] if row["clicked_at"] > postback.received_at else []
            return Finding(_source_of_click(row), [f"click inside its window of {window.days} days", *ahead])
        trace.append(f"click outside its window of {window.days} days")
    if postback.coupon:
        coupon = await connection.fetchrow(sql.COUPON, postback.advertiser_id, postback.coupon, postback.converted_at)
        if coupon:
            return Finding(Source("coupon", coupon["partner"], coupon["campaign"]), [*trace, "coupon"])
        trace.append("no valid coupon has this code")
    return Finding(None, trace, may_come=may_come)


async def _click(connection: Connection, postback: Postback) -> Any:
    raw = click_id.from_any(postback.click_id or "")
    row = await connection.fetchrow(sql.CLICK_BY_ID, UUID(bytes=raw)) if raw else None
    for statement in (sql.CLICK_BY_OLD_ID, sql.OLD_CLICK):
        row = row or await connection.fetchrow(statement, postback.click_id, postback.advertiser_id)
    return row


def _source_of_click(row: Any) -> Source:
    facts = {name: row[name] for name in FACT_NAMES}
    return Source("click", row["partner"], row["campaign"], row["link"], row["click_id"], row["clicked_at"], facts)


@dataclass(frozen=True, slots=True)
class Deal:
    """What a postback comes to: who earns by it, what, and why."""

    source: Source | None
    terms: Terms | None
    earned: Payout
    trace: list[str]


async def _deal(connection: Connection, postback: Postback, finding: Finding) -> Deal:
    source = finding.source
    terms = await _terms(connection, postback, source) if source else None
    earned = payout(terms, postback.amount_micros, postback.currency) if terms else Payout(0, postback.currency)
    return Deal(source, terms, earned, finding.trace)


async def _convert(connection: Connection, postback: Postback, finding: Finding) -> Verdict:
    deal = await _deal(connection, postback, finding)
    number, status = new_id(), postback.status if deal.source else "orphan"
    if not await connection.fetchval(sql.INSERT_CONVERSION, *_conversion_row(number, postback, deal, status)):
        existing = await connection.fetchrow(sql.EXISTING_BY_TXID, postback.advertiser_id, postback.goal, postback.txid)
        if not _replaces(postback, existing):
            return await _repeat(connection, postback, existing)
        return await _replace(connection, postback, existing, deal)
    await _share(connection, number, deal)
    if deal.source:
        await _enter(connection, _owed(number, postback, deal), "", status, kind="conversion", postback=postback, on=postback.converted_at)
    return _made(postback, number, deal, status)


def _made(postback: Postback, number: UUID, deal: Deal, status: str, reason: str = "") -> Verdict:
    told: Literal["attributed", "orphan"] = "attributed" if deal.source else "orphan"
    return Verdict(
        told,
        told,
        postback.postback_id,
        number,
        reason=reason or "; ".join(deal.trace),
        created=status,
        payout_micros=deal.earned.micros,
        payout_currency=deal.earned.currency,
    )


async def _share(connection: Connection, number: UUID, deal: Deal) -> None:
    if deal.source and deal.terms:
        micros, currency = deal.earned.micros, deal.earned.currency
        await connection.execute(sql.SHARE, number, deal.source.partner, micros, currency, deal.terms.terms_id, deal.terms.version)


def _replaces(postback: Postback, existing: Any) -> bool:
    return attribution.replaces(
        postback.status, unverified=postback.unverified, known_status=existing["status"], known_unverified=existing["unverified"]
    )


async def _replace(connection: Connection, postback: Postback, existing: Any, deal: Deal) -> Verdict:
    """Tell an orphan, or what only a pixel said, anew by this postback: the row amended, shares replaced, money by ledger entries.

    A postback that earns nobody anything replaces nothing: what the pixel said stays as it is, for people to decide.
    """
    before = existing["status"]
    if deal.source is None and before == "orphan":
        return await _repeat(connection, postback, existing)
    if deal.source is None:
        reason = "; ".join([*deal.trace, f"the pixel's click and amount are kept, the conversion is {before}"])
        return Verdict("conflict", "attributed", postback.postback_id, existing["id"], duplicate=True, reason=reason)
    after = attribution.status_after(postback.status, known_status=before, first_status=existing["first_status"] or before)
    was = "it was an orphan" if before == "orphan" else f"a pixel said {_amount_text(existing['amount_micros'], existing['currency'])}"
    told = Deal(deal.source, deal.terms, deal.earned, [*deal.trace, was])
    await connection.execute(sql.AMEND_CONVERSION, *_conversion_row(existing["id"], postback, told, after))
    await connection.execute(sql.DROP_SHARES, existing["id"])
    await _share(connection, existing["id"], deal)
    await _correct(connection, _owed_of(existing), before, _owed(existing["id"], postback, deal), after, postback=postback, reason=was)
    made = _made(postback, existing["id"], told, after)
    return made if before == "orphan" else replace(made, created=None)  # its money is counted already


async def _terms(connection: Connection, postback: Postback, source: Source) -> Terms | None:
    row = await connection.fetchrow(sql.TERMS, source.campaign, source.partner, postback.goal, postback.converted_at)
    return Terms(**dict(row)) if row else None


async def _repeat(connection: Connection, postback: Postback, existing: Any) -> Verdict:
    """The order is known: a status that the store states moves it along the lifecycle; the first amount stays.

    What could not be followed, the amount or the status, makes a conflict that is kept and shown. A goal whose policy is
    `conflict` refuses another amount altogether, unless the sale is taken back, which asks for no amount.
    """
    told = "orphan" if existing["status"] == "orphan" else "attributed"
    taken_back = postback.status in attribution.TAKEN_BACK
    problems = _difference(existing, postback)
    if problems and existing["duplicate_policy"] == "conflict" and not taken_back:
        return Verdict("conflict", "conflict", postback.postback_id, existing["id"], duplicate=True, reason=problems[0])
    reason, stuck = await _follow(connection, postback, existing)
    problems = [*stuck, *problems]
    reason = "; ".join([*([reason] if reason else []), *problems]) or "the same order again"
    outcome: Literal["conflict", "duplicate"] = "conflict" if problems else "duplicate"
    return Verdict(outcome, told, postback.postback_id, existing["id"], duplicate=True, reason=reason)


async def _follow(connection: Connection, postback: Postback, existing: Any) -> tuple[str, list[str]]:
    """Move to the status that the store stated: what was done, and what could not be."""
    before = existing["status"]
    if not postback.status_original or postback.status == before:
        return "", []
    action = attribution.action_towards(before, postback.status)
    if action is None:
        return "", [f"{postback.status} was sent, conversion is {before}"]
    said = f"{postback.source} says {postback.status}"
    after = await move(connection, existing, action, reason=said, actor="postback", postback=postback)
    return f"status {before} → {after}", []


def _difference(existing: Any, postback: Postback) -> list[str]:
    if not postback.amount_original or (existing["amount_micros"], existing["currency"]) == (postback.amount_micros, postback.currency):
        return []
    kept, sent = (_amount_text(*amount) for amount in _amounts(existing, postback))
    return [f"amount differs: {kept} is kept, {sent} was sent"]


def _amount_text(micros: int, currency: str) -> str:
    return f"{money.format_micros(micros, currency)} {currency}"


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


def _owed(number: UUID, postback: Postback, deal: Deal) -> Owed:
    partner = deal.source.partner if deal.source else None
    return Owed(number, postback.advertiser_id, partner, deal.earned, Payout(postback.amount_micros, postback.currency))


def _owed_of(existing: Any) -> Owed:
    earned = Payout(existing["payout_micros"], existing["payout_currency"])
    revenue = Payout(existing["amount_micros"], existing["currency"])
    return Owed(existing["id"], existing["advertiser_id"], existing["partner"], earned, revenue)


async def move(connection: Connection, existing: Any, action: str, *, reason: str, actor: str, postback: Postback | None = None) -> str:
    """Move a locked conversion (a row of `EXISTING`) along the lifecycle by ledger entries; returns its new status."""
    before, after = attribution.LIFECYCLE[action]
    await connection.execute(sql.SET_STATUS, existing["id"], after)
    kind = {"approve": "approval", "reject": "rejection", "reverse": "reversal"}[action]
    owed, on = _owed_of(existing), datetime.now(UTC)
    await _enter(connection, owed, before, after, kind=kind, postback=postback, on=on, reason=reason, actor=actor)
    return after


Entry = tuple[str, int | None, str, int, str]  # account, partner, status, micros, currency


def _entries(owed: Owed, before: str, after: str) -> list[Entry]:
    return [
        (account, partner, status, micros, amount.currency)
        for account, partner, amount in (("partner", owed.partner, owed.payout), ("advertiser", None, owed.revenue))
        for status, micros in attribution.ledger_moves(before, after, amount.micros)
        if account == "advertiser" or partner is not None
    ]


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
    await _write(connection, owed, _entries(owed, before, after), kind=kind, postback=postback, on=on, reason=reason, actor=actor)


async def _correct(connection: Connection, wrong: Owed, before: str, right: Owed, after: str, *, postback: Postback, reason: str) -> None:
    """Take what was owed by mistake back, and owe what is right; what stays the same makes no entry."""
    sums: dict[tuple[str, int | None, str, str], int] = {}
    for account, partner, status, micros, currency in (*_entries(wrong, before, ""), *_entries(right, "", after)):
        key = (account, partner, status, currency)
        sums[key] = sums.get(key, 0) + micros
    entries = [(account, partner, status, micros, currency) for (account, partner, status, currency), micros in sums.items() if micros]
    on = datetime.now(UTC)
    await _write(connection, right, entries, kind="correction", postback=postback, on=on, reason=reason, actor="postback")


async def _write(
    connection: Connection,
    owed: Owed,
    entries: list[Entry],
    *,
    kind: str,
    postback: Postback | None,
    on: datetime,
    reason: str,
    actor: str,
) -> None:
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
    repeated = row["outcome"] in ("duplicate", "conflict")
    return Verdict(row["outcome"], told, postback.postback_id, row["conversion_id"], repeated, row["reason"])


async def _parked_until(connection: Connection, postback: Postback) -> datetime:
    days = await connection.fetchval(sql.LONGEST_WINDOW, postback.advertiser_id)
    return postback.received_at + timedelta(days=days)


def _postback_row(postback: Postback) -> tuple[Any, ...]:
    names = (
        "postback_id received_at source advertiser_id txid goal click_id coupon amount_micros currency amount_original "
        "currency_original status status_original happened_at parameters ip unverified"
    )
    return tuple(getattr(postback, name) for name in names.split())


def _conversion_row(number: UUID, postback: Postback, deal: Deal, status: str) -> tuple[Any, ...]:
    source, terms, earned = deal.source, deal.terms, deal.earned
    keyed = ["no txid: the click id is the key"] if postback.is_keyed_by_click else []
    return (
        *(number, postback.advertiser_id, postback.goal, postback.txid, postback.postback_id, status),
        *(postback.converted_at, postback.received_at, postback.amount_micros, postback.currency),
        *(postback.amount_original, postback.currency_original, postback.status_original),
        *(earned.micros, earned.currency, terms.terms_id if terms else None),
        *(source.attribution if source else "none", [*deal.trace, *keyed]),
        *((source.click_id, source.clicked_at, source.link, source.partner, source.campaign) if source else (None,) * 5),
        postback.parameters,
        *((source.facts.get(name) if source else None) for name in FACT_NAMES),
    )
