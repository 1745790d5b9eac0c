"""Reports of old hosts that wait for a mapping, an import or their click: tried again until that is there, or their time is over."""

import asyncio
import contextlib
import logging
import time

from tracker.adapters.postgres_old_reports import OldReports
from tracker.adapters.postgres_pool import Database
from tracker.adapters.postgres_waiting_reports import ROUND, sweep_round, waiting
from tracker.errors import StoreUnavailable
from workers.metrics import OldReportMetrics

log = logging.getLogger(__name__)

PAUSE_S = 1.0  # between two looks when nothing more is due: a report's first retry is after 1 s
OUTAGE_PAUSE_S = 1.0
COUNT_EVERY_S = 10.0


async def sweep(database: Database, reports: OldReports, stop: asyncio.Event, metrics: OldReportMetrics) -> None:
    """Try due reports, up to 50 a round and transaction, until `stop` is set.

    Each is read by the same code as when it arrived: a crash costs a repeat, never a second postback. Any number of sweepers may run.
    An outage of PostgreSQL is waited out.
    """
    count_at = 0.0
    while not stop.is_set():
        wait_s = PAUSE_S
        try:
            if await sweep_once(database, reports, metrics) == ROUND:
                continue
            if time.monotonic() >= count_at:
                metrics.waiting.set(await waiting(database))
                count_at = time.monotonic() + COUNT_EVERY_S
        except StoreUnavailable as exc:
            log.warning("old_report_sweeper.outage", extra={"reason": str(exc)})
            wait_s = OUTAGE_PAUSE_S
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), wait_s)


async def sweep_once(database: Database, reports: OldReports, metrics: OldReportMetrics) -> int:
    """One round; returns how many reports were looked at (0 … 50)."""
    swept = await sweep_round(database, reports)
    for taken in swept.taken:
        metrics.taken(taken)
    return swept.looked_at
