"""What share of real clicks resolves: the requests of an old host's logs, resolved one by one and counted. Pure.

Every line is counted once: as a click, as something that is no click, or under the reason why it was left out.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from tracker.domain.access_logs import LogLine
from tracker.domain.distinct_urls import DistinctUrls, percent
from tracker.domain.resolve import LINK_PATH, NO_CLICK, Resolution, RouteReader, resolve
from tracker.domain.url_shapes import shape_of
from tracker.domain.urls import host_key, printable

UNREADABLE: Final = "unreadable"
TOO_LONG: Final = "too_long"
METHOD: Final = "method"
OTHER_HOST: Final = "other_host"
ASSET: Final = "asset"
ROBOT: Final = "robot"
REASONS: Final = (ROBOT, METHOD, ASSET, OTHER_HOST, UNREADABLE, TOO_LONG)
KINDS: Final = ("postback", "pixel", "impression")
ANCHOR: Final = "anchor"  # missing: the ids stand behind a `#`, which no log shows; a page of ours reads them from the browser

REST: Final = "..."  # stands for all that came after a table was full
ROWS_MAX: Final = 20_000  # of a table: partner ids and paths come from anybody
CACHE_MAX: Final = 20_000
CACHED_BYTES: Final = 1024  # longer targets are rare and would fill the memory
EXAMPLE_MAX: Final = 500
AGENT_MAX: Final = 512
_OWN_FILES: Final = frozenset((b"/favicon.ico", b"/robots.txt"))
_OWN_PATH: Final = b"/-/"
_ASSETS: Final = (
    b".css", b".js", b".map", b".png", b".jpg", b".jpeg", b".gif", b".svg", b".ico", b".webp", b".woff", b".woff2", b".ttf", b".txt",
    b".xml",
)  # fmt: skip
# What is missing when nothing was read in the URL: then a path that looks like a file of a page is one.
_NOT_READ: Final = frozenset(("host", "platform", "shape", "link", ANCHOR))


class Verdict(Struct, frozen=True, gc=False):
    """What one URL comes to. `missing` is `""` when it resolves; `kind` is what the profile reads, `""` for nothing."""

    outcome: str
    missing: str
    platform: str
    shape: str
    kind: str
    partner: str
    old_partner_id: str


class Tally(Struct):
    """Clicks of one row; `refused`: those that the old host answered with an error; `example`: the first URL."""

    clicks: int = 0
    resolved: int = 0
    refused: int = 0
    example: str = ""


class Coverage:
    """Counts requests by what they come to. Memory is bounded, whatever comes: tables that are full count what is new under `...`."""

    def __init__(
        self,
        table: RouteReader,
        now_ms: int,
        is_robot: Callable[[str], bool],
        *,
        host: bytes = b"",
        all_methods: bool = False,
        with_robots: bool = False,
    ) -> None:
        """`host`: the only one that counts, and that of lines which name none; empty: all count."""
        self._table, self._now_ms, self._is_robot = table, now_ms, is_robot
        self._host, self._only = host, host_key(host) if host else ""
        self._all_methods, self._with_robots = all_methods, with_robots
        self._cache: dict[tuple[bytes, bytes], Verdict] = {}
        self.clicks = self.resolved = 0
        self.left_out: Counter[str] = Counter()
        self.not_clicks: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.urls = DistinctUrls()
        self._platforms: dict[tuple[str, ...], Tally] = {}
        self._partners: dict[tuple[str, ...], Tally] = {}
        self._shapes: dict[tuple[str, ...], Tally] = {}
        self._unresolved: dict[tuple[str, ...], Tally] = {}

    @property
    def has_host(self) -> bool:
        """Whether lines that name no host have one all the same."""
        return bool(self._host)

    @property
    def lines(self) -> int:
        """All that was counted: clicks, what is no click, what was left out."""
        return self.clicks + self.not_clicks.total() + self.left_out.total()

    def leave_out(self, reason: str) -> None:
        """Count a line that tells of no request."""
        self.left_out[reason] += 1

    def add(self, line: LogLine) -> None:
        """Count a request."""
        host = line.host or self._host
        reason = self._reason_before(line, host)
        if reason:
            self.left_out[reason] += 1
            return
        target = printable(line.target)
        verdict = self._verdict(host, target)
        if verdict.missing == NO_CLICK:
            self.not_clicks[verdict.kind] += 1
        elif verdict.missing in _NOT_READ and _is_asset(target):
            self.left_out[ASSET] += 1
        elif self._is_from_robot(line):
            self.left_out[ROBOT] += 1
        else:
            self._count(host_key(host), target, line.status, verdict)

    def _reason_before(self, line: LogLine, host: bytes) -> str:
        """Why a line counts for nothing, whatever its URL; `""`: it may be a click."""
        if line.method != b"GET" and not self._all_methods:
            return METHOD
        if self._only and not _is_same_host(host, self._only):
            return OTHER_HOST
        path = line.target.partition(b"?")[0]
        return ASSET if path in _OWN_FILES or path.startswith(_OWN_PATH) else ""

    def _is_from_robot(self, line: LogLine) -> bool:
        """A log without a column of agents has no robots that could be told."""
        if self._with_robots or line.user_agent is None:
            return False
        return self._is_robot(line.user_agent[:AGENT_MAX].decode("utf-8", "replace"))

    def _verdict(self, host: bytes, target: bytes) -> Verdict:
        found = self._cache.get((host, target))
        if found is None:
            found = verdict_of(resolve(self._table, host, target, self._now_ms), target)
            if len(host) + len(target) <= CACHED_BYTES:
                if len(self._cache) >= CACHE_MAX:
                    self._cache.clear()
                self._cache[host, target] = found
        return found

    def _count(self, host: str, target: bytes, status: int | None, verdict: Verdict) -> None:
        is_resolved = not verdict.missing
        self.clicks += 1
        self.urls.add(host, target, is_resolved=is_resolved)
        rows = [
            _row(self._platforms, (verdict.platform,)),
            _row(self._partners, (verdict.platform, verdict.partner, verdict.old_partner_id)),
            _row(self._shapes, (verdict.platform, verdict.shape)),
        ]
        if is_resolved:
            self.resolved += 1
            self.outcomes[verdict.outcome] += 1
        else:
            row = _row(self._unresolved, (host, verdict.platform, shape_of(target), verdict.missing))
            row.example = row.example or _example(host, target)
            rows.append(row)
        for row in rows:
            row.clicks += 1
            row.resolved += is_resolved
            row.refused += status is not None and status >= 400

    def reaches(self, at_least_percent: float) -> bool:
        """Whether at least so many percent of the clicks resolve, exactly; of no clicks none do."""
        return self.clicks > 0 and self.resolved * 100 >= at_least_percent * self.clicks

    def as_dict(self) -> dict[str, Any]:
        """All of it for JSON; rows by traffic, equal ones by name."""
        return {
            "lines": self.lines,
            "clicks": {"seen": self.clicks, "resolved": self.resolved, "resolved_percent": percent(self.resolved, self.clicks)},
            "distinct_urls": self.urls.as_dict(),
            "outcomes": dict(sorted(self.outcomes.items())),
            "not_clicks": {kind: self.not_clicks[kind] for kind in KINDS},
            "left_out": {reason: self.left_out[reason] for reason in REASONS},
            "by_platform": _rows(self._platforms, ("platform",)),
            "by_partner": _rows(self._partners, ("platform", "partner", "old_partner_id")),
            "by_shape": _rows(self._shapes, ("platform", "shape")),
            "unresolved": [
                {"clicks": tally.clicks, **dict(zip(("host", "platform", "shape", "missing"), key, strict=True))}
                | {"refused": tally.refused, "example": tally.example}
                for key, tally in _by_traffic(self._unresolved)
            ],
        }


def verdict_of(found: Resolution, target: bytes) -> Verdict:
    """What a resolution comes to. The shape of what no profile read is `link` for a new link, `alias` for an exact old URL."""
    reading = found.reading
    kind, shape = (reading.kind or "", reading.shape) if reading is not None else ("", "")
    if not shape and not found.missing:
        shape = "link" if target.startswith(LINK_PATH) else "alias"
    old_id = reading.partner_id if reading is not None and not found.partner_slug else None
    missing = ANCHOR if found.wants_anchor else found.missing
    return Verdict(found.outcome, missing, found.platform or "", shape, kind, found.partner_slug, old_id or "")


def _is_same_host(host: bytes, only: str) -> bool:
    """A name without a port stands for any port."""
    name = host_key(host)
    return name == only or (":" not in only and name.partition(":")[0] == only)


def _is_asset(target: bytes) -> bool:
    return target.partition(b"?")[0].lower().endswith(_ASSETS)


def _example(host: str, target: bytes) -> str:
    url = (f"https://{host}" if host else "") + target.decode("ascii")
    return url if len(url) <= EXAMPLE_MAX else url[: EXAMPLE_MAX - len(REST)] + REST


def _row(rows: dict[tuple[str, ...], Tally], key: tuple[str, ...]) -> Tally:
    """The row of `key`; once the table is full, that of the rest for any new key."""
    row = rows.get(key)
    if row is None:
        if len(rows) >= ROWS_MAX:
            key = (REST,) * len(key)
        row = rows.setdefault(key, Tally())
    return row


def _by_traffic(rows: dict[tuple[str, ...], Tally]) -> list[tuple[tuple[str, ...], Tally]]:
    return sorted(rows.items(), key=lambda item: (-item[1].clicks, item[0]))


def _rows(rows: dict[tuple[str, ...], Tally], names: tuple[str, ...]) -> list[dict[str, Any]]:
    return [
        dict(zip(names, key, strict=True))
        | {"clicks": tally.clicks, "resolved": tally.resolved, "resolved_percent": percent(tally.resolved, tally.clicks)}
        for key, tally in _by_traffic(rows)
    ]
