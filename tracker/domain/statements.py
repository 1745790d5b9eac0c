"""Statements of payout runs: what a partner is due, what of it is paid, what is carried over. Pure; money in micros."""

import calendar
import re
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

from tracker.domain import money

MONTH = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")
Mark = Literal["paid", "failed", "returned"]
# What a payment may be marked as → what it must be before. Who has failed or come back is paid by a later run, never by this one.
MOVES: dict[Mark, frozenset[str]] = {
    "paid": frozenset(("due", "exported")),
    "failed": frozenset(("due", "exported")),
    "returned": frozenset(("exported", "paid")),
}


@dataclass(frozen=True, slots=True)
class Settlement:
    """What comes of a balance: `payment` is never negative, `opening + lines - payment == closing`. `status` is due or carried."""

    payment_micros: int
    closing_micros: int
    status: Literal["due", "carried"]


def settle(opening_micros: int, lines_micros: int, *, minimum_micros: int, currency: str) -> Settlement:
    """Pay what is due when it comes to the minimum, to the minor unit; carry the rest, a debt too, to the next statement."""
    due = opening_micros + lines_micros
    payment = money.round_half_even(due, currency)
    if due < minimum_micros or payment <= 0:
        return Settlement(0, due, "carried")
    return Settlement(payment, due - payment, "due")


def marked(status: str, mark: Mark) -> str | None:
    """The status of a payment that is marked so; the same again changes nothing. None: it contradicts what is known."""
    if status == mark or status in MOVES[mark]:
        return mark
    return None


def month(text: str) -> tuple[date, date]:
    """First and last day of a month such as `2026-10`. ValueError says what is allowed."""
    match = MONTH.fullmatch(text)
    if not match or not 1970 <= int(match[1]) <= 9998:
        raise ValueError("must be a month such as 2026-10")
    year, number = int(match[1]), int(match[2])
    return date(year, number, 1), date(year, number, calendar.monthrange(year, number)[1])


def cutoff(period_to: date, hold_days: int) -> date:
    """The last day whose entries a run takes: those of the days after are held."""
    return period_to - timedelta(days=hold_days)


def run_slug(currency: str, period_to: date, nth: int) -> str:
    """Name of the `nth` run of a period, counted from 1: all before it were cancelled."""
    slug = f"{currency.lower()}-{period_to.isoformat()}"
    return slug if nth == 1 else f"{slug}-{nth}"


def message_id(run: str, batch: int) -> str:
    """`MsgId` of a bank file, the same each time: a bank refuses it the second time. At most 35 characters."""
    return f"{run.upper()}-B{batch}"


def end_to_end_id(run: str, partner_id: int) -> str:
    """`EndToEndId` of a payment, the same each time; it stands on the partner's bank statement."""
    return f"{run.upper()}-P{partner_id}"


def masked(text: str | None) -> str | None:
    """An account number by which its owner knows it, and nobody else."""
    if text is None:
        return None
    return f"{text[:2]}…{text[-4:]}" if len(text) >= 10 else "…"
