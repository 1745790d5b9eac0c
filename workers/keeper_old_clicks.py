"""The keeper's work on clicks of old platforms: how many still count is measured, those that count no more are dropped."""

import asyncio
import logging
import time

from prometheus_client import CollectorRegistry, Gauge

from tracker.adapters import postgres_old_drain
from tracker.adapters.postgres_old_drain import DROPPED, Left, Rates
from tracker.adapters.postgres_pool import Database
from workers.loop import Backoff, every

log = logging.getLogger(__name__)
EVERY_S = 600.0
RATES_EVERY_S = 3600.0


class OldClickMetrics:
    """What is left of old platforms."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._in_window = Gauge(
            "turnout_old_clicks_in_window", "Old clicks that an order may still belong to", ["source"], registry=registry
        )
        self._expected = Gauge(
            "turnout_old_conversions_expected", "Conversions of old clicks that are still to come", ["source"], registry=registry
        )
        self._until = Gauge(
            "turnout_old_platform_needed_until_timestamp_seconds", "When the last window of an old click ends; 0: all are over",
            ["source"], registry=registry,
        )  # fmt: skip

    def set(self, found: list[Left]) -> None:
        """Show what was found, and nothing of sources without old clicks, and no expectation that nobody can have."""
        for gauge in (self._in_window, self._expected, self._until):
            gauge.clear()
        for one in found:
            left = one.remaining
            self._in_window.labels(one.source).set(left.in_window)
            if left.expected is not None:
                self._expected.labels(one.source).set(left.expected)
            self._until.labels(one.source).set(left.until.timestamp() if left.until else 0)


class OldClickKeeper:
    """Measures and drops old clicks; any number may run."""

    def __init__(self, database: Database, metrics: OldClickMetrics) -> None:
        self._database, self._metrics = database, metrics
        self._rates, self._rates_at = Rates({}, {}), 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Every ten minutes until `stop`."""
        await every(EVERY_S, stop, lambda: self.once(stop), event="old_click_keeper.unavailable", backoff=Backoff(5, 60))

    async def once(self, stop: asyncio.Event | None = None) -> None:
        """Measure all sources, then drop what is over, 5,000 clicks a transaction; between two of them `stop` is looked at."""
        if time.monotonic() >= self._rates_at:
            self._rates = await postgres_old_drain.rates(self._database)
            self._rates_at = time.monotonic() + RATES_EVERY_S
        found = await postgres_old_drain.left(self._database, self._rates)
        self._metrics.set(found)
        for one in found:
            dropped = DROPPED
            while dropped == DROPPED and not (stop and stop.is_set()):
                if dropped := await postgres_old_drain.drop_old(self._database, one.source):
                    log.info("old_click_keeper.dropped", extra={"source": one.source, "clicks": dropped})
