"""Parked postbacks: tried again until their click is there, or until they may no longer earn and become orphans."""

import asyncio
import contextlib
import logging
from collections import Counter

from tracker.adapters.postgres_parked import SWEEP_ROUND, sweep_round
from tracker.adapters.postgres_pool import Database
from tracker.errors import StoreUnavailable
from workers.metrics import SweeperMetrics

log = logging.getLogger(__name__)

PAUSE_S = 0.5  # between two looks when nothing more is due: a parked postback's first retry is after 1 s
OUTAGE_PAUSE_S = 1.0


async def sweep(database: Database, stop: asyncio.Event, metrics: SweeperMetrics, *, pause_s: float = PAUSE_S) -> None:
    """Try due postbacks, up to 500 a round and an order a transaction, until `stop` is set.

    Each is decided by the same code as when it arrived, in the transaction that finishes its row: a crash costs a repeat,
    never a second conversion. One that raises an error is logged and put off. Any number of sweepers may run. An outage of
    PostgreSQL is waited out.
    """
    while not stop.is_set():
        wait_s = pause_s
        try:
            if await sweep_once(database, metrics) == SWEEP_ROUND:
                continue
        except StoreUnavailable as exc:
            log.warning("parked_sweeper.outage", extra={"reason": str(exc)})
            wait_s = OUTAGE_PAUSE_S
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), wait_s)


async def sweep_once(database: Database, metrics: SweeperMetrics) -> int:
    """One round; returns how many postbacks were looked at (0 … 500)."""
    found = await sweep_round(database)
    for postback, verdict in found.settled:
        metrics.settled(postback, verdict)
    if found.settled:
        log.info("parked_sweeper.settled", extra={"outcomes": dict(Counter(verdict.outcome for _, verdict in found.settled))})
    return found.looked_at
