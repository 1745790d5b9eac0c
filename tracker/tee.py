"""What is passed on to old platforms, as operators meet it: listed, shown, tried again. For the API and the command line."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import msgspec

from tracker import bodies
from tracker.adapters.postgres_pool import Database
from tracker.adapters.postgres_tee import RETRY_ROUND, TeeDesk
from tracker.domain import tee
from tracker.domain.posted import merged
from tracker.errors import NotFound, RejectedInput
from tracker.platforms.compiled import Source
from tracker.platforms.loader import Shelf
from tracker.platforms.profile import AS_SHIPPED, SourceSettings
from tracker.programme import text

STATES: Final = ("waiting", "delivered", "given_up")
FILTERS: Final = ("state", "differences", "host")
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
        after = None if cursor is None else _number(cursor, "cursor")
        rows = await TeeDesk(self.database).listed(
            state=state, host=filters.get("host") or None, differences=differences, limit=limit + 1, after=after
        )
        items = [self._shown(row) for row in rows[:limit]]
        return {"items": items, "next_cursor": items[-1]["postback_id"] if len(rows) > limit else None}

    async def shown(self, postback_id: str) -> dict[str, Any]:
        """One, with both answers and what was sent. NotFound."""
        row = await TeeDesk(self.database).one(_number(postback_id, "postback_id"))
        if row is None:
            raise NotFound("not_found", f"no report {postback_id} was passed on; those delivered are kept for 30 days")
        return self._shown(row) | {
            "content_type": row["content_type"].decode("latin-1"),
            "body": tee.masked_body(row["body"], self._secret(row)),
            "user_agent": row["user_agent"].decode("utf-8", "replace"),
            "first_tried_at": row["first_tried_at"],
            "our_body": _text(row["our_body"]),
            "their_body": None if row["their_body"] is None else _text(row["their_body"]),
        }

    async def retry(self, body: Any, actor: str) -> dict[str, Any]:
        """Have what was given up tried again, to where its host forwards today; `body`: `{"host", "reason"}`, each may be missing.

        Returns `{"retried", "is_complete"}`; False there: there is more, call again.
        """
        bodies.known(body, ("host", "reason"), example='{"host":"go.old.example","reason":"…"}', told="the fields are")
        host, reason = (bodies.read(name, body.get(name), text, "") for name in ("host", "reason"))
        desk, retried, end = TeeDesk(self.database), 0, time.monotonic() + BUDGET_S
        for name, forward_to in await desk.given_up_hosts(host or None):
            to = tee.passed_on_to(forward_to, name.encode(), b"/")
            moved = RETRY_ROUND
            while moved == RETRY_ROUND and not to.error:
                if time.monotonic() > end:
                    return {"retried": retried, "is_complete": False}
                moved = await desk.try_again(name, forward_to, to.origin, actor=actor, reason=reason or REASON)
                retried += moved
        return {"retried": retried, "is_complete": True}

    def _shown(self, row: dict[str, Any]) -> dict[str, Any]:
        kept = ("postback_id", "received_at", "state", "kind", "platform", "source", "host", "method")
        answers = ("tries", "next_try_at", "done_at", "our_status", "their_status", "agrees", "error", "report_state", "report_reason")
        url = row["forward_to"].rstrip("/") + tee.masked(row["target"], self._secret(row))
        return {name: row[name] for name in kept} | {"url": url} | {name: row[name] for name in answers}

    def _secret(self, row: dict[str, Any]) -> bytes | None:
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


def _text(body: bytes) -> str:
    return body.decode("utf-8", "replace").replace("\x00", "\ufffd")


def _number(value: str, field: str) -> UUID:
    try:
        return UUID(value)
    except ValueError:
        raise RejectedInput(f"invalid_{field}", f"{field} must be a postback's id, such as 019a…", field=field) from None
