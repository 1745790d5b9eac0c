"""Watches the books while the workers run: what is unaccounted must be 0."""

import asyncio
import logging
from typing import Any

from tracker.adapters.audit import audit
from tracker.errors import TransientError
from workers.loop import rest
from workers.metrics import BookMetrics

log = logging.getLogger(__name__)
EVERY_S = 15.0


async def watch_books(dsn: str, redis_url: str, shards: int, metrics: BookMetrics, stop: asyncio.Event) -> None:
    """Set `turnout_clicks_unaccounted` and its twin every 15 s until `stop`. Silent nodes are not counted: nobody knows what they hold."""
    while not stop.is_set():
        try:
            books = await audit(dsn, redis_url, shards, with_postbacks=False)
        except TransientError as exc:
            log.warning("book_watch.unavailable", extra={"error": str(exc)})
        else:
            for kind, page, gauge in (("clicks", books, metrics.clicks), ("conversions", books["conversions"], metrics.conversions)):
                unaccounted = _unaccounted(page)
                gauge.set(unaccounted)
                if unaccounted:
                    log.error("book_watch.unaccounted", extra={"kind": kind, "records": unaccounted})
        await rest(EVERY_S, stop)


def _unaccounted(page: dict[str, Any]) -> int:
    return sum(abs(node["unaccounted"]) for node in page["nodes"] if node["state"] == "unbalanced")
