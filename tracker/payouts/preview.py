"""The effect of a changed payout on a real month, per partner, before it is saved."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from tracker import bodies
from tracker.adapters import postgres_preview
from tracker.adapters.postgres_pool import Database
from tracker.adapters.postgres_terms import Wanted
from tracker.domain import money, statements
from tracker.programme import payout


@dataclass(frozen=True, slots=True)
class Previewing:
    """Tries payouts; stores nothing."""

    database: Database

    async def run(
        self, campaign: str, value: Any, *, month: str | None = None, goal: str | None = None, partner: str | None = None
    ) -> dict[str, Any]:
        """Try `value`, a payout as a campaign takes it or None for none, as that of the campaign, or of one goal or partner of it.

        `month`: such as `2026-10`; None: the last whole one. Returns `{"month", "conversions", "without_rate", "partners", "totals"}`;
        a partner has `{"partner", "currency", "booked", "would_be", "difference"}`, and those whose payout changes most come first.
        RejectedInput names the field; NotFound `unknown_campaign`, `unknown_goal`, `unknown_partner`.
        """
        first = _month(month)
        wanted = Wanted(campaign, goal, partner, bodies.read("payout", value, payout))
        found = await postgres_preview.preview(self.database, wanted, first)
        keys = sorted(found.booked.keys() | found.would_be.keys())
        rows = [_row(key, found) for key in sorted(keys, key=lambda key: -abs(found.would_be.get(key, 0) - found.booked.get(key, 0)))]
        return {
            "month": f"{first:%Y-%m}",
            "conversions": found.conversions,
            "without_rate": found.without_rate,
            "partners": rows,
            "totals": [_total(currency, found) for currency in sorted({currency for _, currency in keys})],
        }


def _month(text: str | None) -> date:
    if text is None:
        return (datetime.now(UTC).date().replace(day=1) - timedelta(days=1)).replace(day=1)
    first: date = bodies.read("month", text, statements.month)[0]
    return first


def _row(key: tuple[str, str], found: postgres_preview.Preview) -> dict[str, str]:
    return {"partner": key[0]} | _amounts(key[1], found.booked.get(key, 0), found.would_be.get(key, 0))


def _total(currency: str, found: postgres_preview.Preview) -> dict[str, str]:
    sums = (sum(micros for (_, of), micros in due.items() if of == currency) for due in (found.booked, found.would_be))
    return _amounts(currency, *sums)


def _amounts(currency: str, booked: int, would_be: int) -> dict[str, str]:
    told = {"booked": booked, "would_be": would_be, "difference": would_be - booked}
    return {"currency": currency} | {name: money.format_micros(micros, currency) for name, micros in told.items()}
