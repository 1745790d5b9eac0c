"""The keeper: partitions ahead of time, retention behind it, an alarm for clicks outside of all days, and links that old URLs made."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from tracker.adapters import partitions, postgres_old_report_desk, postgres_tee
from tracker.adapters.postgres_made_links import MADE_MAX, make_links
from tracker.adapters.postgres_pool import Connection
from tracker.adapters.postgres_session import PostgresSession
from workers.loop import Backoff, every
from workers.metrics import StorageMetrics

log = logging.getLogger(__name__)
EVERY_S = 600.0
MAKE_EVERY_S, MAKE_TIMEOUT_S = 30.0, 60.0
MAKE_OVERLAP = timedelta(minutes=10)
TIMEOUT_S = 900.0  # DETACH CONCURRENTLY waits for open reports
# A publisher that was away for longer compares everything anyway.
FORGET_ROUTE_CHANGES = "DELETE FROM route_changes WHERE at < now() - interval '7 days'"


class Keeper:
    """Keeps house in PostgreSQL; any number may run."""

    def __init__(self, dsn: str, retention_days: int, metrics: StorageMetrics) -> None:
        """`retention_days`: UTC days of clicks that are kept besides today; 0 = all."""
        self._session, self._retention_days, self._metrics = PostgresSession(dsn, name="keeper"), retention_days, metrics

    async def run(self, stop: asyncio.Event) -> None:
        """Keep house every ten minutes until `stop`, after an outage sooner."""
        try:
            await every(EVERY_S, stop, self.once, on_outage=self.close, event="keeper.unavailable", backoff=Backoff(5, 60))
        finally:
            await self.close()

    async def once(self) -> None:
        """Keep house once."""
        today = datetime.now(UTC).date()
        async with self._session.use(TIMEOUT_S) as connection:
            await partitions.ensure(connection, today)
            if self._retention_days:
                dropped = await partitions.drop_before(connection, today - timedelta(days=self._retention_days))
                if dropped:
                    log.info("keeper.days_dropped", extra={"partitions": dropped})
                    await partitions.ensure(connection, today)  # the low edge moves up to the first day that is left
            await connection.execute(FORGET_ROUTE_CHANGES)
            await self._watch(connection)
            await postgres_old_report_desk.forget(connection)  # last: the first time there may be much of it
            await postgres_tee.forget(connection)

    async def _watch(self, connection: Connection) -> None:
        rows = await partitions.edge_rows(connection)
        found = await partitions.layout(connection)
        self._metrics.edge_rows.set(rows)
        self._metrics.days_ahead.set((max(found.days) - datetime.now(UTC).date()).days)
        if rows:
            log.error("keeper.edge_rows", extra={"rows": rows})

    async def close(self) -> None:
        """Throw the connection away; the next call connects anew."""
        self._session.drop()


class LinkMaker:
    """Gives a link to every partner and campaign that visitors came by on an old URL; any number may run."""

    def __init__(self, dsn: str) -> None:
        self._session = PostgresSession(dsn, name="link maker")
        self._since = datetime.now(UTC) - MAKE_OVERLAP

    async def run(self, stop: asyncio.Event) -> None:
        """Look for new ones twice a minute until `stop`."""
        try:
            await every(MAKE_EVERY_S, stop, self.once, on_outage=self.close, event="link_maker.unavailable")
        finally:
            await self.close()

    async def once(self) -> None:
        """Make what clicks asked for since the last look; clicks may come late, so each look goes a while further back."""
        now = datetime.now(UTC)
        async with self._session.use(MAKE_TIMEOUT_S) as connection:
            made = await make_links(connection, self._since)
        if made:
            log.info("link_maker.made", extra={"links": made})
        if made < MADE_MAX:  # else there is more to make of the same clicks
            self._since = now - MAKE_OVERLAP

    async def close(self) -> None:
        """Throw the connection away; the next call connects anew."""
        self._session.drop()
