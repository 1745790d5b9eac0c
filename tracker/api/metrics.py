"""The tracker's metrics, a registry a process."""

import contextlib
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from tracker.adapters.postgres_conversions_read import Conversions
from tracker.domain import money
from tracker.domain.postback import Postback, Verdict
from tracker.errors import StoreUnavailable

PARKED_TTL_S = 5.0  # the count of parked postbacks is a query


class Metrics:
    """Counters of what this process did, and the number of parked postbacks in the database."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.postbacks = Counter("turnout_postbacks", "Postbacks answered, by outcome", ["outcome"], registry=self.registry)
        self.conversions = Counter("turnout_conversions", "Conversions made, by status", ["status"], registry=self.registry)
        self.revenue = Counter(
            "turnout_revenue", "Amounts of conversions made, in units of the currency", ["currency"], registry=self.registry
        )
        self.payout = Counter(
            "turnout_payout", "Payouts of conversions made, in units of the currency", ["currency"], registry=self.registry
        )
        self._parked = Gauge("turnout_conversions_parked", "Postbacks that wait for their click", registry=self.registry)
        self._parked_until = 0.0
        for outcome in ("attributed", "duplicate", "orphan", "parked", "rejected", "conflict", "unavailable"):
            self.postbacks.labels(outcome)
        for status in ("pending", "approved", "rejected", "reversed", "orphan"):
            self.conversions.labels(status)

    def record(self, postback: Postback, verdict: Verdict) -> None:
        """Count a postback that was decided."""
        self.postbacks.labels(verdict.outcome).inc()
        if verdict.created:
            self.conversions.labels(verdict.created).inc()
        if verdict.created in ("pending", "approved"):
            self.revenue.labels(postback.currency).inc(postback.amount_micros / money.MICROS)
            self.payout.labels(verdict.payout_currency).inc(verdict.payout_micros / money.MICROS)

    async def exposition(self, conversions: Conversions) -> bytes:
        """All metrics as Prometheus text. With PostgreSQL away the last known count of parked postbacks stays."""
        if time.monotonic() >= self._parked_until:
            with contextlib.suppress(StoreUnavailable):
                self._parked.set(await conversions.parked())
            self._parked_until = time.monotonic() + PARKED_TTL_S
        return generate_latest(self.registry)
