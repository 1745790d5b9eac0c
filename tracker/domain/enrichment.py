"""From what the redirector recorded to what is stored: clean text, checked numbers, rollup keys. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BUCKET_MINUTES = 15  # zones at +5:30 and +5:45 can be cut out of them
MAX_US = 253_402_300_799_999_999  # the last microsecond of the year 9999, where Python's datetime ends
MAX_BIGINT = 2**63 - 1
MAX_SMALLINT = 2**15 - 1

BucketKey = tuple[datetime, int, int, int]  # bucket's start, campaign, partner, link; 0 = none
DayKey = tuple[date, int, int]  # UTC day, campaign, partner


def readable(raw: bytes) -> str:
    """`raw` as text that PostgreSQL takes: UTF-8, what is not becomes U+FFFD, NUL is taken out."""
    text = raw.decode("utf-8", "replace")
    return text.replace("\0", "") if "\0" in text else text


def clean(text: str, limit: int) -> str:
    """`text` without NUL and lone surrogates, at most `limit` characters."""
    if "\0" in text or not text.isascii():
        text = text.encode("utf-8", "replace").decode().replace("\0", "")
    return text[:limit]


def fault(click_id: bytes, received_at_us: int, ids: Iterable[int | None], rule_version: int) -> str | None:
    """Why a record cannot be a row of `clicks`; None when it can."""
    if len(click_id) != 16:
        return f"click id has {len(click_id)} bytes, must have 16"
    if not 0 <= received_at_us <= MAX_US:
        return f"time {received_at_us} is no instant between 1970 and 9999"
    for number in ids:
        if number is not None and not -MAX_BIGINT <= number <= MAX_BIGINT:
            return "an id is out of range"
    if not -MAX_SMALLINT <= rule_version <= MAX_SMALLINT:
        return f"rule version {rule_version} is out of range"
    return None


def instant(us: int) -> datetime:
    """Microseconds since 1970 as an aware UTC instant."""
    return EPOCH + timedelta(microseconds=us)


@dataclass(slots=True)
class Counts:
    """One row of a rollup."""

    clicks: int = 0
    unique_clicks: int = 0
    total: int = 0


class Tally:
    """Rollups of rows that are stored for the first time: `total` counts all, `clicks` those that count."""

    __slots__ = ("_bucket", "_bucket_end", "buckets", "days")

    def __init__(self) -> None:
        self.buckets: dict[BucketKey, Counts] = {}
        self.days: dict[DayKey, Counts] = {}
        self._bucket = self._bucket_end = EPOCH  # of the row before: rows come nearly in order, and finding a bucket is slow

    def add(
        self, at: datetime, campaign: int | None, partner: int | None, link: int | None, counted: bool, unique: bool | None, sign: int = 1
    ) -> None:
        """Count one row of the UTC instant `at`; ids that are None are kept as 0. `sign` -1 takes it out again."""
        if not self._bucket <= at < self._bucket_end:
            self._bucket = at.replace(minute=at.minute - at.minute % BUCKET_MINUTES, second=0, microsecond=0)
            self._bucket_end = self._bucket + timedelta(minutes=BUCKET_MINUTES)
        key = (self._bucket, campaign or 0, partner or 0, link or 0)
        counts = self.buckets.get(key)
        if counts is None:
            counts = self.buckets[key] = Counts()
        counts.total += sign
        if counted:
            counts.clicks += sign
            counts.unique_clicks += sign if unique else 0

    def close(self) -> None:
        """Sum the days up from the buckets; call once, when all is added."""
        for (bucket, campaign, partner, _), counts in self.buckets.items():
            day = self.days.setdefault((bucket.date(), campaign, partner), Counts())
            day.total += counts.total
            day.clicks += counts.clicks
            day.unique_clicks += counts.unique_clicks
