"""The keeper's work on months: what tiers, bonuses and clicks earn is booked as the month grows."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial

from tracker.adapters.postgres_months import Month, changed, month_of, paid_by_click, settle_clicks, settle_sales
from tracker.adapters.postgres_pool import Connection, Database
from workers.loop import Backoff, every

log = logging.getLogger(__name__)
EVERY_S, TIMEOUT_S = 60.0, 600.0
CLICKS_EVERY_S = 3600.0
CLICK_MONTHS = 2  # this one and the last: clicks of older days that are stored later are not paid for by themselves
ACTOR = "keeper"


class MonthKeeper:
    """Books what months earn beyond their sales; any number may run."""

    def __init__(self, database: Database) -> None:
        self._database, self._clicks_at = database, 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Every minute until `stop`."""
        await every(EVERY_S, stop, lambda: self.once(stop), event="month_keeper.unavailable", backoff=Backoff(5, 60))

    async def once(self, stop: asyncio.Event | None = None) -> None:
        """Settle the months whose sales changed; once an hour the clicks of this month's and the last one's days that are over."""
        async with self._database.connection() as connection:
            due = await changed(connection)
        for month in sorted(due, key=lambda one: (one.campaign, one.first)):
            if stop and stop.is_set():
                return
            await self._settle(month, partial(settle_sales, month=month, actor=ACTOR))
        if time.monotonic() >= self._clicks_at:
            await self._settle_clicks()
            self._clicks_at = time.monotonic() + CLICKS_EVERY_S

    async def _settle_clicks(self) -> None:
        today = datetime.now(UTC).date()
        async with self._database.connection() as connection:
            campaigns = await paid_by_click(connection)
        for month in (Month(campaign, month_of(today, back=back)) for campaign in campaigns for back in range(CLICK_MONTHS)):
            await self._settle(month, partial(settle_clicks, month=month, until=today, actor=ACTOR))

    async def _settle(self, month: Month, work: Callable[[Connection], Awaitable[int]]) -> None:
        if entries := await self._database.transaction(work, timeout_s=TIMEOUT_S):
            log.info("month_keeper.booked", extra={"campaign": month.campaign, "month": month.first.isoformat(), "entries": entries})
