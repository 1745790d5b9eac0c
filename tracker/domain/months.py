"""What a partner's calendar month earns beyond each sale by itself: tiers, bonuses, clicks. Pure.

Worked out from the month as a whole, whatever came when: so it does not matter in which order reports arrive, and what
is worked out again from the same month is the same. What was booked for it before is corrected by the difference.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Literal
from uuid import UUID

from tracker.domain.basis import Basis, Report, sale_of, worked_out
from tracker.domain.plans import Plan, Rate, Tiers, amount_in, at_base

Kind = Literal["tiers", "bonus", "clicks"]


@dataclass(frozen=True, slots=True)
class Earner:
    """Who gets something of a month, and for what."""

    partner: int
    kind: Kind
    currency: str


@dataclass(frozen=True, slots=True)
class MonthSale:
    """A conversion that earns, the plan that it was paid by, and what else that was worked out from."""

    conversion_id: UUID
    at: datetime
    plan: Plan
    currency: str
    goal: str
    reports: tuple[Report, ...]
    basis: Basis

    @property
    def revenue(self) -> Fraction:
        """Micros of the plan's currency; 0 where there is no rate."""
        sales = (sale_of(report, self.currency, self.goal, self.basis) for report in self.reports)
        return sum((amount_in(self.plan, sale) or Fraction(0) for sale in sales), Fraction(0))


@dataclass(frozen=True, slots=True)
class Clicks:
    """Counted clicks that a partner brought a campaign, and the plan that they are paid by."""

    clicks: int
    plan: Plan


def of_sales(partner: int, sales: Iterable[MonthSale]) -> Counter[Earner]:
    """Micros of tiers and bonuses for all of a partner's sales in one campaign and month, and for those who share in them.

    A bonus is that of the plan of the sale that reaches it.
    """
    ordered = sorted(sales, key=lambda one: (one.at, one.conversion_id))
    found = Counter[Earner]()
    for one, rate in zip(ordered, _tier_rates(ordered), strict=True):
        if rate is not None:
            _add_difference(found, partner, one, rate)
    for number, one in enumerate(ordered, start=1):
        for bonus in one.plan.bonuses:
            if bonus.conversions == number:
                found[Earner(partner, "bonus", _currency(one.plan))] += bonus.amount_micros
    return _filled(found)


def of_clicks(partner: int, paid: Iterable[Clicks]) -> Counter[Earner]:
    """Micros for one partner's counted clicks in one campaign and month. Nothing is rounded before the statement."""
    found = Counter[Earner]()
    for one in paid:
        if one.plan.per_click_micros:
            found[Earner(partner, "clicks", _currency(one.plan))] += one.clicks * one.plan.per_click_micros
    return _filled(found)


def _currency(plan: Plan) -> str:
    if plan.currency is None:
        raise ValueError("a plan with amounts has a currency")  # a bug in the caller: reading a plan gives it one
    return plan.currency


def _filled(found: Counter[Earner]) -> Counter[Earner]:
    return Counter({earner: micros for earner, micros in found.items() if micros})


def _tier_rates(ordered: Sequence[MonthSale]) -> list[Rate | None]:
    """The base rate of the tier that each sale falls under; None where it is the plan's own."""
    revenue, places = Fraction(0), list[tuple[int, Fraction]]()
    for number, one in enumerate(ordered, start=1):
        revenue += one.revenue
        places.append((number, revenue))
    whole = places[-1] if places else (0, Fraction(0))
    return [_tier_rate(one.plan.tiers, place, whole) for one, place in zip(ordered, places, strict=True)]


def _tier_rate(tiers: Tiers | None, place: tuple[int, Fraction], whole: tuple[int, Fraction]) -> Rate | None:
    if tiers is None:
        return None
    conversions, revenue = whole if tiers.counts == "retroactive" else place
    reached = conversions if tiers.by == "conversions" else revenue
    return next((step.rate for step in reversed(tiers.steps) if reached >= step.start), None)


def _add_difference(found: Counter[Earner], partner: int, one: MonthSale, rate: Rate) -> None:
    """What everybody gets of a sale at a tier's rate, less what they got of it at its own."""
    for sign, plan in ((1, at_base(one.plan, rate)), (-1, one.plan)):
        for share in worked_out(plan, one.reports, one.currency, one.goal, partner, one.basis).shares:
            found[Earner(share.partner, "tiers", share.currency)] += sign * share.micros
