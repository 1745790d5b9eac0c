"""Payout plans at work: the terms in force at a time, the facts that a plan asks for, and what a conversion earns by both."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from tracker.adapters import postgres_plans_sql as sql
from tracker.adapters.postgres_pool import Connection
from tracker.adapters.postgres_rates import exchange
from tracker.domain import basis as bases
from tracker.domain import plan_reading
from tracker.domain.basis import Basis, Report
from tracker.domain.plans import Earned, Plan, Rate

NOTHING = Basis()


@dataclass(frozen=True, slots=True)
class Terms:
    """A row of `terms` with its plan; simple terms are a plan of one rate."""

    terms_id: int
    version: int
    plan: Plan


@dataclass(frozen=True, slots=True)
class Sold:
    """A conversion as it is booked, or is to be: whose, when, and what its reports brought."""

    conversion_id: UUID
    advertiser_id: int
    campaign: int
    partner: int
    goal: str
    at: datetime
    currency: str
    customer: str | None
    reports: tuple[Report, ...]


@dataclass(frozen=True, slots=True)
class Worked:
    """What a conversion earns everybody, by which terms (None: none are in force), and what that was worked out from."""

    terms: Terms | None
    earned: Earned
    basis: dict[str, Any] = field(default_factory=dict)


def plan_of(row: Mapping[str, Any]) -> Plan:
    """The plan of a row of `TERMS`."""
    if row["payout_type"] == "fixed":
        return Plan(Rate(amount_micros=row["amount_micros"]), row["currency"])
    if row["payout_type"] == "percent":
        return Plan(Rate(percent_micros=row["percent_micros"]))
    return plan_reading.read(row["plan"], row["partners"] or {}, currency=row["currency"])


async def terms_at(
    connection: Connection, campaign: int, partner: int, goal: str, at: datetime, *, known_at: datetime | None = None
) -> Terms | None:
    """The terms in force at `at` as they were known at `known_at` (None: when this transaction began); None: nobody is paid."""
    return _terms(await connection.fetchrow(sql.TERMS, campaign, partner, goal, at, known_at))


async def terms_by_id(connection: Connection, terms_id: int | None) -> Terms | None:
    """The very terms that a conversion was booked by."""
    return None if terms_id is None else _terms(await connection.fetchrow(sql.TERMS_BY_ID, terms_id))


def _terms(row: Any) -> Terms | None:
    return Terms(row["terms_id"], row["version"], plan_of(row)) if row else None


def sold_of(existing: Any) -> tuple[Sold, Basis]:
    """A conversion, a row of `EXISTING`, and what it was worked out from."""
    known = bases.read(existing["basis"])
    reports = known.reports or (Report(existing["amount_micros"], existing["details"]),)
    names = ("advertiser_id", "campaign", "partner", "goal")
    whose = {name: existing[name] for name in names}
    at, currency, customer = existing["converted_at"], existing["currency"], existing["customer"]
    return Sold(existing["id"], at=at, currency=currency, customer=customer, reports=reports, **whose), known


def of_same_rate(known: Basis, existing: Any, sold: Sold, terms: Terms | None) -> Basis:
    """What is known of a conversion, a row of `EXISTING`; without the rate of exchange where `terms` and `sold` ask for another."""
    target = terms.plan.currency if terms else None
    return known if (existing["currency"], existing["payout_currency"]) == (sold.currency, target) else replace(known, exchange=None)


async def work_out(connection: Connection, terms: Terms | None, sold: Sold, known: Basis = NOTHING) -> Worked:
    """What `sold` earns by `terms`. Facts of `known` are taken as they are, others that the plan asks for looked up: for simple terms
    there are none, and no statement is sent."""
    if terms is None:
        return work_out_again(None, sold, known)
    facts = await _facts(connection, terms.plan, sold, known)
    found = _earned(terms.plan, sold, facts)
    if facts.exchange is None and (found.has_no_rate or _asks_for_rate(terms.plan, sold)):
        facts = replace(facts, exchange=await exchange(connection, sold.currency, terms.plan.currency or sold.currency, _day(sold.at)))
        found = _earned(terms.plan, sold, facts)
    return Worked(terms, found, bases.written(facts, found, sold.partner))


def work_out_again(terms: Terms | None, sold: Sold, known: Basis) -> Worked:
    """The same from what is known alone: for a conversion that was worked out by these terms before."""
    found = _earned(terms.plan, sold, known) if terms else Earned((), sold.currency)
    return Worked(terms, found, bases.written(known, found, sold.partner))


def _earned(plan: Plan, sold: Sold, facts: Basis) -> Earned:
    return bases.worked_out(plan, sold.reports, sold.currency, sold.goal, sold.partner, facts)


def _asks_for_rate(plan: Plan, sold: Sold) -> bool:
    """Whether the month asks for it, where the sale alone does not."""
    return plan.tiers is not None and plan.currency not in (None, sold.currency)


def _day(at: datetime) -> Any:
    return at.astimezone(UTC).date()


async def _facts(connection: Connection, plan: Plan, sold: Sold, known: Basis) -> Basis:
    facts = known
    says_kind = any(report.details.get("customer_type") for report in sold.reports)
    asks_kind = any(rule.customer for rule in plan.rules) and not says_kind
    if asks_kind and facts.customer is None and sold.customer:
        is_returning = await connection.fetchval(sql.IS_RETURNING, *_customer(sold))
        facts = replace(facts, customer="returning" if is_returning else "new")
    if plan.recurring and facts.payment is None and sold.customer:
        row = await connection.fetchrow(sql.PAYMENTS, *_customer(sold), sold.partner)
        earlier, first = (int(row["payments"]), row["first"]) if row else (0, None)
        facts = replace(facts, payment=earlier + 1, months=bases.whole_months(first, sold.at) if first else 0)
    if plan.levels and (facts.upline is None or len(facts.upline) < len(plan.levels)):
        rows = await connection.fetch(sql.UPLINE, sold.partner, sold.at, len(plan.levels))
        facts = replace(facts, upline=tuple(row["partner"] for row in rows))
    return facts


def _customer(sold: Sold) -> tuple[Any, ...]:
    return sold.advertiser_id, sold.customer, sold.campaign, sold.at, sold.conversion_id
