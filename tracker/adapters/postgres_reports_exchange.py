"""The money of a report turned into one currency: added up by its rates, and exact until a figure is shown. Pure."""

from collections.abc import Collection, Mapping
from datetime import date
from fractions import Fraction
from math import lcm
from typing import Any

from tracker.adapters.postgres_reports_question import Question
from tracker.domain.exchange import Rates

Pair = tuple[str | None, str | None]  # currencies: of revenue, of payout
Amount = int | Fraction
Sums = tuple[int, Amount, Amount]  # conversions, revenue, payout
ByRate = Mapping[Fraction, int]  # micros by what one of them is in the currency of the report
MISSING_MAX = 100  # days and currencies without a rate that are listed


class Turning:
    """Tells by which rates sums of conversions of one day are turned into the currencies of `pair`."""

    def __init__(self, question: Question, rows: Collection[Mapping[str, Any]], rates: Rates) -> None:
        target, self.pair = question.target or "", pair_of(question)
        keys = {(row["rate_day"], row[name]) for row in rows for name in ("currency", "payout_currency") if row[name] is not None}
        found = {(day, currency): rates.find(currency, target, day) for day, currency in keys}
        self._rates: dict[tuple[date, str], Fraction | None] = {key: one.rate if one else None for key, one in found.items()}

    def rates(self, row: Mapping[str, Any]) -> tuple[Fraction | None, Fraction | None]:
        """Of a sum's revenue and of its payout; None: there is none."""
        return self._rate(row["rate_day"], row["currency"]), self._rate(row["rate_day"], row["payout_currency"])

    def missing_rates(self) -> dict[str, Any]:
        """The first days and currencies without a rate, and how many more there are; empty when there are none."""
        missing = sorted(key for key, rate in self._rates.items() if rate is None)
        told = {"missing_rates": [{"day": day.isoformat(), "currency": currency} for day, currency in missing[:MISSING_MAX]]}
        left_out = {"missing_rates_left_out": len(missing) - MISSING_MAX} if len(missing) > MISSING_MAX else {}
        return told | left_out if missing else {}

    def _rate(self, day: date, currency: str | None) -> Fraction | None:
        return Fraction(1) if currency is None else self._rates[day, currency]


def together(amounts: ByRate) -> Fraction:
    """Amounts turned by their rates and added up: over one denominator, so that not each addition looks for a common divisor."""
    scale = lcm(*(rate.denominator for rate in amounts))
    return Fraction(sum(rate.numerator * (scale // rate.denominator) * micros for rate, micros in amounts.items()), scale)


def pair_of(question: Question) -> Pair:
    """The currencies of whatever is turned; None where nothing of the kind is asked for."""
    return question.target if question.has_revenue else None, question.target if question.has_payout else None
