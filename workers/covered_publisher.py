"""Tells the nodes, each second, what PostgreSQL has of every boot that was heard of lately: state, never an event.

A node takes it as it is. So a lost message, a restart of Redis or a PostgreSQL that went back in time mend themselves.
"""

import asyncio
import time

from tracker.adapters import postgres_books
from tracker.adapters.postgres_session import PostgresSession
from tracker.adapters.redis_books import BookBoard
from tracker.wire import REPORT_TTL_S
from workers.loop import every

EVERY_S = 1.0
TIMEOUT_S = 10.0
HEARD_WITHIN_S = 15 * 60  # closed boots too, until their journals are gone


class CoveredPublisher:
    """Publishes what is covered, for clicks and conversions alike; any number may run."""

    def __init__(self, dsn: str, redis_url: str) -> None:
        self._session = PostgresSession(dsn, name="covered publisher")
        self._board = BookBoard(redis_url)

    async def run(self, stop: asyncio.Event) -> None:
        """Publish each second until `stop`."""
        try:
            await every(EVERY_S, stop, self.once, on_outage=self.close, event="covered_publisher.unavailable")
        finally:
            await self.close()

    async def once(self) -> None:
        """Publish once: boots heard of lately, unknown ones as covering nothing; note in PostgreSQL when they were heard of."""
        by_kind = await self._board.boots(time.time() - max(HEARD_WITHIN_S, REPORT_TTL_S))
        boots = sorted({boot for boots in by_kind.values() for boot in boots})
        if not boots:
            return
        reports = await self._board.reports(boots)
        async with self._session.use(TIMEOUT_S) as connection:
            await postgres_books.heard(connection, {boot: report.at_ms for boot, report in reports.items()})
            states = await postgres_books.states(connection, boots)
        await self._board.publish(states)

    async def close(self) -> None:
        """Throw both connections away; the next call connects anew."""
        self._session.drop()
        await self._board.close()
