"""What a conversion's payout is worked out from beside its own columns, so that it comes out the same again. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal

from tracker.domain import money
from tracker.domain.plans import EARNER, Earned, Item, Plan, Sale, Share, earned

CustomerKind = Literal["", "new", "returning"]


@dataclass(frozen=True, slots=True)
class Report:
    """What one report brought to an order whose reports add up: an amount in the order's currency, and its details."""

    amount_micros: int
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Basis:
    """Facts that a plan asked for when a conversion was booked; None where none did, or nobody could tell.

    `customer`: what earlier conversions say. `payment`, `months`: as in `Sale`. `exchange`: of the sale's currency into the plan's.
    `upline`: the partners above, the parent first. `reports`: of an order whose reports add up, each earning by itself; none: the
    conversion's own amount and details are the only one.
    """

    customer: CustomerKind | None = None
    payment: int | None = None
    months: int = 0
    exchange: Fraction | None = None
    upline: tuple[int, ...] | None = None
    reports: tuple[Report, ...] = ()


def read(value: Mapping[str, Any]) -> Basis:
    """The basis of what `written` keeps."""
    exchange, upline = value.get("exchange"), value.get("upline")
    return Basis(
        customer=value.get("customer"),
        payment=value.get("payment"),
        months=value.get("months", 0),
        exchange=None if exchange is None else Fraction(exchange),
        upline=None if upline is None else tuple(upline),
        reports=tuple(Report(one["amount_micros"], one["details"]) for one in value.get("reports", ())),
    )


def written(basis: Basis, found: Earned, partner: int | None) -> dict[str, Any]:
    """`basis` and how `found` came about, as they are kept: only what is known. `is_shared`: others than `partner` earn too."""
    kept: dict[str, Any] = {"reasons": list(found.reasons)} if found.reasons else {}
    kept |= {name: value for name in ("customer", "payment") if (value := getattr(basis, name)) is not None}
    kept |= {"months": basis.months} if basis.months else {}
    kept |= {} if basis.upline is None else {"upline": list(basis.upline)}
    kept |= {} if basis.exchange is None else {"exchange": _decimal_text(basis.exchange)}
    kept |= {"has_no_rate": True} if found.has_no_rate else {}
    kept |= {"is_shared": True} if any((share.partner, share.level) != (partner, EARNER) for share in found.shares) else {}
    reports = [{"amount_micros": one.amount_micros, "details": dict(one.details)} for one in basis.reports]
    return kept | ({"reports": reports} if reports else {})


def _decimal_text(value: Fraction) -> str:
    """Exact: a decimal where there is one, else a fraction; `Fraction` reads both."""
    rest = value.denominator
    for factor in (2, 5):
        while rest % factor == 0:
            rest //= factor
    if rest > 1:
        return str(value)
    digits = value.denominator.bit_length()
    text = str(value.numerator * 10**digits // value.denominator).rjust(digits + 1, "0")
    return f"{text[:-digits]}.{text[-digits:]}".rstrip("0").rstrip(".")


def sale_of(report: Report, currency: str, goal: str, basis: Basis) -> Sale:
    """A report of an order, or the whole of one, as plans look at it. What the shop says of the customer goes before what we know."""
    return Sale(
        amount_micros=report.amount_micros,
        currency=currency,
        goal=goal,
        items=tuple(_item(one) for one in report.details.get("items", ())),
        customer=report.details.get("customer_type") or basis.customer or "",
        payment=basis.payment or 1,
        months=basis.months,
        exchange=basis.exchange,
    )


def _item(given: Mapping[str, str]) -> Item:
    quantity, price = Decimal(given.get("quantity", "1")), money.parse_micros(given.get("price", "0"))
    return Item(given.get("sku", ""), given.get("category", ""), quantity, price * Fraction(quantity))


def worked_out(plan: Plan, reports: Sequence[Report], currency: str, goal: str, partner: int, basis: Basis) -> Earned:
    """What a conversion of one report or more earns `partner` and those who share with it: each report by itself, added up."""
    found = [earned(plan, sale_of(report, currency, goal, basis), partner, basis.upline or ()) for report in reports]
    return found[0] if len(found) == 1 else _added_up(found, plan.currency or currency)


def _added_up(found: Sequence[Earned], currency: str) -> Earned:
    sums: dict[tuple[int, int], int] = {}
    for share in (share for one in found for share in one.shares):
        sums[share.level, share.partner] = sums.get((share.level, share.partner), 0) + share.micros
    shares = tuple(Share(partner, level, micros, currency) for (level, partner), micros in sorted(sums.items()) if micros)
    reasons = tuple(f"report {number}: {reason}" for number, one in enumerate(found, start=1) for reason in one.reasons)
    return Earned(shares, currency, reasons, has_no_rate=any(one.has_no_rate for one in found))


def less(reports: Sequence[Report], micros: int) -> tuple[Report, ...]:
    """The reports without an amount that was taken back: from the last on; one with nothing left is none any more."""
    left = list[Report]()
    for report in reversed(reports):
        taken = max(0, min(micros, report.amount_micros))
        micros -= taken
        if not taken or taken < report.amount_micros:
            left.append(Report(report.amount_micros - taken, report.details))
    return tuple(reversed(left))


def in_proportion(shares: Sequence[Share], left: int, whole: int) -> tuple[Share, ...]:
    """What is left of shares that nobody can work out anew, with `left` of an amount of `whole` micros."""
    found = [replace(share, micros=money.round_half_even(Fraction(share.micros * left, whole), share.currency)) for share in shares]
    return tuple(share for share in found if share.micros)


def whole_months(first: datetime, at: datetime) -> int:
    """Calendar months that are over between two instants, by the clock of the first."""
    at = at.astimezone(first.tzinfo)
    months = (at.year - first.year) * 12 + at.month - first.month
    return months - ((at.day, at.timetz()) < (first.day, first.timetz()))
