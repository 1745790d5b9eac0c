"""A conversion's row, its shares and its ledger entries: written when an order is first told, and told anew when a report goes before."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from tracker.adapters import postgres_conversions_sql as sql
from tracker.adapters import postgres_holds as holds
from tracker.adapters.postgres_attribution import FACT_NAMES, Source
from tracker.adapters.postgres_ledger import Owed, correct, enter, owed_of, shares_of
from tracker.adapters.postgres_plans import NOTHING, Sold, Terms, Worked, of_same_rate, sold_of, terms_at, work_out
from tracker.adapters.postgres_pool import Connection
from tracker.adapters.postgres_rates import exchange
from tracker.domain import basis as bases
from tracker.domain import click_id, money
from tracker.domain.basis import Report
from tracker.domain.plans import Earned
from tracker.domain.postback import Postback, Verdict


@dataclass(frozen=True, slots=True)
class Deal:
    """What a postback comes to: who earns by it, by which terms, and why."""

    source: Source | None
    terms: Terms | None
    trace: list[str]


def new_id() -> UUID:
    """A UUIDv7 of now."""
    return UUID(bytes=click_id.compose(time.time_ns() // 1_000_000, os.urandom(click_id.RANDOM_BYTES)))


async def deal_of(connection: Connection, postback: Postback, source: Source | None, trace: list[str]) -> Deal:
    """The deal by which `source` earns; nobody earns nothing."""
    terms = await terms_at(connection, source.campaign, source.partner, postback.goal, postback.converted_at) if source else None
    return Deal(source, terms, trace)


async def _worked(connection: Connection, number: UUID, postback: Postback, deal: Deal, reports: tuple[Report, ...] = ()) -> Worked:
    """What the conversion `number` earns by a deal; `reports`: all that added up to it, where it is more than the postback."""
    if deal.source is None:
        return Worked(None, Earned((), postback.currency))
    sold = Sold(
        number,
        postback.advertiser_id,
        deal.source.campaign,
        deal.source.partner,
        postback.goal,
        postback.converted_at,
        postback.currency,
        postback.customer,
        reports or (Report(postback.amount_micros, postback.details),),
    )
    return await work_out(connection, deal.terms, sold, replace(NOTHING, reports=reports))


async def make(connection: Connection, postback: Postback, deal: Deal, *, occurrence: int = 1, is_repeat: bool = False) -> Verdict | None:
    """A new conversion; None when its order has this occurrence already."""
    number, hold_days = new_id(), holds.days_of(deal.source)
    status, until = holds.standing(postback, postback.status, hold_days)
    status = status if deal.source else "orphan"
    deal = _held(deal, until)
    worked = await _worked(connection, number, postback, deal)
    row = _conversion_row(number, postback, deal, worked, status, hold_days)
    if not await connection.fetchval(sql.INSERT_CONVERSION, *row, occurrence, is_repeat):
        return None
    await holds.hold(connection, number, until)
    await share(connection, number, worked)
    if deal.source:
        owed = _owed(number, postback, deal, worked)
        await enter(connection, owed, "", status, kind="conversion", postback=postback, on=postback.converted_at)
    return _made(postback, number, deal, worked.earned, status)


def _held(deal: Deal, until: datetime | None) -> Deal:
    return replace(deal, trace=[*deal.trace, holds.said(until)]) if until else deal


def _made(postback: Postback, number: UUID, deal: Deal, earned: Earned, status: str) -> Verdict:
    told: Literal["attributed", "orphan"] = "attributed" if deal.source else "orphan"
    return Verdict(
        told,
        told,
        postback.postback_id,
        number,
        reason="; ".join(deal.trace),
        created=status,
        payout_micros=earned.micros,
        payout_currency=earned.currency,
    )


async def share(connection: Connection, number: UUID, worked: Worked) -> None:
    """Write the shares of a conversion that has none."""
    if shares := worked.earned.shares:
        by = (worked.terms.terms_id, worked.terms.version) if worked.terms else (None, 1)
        columns = ([one.partner for one in shares], [one.level for one in shares], [one.micros for one in shares])
        await connection.execute(sql.SHARES, number, *by, *columns, [one.currency for one in shares])


async def tell_anew(
    connection: Connection, postback: Postback, existing: Any, deal: Deal, *, after: str, was: str, amount_by: UUID | None = None
) -> Verdict:
    """The whole of a conversion by this postback: who earns, the amount, the status. Money moves by ledger entries.

    `amount_by`: the report that the postback's amount is of, where it is another's (`keeping_amount`). Only then does what was taken back
    of the amount stay so. The order number stays too: a conversion that is found by its event may be told of by another.
    """
    before = existing["status"]
    hold_days = holds.days_of(deal.source, existing)
    after, until = holds.standing(postback, after, hold_days, existing)
    told, number, keeps_amount = _held(replace(deal, trace=[*deal.trace, was]), until), existing["id"], amount_by is not None
    wrong = await owed_of(connection, existing)
    worked = await _worked(connection, number, postback, told, bases.read(existing["basis"]).reports if keeps_amount else ())
    row = _conversion_row(number, replace(postback, txid=existing["txid"]), told, worked, after, hold_days)
    await connection.execute(sql.AMEND_CONVERSION, *row, amount_by, keeps_amount)
    await holds.hold(connection, number, until, known=existing["approve_at"])
    await connection.execute(sql.DROP_SHARES, number)
    await share(connection, number, worked)
    await correct(connection, wrong, before, _owed(number, postback, told, worked), after, postback=postback, reason=was)
    made = _made(postback, number, told, worked.earned, after)
    return made if before == "orphan" else replace(made, created=None)  # its money is counted already


def keeping_amount(postback: Postback, existing: Any) -> Postback:
    """The postback with a known amount, that of a row of `EXISTING`, and with what only that says of its event and the order's details."""
    kept = {name: existing[name] for name in ("amount_micros", "currency", "amount_original", "currency_original")}
    details, event_id = existing["details"] | postback.details, postback.event_id or existing["event_id"]
    return replace(postback, **kept, details=details, event_id=event_id)


def going_before(postback: Postback, existing: Any) -> Postback:
    """The postback as it is once the report whose amount is in force has amended it."""
    told = keeping_amount(postback, existing)
    return replace(told, details=postback.details | existing["details"], customer=existing["customer"] or postback.customer)


async def amend(
    connection: Connection,
    postback: Postback,
    existing: Any,
    *,
    adds: bool,
    was: str,
    told_by: UUID,
    amount_by: UUID | None,
    actor: str = "postback",
) -> Verdict:
    """Another amount for a conversion whose click stays: the postback's own, or (`adds`) the sum of both.

    `told_by`, `amount_by`: the reports in force from now on, the latter None where it is the former.
    """
    amount, reversed_micros = postback.amount_micros, 0
    if adds:
        amount, reversed_micros = existing["amount_micros"] + amount, existing["reversed_micros"]
    wrong, worked = await owed_of(connection, existing), await _amended(connection, postback, existing, adds=adds)
    earned, terms = worked.earned, worked.terms
    right = replace(wrong, shares=earned.shares, amount_micros=amount, currency=postback.currency)
    original = money.format_micros(amount + reversed_micros, postback.currency) if adds else postback.amount_original
    await connection.execute(
        sql.AMEND_AMOUNT,
        *(existing["id"], told_by, amount, postback.currency, original),
        *(postback.currency_original, earned.micros, earned.currency, terms.terms_id if terms else None),
        *({} if adds else postback.details, postback.customer, [was], amount_by, worked.basis, reversed_micros),
    )
    await connection.execute(sql.DROP_SHARES, existing["id"])
    await share(connection, existing["id"], worked)
    await correct(connection, wrong, existing["status"], right, existing["status"], postback=postback, reason=was, actor=actor)
    return Verdict("attributed", "attributed", postback.postback_id, existing["id"], reason=was)


async def _amended(connection: Connection, postback: Postback, existing: Any, *, adds: bool) -> Worked:
    """What a conversion earns once a report has amended its amount: by the terms of its time as they are known now.

    An imported one, which earns by no terms of ours: in proportion.
    """
    if existing["partner"] is None:
        return Worked(None, Earned((), postback.currency))
    if existing["source"] and existing["terms_id"] is None:
        return await _imported(connection, postback, existing, adds=adds)
    sold, known = sold_of(existing)
    added = Report(postback.amount_micros, postback.details if adds else existing["details"] | postback.details)
    reports = (*sold.reports, added) if adds else (added,)
    known = replace(known, reports=reports if adds else ())
    sold = replace(sold, currency=postback.currency, customer=postback.customer or sold.customer, reports=reports)
    terms = await terms_at(connection, sold.campaign, sold.partner, sold.goal, sold.at)
    return await work_out(connection, terms, sold, of_same_rate(known, existing, sold, terms))


async def _imported(connection: Connection, postback: Postback, existing: Any, *, adds: bool) -> Worked:
    """What an imported conversion earns by another amount. It stays as it was where the two cannot be compared."""
    whole, day = existing["amount_micros"], existing["converted_at"].astimezone(UTC).date()
    rate = await exchange(connection, postback.currency, existing["currency"], day)
    if rate is None or not whole:
        return await in_proportion(connection, existing, 1, 1)
    return await in_proportion(connection, existing, round(postback.amount_micros * rate) + (whole if adds else 0), whole)


async def in_proportion(connection: Connection, existing: Any, part: int, whole: int) -> Worked:
    """What a conversion, a row of `EXISTING`, earns by no terms of ours, with `part` of `whole` of its amount."""
    shares = bases.in_proportion(await shares_of(connection, existing), part, whole)
    return Worked(None, Earned(shares, existing["payout_currency"]), existing["basis"])


async def rework(
    connection: Connection, existing: Any, worked: Worked, *, kind: str, reason: str, actor: str, less_micros: int = 0
) -> None:
    """What a locked conversion earns, worked out anew, and its amount less what is taken back of it: by entries of `kind`."""
    wrong, earned = await owed_of(connection, existing), worked.earned
    amount, terms_id = existing["amount_micros"] - less_micros, worked.terms.terms_id if worked.terms else None
    kept = (amount, existing["reversed_micros"] + less_micros, earned.micros, earned.currency, terms_id, worked.basis)
    await connection.execute(sql.REWORK, existing["id"], *kept)
    await connection.execute(sql.DROP_SHARES, existing["id"])
    await share(connection, existing["id"], worked)
    right, status = replace(wrong, shares=earned.shares, amount_micros=amount), existing["status"]
    await correct(connection, wrong, status, right, status, kind=kind, reason=reason, actor=actor)


def _owed(number: UUID, postback: Postback, deal: Deal, worked: Worked) -> Owed:
    campaign = deal.source.campaign if deal.source else None
    return Owed(number, postback.advertiser_id, campaign, worked.earned.shares, postback.amount_micros, postback.currency)


def _conversion_row(number: UUID, postback: Postback, deal: Deal, worked: Worked, status: str, hold_days: int | None) -> Sequence[Any]:
    source, terms, earned = deal.source, worked.terms, worked.earned
    keyed = ["no txid: the click id is the key"] if postback.is_keyed_by_click else []
    return (
        *(number, postback.advertiser_id, postback.goal, postback.txid, postback.postback_id, status),
        *(postback.converted_at, postback.received_at, postback.amount_micros, postback.currency),
        *(postback.amount_original, postback.currency_original, postback.status_original),
        *(earned.micros, earned.currency, terms.terms_id if terms else None),
        *(source.attribution if source else "none", [*deal.trace, *keyed]),
        *((source.click_id, source.clicked_at, source.link, source.partner, source.campaign) if source else (None,) * 5),
        *(postback.parameters, postback.customer, postback.event_id, postback.details, worked.basis, hold_days),
        *((source.facts.get(name) if source else None) for name in FACT_NAMES),
    )
