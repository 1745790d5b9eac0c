"""Matching by hand: parked postbacks and orphan conversions, tried again. For the API and the command line."""

import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from tracker import bodies
from tracker.adapters import postgres_matching
from tracker.adapters.postgres_matching import FIRST, Decided, Unmatched, unheard
from tracker.adapters.postgres_pool import Database
from tracker.programme import instant, text

BUDGET_S = 20.0  # of one call; what is left is for the next
FIELDS = ("txid", "advertiser", "since", "reason", "cursor")
REASON = "matched by hand"


@dataclass(frozen=True, slots=True)
class Matching:
    """Decides anew on postbacks that nobody earned by yet; `decided` hears of each that is settled."""

    database: Database
    decided: Decided = unheard

    async def match(self, body: Any, actor: str, *, advertiser_id: int | None = None) -> dict[str, Any]:
        """`body`: `{"txid", "advertiser", "since", "reason", "cursor"}`, each may be missing. With `advertiser_id` only that one's.

        Returns `{"looked_at", "attributed", "repeated", "still_open", "next_cursor"}`; a cursor when the time was not enough. RejectedInput
        names the field.
        """
        values = _checked(body)
        whose = advertiser_id
        if slug := values["advertiser"]:
            whose = await postgres_matching.advertiser_id(self.database, slug, among=advertiser_id)
        wanted = Unmatched(whose, values["txid"] or None, values["since"], values["cursor"])
        end = time.monotonic() + BUDGET_S
        done = await postgres_matching.match(
            self.database,
            wanted,
            reason=values["reason"] or REASON,
            actor=actor,
            goes_on=lambda: time.monotonic() < end,
            decided=self.decided,
        )
        counts = {name: getattr(done, name) for name in ("looked_at", "attributed", "repeated", "still_open")}
        return counts | {"next_cursor": None if done.is_complete else str(done.last)}


def _checked(body: Any) -> dict[str, Any]:
    example = '{"reason":"…"}, and "txid", "advertiser" or "since" to limit what is tried'
    bodies.known(body, FIELDS, example=example, told="the fields are")
    values: dict[str, Any] = {name: bodies.read(name, body.get(name), text, "") for name in ("txid", "advertiser", "reason")}
    values["since"] = bodies.read("since", body.get("since"), instant, None)
    values["cursor"] = bodies.read("cursor", body.get("cursor"), _cursor, FIRST)
    return values


def _cursor(value: Any) -> UUID:
    try:
        return UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise ValueError("must be the next_cursor of an earlier answer") from None
