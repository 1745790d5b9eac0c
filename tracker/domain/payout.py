"""What a conversion earns its partner, under the terms in force."""

from dataclasses import dataclass
from typing import Literal

from tracker.domain import money


@dataclass(frozen=True, slots=True)
class Terms:
    """One row of `terms`. `fixed` has an amount and its currency; `percent` takes the conversion's own currency."""

    terms_id: int
    payout_type: Literal["fixed", "percent"]
    amount_micros: int = 0
    percent_micros: int = 0
    currency: str | None = None
    version: int = 1


@dataclass(frozen=True, slots=True)
class Payout:
    """Micros owed to the partner, and in which currency."""

    micros: int
    currency: str


def payout(terms: Terms, amount_micros: int, currency: str) -> Payout:
    """The payout of one conversion of `amount_micros` in `currency`. Percent is rounded half even at the minor unit."""
    if terms.payout_type == "fixed":
        return Payout(terms.amount_micros, terms.currency or currency)
    return Payout(money.percent_of(amount_micros, terms.percent_micros, currency), currency)
