"""The redirector's metrics: plain integers on the hot path, read by a collector when somebody scrapes."""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tracker.adapters.journal.recording import Recording
from tracker.adapters.lmdb_routes import RouteTable

BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


class RedirectMetrics(Collector):
    """Counts redirects and their durations; everything else is read off the parts when it is asked for."""

    def __init__(self, table: RouteTable, recording: Recording) -> None:
        self.outcomes: Counter[str] = Counter()
        self._durations = [0] * (len(BUCKETS_S) + 1)
        self._duration_sum_s = 0.0
        self._table, self._recording = table, recording
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def observe(self, outcome: str, duration_s: float) -> None:
        """One answer."""
        self.outcomes[outcome] += 1
        self._durations[bisect_left(BUCKETS_S, duration_s)] += 1
        self._duration_sum_s += duration_s

    def exposition(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """All families, as they stand now."""
        redirects = CounterMetricFamily("turnout_redirects", "Requests for links answered", labels=["outcome"])
        for outcome, count in self.outcomes.items():
            redirects.add_metric([outcome], count)
        yield redirects
        yield self._histogram()
        yield from self._clicks()
        yield from self._journal()
        yield GaugeMetricFamily("turnout_routes_total", "Links, aliases and other routes in the table", value=self._table.count())
        yield GaugeMetricFamily(
            "turnout_routes_age_seconds", "Since the route table was last known to be current", value=self._table.age_s()
        )

    def _histogram(self) -> Metric:
        histogram = HistogramMetricFamily("turnout_redirect_duration_seconds", "From a whole request to its answer")
        total, buckets = 0, []
        for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), self._durations, strict=True):
            total += count
            buckets.append((bound, total))
        histogram.add_metric([], buckets, self._duration_sum_s)
        return histogram

    def _clicks(self) -> Iterator[Metric]:
        line, shipper = self._recording.line, self._recording.shipper
        yield CounterMetricFamily("turnout_clicks_accepted", "Records given a place in the books", value=line.accepted)
        yield CounterMetricFamily("turnout_clicks_journaled", "Records written to the journal", value=self._recording.journaled_records)
        yield CounterMetricFamily("turnout_clicks_shipped", "Records taken by the stream, repeats included", value=shipper.shipped_records)
        yield CounterMetricFamily(
            "turnout_clicks_unrecorded", "Records lost: journal and stream both refused. Must be 0", value=line.unrecorded
        )
        yield CounterMetricFamily("turnout_ack_deadline", "Answers that left before their record was written", value=line.late)
        yield CounterMetricFamily("turnout_clicks_flooded", "Clicks above the hard flood limit: counted, not recorded", value=line.flooded)

    def _journal(self) -> Iterator[Metric]:
        shipper = self._recording.shipper
        uncovered_bytes, oldest_s = shipper.uncovered(time.time())
        yield GaugeMetricFamily("turnout_journal_bytes", "Journal and memory that PostgreSQL does not have yet", value=uncovered_bytes)
        yield GaugeMetricFamily("turnout_journal_oldest_age_seconds", "Age of the oldest segment with such records", value=oldest_s)
        yield GaugeMetricFamily("turnout_journal_kept_bytes", "Journal on disk, covered segments included", value=shipper.kept_bytes)
        yield GaugeMetricFamily("turnout_redis_breaker_state", "0 closed, 1 trying again, 2 open", value=shipper.breaker_state)
