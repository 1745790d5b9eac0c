"""Payouts worked out anew, by the terms of each conversion's time as they are known now, or were once. For API and command line."""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tracker import bodies
from tracker.adapters import postgres_recompute
from tracker.adapters.postgres_pool import Database
from tracker.adapters.postgres_recompute import Cursor, Wanted
from tracker.errors import RejectedInput
from tracker.programme import Read, instant, text, yes_or_no

BUDGET_S = 20.0  # of one call; what is left is for the next
REASON = "worked out anew"


def _day(value: Any) -> datetime:
    found = instant(value)
    if found != found.replace(hour=0, minute=0, second=0, microsecond=0):
        raise ValueError("must be a day such as 2026-01-31")
    return found


FIELDS: dict[str, Read] = {
    "from": _day,
    "to": _day,
    "as_of": instant,
    "dry_run": yes_or_no,
    "reason": text,
    "cursor": postgres_recompute.cursor,
}


@dataclass(frozen=True, slots=True)
class Recomputing:
    """Works conversions out anew."""

    database: Database

    async def run(self, campaign: str, body: Any, actor: str) -> dict[str, Any]:
        """`body`: `{"from", "to", "as_of", "dry_run", "reason", "cursor"}`; days in UTC, both included, of the time of conversion.

        Returns `{"looked_at", "changed", "without_rate", "conversions", "partners", "dry_run", "next_cursor"}`: each conversion that
        changes with what it earned and earns, and the difference for each partner and currency. A cursor when the time was not enough.
        NotFound `unknown_campaign`; RejectedInput names the field.
        """
        values = _checked(body)
        wanted = Wanted(campaign, values["from"], values["to"] + timedelta(days=1), values["as_of"], bool(values["dry_run"]))
        end, reason = time.monotonic() + BUDGET_S, values["reason"] or REASON
        start: Cursor | None = values["cursor"]
        return await postgres_recompute.run(
            self.database, wanted, start, reason=reason, actor=actor, goes_on=lambda: time.monotonic() < end
        )


def _checked(body: Any) -> dict[str, Any]:
    bodies.known(body, FIELDS, example='{"from":"2026-11-01","to":"2026-11-30"}', told="the fields are")
    for name in ("from", "to"):
        if body.get(name) is None:
            raise RejectedInput(f"invalid_{name}", f"{name} is required", field=name)
    values = {name: bodies.read(name, body.get(name), FIELDS[name]) for name in FIELDS}
    if values["from"] > values["to"]:
        raise RejectedInput("invalid_to", "to must not be before from", field="to")
    return values
