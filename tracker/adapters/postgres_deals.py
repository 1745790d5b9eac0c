"""A conversion's row, its shares and its ledger entries: written when an order is first told, and told anew when a report goes before."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from uuid import UUID

from tracker.adapters import postgres_conversions_sql as sql
from tracker.adapters.postgres_attribution import FACT_NAMES, Source
from tracker.adapters.postgres_ledger import Owed, correct, enter, owed_of
from tracker.adapters.postgres_pool import Connection
from tracker.domain import click_id, money
from tracker.domain.payout import Payout, Terms, payout
from tracker.domain.postback import Postback, Verdict


@dataclass(frozen=True, slots=True)
class Deal:
    """What a postback comes to: who earns by it, what, and why."""

    source: Source | None
    terms: Terms | None
    earned: Payout
    trace: list[str]


def new_id() -> UUID:
    """A UUIDv7 of now."""
    return UUID(bytes=click_id.compose(time.time_ns() // 1_000_000, os.urandom(click_id.RANDOM_BYTES)))


async def deal_of(connection: Connection, postback: Postback, source: Source | None, trace: list[str]) -> Deal:
    """The deal by which `source` earns; nobody earns nothing."""
    terms = await _terms(connection, source.campaign, source.partner, postback.goal, postback.converted_at) if source else None
    return Deal(source, terms, _earned(terms, postback), trace)


def _earned(terms: Terms | None, postback: Postback) -> Payout:
    return payout(terms, postback.amount_micros, postback.currency) if terms else Payout(0, postback.currency)


async def _terms(connection: Connection, campaign: int, partner: int, goal: str, at: Any) -> Terms | None:
    row = await connection.fetchrow(sql.TERMS, campaign, partner, goal, at)
    return Terms(**dict(row)) if row else None


async def make(connection: Connection, postback: Postback, deal: Deal, *, occurrence: int = 1, is_repeat: bool = False) -> Verdict | None:
    """A new conversion; None when its order has this occurrence already."""
    number, status = new_id(), postback.status if deal.source else "orphan"
    row = _conversion_row(number, postback, deal, status)
    if not await connection.fetchval(sql.INSERT_CONVERSION, *row, occurrence, is_repeat):
        return None
    await _share(connection, number, deal)
    if deal.source:
        await enter(connection, _owed(number, postback, deal), "", status, kind="conversion", postback=postback, on=postback.converted_at)
    return _made(postback, number, deal, status)


def _made(postback: Postback, number: UUID, deal: Deal, status: str) -> Verdict:
    told: Literal["attributed", "orphan"] = "attributed" if deal.source else "orphan"
    return Verdict(
        told,
        told,
        postback.postback_id,
        number,
        reason="; ".join(deal.trace),
        created=status,
        payout_micros=deal.earned.micros,
        payout_currency=deal.earned.currency,
    )


async def _share(connection: Connection, number: UUID, deal: Deal) -> None:
    if deal.source and deal.terms:
        micros, currency = deal.earned.micros, deal.earned.currency
        await connection.execute(sql.SHARE, number, deal.source.partner, micros, currency, deal.terms.terms_id, deal.terms.version)


async def tell_anew(connection: Connection, postback: Postback, existing: Any, deal: Deal, *, after: str, was: str) -> Verdict:
    """The whole of a conversion by this postback: who earns, the amount, the status. Money moves by ledger entries."""
    before = existing["status"]
    told = Deal(deal.source, deal.terms, deal.earned, [*deal.trace, was])
    await connection.execute(sql.AMEND_CONVERSION, *_conversion_row(existing["id"], postback, told, after))
    await connection.execute(sql.DROP_SHARES, existing["id"])
    await _share(connection, existing["id"], deal)
    right = _owed(existing["id"], postback, deal)
    await correct(connection, owed_of(existing), before, right, after, postback=postback, reason=was)
    made = _made(postback, existing["id"], told, after)
    return made if before == "orphan" else replace(made, created=None)  # its money is counted already


async def amend(connection: Connection, postback: Postback, existing: Any, *, adds: bool, was: str) -> Verdict:
    """Another amount for a conversion whose click stays: the postback's own, or (`adds`) the sum of both."""
    partner, campaign = existing["partner"], existing["campaign"]
    terms = await _terms(connection, campaign, partner, postback.goal, existing["converted_at"]) if partner is not None else None
    earned, amount = _earned(terms, postback), postback.amount_micros
    if adds:
        earned, amount = Payout(existing["payout_micros"] + earned.micros, earned.currency), existing["amount_micros"] + amount
    wrong = owed_of(existing)
    right = Owed(wrong.conversion_id, wrong.advertiser_id, partner, earned, Payout(amount, postback.currency))
    original = money.format_micros(amount, postback.currency) if adds else postback.amount_original
    await connection.execute(
        sql.AMEND_AMOUNT,
        *(existing["id"], existing["postback_id"] if adds else postback.postback_id, amount, postback.currency, original),
        *(postback.currency_original, earned.micros, earned.currency, terms.terms_id if terms else None),
        *({} if adds else postback.details, postback.customer, [was]),
    )
    await connection.execute(sql.DROP_SHARES, existing["id"])
    if terms and partner is not None:
        await connection.execute(sql.SHARE, existing["id"], partner, earned.micros, earned.currency, terms.terms_id, terms.version)
    await correct(connection, wrong, existing["status"], right, existing["status"], postback=postback, reason=was)
    return Verdict("attributed", "attributed", postback.postback_id, existing["id"], reason=was)


def _owed(number: UUID, postback: Postback, deal: Deal) -> Owed:
    partner = deal.source.partner if deal.source else None
    return Owed(number, postback.advertiser_id, partner, deal.earned, Payout(postback.amount_micros, postback.currency))


def _conversion_row(number: UUID, postback: Postback, deal: Deal, status: str) -> Sequence[Any]:
    source, terms, earned = deal.source, deal.terms, deal.earned
    keyed = ["no txid: the click id is the key"] if postback.is_keyed_by_click else []
    return (
        *(number, postback.advertiser_id, postback.goal, postback.txid, postback.postback_id, status),
        *(postback.converted_at, postback.received_at, postback.amount_micros, postback.currency),
        *(postback.amount_original, postback.currency_original, postback.status_original),
        *(earned.micros, earned.currency, terms.terms_id if terms else None),
        *(source.attribution if source else "none", [*deal.trace, *keyed]),
        *((source.click_id, source.clicked_at, source.link, source.partner, source.campaign) if source else (None,) * 5),
        *(postback.parameters, postback.customer, postback.event_id, postback.details),
        *((source.facts.get(name) if source else None) for name in FACT_NAMES),
    )
