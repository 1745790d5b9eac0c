"""The money of a report turned into one currency: whole numbers until a figure is shown, so that nothing is rounded before. Pure."""

from collections.abc import Collection, Mapping
from datetime import date
from math import lcm
from typing import Any

from tracker.adapters.postgres_reports_question import Question
from tracker.domain import money
from tracker.domain.exchange import Rates

Pair = tuple[str | None, str | None]  # currencies: of revenue, of payout
Sums = tuple[int, int, int]  # conversions, revenue, payout
MISSING_MAX = 100  # days and currencies without a rate that are listed


class Turning:
    """Turns sums of conversions of one day into the currencies of `pair`.

    Its amounts are in parts of a micro, `scale` to one: the least in which all rates are whole.
    """

    def __init__(self, question: Question, rows: Collection[Mapping[str, Any]], rates: Rates) -> None:
        target, self.pair = question.target or "", pair_of(question)
        keys = {(row["rate_day"], row[name]) for row in rows for name in ("currency", "payout_currency") if row[name] is not None}
        found = {(day, currency): rates.find(currency, target, day) for day, currency in keys}
        self.scale = lcm(*(one.rate.denominator for one in found.values() if one))
        self._weights: dict[tuple[date, str], int | None] = {
            key: one.rate.numerator * (self.scale // one.rate.denominator) if one else None for key, one in found.items()
        }

    def turned(self, row: Mapping[str, Any]) -> tuple[Sums, Pair, Sums]:
        """All conversions with what is in the target; then the currencies that have no rate, and the conversions and micros in them."""
        revenue, payout = int(row["revenue"]), int(row["payout"])
        of_revenue, of_payout = (self._weight(row["rate_day"], row[name]) for name in ("currency", "payout_currency"))
        lacking = row["currency"] if of_revenue is None else None, row["payout_currency"] if of_payout is None else None
        conversions = int(row["conversions"])
        left = (conversions, revenue if lacking[0] else 0, payout if lacking[1] else 0)
        return (conversions, revenue * (of_revenue or 0), payout * (of_payout or 0)), lacking, left

    def missing_rates(self) -> dict[str, Any]:
        """The first days and currencies without a rate, and how many more there are; empty when there are none."""
        missing = sorted(key for key, weight in self._weights.items() if weight is None)
        told = {"missing_rates": [{"day": day.isoformat(), "currency": currency} for day, currency in missing[:MISSING_MAX]]}
        left_out = {"missing_rates_left_out": len(missing) - MISSING_MAX} if len(missing) > MISSING_MAX else {}
        return told | left_out if missing else {}

    def _weight(self, day: date, currency: str | None) -> int | None:
        return self.scale if currency is None else self._weights[day, currency]


def pair_of(question: Question) -> Pair:
    """The currencies of whatever is turned; None where nothing of the kind is asked for."""
    return question.target if question.has_revenue else None, question.target if question.has_payout else None


def to_minor_unit(amount: int, scale: int, currency: str) -> int:
    """Micros of an amount in parts of a micro, `scale` to one, rounded half even at the currency's minor unit."""
    unit: int = 10 ** (len(str(money.MICROS)) - 1 - money.minor_unit(currency))
    whole, rest = divmod(amount, scale * unit)
    twice = 2 * rest
    is_up = twice > scale * unit or (twice == scale * unit and whole % 2 == 1)
    return (whole + is_up) * unit
