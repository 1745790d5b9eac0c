"""The keeper's work on money: conversions whose hold is over are approved, months that are over are closed."""

import asyncio
import logging
from datetime import UTC, date, datetime

from tracker.adapters.postgres_balances import CLOSE_TIMEOUT_S, close_month
from tracker.adapters.postgres_due import ROUND, approve_due, overdue_s
from tracker.adapters.postgres_pool import Connection, Database
from workers.loop import Backoff, every
from workers.metrics import HoldMetrics

log = logging.getLogger(__name__)
APPROVE_EVERY_S = 60.0
CLOSE_EVERY_S = 600.0


class HoldKeeper:
    """Approves conversions whose hold is over; any number may run."""

    def __init__(self, database: Database, metrics: HoldMetrics) -> None:
        self._database, self._metrics = database, metrics

    async def run(self, stop: asyncio.Event) -> None:
        """Look for them every minute until `stop`."""
        await every(APPROVE_EVERY_S, stop, lambda: self.once(stop), event="hold_keeper.unavailable")

    async def once(self, stop: asyncio.Event | None = None) -> None:
        """Approve all that are due, 500 a transaction; between two of them `stop` is looked at."""

        async def approve(connection: Connection) -> int:
            return await approve_due(connection, datetime.now(UTC))

        approved = ROUND
        while approved == ROUND and not (stop and stop.is_set()):
            approved = await self._database.transaction(approve)
            self._metrics.approved.inc(approved)
            if approved:
                log.info("hold_keeper.approved", extra={"conversions": approved})
        async with self._database.connection() as connection:
            self._metrics.overdue_s.set(await overdue_s(connection, datetime.now(UTC)))


class MonthCloser:
    """Closes months of the ledger; any number may run."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self, stop: asyncio.Event) -> None:
        """Look for a month that is over every ten minutes until `stop`."""
        await every(CLOSE_EVERY_S, stop, self.once, event="month_closer.unavailable", backoff=Backoff(5, 60))

    async def once(self) -> None:
        """Close every month that is over, a transaction each."""

        async def close(connection: Connection) -> date | None:
            return await close_month(connection, datetime.now(UTC))

        while month := await self._database.transaction(close, timeout_s=CLOSE_TIMEOUT_S):
            log.info("month_closer.closed", extra={"month": month.isoformat()})
