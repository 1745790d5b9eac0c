"""The tracker's metrics, a registry a process."""

import contextlib
import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tracker.adapters.postgres_conversions_read import Conversions
from tracker.api.intake import Intake
from tracker.domain.postback import Postback, Verdict
from tracker.errors import RejectedInput, StoreUnavailable
from tracker.metrics import ConversionMetrics
from tracker.old_hosts import REFUSALS as REFUSALS_OF_OLD_HOSTS

PARKED_TTL_S = 5.0  # the count of parked postbacks is a query
REFUSALS = ("bad_token", "bad_signature", "ip_not_allowed", "bad_payload")
OUTCOMES = ("attributed", "duplicate", "orphan", "parked", "rejected", "conflict", "ignored", "journaled", "unavailable")

VISITS = ("kept", "other_page", "no_page", "rejected", "unavailable")


class Metrics:
    """Counters of what this process did, the number of parked postbacks in the database, and the state of the journal."""

    def __init__(self, intake: Intake) -> None:
        self.registry = CollectorRegistry()
        self.postbacks = Counter("turnout_postbacks", "Postbacks answered, by outcome", ["outcome"], registry=self.registry)
        self.refusals = Counter(
            "turnout_postback_refusals", "Postbacks and webhooks refused before they were read", ["reason"], registry=self.registry
        )
        self.visits = Counter("turnout_visits", "Visits told by shops' pages, by outcome", ["outcome"], registry=self.registry)
        self.old_reports = Counter(
            "turnout_old_reports",
            "Postbacks, pixels and impressions that came to old hosts, kept",
            ["platform", "kind"],
            registry=self.registry,
        )
        self.old_refusals = Counter("turnout_old_reports_refused", "Such reports that were not kept", ["reason"], registry=self.registry)
        self._conversions = ConversionMetrics(self.registry)
        self._parked = Gauge("turnout_conversions_parked", "Postbacks that wait for their click", registry=self.registry)
        self._parked_until = 0.0
        self.registry.register(_Journal(intake))
        for outcome in OUTCOMES:
            self.postbacks.labels(outcome)
        for reason in REFUSALS:
            self.refusals.labels(reason)
        for outcome in VISITS:
            self.visits.labels(outcome)
        for reason in REFUSALS_OF_OLD_HOSTS:
            self.old_refusals.labels(reason)

    def decided(self, postback: Postback, verdict: Verdict) -> None:
        """Count a postback that was decided."""
        self.postbacks.labels("ignored" if verdict.status == "ignored" else verdict.outcome).inc()
        self._conversions.decided(postback, verdict)

    def matched(self, postback: Postback, verdict: Verdict) -> None:
        """Count what a postback made that was matched by hand; it was answered long ago."""
        self._conversions.decided(postback, verdict)

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Count a report that is refused, or that nobody takes, and pass its error on."""
        try:
            yield
        except StoreUnavailable:
            self.postbacks.labels("unavailable").inc()
            raise
        except RejectedInput:
            self.postbacks.labels("rejected").inc()
            raise

    def kept(self) -> None:
        """Count a postback that the journal keeps until PostgreSQL is back."""
        self.postbacks.labels("journaled").inc()

    async def exposition(self, conversions: Conversions) -> bytes:
        """All metrics as Prometheus text. With PostgreSQL away the last known count of parked postbacks stays."""
        if time.monotonic() >= self._parked_until:
            with contextlib.suppress(StoreUnavailable):
                self._parked.set(await conversions.parked())
            self._parked_until = time.monotonic() + PARKED_TTL_S
        return generate_latest(self.registry)


class _Journal(Collector):
    """What the journal of receipts says of itself when somebody asks."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    def collect(self) -> Iterator[Metric]:
        """All families, as they stand now; zeros before the journal is open."""
        recording = self._intake.recording
        unrecorded = recording.line.unrecorded if recording else 0
        held_bytes, oldest_s = recording.shipper.uncovered(time.time()) if recording else (0, 0.0)
        yield CounterMetricFamily(
            "turnout_conversions_unrecorded",
            "Postbacks kept and then lost: journal and stream both refused. Must be 0",
            value=unrecorded,
        )
        yield GaugeMetricFamily(
            "turnout_conversion_journal_bytes", "Journaled postbacks that PostgreSQL does not have yet", value=held_bytes
        )
        yield GaugeMetricFamily(
            "turnout_conversion_journal_oldest_age_seconds", "Age of the oldest segment with such postbacks", value=oldest_s
        )
