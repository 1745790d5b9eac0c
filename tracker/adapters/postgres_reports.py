"""Reports: clicks from the rollups, conversions and money from `conversions`, merged by group."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tracker.adapters.postgres_pool import Database
from tracker.domain import money
from tracker.errors import RejectedInput

Values = dict[str, Any]
Key = tuple[Any, ...]
Pair = tuple[str | None, str | None]  # currencies: of revenue, of payout
Sums = tuple[int, int, int]  # conversions, micros of revenue, micros of payout
CLICK_METRICS = ("clicks", "all_clicks", "unique_clicks")
MONEY = ("revenue", "payout")
METRICS = (*CLICK_METRICS, "conversions", *MONEY)
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


@dataclass(slots=True)
class Group:
    """The sums of one group: of clicks, and of conversions and money by pair of currencies (revenue's, payout's)."""

    clicks: dict[str, int] = field(default_factory=dict)
    money: dict[Pair, Sums] = field(default_factory=dict)

    def add(self, other: "Group") -> None:
        """Take another group's sums in."""
        for name, count in other.clicks.items():
            self.clicks[name] = self.clicks.get(name, 0) + count
        for pair, sums in other.money.items():
            self.earn(pair, sums)

    def earn(self, pair: Pair, sums: Sums) -> None:
        """Add conversions and their money, in these currencies."""
        before = self.money.get(pair, (0, 0, 0))
        self.money[pair] = (before[0] + sums[0], before[1] + sums[1], before[2] + sums[2])


async def report(database: Database, question: Question) -> Values:
    """`{"rows", "totals"}`, rows by group.

    A group whose money is of several currencies has a row for each, the first with the group's clicks and the others with 0,
    so that sums of rows are right. Totals of several currencies have no money in `totals`, but a list `totals_by_currency`.
    """
    groups: dict[Key, Group] = {}
    if set(CLICK_METRICS) & set(question.metrics):
        for row in await database.fetch(*_clicks(question)):
            groups[_key(question, row)] = Group({name: int(row[name]) for name in CLICK_METRICS})
    if set(question.metrics) - set(CLICK_METRICS):
        for row in await database.fetch(*_conversions(question)):
            _earn(groups.setdefault(_key(question, row), Group()), question, row)
    keys = sorted(groups, key=lambda key: tuple((value is None, value) for value in key))
    rows = [dict(zip(question.group_by, key, strict=True)) | shown for key in keys for shown in _rows(question, groups[key])]
    return {"rows": rows} | _totals(question, groups.values())


def _earn(group: Group, question: Question, row: Values) -> None:
    """A currency that is not asked for splits no row."""
    pair = (
        row["currency"] if "revenue" in question.metrics else None,
        row["payout_currency"] if "payout" in question.metrics else None,
    )
    group.earn(pair, (int(row["conversions"]), int(row["revenue"]), int(row["payout"])))


def _rows(question: Question, group: Group) -> list[Values]:
    pairs = _sorted_pairs(group) or [(None, None)]
    clicks: dict[str, int] = group.clicks
    rows = []
    for pair in pairs:
        rows.append(_shown(question.metrics, clicks, pair, group.money.get(pair, (0, 0, 0))))
        clicks = {}
    return rows


def _sorted_pairs(group: Group) -> list[Pair]:
    return sorted(group.money, key=lambda pair: (pair[0] or "", pair[1] or ""))


def _totals(question: Question, groups: Iterable[Group]) -> Values:
    total = Group()
    for group in groups:
        total.add(group)
    if len(total.money) <= 1:
        return {"totals": _rows(question, total)[0]}
    conversions = sum(count for count, _, _ in total.money.values())
    metrics = [name for name in question.metrics if name not in MONEY]
    totals = _shown(metrics, total.clicks, (None, None), (conversions, 0, 0))
    earned = [name for name in question.metrics if name not in CLICK_METRICS]
    return {"totals": totals, "totals_by_currency": [_shown(earned, {}, pair, total.money[pair]) for pair in _sorted_pairs(total)]}


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
    sums = ["count(*) AS conversions", "sum(s.amount_micros) AS revenue", "sum(s.payout_micros) AS payout"]  # numeric: no sum is too large
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


def _shown(metrics: Sequence[str], clicks: Mapping[str, int], pair: Pair, sums: Sums) -> Values:
    shown: Values = {}
    for name in metrics:
        if name == "revenue":
            shown |= {name: money.format_micros(sums[1], pair[0]) if pair[0] else "0.00", "currency": pair[0]}
        elif name == "payout":
            shown |= {name: money.format_micros(sums[2], pair[1]) if pair[1] else "0.00", "payout_currency": pair[1]}
        else:
            shown[name] = sums[0] if name == "conversions" else clicks.get(name, 0)
    return shown


def check(group_by: Sequence[str], metrics: Sequence[str], filters: Mapping[str, str]) -> None:
    """RejectedInput when a name is not one of GROUPS, METRICS or the slugs that can be filtered by."""
    for kind, names, allowed in (("group_by", group_by, GROUPS), ("metrics", metrics, METRICS), ("filter", filters, SLUGS)):
        for name in names:
            if name not in allowed:
                raise RejectedInput(f"invalid_{kind}", f"{kind} must be of {', '.join(allowed)}; got {name[:40]!r}", field=kind)
