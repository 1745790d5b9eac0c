"""Trims a stream each second to what some group still needs, and watches how old that is."""

import asyncio

from tracker.adapters.redis_streams import Trimmer
from workers.loop import every
from workers.metrics import StreamMetrics

EVERY_S = 1.0


async def trim(redis_url: str, key: str, metrics: StreamMetrics, stop: asyncio.Event) -> None:
    """Trim until `stop`. Never what is unread or unacked in any group; safe with any number of trimmers."""
    trimmer = Trimmer(redis_url, key)

    async def once() -> None:
        await trimmer.trim()
        metrics.oldest(key, await trimmer.oldest_age_s())

    try:
        await every(EVERY_S, stop, once, on_outage=trimmer.close, event="trimmer.unavailable")
    finally:
        await trimmer.close()
