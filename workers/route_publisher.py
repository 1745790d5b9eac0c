"""The route publisher: keeps the route table of this host in step with PostgreSQL.

Crash-only. How far the table is stands in the table itself, written in the transaction of the rows; so whatever
is interrupted is simply done again. NOTIFY makes it quick, the poll makes it sure, the checksum makes it right.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import ParamSpec, TypeVar

from tracker.adapters.lmdb_environment import table_errors
from tracker.adapters.lmdb_route_store import Position, RouteStore
from tracker.adapters.postgres_routes import KINDS, RouteSource
from tracker.errors import CorruptData, StoreUnavailable

log = logging.getLogger(__name__)

BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0)  # the promise is 2 s from change to redirect, also right after an outage
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Policy:
    """Intervals in seconds, sizes in rows."""

    poll_s: float = 0.5
    round_changes: int = 20_000
    page_rows: int = 10_000
    reader_check_s: float = 10.0
    verify_s: float = 300.0
    map_size_bytes: int = 16 * 1024**3


async def publish(dsn: str, path: Path, stop: asyncio.Event, *, fallback: str | None = None, policy: Policy | None = None) -> None:
    """Publish until `stop` is set.

    Args:
        dsn: libpq URL of PostgreSQL.
        path: the route table (`routes.mdb`); made when it is not there.
        fallback: FALLBACK_URL, published with the rest.

    An outage of PostgreSQL or a full disk is waited out; readers go on with the table as it is. A change is in the
    table within 2 s of its commit. Raises nothing of these; a bug ends it.
    """
    policy = policy or Policy()
    for delay_s in chain(BACKOFF_S, repeat(BACKOFF_S[-1])):
        try:
            store = await _table(RouteStore, path, map_size_bytes=policy.map_size_bytes)
            break
        except (OSError, CorruptData):
            log.exception("route_publisher.no_table", extra={"delay_s": delay_s})
        if await _stopped(stop, delay_s):
            return
    try:
        await _Publisher(dsn, store, stop, fallback, policy).run()
    finally:
        await _table(store.close)


class _Publisher:
    def __init__(self, dsn: str, store: RouteStore, stop: asyncio.Event, fallback: str | None, policy: Policy) -> None:
        self._dsn, self._store, self._stop = dsn, store, stop
        self._fallback, self._policy = fallback, policy
        self._nudged = asyncio.Event()
        self._position = Position()
        self._failures = 0

    async def run(self) -> None:
        """Follow, and after each outage follow again."""
        while not self._stop.is_set():
            try:
                async with RouteSource.connect(self._dsn, self._nudged.set) as source:
                    await self._follow(source)
            except (StoreUnavailable, OSError, CorruptData) as exc:
                delay_s = BACKOFF_S[min(self._failures, len(BACKOFF_S) - 1)]
                self._failures += 1
                log.warning("route_publisher.outage", extra={"reason": str(exc), "delay_s": delay_s})
                await _stopped(self._stop, delay_s)

    async def _follow(self, source: RouteSource) -> None:
        await self._begin(source)
        self._failures = 0
        next_check = time.monotonic() + self._policy.reader_check_s
        next_verify = time.monotonic() + self._policy.verify_s
        while not self._stop.is_set():
            self._nudged.clear()
            if await self._round(source):
                continue
            now = time.monotonic()
            if now >= next_check:
                await _table(self._store.reader_check)
                next_check = now + self._policy.reader_check_s
            if now >= next_verify and await self._verify(source):
                next_verify = now + self._policy.verify_s
            await _either(self._nudged, self._stop, self._policy.poll_s)

    async def _begin(self, source: RouteSource) -> None:
        identity = await source.identity()
        self._position = await _table(self._store.position)
        if self._position.database != identity:
            await self._rebuild(source, "another database")
        elif self._position.last_id > await source.drawn():
            await self._rebuild(source, "the feed went back")
        else:
            await self._publish_installation(source)

    async def _round(self, source: RouteSource) -> bool:
        """Publish the next changes; whether there are more waiting."""
        changes = await source.changes(self._position.last_id, self._policy.round_changes)
        if changes.last_id > self._position.last_id:
            routes, gone = await source.current(changes)
            position = Position(self._position.database, changes.last_id)
            await _table(self._store.apply, routes, gone, position)
            self._position = position
        if changes.is_full:
            return True
        await _table(self._store.mark_alive)
        return False

    async def _verify(self, source: RouteSource) -> bool:
        """Compare table and database; False: changes came in between, try again soon."""
        if self._position.last_id > await source.drawn():
            await self._rebuild(source, "the feed went back")
            return True
        async with source.snapshot() as newest:
            if newest > self._position.last_id:
                return False
            wanted = await source.sums()
        found = await _table(self._store.sums)
        differing = [kind for kind in KINDS if wanted.get(kind) != found.get(kind)]
        if differing:
            await self._rebuild(source, f"checksums differ: {b''.join(differing).decode()}")
        else:
            await self._publish_installation(source)
        return True

    async def _rebuild(self, source: RouteSource, reason: str) -> None:
        """Make the table what one snapshot of the database is, page by page: what is in both never vanishes."""
        log.warning("route_publisher.rebuild", extra={"reason": reason})
        identity = await source.identity()
        async with source.snapshot() as newest:
            for kind in KINDS:
                await self._rebuild_kind(source, kind)
        await self._publish_installation(source)
        self._position = Position(identity, newest)
        await _table(self._store.apply, (), (), self._position)

    async def _rebuild_kind(self, source: RouteSource, kind: bytes) -> None:
        after_id = 0
        while True:
            routes = await source.page(kind, after_id, self._policy.page_rows)
            upto_id = routes[-1].row_id if len(routes) == self._policy.page_rows else None
            await _table(self._store.replace_range, kind, after_id, upto_id, routes)
            if upto_id is None:
                return
            after_id = upto_id

    async def _publish_installation(self, source: RouteSource) -> None:
        installation = await source.installation(self._fallback)
        if await _table(self._store.installation) != installation:
            await _table(self._store.apply, (installation,), (), None)


async def _table(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """A call of the table, in a thread: it syncs. OSError or CorruptData when it fails."""

    def run() -> T:
        with table_errors():
            return call(*args, **kwargs)

    running = asyncio.ensure_future(asyncio.to_thread(run))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])  # the table must not be closed under a thread that writes it
        raise


async def _stopped(stop: asyncio.Event, within_s: float) -> bool:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), within_s)
    return stop.is_set()


async def _either(first: asyncio.Event, second: asyncio.Event, within_s: float) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in (first, second)]
    try:
        await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
