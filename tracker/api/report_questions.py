"""What a report is asked with, and its rows as CSV. Shared by the API and the command line; no web framework."""

import csv
import io
import re
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tracker.adapters import postgres_reports_question as asked
from tracker.adapters.postgres_reports_question import Question
from tracker.errors import RejectedInput

FILTER = re.compile(r"filter\[(.*)\]", re.DOTALL)
BROKEN = re.compile(r"[\x00\ud800-\udfff]")
HOUR = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:00")
UNESCAPED_COMMA = re.compile(r"(?<!\\),")
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
LISTS = ("group_by", "metrics", "sort")
KNOWN = ("from", "to", *LISTS, "tz", "limit", "format")
DAYS_MAX = 3660
EARLIEST, LATEST = date(1970, 1, 1), date(9998, 12, 31)  # with room for time zones on both sides


def joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Parameters that may be repeated as one text each: lists and filters are joined, of all others the last counts."""
    found: dict[str, str] = {}
    for name, value in pairs:
        is_list = name in found and (name in LISTS or FILTER.fullmatch(name))
        found[name] = f"{found[name]},{value}" if is_list else value
    return found


def read_question(parameters: Mapping[str, str], *, advertiser_id: int | None = None, days: int = 1) -> Question:
    """The report that query parameters ask for; without `from` it is of the last `days` days. RejectedInput names the parameter."""
    _refuse_unknown(parameters)
    zone = _zone(parameters.get("tz") or "UTC")
    first, last = _days(parameters, zone, days)
    group_by = _names("group_by", parameters, asked.GROUPS)
    if len(group_by) > asked.GROUPS_MAX:
        raise RejectedInput("invalid_group_by", f"group_by must be at most {asked.GROUPS_MAX} groups", field="group_by")
    metrics = _names("metrics", parameters, asked.METRICS) or asked.BASIC
    return Question(
        first,
        last,
        group_by,
        metrics,
        zone,
        filters=_filters(parameters),
        sort=_sort(parameters, (*group_by, *metrics)),
        limit=_limit(parameters.get("limit") or str(asked.ROWS_MAX)),
        advertiser_id=advertiser_id,
    )


def as_csv(found: dict[str, Any], question: Question) -> str:
    """The rows as CSV with a header; a group of several currencies has a row for each."""
    columns = [*question.group_by, *question.metrics]
    columns += ["currency"] * bool(asked.IN_CURRENCY & set(question.metrics))
    columns += ["payout_currency"] * bool(asked.IN_PAYOUT_CURRENCY & set(question.metrics))
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(columns)
    writer.writerows([_harmless(row.get(name)) for name in columns] for row in found["rows"])
    return file.getvalue()


def _harmless(value: Any) -> Any:
    """A text that a spreadsheet would run as a formula gets a quote in front; a plain number does not."""
    is_formula = isinstance(value, str) and value.startswith(FORMULA_STARTS) and not NUMBER.fullmatch(value)
    return f"'{value}" if is_formula else value


def _refuse_unknown(parameters: Mapping[str, str]) -> None:
    for name, value in parameters.items():
        if BROKEN.search(value):
            raise RejectedInput("invalid_parameter", "parameters must not contain NUL or broken characters", field=name[:40])
        if name not in KNOWN and not FILTER.fullmatch(name):
            raise RejectedInput("invalid_parameter", f"{name[:40]!r} is not known; use {', '.join(KNOWN)}, filter[…]", field=name[:40])


def _days(parameters: Mapping[str, str], zone: ZoneInfo, days: int) -> tuple[date, date]:
    today = datetime.now(UTC).astimezone(zone).date()
    last = _day(parameters.get("to") or today.isoformat(), "to")
    first = _day(parameters.get("from") or max(last - timedelta(days=days - 1), EARLIEST).isoformat(), "from")
    if not 0 <= (last - first).days <= DAYS_MAX:
        raise RejectedInput("invalid_to", f"to must not be before from, nor more than {DAYS_MAX} days after it", field="to")
    return first, last


def _names(field: str, parameters: Mapping[str, str], allowed: Collection[str], *, prefix: str = "") -> tuple[str, ...]:
    parts = (part.strip() for part in (parameters.get(field) or "").split(","))
    found = tuple(dict.fromkeys(part for part in parts if part))
    for name in found:
        if name.removeprefix(prefix) not in allowed:
            raise RejectedInput(f"invalid_{field}", f"{field} must be of {', '.join(allowed)}; got {name[:40]!r}", field=field)
    return found


def _sort(parameters: Mapping[str, str], allowed: Collection[str]) -> tuple[str, ...]:
    return _names("sort", parameters, allowed, prefix="-")


def _filters(parameters: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    found = {}
    for parameter, text in parameters.items():
        match = FILTER.fullmatch(parameter)
        if match and match[1] not in asked.GROUPS:
            allowed = ", ".join(asked.GROUPS)
            raise RejectedInput("invalid_filter", f"filter must be of {allowed}; got {match[1][:40]!r}", field=parameter[:40])
        if match:
            found[match[1]] = _wanted(match[1], text)
    return found


def _wanted(name: str, text: str) -> tuple[str, ...]:
    """The values of a filter: between commas, `\\,` is a comma of the value. Sub ids are taken as they are, all others trimmed."""
    values = [value.replace("\\,", ",") for value in UNESCAPED_COMMA.split(text)]
    values = values if name in asked.SUBS else [value.strip() for value in values]
    if name == "day":
        values = [_day(value, "filter", "filter[day]").isoformat() for value in values]
    for value in values:
        if name == "hour" and not HOUR.fullmatch(value):
            raise RejectedInput("invalid_filter", "filter[hour] must be an hour such as 2026-01-31T09:00", field="filter[hour]")
    return tuple(dict.fromkeys(values))


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(asked.ROWS_MAX)) and 1 <= int(text) <= asked.ROWS_MAX):
        raise RejectedInput("invalid_limit", f"limit must be a number from 1 to {asked.ROWS_MAX}", field="limit")
    return int(text)


def _day(value: str, code: str, field: str = "") -> date:
    field = field or code
    try:
        day = date.fromisoformat(value)
    except ValueError:
        raise RejectedInput(f"invalid_{code}", f"{field} must be a day such as 2026-01-31", field=field) from None
    if not EARLIEST <= day <= LATEST:
        raise RejectedInput(f"invalid_{code}", f"{field} must be a day of the years 1970 to 9998", field=field)
    return day


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        raise RejectedInput("invalid_tz", "tz must be a time zone such as Europe/Paris", field="tz") from None
