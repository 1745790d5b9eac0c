"""Metrics that several processes expose. Names and meanings: the catalogue in tracker/README.md."""

from prometheus_client import CollectorRegistry, Counter

from tracker.domain import money
from tracker.domain.postback import Postback, Verdict

STATUSES = ("pending", "approved", "rejected", "reversed", "orphan")


class ConversionMetrics:
    """What this process made of postbacks: the tracker of those it decided at once, a worker of parked and journaled ones."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._conversions = Counter("turnout_conversions", "Conversions made, by status", ["status"], registry=registry)
        self._revenue = Counter("turnout_revenue", "Amounts of conversions made, in units of the currency", ["currency"], registry=registry)
        self._payout = Counter("turnout_payout", "Payouts of conversions made, in units of the currency", ["currency"], registry=registry)
        for status in STATUSES:
            self._conversions.labels(status)

    def decided(self, postback: Postback, verdict: Verdict) -> None:
        """Count what a decided postback made, if it made anything."""
        if verdict.created:
            self._conversions.labels(verdict.created).inc()
        if verdict.created in ("pending", "approved"):
            self._revenue.labels(postback.currency).inc(postback.amount_micros / money.MICROS)
            self._payout.labels(verdict.payout_currency).inc(verdict.payout_micros / money.MICROS)
