"""The statements of reports: clicks from the smallest table that can answer, and conversions, each summed by group."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tracker.adapters.postgres_reports_question import COPIED, JUDGED, PARTS_MAX, ROWS_MAX, TIMES, Question, Source
from tracker.domain import click_id

Statement = tuple[str, list[Any]]
SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"  # clicks and conversions as of one moment
READ_KEPT_SINCE = "SELECT value FROM installation WHERE key = 'retention_floor'"
NAMES = {"partner": "p.slug", "campaign": "m.slug", "link": "l.slug", "advertiser": "a.slug"}
LABELS = {"day": "YYYY-MM-DD", "hour": 'YYYY-MM-DD"T"HH24:00'}
_NAMED = "LEFT JOIN partners p ON p.id = {partner} LEFT JOIN campaigns m ON m.id = {campaign}"
_OF_CAMPAIGN = "LEFT JOIN advertisers a ON a.id = m.advertiser_id"
_ROLLUP = _NAMED.format(partner="s.partner", campaign="s.campaign")
FROM_DAYS = f"daily_stats s {_ROLLUP} {_OF_CAMPAIGN}"
FROM_IMPRESSIONS = f"impression_stats s {_ROLLUP} LEFT JOIN links l ON l.id = s.link {_OF_CAMPAIGN}"
FROM_BUCKETS = f"click_stats s {_ROLLUP} LEFT JOIN links l ON l.id = s.link {_OF_CAMPAIGN}"
# An orphan that was attributed later counts where it belongs.
FROM_CLICKS = f"""clicks s
    LEFT JOIN (
        SELECT DISTINCT ON (t.click_id) t.click_id, t.link, t.partner, t.campaign FROM click_attributions t
        WHERE t.click_id >= $1::uuid AND t.click_id < $2::uuid ORDER BY t.click_id, t.id DESC
    ) r ON r.click_id = s.click_id
    {_NAMED.format(partner="coalesce(r.partner, s.partner)", campaign="coalesce(r.campaign, s.campaign)")}
    LEFT JOIN links l ON l.id = coalesce(r.link, s.link) {_OF_CAMPAIGN}"""  # noqa: S608 - constants only
FROM_CONVERSIONS = f"""conversions s {_ROLLUP}
    LEFT JOIN links l ON l.id = s.link JOIN advertisers a ON a.id = s.advertiser_id"""
# LIMIT keeps it a look-up by key in one partition for each conversion, never a scan of all of them.
CLICK_OF_CONVERSION = """
    LEFT JOIN LATERAL (SELECT c.outcome, c.verdict FROM clicks c WHERE c.click_id = s.click_id LIMIT 1) k ON true"""
ROLLUP_SUMS = "sum(s.clicks) AS clicks, sum(s.total) AS all_clicks, sum(s.unique_clicks) AS unique_clicks"
NONE = "NULL::text"
CLICK_TIME = "coalesce(s.clicked_at, s.converted_at)"  # has an index
CLICK_SUMS = """count(*) FILTER (WHERE s.counted) AS clicks, count(*) AS all_clicks,
    count(*) FILTER (WHERE s.counted AND s.is_unique) AS unique_clicks"""
IMPRESSION_SUMS = "sum(s.impressions) AS impressions"
MONEY_SUMS = "count(*) AS conversions, sum(s.amount_micros) AS revenue, sum(s.payout_micros) AS payout"  # numeric: no sum is too large


@dataclass(slots=True)
class _Select:
    """A statement in the making. `names` are the expressions of groups; their values are parameters, never text."""

    question: Question
    tables: str
    sums: str
    scope: str
    names: dict[str, str] = field(default_factory=dict)
    conditions: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def value(self, value: Any, kind: str) -> str:
        """`value` as a parameter."""
        self.values.append(value)
        return f"${len(self.values)}::{kind}"

    def between(self, column: str, kind: str, start: Any, end: Any) -> None:
        """Only rows of `start` ≤ `column` < `end`."""
        self.conditions += [f"{column} >= {self.value(start, kind)}", f"{column} < {self.value(end, kind)}"]

    def label_times(self, instant: str) -> None:
        """Days and hours of `instant` in the time zone of the question."""
        if self.question.names & set(TIMES):
            since, offsets = zip(*self.question.offsets(), strict=True)
            offset = f"({self.value(offsets, 'interval[]')})[width_bucket({instant}, {self.value(since, 'timestamptz[]')})]"
            self.names |= {name: f"to_char({instant} AT TIME ZONE 'UTC' + {offset}, '{form}')" for name, form in LABELS.items()}

    def finish(self, columns: Mapping[str, str], *, having: str = "", most: int = ROWS_MAX) -> Statement:
        """The whole statement, with `columns` to group by beside the groups of the question; one row more than `most` tells too many."""
        question = self.question
        self.conditions += [self._is_any(self.names[name], wanted) for name, wanted in question.filters.items()]
        if question.advertiser_id is not None:
            self.conditions.append(f"{self.scope} = {self.value(question.advertiser_id, 'bigint')}")
        groups = [f'{self.names[name]} AS "{name}"' for name in question.group_by]
        groups += [f"{expression} AS {name}" for name, expression in columns.items()]
        statement = f"SELECT {', '.join([*groups, self.sums])} FROM {self.tables} WHERE {' AND '.join(self.conditions)}"  # noqa: S608 - constants only
        if groups:
            statement += f" GROUP BY {', '.join(str(n) for n in range(1, len(groups) + 1))}{having}"
        return f"{statement} LIMIT {most + 1}", self.values

    def _is_any(self, expression: str, wanted: tuple[str, ...]) -> str:
        named = [value for value in wanted if value]
        parts = [f"{expression} = ANY({self.value(named, 'text[]')})"] if named else []
        parts += [f"{expression} IS NULL"] if "" in wanted else []
        return f"({' OR '.join(parts)})"


def clicks(question: Question) -> Statement:
    """Clicks by group."""
    return {Source.DAYS: _from_days, Source.BUCKETS: _from_buckets, Source.CLICKS: _from_clicks}[question.source](question)


def _from_days(question: Question) -> Statement:
    select = _Select(question, FROM_DAYS, ROLLUP_SUMS, "m.advertiser_id", NAMES | {"day": "to_char(s.day, 'YYYY-MM-DD')"})
    select.conditions = [f"s.day BETWEEN {select.value(question.first, 'date')} AND {select.value(question.last, 'date')}"]
    return select.finish({}, having=" HAVING sum(s.total) <> 0")


def impressions(question: Question) -> Statement:
    """Impressions by group, of a question that rollups can answer."""
    return _of_buckets(question, FROM_IMPRESSIONS, IMPRESSION_SUMS, "impressions")


def _from_buckets(question: Question) -> Statement:
    return _of_buckets(question, FROM_BUCKETS, ROLLUP_SUMS, "total")


def _of_buckets(question: Question, tables: str, sums: str, whole: str) -> Statement:
    select = _Select(question, tables, sums, "m.advertiser_id", dict(NAMES))
    select.between("s.bucket", "timestamptz", *question.bounds)
    select.label_times("s.bucket")
    return select.finish({}, having=f" HAVING sum(s.{whole}) <> 0")


def _from_clicks(question: Question) -> Statement:
    """Bounded by click id, whose time is that of the click to the millisecond: only the partitions of the days asked for are read."""
    facts = {name: f"nullif(s.{name}, '')" for name in (*COPIED, *JUDGED)}
    select = _Select(question, FROM_CLICKS, CLICK_SUMS, "m.advertiser_id", NAMES | facts)
    select.between("s.click_id", "uuid", *map(click_id.floor, question.bounds))
    select.label_times("s.clicked_at")
    return select.finish({})


def conversions(question: Question) -> Statement:
    """Conversions that earn, and their money, by group and currencies."""
    facts = {name: f"nullif(s.{name}, '')" for name in COPIED} | {name: f"nullif(k.{name}, '')" for name in JUDGED}
    tables = FROM_CONVERSIONS + (CLICK_OF_CONVERSION if question.names & set(JUDGED) else "")
    select = _Select(question, tables, MONEY_SUMS, "s.advertiser_id", NAMES | facts)
    at = CLICK_TIME if question.is_by_click else "s.converted_at"
    select.between(at, "timestamptz", *question.bounds)
    select.conditions.append("s.status IN ('approved', 'pending')")
    select.label_times(at)
    if question.target is None:
        return select.finish({"currency": "trim(s.currency)", "payout_currency": "trim(s.payout_currency)"})
    return select.finish(_to_turn(select, question.target), most=PARTS_MAX)


def _to_turn(select: _Select, currency: str) -> dict[str, str]:
    """The currencies to be turned into `currency`, NULL where there is nothing to turn, and the UTC day whose rate it is."""
    target = select.value(currency, "char(3)")
    revenue = f"CASE WHEN s.currency <> {target} AND s.amount_micros <> 0 THEN trim(s.currency) END"
    payout = f"CASE WHEN s.payout_currency <> {target} AND s.payout_micros <> 0 THEN trim(s.payout_currency) END"
    revenue, payout = (revenue if select.question.has_revenue else NONE), (payout if select.question.has_payout else NONE)
    day = f"CASE WHEN coalesce({revenue}, {payout}) IS NOT NULL THEN (s.converted_at AT TIME ZONE 'UTC')::date END"
    return {"currency": revenue, "payout_currency": payout, "rate_day": day}
