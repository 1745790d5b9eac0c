"""Watches the books while the workers run: what is unaccounted must be 0."""

import asyncio
import logging

from tracker.adapters.audit import audit
from tracker.errors import TransientError
from workers.loop import rest
from workers.metrics import BookMetrics

log = logging.getLogger(__name__)
EVERY_S = 15.0


async def watch_books(dsn: str, redis_url: str, shards: int, metrics: BookMetrics, stop: asyncio.Event) -> None:
    """Set `turnout_clicks_unaccounted` every 15 s until `stop`. Silent nodes are not counted: nobody knows what they hold."""
    while not stop.is_set():
        try:
            books = await audit(dsn, redis_url, shards)
        except TransientError as exc:
            log.warning("book_watch.unavailable", extra={"error": str(exc)})
        else:
            unaccounted = sum(abs(node["unaccounted"]) for node in books["nodes"] if node["state"] == "unbalanced")
            metrics.unaccounted.set(unaccounted)
            if unaccounted:
                log.error("book_watch.unaccounted", extra={"clicks": unaccounted})
        await rest(EVERY_S, stop)
