"""The keeper's work on months: what tiers, bonuses and clicks earn is booked as the month grows."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from tracker.adapters.postgres_months import Month, campaigns, changed, month_of, settle
from tracker.adapters.postgres_pool import Connection, Database
from workers.loop import Backoff, every

log = logging.getLogger(__name__)
EVERY_S, TIMEOUT_S = 60.0, 300.0
OVERLAP = timedelta(minutes=10)  # no transaction that books is that long
ALL_EVERY = timedelta(hours=6)
MONTHS_BACK = 2
ACTOR = "keeper"


class MonthKeeper:
    """Books what months earn beyond their sales; any number may run."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._since, self._all_at = datetime.now(UTC), datetime.min.replace(tzinfo=UTC)

    async def run(self, stop: asyncio.Event) -> None:
        """Every minute until `stop`."""
        await every(EVERY_S, stop, lambda: self.once(stop), event="month_keeper.unavailable", backoff=Backoff(5, 60))

    async def once(self, stop: asyncio.Event | None = None) -> None:
        """Settle the months in which something was booked since the last look, and clicks of this and the last one; all now and then."""
        now = datetime.now(UTC)
        is_all = now - self._all_at >= ALL_EVERY
        async with self._database.connection(TIMEOUT_S) as connection:
            looked_at = await campaigns(connection)
            whole = {Month(campaign, month_of(now, back=back)) for campaign in looked_at for back in range(MONTHS_BACK + 1) if is_all}
            whole |= await changed(connection, self._since, looked_at)
        clicks = {Month(campaign, month_of(now, back=back)) for campaign in looked_at for back in range(2)} - whole
        for month in sorted(whole | clicks, key=lambda one: (one.campaign, one.first)):
            if stop and stop.is_set():
                return
            await self._settle(month, only_clicks=month in clicks)
        self._since, self._all_at = now - OVERLAP, now if is_all else self._all_at

    async def _settle(self, month: Month, *, only_clicks: bool) -> None:
        async def work(connection: Connection) -> int:
            return await settle(connection, month, actor=ACTOR, only_clicks=only_clicks)

        if entries := await self._database.transaction(work, timeout_s=TIMEOUT_S):
            log.info("month_keeper.booked", extra={"campaign": month.campaign, "month": month.first.isoformat(), "entries": entries})
