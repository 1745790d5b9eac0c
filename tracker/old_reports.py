"""Reports that came to old hosts, as operators look into them: listed, shown, read again. For the API and the command line."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from tracker import bodies
from tracker.adapters import postgres_old_reports_sql as sql
from tracker.adapters.postgres_old_report_desk import FIRST, RETRY_ROUND, Audited, OldReportDesk
from tracker.adapters.postgres_old_reports import Known, OldReports, report_of
from tracker.adapters.postgres_pool import Connection, Database
from tracker.domain import tee
from tracker.domain.urls import host_key
from tracker.errors import Conflict, NotFound, RejectedInput
from tracker.platforms.reading import as_dict
from tracker.programme import instant, moment, text

STATES: Final = ("read", "waiting", "refused", "ignored")
FILTERS: Final = ("state", "host", "platform", "from", "to")
RETRY_FIELDS: Final = ("postback_id", "host", "since", "cursor", "reason")
REASON: Final = "read again by hand"
_BECAME: Final = ("postback_id", "received_at", "state", "reason", "outcome", "postback_reason", "conversion_id")
_CAME_AS: Final = ("kind", "platform", "source", "host", "method")
_LAST: Final = ("click_id", "offer_id", "partner_id", "tries", "next_try_at", "waits_until")


@dataclass(frozen=True, slots=True)
class OldReportBook:
    """Old hosts' reports for people. Tokens that stores send are shown to nobody."""

    database: Database
    reports: OldReports

    async def listed(self, filters: Mapping[str, str], *, limit: int = 100, cursor: str | None = None) -> dict[str, Any]:
        """`{"items", "next_cursor"}`, newest first. `filters` are of `FILTERS`; `to` is not included. RejectedInput names the field."""
        if unknown := sorted(set(filters) - set(FILTERS)):
            raise RejectedInput("unknown_filter", f"filters are {', '.join(FILTERS)}", field=unknown[0][:64])
        state = filters.get("state") or None
        if state is not None and state not in STATES:
            raise RejectedInput("invalid_state", f"state must be one of {', '.join(STATES)}", field="state")
        host, platform = host_asked(filters.get("host")), filters.get("platform") or None
        times = (moment(filters.get("from", ""), "from"), moment(filters.get("to", ""), "to"))
        after = bodies.read("cursor", cursor or None, bodies.postback_id)
        async with self.database.connection() as connection:
            rows = await connection.fetch(sql.LISTED_REPORTS, after, limit + 1, state, host, platform, *times)
            known = Known()
            items = [await self._shown(connection, dict(row), known) for row in rows[:limit]]
        return {"items": items, "next_cursor": items[-1]["postback_id"] if len(rows) > limit else None}

    async def shown(self, postback_id: str) -> dict[str, Any]:
        """One, as it came and as its host's platform reads it today. NotFound."""
        number = bodies.read("postback_id", postback_id, bodies.postback_id)
        async with self.database.connection() as connection:
            row = await connection.fetchrow(sql.ONE_REPORT, number)
            if row is None:
                raise _missing(postback_id)
            return await self._shown(connection, dict(row), Known(), in_full=True)

    async def retry(self, body: Any, actor: str) -> dict[str, Any]:
        """Have what was refused or ignored read once more, with the settings, mappings and clicks of today; up to 5000 a call.

        `body`: `{"postback_id", "host", "since", "cursor", "reason"}`, each may be missing; `since` is when reports came. Returns
        `{"retried", "is_complete", "next_cursor"}`; False there: call again with that `cursor`. NotFound, and Conflict for a report that
        is not refused or ignored.
        """
        bodies.known(body, RETRY_FIELDS, example='{"host":"go.old.example","reason":"…"}', told="the fields are")
        by = Audited(actor, bodies.read("reason", body.get("reason"), text, "") or REASON)
        host, since = host_asked(bodies.read("host", body.get("host"), text)), bodies.read("since", body.get("since"), instant)
        number, after = (bodies.read(name, body.get(name), bodies.postback_id) for name in ("postback_id", "cursor"))
        desk = OldReportDesk(self.database)
        if number is not None:
            if host or since or after:
                raise RejectedInput("invalid_postback_id", "a postback_id goes without host, since and cursor", field="postback_id")
            return await _one_again(desk, number, by)
        moved = await desk.retry(after or FIRST, host, since, by)
        is_complete = len(moved) < RETRY_ROUND
        return {"retried": len(moved), "is_complete": is_complete, "next_cursor": None if is_complete else moved[-1]}

    async def _shown(self, connection: Connection, row: Mapping[str, Any], known: Known, *, in_full: bool = False) -> dict[str, Any]:
        report = report_of(row)
        source, found = await self.reports.look(connection, report, known)
        secret = tee.secret_of(source, report.host, report.whole_target)
        shown = {name: row[name] for name in (*_BECAME, *_CAME_AS)}
        shown |= {"url": row["host"] + tee.masked(row["target"], secret)}
        shown |= {name: row[name] for name in _LAST}
        if not in_full:
            return shown
        reading = tee.masked_reading(as_dict(found.reading), report.whole_target, secret) if found else None
        return shown | {
            "content_type": row["content_type"].decode("latin-1"),
            "body": tee.masked_body(row["body"], secret),
            "user_agent": row["user_agent"].decode("utf-8", "replace"),
            "ip": row["ip"],
            "visits": list(row["visits"]),
            "old_click_id": row["old_click_id"].decode("utf-8", "replace"),
            "reading": reading,
        }


async def _one_again(desk: OldReportDesk, number: UUID, by: Audited) -> dict[str, Any]:
    state = await desk.retry_one(number, by)
    if state is None:
        raise _missing(str(number))
    if state != "waiting":
        raise Conflict("not_refused", f"report {number} is {state}; refused and ignored ones are read again", field="postback_id")
    return {"retried": 1, "is_complete": True, "next_cursor": None}


def _missing(postback_id: str) -> NotFound:
    return NotFound("not_found", f"there is no report {postback_id}; those that do not wait are kept for 180 days")


def host_asked(host: str | None) -> str | None:
    """A host as somebody names it, as reports keep it: in any case, with the port of its scheme or without; None: any."""
    return host_key(host.encode("utf-8", "surrogatepass")) if host else None
