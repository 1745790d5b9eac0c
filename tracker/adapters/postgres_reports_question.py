"""What a report can be asked: its groups, metrics and filters, its days as instants, and which table can answer it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum
from zoneinfo import ZoneInfo

SLUGS = ("partner", "campaign", "link", "advertiser")
TIMES = ("day", "hour")
SUBS = tuple(f"sub{n}" for n in range(1, 11))
COPIED = ("country", "device", *SUBS)  # facts of a click that its conversion carries too
JUDGED = ("outcome", "verdict")  # facts that only the click itself has
GROUPS = (*SLUGS, *TIMES, *COPIED, *JUDGED)
CLICK_METRICS = ("clicks", "all_clicks", "unique_clicks")
BASIC = (*CLICK_METRICS, "conversions", "revenue", "payout")
SHOWN = ("impressions",)
COUNTS = (*CLICK_METRICS, *SHOWN)  # what a group has once, whatever its currencies
DERIVED = ("cr", "ctr", "epc", "aov")
METRICS = (*BASIC, *SHOWN, *DERIVED)
IN_CURRENCY = frozenset(("revenue", "aov"))  # metrics in the currency of the revenue
IN_PAYOUT_CURRENCY = frozenset(("payout", "epc"))
OF_CLICKS = frozenset((*CLICK_METRICS, "cr", "ctr", "epc"))  # metrics that need clicks
OF_IMPRESSIONS = frozenset((*SHOWN, "ctr"))  # metrics that need impressions: counted in quarters of an hour, never one by one
OF_CONVERSIONS = frozenset(METRICS) - frozenset(COUNTS) - {"ctr"}
GROUPS_MAX = 5
ROWS_MAX = 100_000  # what one answer holds, and how many groups are merged in memory
PARTS_MAX = 3 * ROWS_MAX  # sums of a group on a day and in a currency, of which a report in one currency is made
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
BUCKET = timedelta(minutes=15)  # of click_stats


class Source(Enum):
    """The table that clicks are read from, the smallest that can answer."""

    DAYS = "daily_stats"
    BUCKETS = "click_stats"
    CLICKS = "clicks"


@dataclass(frozen=True, slots=True)
class Question:
    """A report asked for.

    `first` and `last` are days of `zone`, both included. `filters`: group → its allowed values, "" for none. `sort`: names of
    `group_by` and `metrics`, with a minus in front for descending; ties are in the order of groups. `currency`: what all money is
    turned into, None: it stays in its own. `is_by_click`: conversions stand at the time of their click, those without one at their
    own; else all at their own.
    """

    first: date
    last: date
    group_by: tuple[str, ...]
    metrics: tuple[str, ...]
    zone: ZoneInfo
    filters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sort: tuple[str, ...] = ()
    limit: int = ROWS_MAX
    advertiser_id: int | None = None
    currency: str | None = None
    is_by_click: bool = False

    @property
    def bounds(self) -> tuple[datetime, datetime]:
        """The instants, in UTC, of the start of `first` and of the end of `last`."""
        start = datetime.combine(self.first, time(), self.zone)
        return start.astimezone(UTC), datetime.combine(self.last + DAY, time(), self.zone).astimezone(UTC)

    @property
    def names(self) -> frozenset[str]:
        """The groups that are grouped or filtered by."""
        return frozenset((*self.group_by, *self.filters))

    @property
    def target(self) -> str | None:
        """The currency that money is turned into; None: there is none, or no money is asked for."""
        return self.currency if self.has_revenue or self.has_payout else None

    @property
    def has_revenue(self) -> bool:
        """Whether a metric is in the currency of the revenue."""
        return bool(IN_CURRENCY & set(self.metrics))

    @property
    def has_payout(self) -> bool:
        """Whether a metric is in the currency of the payout."""
        return bool(IN_PAYOUT_CURRENCY & set(self.metrics))

    @property
    def source(self) -> Source:
        """Where clicks are read from: rollups whenever they hold what is asked, in whole units of the time zone."""
        offsets = [offset for _, offset in self.offsets()]
        if self.names <= {"partner", "campaign", "advertiser", "day"} and not any(offsets):
            return Source.DAYS
        if self.names <= {*SLUGS, *TIMES} and not any(offset % BUCKET for offset in offsets):
            return Source.BUCKETS
        return Source.CLICKS

    def offsets(self) -> list[tuple[datetime, timedelta]]:
        """The offsets of local time from UTC within the bounds, as (since when, offset), the first since the start.

        Days and hours are told by these, not by PostgreSQL's own tables of time zones, so that both always agree.
        """
        at, end = self.bounds
        found = [(at, self._offset(at))]
        while at < end:
            at, before = min(at + DAY, end), at
            if self._offset(at) != found[-1][1]:
                found.append((self._change(before, at), self._offset(at)))
        return found

    def _offset(self, at: datetime) -> timedelta:
        return at.astimezone(self.zone).utcoffset() or timedelta()

    def _change(self, low: datetime, high: datetime) -> datetime:
        """The first second at which the offset is that of `high`."""
        wanted = self._offset(high)
        while high - low > SECOND:
            middle = low + (high - low) // SECOND // 2 * SECOND
            low, high = (low, middle) if self._offset(middle) == wanted else (middle, high)
        return high
