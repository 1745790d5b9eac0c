"""Reports that came to old hosts, as operators look into them: listed and shown. For the API and the command line."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from tracker.adapters import postgres_old_reports_sql as sql
from tracker.adapters.postgres_old_reports import Known, OldReports, report_of
from tracker.adapters.postgres_pool import Connection, Database
from tracker.domain import tee
from tracker.errors import NotFound, RejectedInput
from tracker.platforms.reading import as_dict
from tracker.programme import instant

STATES: Final = ("read", "waiting", "refused", "ignored")
FILTERS: Final = ("state", "host", "platform", "from", "to")
_BECAME: Final = ("postback_id", "received_at", "state", "reason", "outcome", "postback_reason", "conversion_id")
_CAME_AS: Final = ("kind", "platform", "source", "host", "method")
_LAST: Final = ("click_id", "offer_id", "partner_id", "tries", "next_try_at", "waits_until")
_DAY_LENGTH: Final = 10  # of 2026-01-31


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
        host, platform = (filters.get("host") or "").lower() or None, filters.get("platform") or None
        times = (_moment(filters.get("from", ""), "from"), _moment(filters.get("to", ""), "to"))
        after = _number(cursor, "cursor") if cursor else None
        async with self.database.connection() as connection:
            rows = await connection.fetch(sql.LISTED_REPORTS, after, limit + 1, state, host, platform, *times)
            known = Known()
            items = [await self._shown(connection, dict(row), known) for row in rows[:limit]]
        return {"items": items, "next_cursor": items[-1]["postback_id"] if len(rows) > limit else None}

    async def shown(self, postback_id: str) -> dict[str, Any]:
        """One, as it came and as its host's platform reads it today. NotFound."""
        number = _number(postback_id, "postback_id")
        async with self.database.connection() as connection:
            row = await connection.fetchrow(sql.ONE_REPORT, number)
            if row is None:
                raise NotFound("not_found", f"there is no report {postback_id}; those that do not wait are kept for 180 days")
            return await self._shown(connection, dict(row), Known(), in_full=True)

    async def _shown(self, connection: Connection, row: Mapping[str, Any], known: Known, *, in_full: bool = False) -> dict[str, Any]:
        report = report_of(row)
        source, found = await self.reports.look(connection, report, known)
        secret = tee.secret_of(source, report.host, report.whole_target)
        shown = {name: row[name] for name in (*_BECAME, *_CAME_AS)}
        shown |= {"url": row["host"] + tee.masked(row["target"], secret)}
        shown |= {name: row[name] for name in _LAST}
        if not in_full:
            return shown
        reading = as_dict(found.reading) if found else None
        if reading is not None and (reading["conversion"] or {}).get("token"):
            reading["conversion"]["token"] = "***"  # noqa: S105 - in place of one
        return shown | {
            "content_type": row["content_type"].decode("latin-1"),
            "body": tee.masked_body(row["body"], secret),
            "user_agent": row["user_agent"].decode("utf-8", "replace"),
            "ip": row["ip"],
            "visits": list(row["visits"]),
            "old_click_id": row["old_click_id"].decode("utf-8", "replace"),
            "reading": reading,
        }


def _moment(value: str, field: str) -> datetime | None:
    """A day or an instant; a day as `to` includes the whole of it."""
    if not value:
        return None
    try:
        at = instant(value)
    except ValueError as exc:
        raise RejectedInput(f"invalid_{field}", f"{field} {exc}", field=field) from None
    return at + timedelta(days=1) if field == "to" and len(value) <= _DAY_LENGTH else at


def _number(value: str, field: str) -> UUID:
    try:
        return UUID(value)
    except ValueError:
        raise RejectedInput(f"invalid_{field}", f"{field} must be a postback's id, such as 019a…", field=field) from None
