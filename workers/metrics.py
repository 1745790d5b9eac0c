"""Metrics of the workers. Names and meanings: the catalogue in tracker/README.md; nothing here is in a hot path."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge

from tracker.adapters.postgres_clicks import CLICKED_AT
from tracker.adapters.postgres_loads import Load, Stored
from tracker.adapters.postgres_old_reports import Taken
from tracker.domain.postback import Postback, Verdict
from tracker.metrics import ConversionMetrics


class StreamMetrics:
    """What is counted of all streams that this process reads."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._letters = Counter("turnout_dead_letters", "Rows of dead_letters written", ["reason"], registry=registry)
        self._gone = Counter(
            "turnout_stream_entries_gone", "Unacked entries that vanished from a stream: evidence of loss in Redis", registry=registry
        )
        self._oldest_s = Gauge("turnout_stream_oldest_age_seconds", "Age of the oldest unacked entry", registry=registry)
        self._ages: dict[str, float] = {}

    def buried(self, stored: Stored) -> None:
        """Count dead letters."""
        for letter in stored.letters:
            self._letters.labels(letter.reason).inc()

    def gone(self, entries: int) -> None:
        """Count entries that Redis lost."""
        self._gone.inc(entries)

    def oldest(self, key: str, age_s: float) -> None:
        """Note the age of the oldest unacked entry of one stream."""
        self._ages[key] = age_s
        self._oldest_s.set(max(self._ages.values()))


class ClickMetrics:
    """What the click writer counts, after each commit."""

    def __init__(self, registry: CollectorRegistry, streams: StreamMetrics) -> None:
        self._streams = streams
        self._stored = Counter("turnout_clicks_stored", "Clicks stored", registry=registry)
        self._duplicate = Counter(
            "turnout_clicks_duplicate", "Click ids that were stored already, in a batch seen for the first time", registry=registry
        )
        self._rejected = Counter("turnout_clicks_rejected", "Records that could not be stored", ["reason"], registry=registry)
        self._redelivered = Counter("turnout_clicks_redelivered", "Records of batches that were accounted for before", registry=registry)
        self._commit_s = Gauge("turnout_commit_duration_seconds", "Time of the last transaction, retries included", registry=registry)
        self._newest_at = Gauge("turnout_commit_lag_seconds", "Age of the newest click when it was committed", registry=registry)

    def stored(self, stored: Stored, load: Load, took_s: float) -> None:
        """Count one committed transaction."""
        self._streams.buried(stored)
        self._stored.inc(stored.stored)
        self._duplicate.inc(stored.duplicate)
        self._redelivered.inc(stored.redelivered)
        self._commit_s.set(took_s)
        for letter in stored.letters:
            self._rejected.labels(letter.reason).inc(letter.records)
        if load.rows:
            self._newest_at.set(max(0.0, time.time() - load.rows[-1][CLICKED_AT].timestamp()))

    def gone(self, entries: int) -> None:
        """Count entries that Redis lost."""
        self._streams.gone(entries)


class OldReportMetrics:
    """What became of the reports of old hosts."""

    def __init__(self, registry: CollectorRegistry, conversions: ConversionMetrics) -> None:
        self._conversions = conversions
        self._decided = Counter(
            "turnout_old_reports_decided", "Reports of old hosts that were taken, by outcome", ["platform", "outcome"], registry=registry
        )
        self._impressions = Counter("turnout_impressions", "Impressions of old banners that were counted", registry=registry)
        self.waiting = Gauge(
            "turnout_old_reports_waiting", "Reports of old hosts of which nobody knows yet whose order they are", registry=registry
        )

    def stored(self, stored: Stored) -> None:
        """Count what one transaction took; its verdicts are counted with all others."""
        self._impressions.inc(stored.impressions)
        for (platform, outcome), count in stored.reports.items():
            self._decided.labels(platform, outcome).inc(count)

    def taken(self, taken: Taken) -> None:
        """Count a report that waits no longer."""
        self._decided.labels(taken.platform, taken.outcome).inc()
        if taken.postback is not None and taken.verdict is not None:
            self._conversions.decided(taken.postback, taken.verdict)


class ReceiptMetrics:
    """What the conversion writer counts, after each commit."""

    def __init__(
        self, registry: CollectorRegistry, streams: StreamMetrics, conversions: ConversionMetrics, old_reports: OldReportMetrics
    ) -> None:
        self._streams, self._conversions, self._old_reports = streams, conversions, old_reports
        self._replayed = Counter(
            "turnout_postbacks_replayed", "Postbacks from the journal that were decided, by outcome", ["outcome"], registry=registry
        )

    def stored(self, stored: Stored, _load: Load, _took_s: float) -> None:
        """Count one committed transaction."""
        self._streams.buried(stored)
        self._old_reports.stored(stored)
        for postback, verdict in stored.verdicts:
            self._replayed.labels(verdict.outcome).inc()
            self._conversions.decided(postback, verdict)

    def gone(self, entries: int) -> None:
        """Count entries that Redis lost."""
        self._streams.gone(entries)


class BookMetrics:
    """What is true of the books as a whole."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.clicks = Gauge(
            "turnout_clicks_unaccounted", "Clicks accepted, and neither stored, rejected nor on their way; must be 0", registry=registry
        )
        self.conversions = Gauge(
            "turnout_conversions_unaccounted", "The same of postbacks that went through the journal; must be 0", registry=registry
        )


class StorageMetrics:
    """What is true of the partitions, as the keeper sees it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.edge_rows = Gauge(
            "turnout_clicks_edge_rows", "Clicks outside of all daily partitions: a node's clock is wrong", registry=registry
        )
        self.days_ahead = Gauge("turnout_partition_days_ahead", "Daily partitions made in advance", registry=registry)


class HoldMetrics:
    """What the keeper sees of conversions whose hold is over."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.approved = Counter("turnout_holds_approved", "Conversions approved because their hold was over", registry=registry)
        self.overdue_s = Gauge(
            "turnout_hold_overdue_seconds", "For how long the oldest conversion whose hold is over is not approved", registry=registry
        )


class SweeperMetrics:
    """What the sweeper of parked postbacks settled."""

    def __init__(self, registry: CollectorRegistry, conversions: ConversionMetrics) -> None:
        self._conversions = conversions
        self._settled = Counter("turnout_parked_settled", "Parked postbacks settled, by outcome", ["outcome"], registry=registry)

    def settled(self, postback: Postback, verdict: Verdict) -> None:
        """Count a postback that waits no longer."""
        self._settled.labels(verdict.outcome).inc()
        self._conversions.decided(postback, verdict)


class TeeMetrics:
    """What became of reports that are passed on to the old platform."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._deliveries = Counter(
            "turnout_tee_deliveries", "Reports passed on to the old platform, each try by its outcome", ["outcome"], registry=registry
        )
        self._differences = Counter("turnout_tee_differences", "Reports that only we or only the old platform accepted", registry=registry)
        self._waiting = Gauge("turnout_tee_waiting", "Reports that are still to be passed on", registry=registry)
        self._oldest_s = Gauge("turnout_tee_oldest_age_seconds", "Age of the oldest of them", registry=registry)

    def delivered(self, *, agrees: bool) -> None:
        """Count one that the old platform answered."""
        self._deliveries.labels("delivered").inc()
        if not agrees:
            self._differences.inc()

    def retried(self) -> None:
        """Count a try in vain, after which there is another."""
        self._deliveries.labels("retried").inc()

    def given_up(self) -> None:
        """Count one that is not tried any more."""
        self._deliveries.labels("given_up").inc()

    def backlog(self, waiting: int, oldest_s: float) -> None:
        """Note what waits."""
        self._waiting.set(waiting)
        self._oldest_s.set(oldest_s)
