"""The redirector's metrics: plain integers on the hot path, put together once a tick and when somebody scrapes.

What is told are the figures of the host: this process's, and those that other redirectors show on their pages.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from redirector.figures import Counts, Figures, Labels, added, of_host
from redirector.lookup import OUTCOMES
from redirector.metrics_pages import MetricsPages
from tracker.adapters.journal.recording import Recording
from tracker.adapters.lmdb_routes import RouteTable
from tracker.old_hosts import REFUSALS

BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
BOUNDS = (*map(str, BUCKETS_S), "+Inf")
REDIRECTS, DURATION = "turnout_redirects", "turnout_redirect_duration_seconds"
OLD_LINKS = "turnout_old_link_resolutions"
REPORTS, REFUSED, LOOKUPS = "turnout_old_reports", "turnout_old_reports_refused", "turnout_lookups"
SUM = ("sum",)  # beside the bounds, among the counts of DURATION
LABELLED = {
    REDIRECTS: ("Requests for links answered", ("outcome",)),
    OLD_LINKS: ("Requests for an old platform's URLs answered", ("platform", "outcome")),
    REPORTS: ("Postbacks, pixels and impressions that came to old hosts, kept", ("platform", "kind")),
    REFUSED: ("Such reports that were not kept", ("reason",)),
    LOOKUPS: ("Unknown old URLs that the old platform was to be asked about", ("outcome",)),
}
COUNTERS = {
    "turnout_clicks_accepted": "Records given a place in the books",
    "turnout_clicks_journaled": "Records written to the journal",
    "turnout_clicks_shipped": "Records taken by the stream, repeats included",
    "turnout_clicks_unrecorded": "Records lost: journal and stream both refused. Must be 0",
    "turnout_ack_deadline": "Answers that left before their record was written",
    "turnout_clicks_flooded": "Clicks above the hard flood limit: counted, not recorded",
    "turnout_conversions_unrecorded": "Reports kept and then lost: journal and stream both refused. Must be 0",
}
GAUGES = {
    "turnout_journal_bytes": "Journal and memory that PostgreSQL does not have yet",
    "turnout_journal_oldest_age_seconds": "Age of the oldest segment with such records",
    "turnout_journal_kept_bytes": "Journal on disk, covered segments included",
    "turnout_redis_breaker_state": "0 closed, 1 trying again, 2 open",
    "turnout_conversion_journal_bytes": "Journaled reports that PostgreSQL does not have yet",
    "turnout_conversion_journal_oldest_age_seconds": "Age of the oldest segment with such reports",
}


class RedirectMetrics(Collector):
    """Counts redirects and their durations; everything else is read off the parts when it is asked for."""

    def __init__(
        self, table: RouteTable, recording: Recording, receipts: Recording, lookups: Counter[str], pages: MetricsPages | None = None
    ) -> None:
        """`receipts` records reports, `lookups` are counted by outcome. Without `pages` nobody else's figures count."""
        self.outcomes: Counter[str] = Counter()
        self.old_links: Counter[tuple[str, str]] = Counter()
        self.reports: Counter[tuple[str, str]] = Counter()  # by platform and kind
        self.refused: Counter[str] = Counter(dict.fromkeys(REFUSALS, 0))
        self._durations = [0] * len(BOUNDS)
        self._duration_sum_s = 0.0
        self._table, self._recording, self._pages = table, recording, pages
        self._receipts, self._lookups = receipts, lookups
        self._inherited: Counts = {}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def observe(self, outcome: str, old_link: tuple[str, str] | None, duration_s: float) -> None:
        """One answer; `old_link`: platform and outcome, where it was to a URL of an old platform."""
        self.outcomes[outcome] += 1
        if old_link is not None:
            self.old_links[old_link] += 1
        self._durations[bisect_left(BUCKETS_S, duration_s)] += 1
        self._duration_sum_s += duration_s

    def tick(self) -> None:
        """Once a second: show this process's figures to the others. Takes a page, as soon as there is one to be had."""
        if self._pages is None:
            return
        if not self._pages.is_shown:
            inherited = self._pages.take()
            self._inherited = inherited.counters if inherited else {}
        self._pages.save(self._figures())

    def close(self) -> None:
        """Show the last figures, and leave the page to the next process."""
        if self._pages is not None:
            self._pages.save(self._figures())
            self._pages.leave()

    def exposition(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """All families, as they stand now."""
        host = self._of_host()
        for name, (meaning, names) in LABELLED.items():
            family = CounterMetricFamily(name, meaning, labels=names)
            for labels, value in host.counters.get(name, {}).items():
                family.add_metric(labels, value)
            yield family
        yield _histogram(host.counters[DURATION])
        for name, meaning in COUNTERS.items():
            yield CounterMetricFamily(name, meaning, value=host.counters[name][()])
        for name, meaning in GAUGES.items():
            yield GaugeMetricFamily(name, meaning, value=host.gauges[name])
        yield GaugeMetricFamily("turnout_routes_total", "Links, aliases and other routes in the table", value=self._table.count())
        yield GaugeMetricFamily(
            "turnout_routes_age_seconds", "Since the route table was last known to be current", value=self._table.age_s()
        )

    def _of_host(self) -> Figures:
        own = self._figures()
        if self._pages is None:
            return own
        self._pages.save(own)  # before it is told: whoever is asked next, or takes over, must not know less
        return of_host(own, self._pages.others())

    def _figures(self) -> Figures:
        shipper = self._recording.shipper
        uncovered_bytes, oldest_s = shipper.uncovered(time.time())
        held = self._receipts.shipper.uncovered(time.time())
        standing = (uncovered_bytes, oldest_s, shipper.kept_bytes, shipper.breaker_state, *held)
        return Figures(added(self._inherited, self._counts()), dict(zip(GAUGES, map(float, standing), strict=True)))

    def _counts(self) -> Counts:
        line, recording = self._recording.line, self._recording
        clicks = (line.accepted, recording.journaled_records, recording.shipper.shipped_records, line.unrecorded, line.late, line.flooded)
        plain = (*clicks, self._receipts.line.unrecorded)
        counts: Counts = {name: {(): value} for name, value in zip(COUNTERS, plain, strict=True)}
        counts[REDIRECTS] = {(outcome,): count for outcome, count in self.outcomes.items()}
        counts[OLD_LINKS] = {(platform, outcome): count for (platform, outcome), count in self.old_links.items()}
        counts[REPORTS] = dict(self.reports.items())
        counts[REFUSED] = {(reason,): count for reason, count in self.refused.items()}
        counts[LOOKUPS] = {(outcome,): self._lookups[outcome] for outcome in OUTCOMES}
        counts[DURATION] = {(bound,): count for bound, count in zip(BOUNDS, self._durations, strict=True)}
        counts[DURATION][SUM] = self._duration_sum_s
        return counts


def _histogram(counts: dict[Labels, float]) -> Metric:
    histogram = HistogramMetricFamily(DURATION, "From a whole request to its answer")
    total, buckets = 0.0, []
    for bound in BOUNDS:
        total += counts[(bound,)]
        buckets.append((bound, total))
    histogram.add_metric([], buckets, counts[SUM])
    return histogram
