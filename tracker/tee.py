"""What is passed on to old platforms, as operators meet it: listed, shown, tried again. For the API and the command line."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from tracker import bodies
from tracker.adapters.postgres_pool import Database
from tracker.adapters.postgres_tee import RETRY_ROUND, Again, TeeDesk
from tracker.domain import tee
from tracker.domain.posted import merged
from tracker.errors import NotFound, RejectedInput
from tracker.old_reports import host_asked
from tracker.platforms.compiled import Source
from tracker.platforms.loader import Shelf
from tracker.platforms.profile import AS_SHIPPED, SourceSettings
from tracker.programme import instant, text, yes_or_no

STATES: Final = ("waiting", "delivered", "given_up")
FILTERS: Final = ("state", "differences", "host")
RETRY_FIELDS: Final = ("host", "differences", "before", "reason")
BUDGET_S: Final = 20.0  # of one call; what is left is for the next
REASON: Final = "tried again by hand"
YES_AND_NO: Final = {"true": True, "1": True, "false": False, "0": False, "": False}


@dataclass(frozen=True, slots=True)
class Tee:
    """The outbox for people. Tokens that stores send are shown to nobody: what can be seen here is what reports were about."""

    database: Database
    platforms: Shelf

    async def listed(self, filters: Mapping[str, str], *, limit: int = 100, cursor: str | None = None) -> dict[str, Any]:
        """`{"items", "next_cursor"}`, newest first. `filters` are of `FILTERS`. RejectedInput names the field."""
        if unknown := sorted(set(filters) - set(FILTERS)):
            raise RejectedInput("unknown_filter", f"filters are {', '.join(FILTERS)}", field=unknown[0][:64])
        state, differences = filters.get("state") or None, YES_AND_NO.get(filters.get("differences", "").lower())
        if state is not None and state not in STATES:
            raise RejectedInput("invalid_state", f"state must be one of {', '.join(STATES)}", field="state")
        if differences is None:
            raise RejectedInput("invalid_differences", "differences must be true or false", field="differences")
        after = bodies.read("cursor", cursor, bodies.postback_id)
        rows = await TeeDesk(self.database).listed(
            state=state, host=host_asked(filters.get("host")), differences=differences, limit=limit + 1, after=after
        )
        items = [self._shown(row) for row in rows[:limit]]
        return {"items": items, "next_cursor": items[-1]["postback_id"] if len(rows) > limit else None}

    async def shown(self, postback_id: str) -> dict[str, Any]:
        """One, with both answers and what was sent. NotFound."""
        row = await TeeDesk(self.database).one(bodies.read("postback_id", postback_id, bodies.postback_id))
        if row is None:
            raise NotFound("not_found", f"no report {postback_id} was passed on; those delivered are kept for 30 days")
        secret = self._secret(row)
        return self._shown(row) | {
            "content_type": row["content_type"].decode("latin-1"),
            "body": tee.masked_body(row["body"], secret),
            "user_agent": row["user_agent"].decode("utf-8", "replace"),
            "first_tried_at": row["first_tried_at"],
            "our_body": tee.masked_body(row["our_body"], secret),
            "their_body": None if row["their_body"] is None else tee.masked_body(row["their_body"], secret),
        }

    async def retry(self, body: Any, actor: str) -> dict[str, Any]:
        """Have what was given up sent again, to where its host forwards today; with `differences` what was answered differently instead.

        `body`: `{"host", "differences", "before", "reason"}`, each may be missing. Returns `{"retried", "is_complete", "before"}`; False
        there: there is more, call again with that `before`.
        """
        bodies.known(body, RETRY_FIELDS, example='{"host":"go.old.example","reason":"…"}', told="the fields are")
        host = host_asked(bodies.read("host", body.get("host"), text))
        reason: str = bodies.read("reason", body.get("reason"), text, "") or REASON
        differences: bool = bodies.read("differences", body.get("differences"), yes_or_no, missing=False)
        before: datetime = bodies.read("before", body.get("before"), instant) or datetime.now(UTC)
        desk, retried, end = TeeDesk(self.database), 0, time.monotonic() + BUDGET_S
        for name, forward_to in await desk.hosts_to_retry(host, differences=differences):
            to = tee.passed_on_to(forward_to, name.encode(), b"/")
            again = Again(name, forward_to, to.origin, differences, before, actor, reason)
            moved = RETRY_ROUND
            while moved == RETRY_ROUND and not to.error:
                if time.monotonic() > end:
                    return {"retried": retried, "is_complete": False, "before": before}
                moved = await desk.try_again(again)
                retried += moved
        return {"retried": retried, "is_complete": True, "before": before}

    def _shown(self, row: dict[str, Any]) -> dict[str, Any]:
        kept = ("postback_id", "received_at", "state", "kind", "platform", "source", "host", "method")
        answers = ("tries", "next_try_at", "done_at", "our_status", "their_status", "agrees", "error", "report_state", "report_reason")
        url = row["forward_to"].rstrip("/") + tee.masked(row["target"], self._secret(row))
        return {name: row[name] for name in kept} | {"url": url} | {name: row[name] for name in answers}

    def _secret(self, row: dict[str, Any]) -> tee.Secret | None:
        whole = merged(row["target"], row["content_type"], row["body"]) if row.get("body") else row["target"]
        return tee.secret_of(self._source(row), row["host"].encode(), whole)

    def _source(self, row: dict[str, Any]) -> Source | None:
        """The host's platform as its operator has it today."""
        reading = (row["settings"] or {}).get("reading")
        try:
            settings = msgspec.convert(reading, SourceSettings) if reading else AS_SHIPPED
        except (msgspec.ValidationError, ValueError):
            settings = AS_SHIPPED
        return self.platforms.source(row["platform"]) if settings == AS_SHIPPED else self.platforms.with_settings(row["platform"], settings)
