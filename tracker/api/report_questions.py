"""What a report is asked with, and its rows as CSV. Shared by the API and the command line; no web framework."""

import csv
import io
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from tracker.adapters import postgres_reports
from tracker.errors import RejectedInput

FILTER = re.compile(r"filter\[([a-z_]+)\]")
BROKEN = re.compile(r"[\x00\ud800-\udfff]")
KNOWN = ("from", "to", "group_by", "metrics", "tz", "format")
DAYS_MAX = 3660
EARLIEST, LATEST = date(1970, 1, 1), date(9998, 12, 31)  # with room for time zones on both sides


def read_question(parameters: Mapping[str, str], *, advertiser_id: int | None = None) -> postgres_reports.Question:
    """The report that query parameters ask for. RejectedInput names the parameter."""
    filters = {}
    for name, value in parameters.items():
        if BROKEN.search(value):
            raise RejectedInput("invalid_parameter", "parameters must not contain NUL or broken characters", field=name[:40])
        match = FILTER.fullmatch(name)
        if match:
            filters[match[1]] = value
        elif name not in KNOWN:
            raise RejectedInput("invalid_parameter", f"{name[:40]!r} is not known; use {', '.join(KNOWN)}, filter[…]", field=name[:40])
    zone = _zone(parameters.get("tz") or "UTC")
    today = datetime.now(UTC).astimezone(zone).date().isoformat()
    last = _day(parameters.get("to") or today, "to")
    first = _day(parameters.get("from") or last.isoformat(), "from")
    if not 0 <= (last - first).days <= DAYS_MAX:
        raise RejectedInput("invalid_to", f"to must not be before from, nor more than {DAYS_MAX} days after it", field="to")
    group_by = _names(parameters.get("group_by") or "")
    metrics = _names(parameters.get("metrics") or "") or postgres_reports.METRICS
    postgres_reports.check(group_by, metrics, filters)
    return postgres_reports.Question(first, last, group_by, metrics, filters, zone, advertiser_id)


def as_csv(found: dict[str, Any], question: postgres_reports.Question) -> str:
    """The rows as CSV with a header; a group of several currencies has a row for each."""
    columns = [*question.group_by, *question.metrics]
    columns += ["currency"] * ("revenue" in question.metrics) + ["payout_currency"] * ("payout" in question.metrics)
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(columns)
    writer.writerows([_harmless(row.get(name)) for name in columns] for row in found["rows"])
    return file.getvalue()


def _harmless(value: Any) -> Any:
    """A text that a spreadsheet would run as a formula gets a quote in front; slugs may start with a minus."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+@" and value else value


def _names(value: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))


def _day(value: str, field: str) -> date:
    try:
        day = date.fromisoformat(value)
    except ValueError:
        raise RejectedInput(f"invalid_{field}", f"{field} must be a day such as 2026-01-31", field=field) from None
    if not EARLIEST <= day <= LATEST:
        raise RejectedInput(f"invalid_{field}", f"{field} must be a day of the years 1970 to 9998", field=field)
    return day


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        raise RejectedInput("invalid_tz", "tz must be a time zone such as Europe/Paris", field="tz") from None
