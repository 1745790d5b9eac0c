"""What a report is asked with, and its rows as CSV. Shared by the API and the command line; no web framework."""

import re
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tracker import csv_text
from tracker.adapters import postgres_reports_question as asked
from tracker.adapters.postgres_reports_question import Question
from tracker.errors import RejectedInput
from tracker.programme import currency as read_currency

FILTER = re.compile(r"filter\[(.*)\]", re.DOTALL)
BROKEN = re.compile(r"[\x00\ud800-\udfff]")
HOUR = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:00")
UNESCAPED_COMMA = re.compile(r"(?<!\\),")
LISTS = ("group_by", "metrics", "sort")
KNOWN = ("from", "to", *LISTS, "currency", "time", "tz", "limit", "format")
CONVERSION, CLICK = TIMES = ("conversion", "click")  # when a conversion stands
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
    question = Question(
        first,
        last,
        group_by,
        metrics,
        zone,
        filters=_filters(parameters),
        sort=_sort(parameters, (*group_by, *metrics)),
        limit=_limit(parameters.get("limit") or str(asked.ROWS_MAX)),
        advertiser_id=advertiser_id,
        currency=_currency(parameters.get("currency") or ""),
        is_by_click=_time(parameters.get("time") or CONVERSION) == CLICK,
    )
    if asked.OF_IMPRESSIONS & set(metrics) and question.source is asked.Source.CLICKS:
        allowed = ", ".join((*asked.SLUGS, *asked.TIMES))
        raise RejectedInput(
            "invalid_metrics", f"impressions and ctr are counted by {allowed} alone, in whole quarters of an hour", field="metrics"
        )
    return question


def as_csv(found: dict[str, Any], question: Question) -> str:
    """The rows as CSV with a header; a group of several currencies has a row for each. `unconverted` is told as `unconverted_text` does."""
    columns = [*question.group_by, *question.metrics]
    columns += ["currency"] * question.has_revenue + ["payout_currency"] * question.has_payout
    columns += ["unconverted"] * bool(question.target)
    rows = (row | {"unconverted": unconverted_text(row.get("unconverted", ()))} for row in found["rows"])
    return csv_text.as_csv(columns, ([row.get(name) for name in columns] for row in rows))


def unconverted_text(items: Iterable[Mapping[str, Any]]) -> str:
    """What a row could not turn into its currency, for people: `2 conversions: revenue 12.00 ARS, payout 1.20 ARS; …`."""
    return "; ".join(f"{item['conversions']} conversion{'s' * (item['conversions'] != 1)}: {', '.join(_sums(item))}" for item in items)


def _sums(item: Mapping[str, Any]) -> Iterable[str]:
    for name, currency in (("revenue", "currency"), ("payout", "payout_currency")):
        if item.get(name) is not None:
            yield f"{name} {item[name]} {item[currency]}"


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


def _currency(code: str) -> str | None:
    try:
        return read_currency(code) if code else None
    except ValueError as exc:
        raise RejectedInput("invalid_currency", f"currency {exc}", field="currency") from None


def _time(name: str) -> str:
    if name not in TIMES:
        raise RejectedInput("invalid_time", f"time must be {' or '.join(TIMES)}", field="time")
    return name


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        raise RejectedInput("invalid_tz", "tz must be a time zone such as Europe/Paris", field="tz") from None
