"""The composition root of the workers: `turnout work NAME…`."""

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from prometheus_client import CollectorRegistry, disable_created_metrics

from tracker.adapters.postgres_clicks import ClickSink
from tracker.adapters.redis_books import BookBoard
from tracker.adapters.redis_streams import EntryStream
from tracker.adapters.redis_uniques import Uniques
from tracker.errors import EXIT_FAILED, BadConfiguration
from tracker.metrics import ConversionMetrics
from tracker.settings import Settings
from tracker.wire import stream_key
from workers.book_watch import watch_books
from workers.click_loading import ClickLoader
from workers.covered_publisher import CoveredPublisher
from workers.keeper import Keeper, LinkMaker
from workers.keeper_money import HoldKeeper, MonthCloser
from workers.keeper_months import MonthKeeper
from workers.keeper_old_clicks import OldClickKeeper, OldClickMetrics
from workers.metrics import (
    BookMetrics,
    ClickMetrics,
    HoldMetrics,
    OldReportMetrics,
    ReceiptMetrics,
    StorageMetrics,
    StreamMetrics,
    SweeperMetrics,
    TeeMetrics,
)
from workers.metrics_server import MetricsServer
from workers.slots import held_slot
from workers.stream_writer import CLICKS, CONVERSIONS, StreamWriter
from workers.trimmer import trim

log = logging.getLogger(__name__)
DRAIN_S = 10.0  # how long clicks may go on after SIGTERM
SMALLINT_SLOTS = 32768
GC_THRESHOLD = 200_000  # a batch makes 5,000 rows of 48 values and no cycles: with 700 a fifth of the time went to looking for some
Jobs = list[Coroutine[Any, Any, None]]


def work(settings: Settings, names: list[str]) -> int:
    """Run the named workers (`all` = every one there is) until SIGTERM or SIGINT; return the process's exit code.

    Outages are waited out. An unexpected error ends the process with exit code 1 and its traceback in the log: whoever supervises
    it starts it again, and recovery is the start-up path.
    """
    import uvloop

    disable_created_metrics()  # type: ignore[no-untyped-call] # untyped in the client
    gc.freeze()  # what is imported stays
    gc.set_threshold(GC_THRESHOLD, 20, 1000)
    wanted = tuple(STARTERS) if "all" in names else tuple(dict.fromkeys(names))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_work(settings, wanted))
    except BadConfiguration:
        raise
    except Exception:  # the outermost frame of the process
        log.exception("workers.failed", extra={"workers": list(wanted)})
        return EXIT_FAILED
    return 0


@dataclass(frozen=True)
class Parts:
    """What the workers of one process share."""

    settings: Settings
    registry: CollectorRegistry
    stop: asyncio.Event

    @cached_property
    def streams(self) -> StreamMetrics:
        """Made by the first worker that reads a stream."""
        return StreamMetrics(self.registry)


async def _work(settings: Settings, names: Sequence[str]) -> None:
    stop, registry = asyncio.Event(), CollectorRegistry()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    parts = Parts(settings, registry, stop)
    server = MetricsServer(registry, settings.metrics_allow)
    await server.start(os.environ.get("TURNOUT_INTERNAL_METRICS_SOCKET", ""), settings.host, settings.worker_metrics_port)
    log.info("workers.started", extra={"workers": list(names)})
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_bounded(STARTERS[name](parts), stop), name=name) for name in names]
            server.is_ready = lambda: not any(task.done() for task in tasks)
    finally:
        await server.close()


async def _bounded(job: Coroutine[Any, Any, None], stop: asyncio.Event) -> None:
    """Run `job`; after `stop` it has DRAIN_S to end by itself."""
    task = asyncio.ensure_future(job)
    waiting = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            await asyncio.wait([task], timeout=DRAIN_S)
        if task.done():
            return task.result()
        log.warning("workers.not_drained", extra={"seconds": DRAIN_S})
    finally:
        waiting.cancel()
        task.cancel()
        await asyncio.wait([task])


async def _together(jobs: Jobs) -> None:
    async with asyncio.TaskGroup() as group:
        for job in jobs:
            group.create_task(job)


async def _clicks(parts: Parts) -> None:
    """The click writers of all shards, with their trimmers, the publisher of what is covered, and the watch on the books."""
    settings, metrics = parts.settings, ClickMetrics(parts.registry, parts.streams)
    dsn, url, shards = settings.dsn, settings.stream_url, settings.stream_shards
    written = asyncio.Event()  # the helpers stop after the writers
    with held_slot(settings.directory.writers) as slot:
        writers: Jobs = []
        for shard in range(shards):
            sink = ClickSink(dsn, slot=(slot * shards + shard) % SMALLINT_SLOTS)
            stream = EntryStream(url, stream_key("clicks", shard), f"{settings.node_name}:{slot}")
            loader = ClickLoader(Uniques(url), sink.floor)
            writers.append(StreamWriter(CLICKS, stream, loader, sink, BookBoard(url), metrics).run(parts.stop))
        helpers = [CoveredPublisher(dsn, url).run(written), watch_books(dsn, url, shards, BookMetrics(parts.registry), written)]
        await _write(parts, "clicks", writers, helpers, written)


async def _write(parts: Parts, kind: str, writers: Jobs, helpers: Jobs, written: asyncio.Event) -> None:
    """Run `writers`, and beside them, until they have ended, `helpers` and the trimmers of the streams of `kind`."""
    url = parts.settings.stream_url
    trimmers = [trim(url, stream_key(kind, shard), parts.streams, written) for shard in range(parts.settings.stream_shards)]

    async def write() -> None:
        try:
            await _together(writers)
        finally:
            written.set()

    await _together([write(), *helpers, *trimmers])


async def _keeper(parts: Parts) -> None:
    from tracker.adapters.postgres_pool import database

    settings = parts.settings
    keeper = Keeper(settings.dsn, settings.click_retention_days, StorageMetrics(parts.registry))
    async with database(settings.dsn, name="keeper", size=2) as connections:
        holds, closer = HoldKeeper(connections, HoldMetrics(parts.registry)), MonthCloser(connections)
        old = OldClickKeeper(connections, OldClickMetrics(parts.registry))
        jobs = (keeper, LinkMaker(settings.dsn), holds, closer, MonthKeeper(connections), old)
        await _together([job.run(parts.stop) for job in jobs])


async def _conversions(parts: Parts) -> None:
    """The conversion writers of all shards, with their trimmers, the publisher of what is covered, and the sweepers of what waits."""
    from tracker.adapters.postgres_old_reports import OldReports
    from tracker.adapters.postgres_pool import database
    from tracker.adapters.postgres_receipts import ReceiptSink
    from tracker.route_table import profiles
    from workers import old_report_sweeper, parked_sweeper
    from workers.receipt_loading import ReceiptLoader

    settings, written = parts.settings, asyncio.Event()
    dsn, url, shards = settings.dsn, settings.stream_url, settings.stream_shards
    conversions, reports = ConversionMetrics(parts.registry), OldReports(profiles(settings))
    old_reports = OldReportMetrics(parts.registry, conversions)
    metrics = ReceiptMetrics(parts.registry, parts.streams, conversions, old_reports)
    with held_slot(settings.directory.writers) as slot:
        writers: Jobs = []
        for shard in range(shards):
            stream = EntryStream(url, stream_key("conversions", shard), f"{settings.node_name}:{slot}")
            sink = ReceiptSink(dsn, old_reports=reports, slot=(slot * shards + shard) % SMALLINT_SLOTS)
            writers.append(StreamWriter(CONVERSIONS, stream, ReceiptLoader(), sink, BookBoard(url), metrics).run(parts.stop))
        async with database(dsn, name="conversions", size=3) as connections:
            sweepers = [
                parked_sweeper.sweep(connections, parts.stop, SweeperMetrics(parts.registry, conversions)),
                old_report_sweeper.sweep(connections, reports, parts.stop, old_reports),
            ]
            await _write(parts, "conversions", writers, [CoveredPublisher(dsn, url).run(written), *sweepers], written)


async def _routes(parts: Parts) -> None:
    from workers.route_publisher import publish

    settings = parts.settings
    await publish(settings.dsn, settings.directory.routes, parts.stop, fallback=settings.fallback_url or None)


async def _postbacks(parts: Parts) -> None:
    """What goes out: reports of old hosts, passed on to the old platform."""
    from tracker.adapters.outbound import Outbound
    from tracker.adapters.postgres_pool import database
    from tracker.adapters.postgres_tee import TeeOutbox
    from tracker.route_table import profiles
    from workers.tee import TeeSender

    settings = parts.settings
    outbound = Outbound(settings.outbound_allow)
    try:
        async with database(settings.dsn, name="postbacks", size=4) as connections:
            await TeeSender(TeeOutbox(connections), outbound, profiles(settings), TeeMetrics(parts.registry)).run(parts.stop)
    finally:
        await outbound.close()


STARTERS: dict[str, Callable[[Parts], Coroutine[Any, Any, None]]] = {
    "clicks": _clicks,
    "conversions": _conversions,
    "routes": _routes,
    "keeper": _keeper,
    "postbacks": _postbacks,
}
