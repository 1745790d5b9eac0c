"""Reports: clicks from the rollups, conversions and money from `conversions`, merged by group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tracker.adapters.postgres_pool import Database
from tracker.domain import money
from tracker.errors import RejectedInput

Values = dict[str, Any]
Key = tuple[Any, ...]
CLICK_METRICS = ("clicks", "all_clicks", "unique_clicks")
METRICS = (*CLICK_METRICS, "conversions", "revenue", "payout")
# group → (expression over click_stats, over daily_stats, over conversions); $3 is the time zone
SLUGS = {"partner": "p.slug", "campaign": "m.slug", "link": "l.slug", "advertiser": "a.slug"}
TIMES = {
    "day": "to_char({} AT TIME ZONE $3, 'YYYY-MM-DD')",
    "hour": "to_char({} AT TIME ZONE $3, 'YYYY-MM-DD\"T\"HH24:00')",
}
GROUPS = (*SLUGS, *TIMES)
NAMES = " LEFT JOIN partners p ON p.id = s.partner LEFT JOIN campaigns m ON m.id = s.campaign"
FROM_CLICKS = f"click_stats s{NAMES} LEFT JOIN links l ON l.id = s.link LEFT JOIN advertisers a ON a.id = m.advertiser_id"
FROM_DAYS = f"daily_stats s{NAMES} LEFT JOIN advertisers a ON a.id = m.advertiser_id"
FROM_CONVERSIONS = f"conversions s{NAMES} LEFT JOIN links l ON l.id = s.link JOIN advertisers a ON a.id = s.advertiser_id"


@dataclass(frozen=True, slots=True)
class Question:
    """A report asked for: `first` and `last` are days of `zone`, both included; `filters` name slugs."""

    first: date
    last: date
    group_by: tuple[str, ...]
    metrics: tuple[str, ...]
    filters: Mapping[str, str]
    zone: ZoneInfo
    advertiser_id: int | None = None

    @property
    def bounds(self) -> tuple[datetime, datetime]:
        """The instants of the start of `first` and of the end of `last`."""
        start = datetime.combine(self.first, time(), self.zone)
        return start, datetime.combine(self.last + timedelta(days=1), time(), self.zone)

    @property
    def is_daily(self) -> bool:
        """Whether the daily rollups suffice: whole UTC days, nothing finer, no link."""
        return self.zone.key == "UTC" and not {"hour", "link"} & {*self.group_by, *self.filters}


async def report(database: Database, question: Question) -> Values:
    """`{"rows", "totals"}`; rows by group, those of one currency with `revenue` as one decimal, others by currency."""
    merged: dict[Key, Values] = {}
    if set(CLICK_METRICS) & set(question.metrics):
        for row in await database.fetch(*_clicks(question)):
            merged[_key(question, row)] = {name: int(row[name]) for name in CLICK_METRICS}
    if set(question.metrics) - set(CLICK_METRICS):
        for row in await database.fetch(*_conversions(question)):
            _add(merged.setdefault(_key(question, row), {}), row)
    keys = sorted(merged, key=lambda key: tuple((value is None, value) for value in key))
    rows = [dict(zip(question.group_by, key, strict=True)) | _shown(question, merged[key]) for key in keys]
    return {"rows": rows, "totals": _shown(question, _sum(merged.values()))}


def _clicks(question: Question) -> tuple[Any, ...]:
    sums = ["coalesce(sum(s.clicks), 0) AS clicks", "coalesce(sum(s.total), 0) AS all_clicks"]
    sums.append("coalesce(sum(s.unique_clicks), 0) AS unique_clicks")
    if question.is_daily:
        groups = {name: SLUGS.get(name, "to_char(s.day, 'YYYY-MM-DD')") for name in question.group_by}
        window = ["s.day >= $1", "s.day <= $2", "$3::text IS NOT NULL"]
        return _statement(
            question, groups, sums, tables=FROM_DAYS, window=window, bounds=(question.first, question.last), scope="m.advertiser_id"
        )
    groups = {name: SLUGS[name] if name in SLUGS else TIMES[name].format("s.bucket") for name in question.group_by}
    window = ["s.bucket >= $1", "s.bucket < $2", "$3::text IS NOT NULL"]
    return _statement(question, groups, sums, tables=FROM_CLICKS, window=window, bounds=question.bounds, scope="m.advertiser_id")


def _conversions(question: Question) -> tuple[Any, ...]:
    groups = {name: SLUGS[name] if name in SLUGS else TIMES[name].format("s.converted_at") for name in question.group_by}
    groups |= {"currency": "trim(s.currency)", "payout_currency": "trim(s.payout_currency)"}
    sums = ["count(*) AS conversions", "sum(s.amount_micros)::bigint AS revenue", "sum(s.payout_micros)::bigint AS payout"]
    window = ["s.converted_at >= $1", "s.converted_at < $2", "$3::text IS NOT NULL", "s.status IN ('approved', 'pending')"]
    return _statement(question, groups, sums, tables=FROM_CONVERSIONS, window=window, bounds=question.bounds, scope="s.advertiser_id")


def _statement(
    question: Question,
    groups: Mapping[str, str],
    sums: Sequence[str],
    *,
    tables: str,
    window: Sequence[str],
    bounds: tuple[date, date],
    scope: str,
) -> tuple[Any, ...]:
    conditions, values = list(window), []
    for name, value in question.filters.items():
        values.append(value)
        conditions.append(f"{SLUGS[name]} = ${len(values) + 3}")
    if question.advertiser_id is not None:
        values.append(str(question.advertiser_id))
        conditions.append(f"{scope} = ${len(values) + 3}::text::bigint")
    columns = [f"{expression} AS {_quoted(name)}" for name, expression in groups.items()]
    statement = f"SELECT {', '.join([*columns, *sums])} FROM {tables} WHERE {' AND '.join(conditions)}"  # noqa: S608 - constants only
    if groups:
        statement += f" GROUP BY {', '.join(groups.values())}"
    return (statement, *bounds, question.zone.key, *values)


def _quoted(name: str) -> str:
    return f'"{name}"'


def _key(question: Question, row: Values) -> Key:
    return tuple(row[name] for name in question.group_by)


def _add(group: Values, row: Values) -> None:
    group["conversions"] = group.get("conversions", 0) + row["conversions"]
    for name, currency in (("revenue", row["currency"]), ("payout", row["payout_currency"])):
        sums = group.setdefault(name, {})
        sums[currency] = sums.get(currency, 0) + row[name]


def _sum(groups: Any) -> Values:
    total: Values = {}
    for group in groups:
        for name, value in group.items():
            if isinstance(value, dict):
                sums = total.setdefault(name, {})
                for currency, micros in value.items():
                    sums[currency] = sums.get(currency, 0) + micros
            else:
                total[name] = total.get(name, 0) + value
    return total


def _shown(question: Question, group: Values) -> Values:
    shown: Values = {}
    for name in question.metrics:
        if name in ("revenue", "payout"):
            shown |= _money(name, group.get(name, {}))
        else:
            shown[name] = group.get(name, 0)
    return shown


def _money(name: str, sums: Mapping[str, int]) -> Values:
    label = "currency" if name == "revenue" else "payout_currency"
    amounts = {currency: money.format_micros(micros, currency) for currency, micros in sorted(sums.items())}
    if len(amounts) > 1:
        return {name: None, label: None, f"{name}_by_currency": amounts}
    return {name: next(iter(amounts.values()), "0.00"), label: next(iter(amounts), None)}


def check(group_by: Sequence[str], metrics: Sequence[str], filters: Mapping[str, str]) -> None:
    """RejectedInput when a name is not one of GROUPS, METRICS or the slugs that can be filtered by."""
    for field, names, allowed in (("group_by", group_by, GROUPS), ("metrics", metrics, METRICS), ("filter", filters, SLUGS)):
        for name in names:
            if name not in allowed:
                raise RejectedInput(f"invalid_{field}", f"{field} must be of {', '.join(allowed)}; got {name[:40]!r}", field=field)
