"""Terms beside the payouts of campaigns and goals: of one partner, for a time, from an earlier day on. For the API and the command line."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tracker import bodies
from tracker.adapters import postgres_terms
from tracker.adapters.postgres_pool import Database
from tracker.adapters.postgres_programme import read_cursor
from tracker.adapters.postgres_terms import Wanted
from tracker.errors import RejectedInput
from tracker.programme import Read, instant, payout, slug, text

FIELDS: dict[str, Read] = {
    "campaign": slug,
    "goal": slug,
    "partner": slug,
    "payout": payout,
    "effective_from": instant,
    "effective_to": instant,
    "reason": text,
}
SOON = timedelta(minutes=1)  # terms that would be over when they are written are a slip
EXAMPLE = '{"campaign":"…","payout":…}, and "partner", "goal", "effective_from", "effective_to"'
FILTERS = ("campaign", "partner", "goal")


@dataclass(frozen=True, slots=True)
class TermsBook:
    """Adds terms, and lists all of them. Nothing is changed or removed; what is booked stays as it is until it is recomputed."""

    database: Database

    async def add(self, body: Any, actor: str) -> dict[str, Any]:
        """`body`: `{"campaign", "goal", "partner", "payout", "effective_from", "effective_to", "reason"}`; goal, partner, times and reason
        may be missing. Without `effective_from` from now on, without `effective_to` until further notice; a payout of null: none.

        Returns the terms. RejectedInput names the field; NotFound `unknown_campaign`, `unknown_goal`, `unknown_partner`.
        """
        values = _checked(body)
        reason = values.pop("reason") or ""
        start, end = values.pop("effective_from"), values.pop("effective_to")
        if end and (start or datetime.now(UTC) + SOON) >= end:
            raise RejectedInput("invalid_effective_to", "effective_to must be after effective_from, or after now", field="effective_to")
        return await postgres_terms.make(self.database, Wanted(**values, start=start, end=end), actor=actor, reason=reason)

    async def listed(
        self, *, limit: int, cursor: str | None, filters: Mapping[str, str], advertiser_id: int | None = None
    ) -> dict[str, Any]:
        """`{"items", "next_cursor"}`, oldest first; with `advertiser_id` only that advertiser's."""
        for name in filters:
            if name not in FILTERS:
                raise RejectedInput("invalid_filter", f"terms can be filtered by {', '.join(FILTERS)}", field=name)
        wanted: dict[str, Any] = {name: bodies.read(name, filters.get(name), FIELDS[name]) for name in FILTERS}
        rows = await postgres_terms.listed(self.database, after=read_cursor(cursor), limit=limit + 1, advertiser_id=advertiser_id, **wanted)
        return {"items": rows[:limit], "next_cursor": str(rows[limit - 1]["id"]) if len(rows) > limit else None}


def _checked(body: Any) -> dict[str, Any]:
    bodies.known(body, FIELDS, example=EXAMPLE, told="the fields of terms are")
    for name in ("campaign", "payout"):
        if name not in body or (name == "campaign" and body[name] is None):
            raise RejectedInput(f"invalid_{name}", f"{name} is required", field=name)
    return {name: bodies.read(name, body.get(name), FIELDS[name]) for name in FIELDS}
