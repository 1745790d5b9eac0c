"""The writer of a stream: moves clicks, or receipts, from it into PostgreSQL, each exactly once, whatever dies when."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tracker.adapters.postgres_books import Overlap
from tracker.adapters.postgres_loads import DeadLetter, Load, Stored
from tracker.adapters.redis_streams import BLOCK_MS, Delivery
from tracker.crash import crash_at
from tracker.domain.intervals import SeqSet
from tracker.errors import StoreUnavailable, StreamUnavailable
from tracker.wire import CoveredState, Entry
from workers.loading import boots_of, read_entries
from workers.loop import Backoff

log = logging.getLogger(__name__)
READ_ENTRIES = 64  # a look; an entry is a run of up to 64 KB
MAX_BYTES = 4 * 1024**2  # a transaction, about
OVERLAPS = 20  # in a row; each means that another writer got further, so this many are a bug
BEAT_S = 1.0
HINTS = 4096  # boots whose covered set is remembered


class Stream(Protocol):
    """Where entries come from."""

    key: str
    gone: int

    async def read(self, count: int, block_ms: int = BLOCK_MS) -> list[Delivery]: ...
    async def ack(self, ids: Sequence[bytes]) -> None: ...
    async def beat(self) -> None: ...
    async def is_drained(self) -> bool: ...
    async def close(self) -> None: ...


class Sink(Protocol):
    """Where what they hold goes."""

    async def covered(self, boots: set[bytes]) -> dict[bytes, SeqSet]: ...
    async def states(self, boots: set[bytes]) -> dict[bytes, CoveredState]: ...
    async def store(self, load: Load) -> Stored: ...
    def close(self) -> None: ...


class Board(Protocol):
    """Where what is covered is told."""

    async def publish(self, states: dict[bytes, CoveredState]) -> None: ...
    async def close(self) -> None: ...


class Loader(Protocol):
    """What is to be stored of entries. `is_outdated`: asked before each store, whether what was loaded must be loaded anew."""

    async def is_outdated(self) -> bool: ...
    async def load(self, entries: Sequence[Entry], covered: dict[bytes, SeqSet], letters: Sequence[DeadLetter]) -> Load: ...
    async def close(self) -> None: ...


class Counts(Protocol):
    """Metrics of what was stored."""

    def stored(self, stored: Stored, load: Load, took_s: float, /) -> None: ...
    def gone(self, entries: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Kind:
    """What a stream carries: `clicks` or `conversions`; its writer's name in logs and crash points; about how many make a transaction."""

    name: str
    writer: str
    max_records: int


CLICKS = Kind("clicks", "click_writer", 5000)  # above, COPY gains nothing more
CONVERSIONS = Kind("conversions", "conversion_writer", 200)  # a few ms each, with their orders locked


@dataclass(slots=True)
class Prepared:
    """Deliveries, and what is to be stored of them as far as is known."""

    ids: list[bytes]
    entries: list[Entry]
    letters: list[DeadLetter]
    load: Load


class StreamWriter:
    """Drains one stream. Two batches are in hand: one is decoded while the one before it is in PostgreSQL.

    At least once from the stream, exactly once into the tables: an entry is acked only after the transaction that stores it has
    committed, and that transaction accounts for each batch once. So a crash on any line costs a redelivery, never a record.
    """

    def __init__(self, kind: Kind, stream: Stream, loader: Loader, sink: Sink, board: Board, metrics: Counts) -> None:
        self._kind = kind
        self._stream, self._loader, self._sink, self._board, self._metrics = stream, loader, sink, board, metrics
        self._hints: dict[bytes, SeqSet] = {}
        self._in_hand: set[bytes] = set()
        self._gone = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set and the stream is drained. Outages of Redis or PostgreSQL are waited out, with nothing acked."""
        try:
            async with asyncio.TaskGroup() as group:
                beating = group.create_task(self._beat(), name=f"{self._kind.writer}.beat")
                await self._drain(stop)
                beating.cancel()
        finally:
            self._sink.close()
            for part in (self._stream, self._board, self._loader):
                await part.close()

    async def _drain(self, stop: asyncio.Event) -> None:
        backoff = Backoff()
        while not await self._is_through(stop, backoff):
            await backoff.pause()

    async def _is_through(self, stop: asyncio.Event, backoff: Backoff) -> bool:
        try:
            await self._session(stop, backoff)
        except StreamUnavailable as exc:
            log.warning("writer.stream_unavailable", extra={"writer": self._kind.writer, "error": str(exc)})
            await self._stream.close()
            return False
        return True

    async def _session(self, stop: asyncio.Event, backoff: Backoff) -> None:
        storing: asyncio.Task[None] | None = None
        try:
            while True:
                deliveries = await self._gather(BLOCK_MS if storing is None and not stop.is_set() else 0)
                if storing is not None and sum(map(_records, deliveries)) < self._kind.max_records:
                    await storing  # the stream is nearly empty: what comes meanwhile belongs into the same transaction
                    storing = None
                    deliveries += await self._gather(0)
                backoff.reset()
                prepared = await self._prepare(deliveries) if deliveries else None
                if storing is not None:
                    await storing
                    storing = None
                if prepared is not None:
                    storing = asyncio.create_task(self._store_and_ack(prepared), name=f"{self._kind.writer}.store")
                elif stop.is_set() and await self._stream.is_drained():
                    return
        finally:
            if storing is not None:
                await self._let_go(storing)
            self._in_hand.clear()

    async def _let_go(self, storing: asyncio.Task[None]) -> None:
        """End a store that nobody waits for any more; its entries were not acked and come again."""
        storing.cancel()
        await asyncio.wait([storing])

    async def _gather(self, block_ms: int) -> list[Delivery]:
        """What the stream has, up to one transaction's worth; waits `block_ms` only when there is nothing at all."""
        found, records, size = list[Delivery](), 0, 0
        while records < self._kind.max_records and size < MAX_BYTES:
            page = await self._stream.read(READ_ENTRIES, 0 if found else block_ms)
            self._watch_gone()
            new = [delivery for delivery in page if delivery.id not in self._in_hand]
            self._in_hand.update(delivery.id for delivery in new)
            found += new
            records += sum(_records(delivery) for delivery in new)
            size += sum(delivery.size for delivery in new)
            if len(page) < READ_ENTRIES:
                break
        self._crash_at("after_read")
        return found

    def _watch_gone(self) -> None:
        gone, self._gone = self._stream.gone - self._gone, self._stream.gone
        if gone:
            log.error("writer.entries_gone", extra={"stream": self._stream.key, "entries": gone})
            self._metrics.gone(gone)

    async def _prepare(self, deliveries: list[Delivery]) -> Prepared:
        entries, letters, ids = read_entries(deliveries, self._kind.name)
        if len(self._hints) > HINTS:
            self._hints.clear()
        load = await self._load(entries, letters)
        return Prepared(ids, entries, letters, load)

    async def _load(self, entries: list[Entry], letters: list[DeadLetter]) -> Load:
        return await self._loader.load(entries, self._hints, letters)

    async def _store_and_ack(self, prepared: Prepared) -> None:
        backoff, started = Backoff(), asyncio.get_running_loop().time()
        for _ in range(OVERLAPS):
            try:
                stored = await self._store(prepared, backoff)
                break
            except Overlap as overlap:
                self._hints |= overlap.covered
                prepared.load = await self._load(prepared.entries, prepared.letters)
        else:
            raise RuntimeError(
                f"covered did not settle after {OVERLAPS} tries: {sorted(boot.hex() for boot in boots_of(prepared.entries))}"
            )
        self._crash_at("after_commit")
        self._metrics.stored(stored, prepared.load, asyncio.get_running_loop().time() - started)
        self._remember(prepared.load)
        await self._publish(boots_of(prepared.entries))
        self._crash_at("before_ack")
        await self._stream.ack(prepared.ids)
        self._in_hand.difference_update(prepared.ids)
        self._crash_at("after_ack")

    async def _beat(self) -> None:
        """Show other writers that this one lives, also while it waits for PostgreSQL: they leave it its entries."""
        while True:
            await asyncio.sleep(BEAT_S)
            with contextlib.suppress(StreamUnavailable):  # who reads notices too
                await self._stream.beat()

    async def _store(self, prepared: Prepared, backoff: Backoff) -> Stored:
        """Store, over any outage: nothing is acked before, and the same load may be tried again as it is."""
        while True:
            try:
                if await self._loader.is_outdated():
                    prepared.load = await self._load(prepared.entries, prepared.letters)
                self._crash_at("before_copy")
                return await self._sink.store(prepared.load)
            except StoreUnavailable as exc:
                log.warning("writer.store_unavailable", extra={"writer": self._kind.writer, "error": str(exc)})
                await backoff.pause()

    def _remember(self, load: Load) -> None:
        for boot, delta in load.deltas.items():
            self._hints.setdefault(boot, SeqSet()).update(delta.fresh)

    def _crash_at(self, step: str) -> None:
        crash_at(f"{self._kind.writer}.{step}")

    async def _publish(self, boots: set[bytes]) -> None:
        """Tell the nodes at once; when that fails, the publisher tells them within a second."""
        try:
            await self._board.publish(await self._sink.states(boots))
        except (StoreUnavailable, StreamUnavailable) as exc:
            log.warning("writer.publish_failed", extra={"writer": self._kind.writer, "error": str(exc)})
            await self._board.close()


def _records(delivery: Delivery) -> int:
    count = delivery.fields.get(b"n", b"")
    return int(count) if count.isdigit() and len(count) < 12 else 1
