"""The shipper: moves batches from the journal into the stream, and keeps the journal until PostgreSQL has them.

One task owns the Redis connection; request handlers never await it, and nothing here touches the disk on the event loop.
At-least-once: what is shipped twice is recognised by the click writer from `boots.covered`. Nothing is unlinked before it is
covered and the keep window has passed.
"""

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tracker import wire
from tracker.adapters.journal import shelf
from tracker.adapters.journal import slot as slots
from tracker.adapters.journal.boot_log import NEVER, BootLog, Shipped
from tracker.adapters.journal.counter_page import CLOSED, FREE, CounterLine
from tracker.adapters.journal.remains import read_remains
from tracker.adapters.journal.segment import Stored
from tracker.adapters.journal.stream_link import StreamLink, StreamPosition
from tracker.adapters.journal.writer import Batch
from tracker.crash import crash_at
from tracker.domain.intervals import SeqSet
from tracker.errors import StreamUnavailable

log = logging.getLogger(__name__)

ENTRY_BYTES = 64 * 1024
WINDOW_BYTES = 64 * 1024 * 1024  # journaled batches shipped and not yet covered: bounds what Redis must hold, like a TCP window
WINDOW_ENTRIES = 4096  # the same for a quiet node, whose entries are small; what waits longer is shipped in larger ones
LINGER_S = 0.02  # lets batches of a quiet moment share an entry
TICK_S = 1.0
ACKED_S = 5.0  # acked in the stream and still not covered for so long: the database went back
HOUSEKEEPING_S = 1.0
ADOPT_EVERY_S = 10.0
RETRY_READING_S = 30.0
SETTLE_S = 30.0  # a boot taken over: how long its last batches may still come out of the stream before they are missing
CLOSE_AGAIN_S = 10.0  # a closing entry that does not show in the books is sent again
OVERTAKEN_MS = 5000  # a state read this much before the one seen last was overtaken on its way; an older one means that Redis went back
BACKOFF_S = (0.1, 0.2, 0.5, 1.0)  # no longer: what an outage held up is to be through sooner than the outage took


@dataclass(slots=True)
class Policy:
    """Settings of the shipper; see README.md for their defaults."""

    keep_s: float
    max_bytes: int
    shards: int = 1


@dataclass(slots=True)
class Held:
    """A slot this process holds. `unread` segments are still to be looked through; `logs` are the boots whose remains are in it."""

    slot: slots.Slot
    is_own: bool
    unread: list[Path]
    lines: list[CounterLine]
    logs: list[BootLog] = field(default_factory=list)
    damaged: list[Path] = field(default_factory=list)

    def is_done(self) -> bool:
        """Whether nothing in it waits for anybody any more, so that another process may have it."""
        return not (self.is_own or self.unread or self.lines or self.logs)


class Shipper:
    """Ships one process's own boot and all boots of dead processes whose slots it could lock."""

    def __init__(self, link: StreamLink, kind: str, node: str, root: Path, policy: Policy) -> None:
        self._link, self._kind, self._node, self._root, self._policy = link, kind, node, root, policy
        self.host_id = f"{socket.gethostname()}:{os.getpid()}"
        self.own: BootLog | None = None
        self.held: list[Held] = []
        self.current: Callable[[], Path | None] = lambda: None  # the segment that is being written
        self.breaker_state = 0  # 0 closed, 1 half open, 2 open
        self.shipped_records = 0
        self.kept_bytes = 0
        self._work = asyncio.Event()
        self._position: dict[int, StreamPosition] = {}
        self._last_ids: dict[int, bytes] = {}
        self._adopted_at: dict[bytes, float] = {}
        self._noted: dict[bytes, str] = {}
        self._reader = shelf.BacklogReader()
        self._reading: tuple[BootLog, int, asyncio.Task[list[Stored]]] | None = None
        self._try_again_at = 0.0
        self._stopping = False

    # -- what is to be shipped

    def logs(self) -> list[BootLog]:
        """Every boot held, the own one first."""
        own = [self.own] if self.own else []
        return own + [boot for held in self.held for boot in held.logs if boot is not self.own]

    def offer(self, batch: Batch) -> None:
        """A batch of the own boot may be shipped. Never blocks."""
        if self.own is not None:
            self.own.offer(batch)
            self._work.set()

    def hold(self, slot: slots.Slot, *, is_own: bool) -> None:
        """Take charge of a locked slot. What earlier boots left in it is looked through by the housekeeping, in a thread."""
        lines = slot.page.lines() if slot.page else []
        self.held.append(Held(slot, is_own=is_own, unread=slot.segments(), lines=lines))
        self._work.set()

    # -- the loop

    async def run(self) -> None:
        """Ship until `stop`; survives every outage of Redis."""
        housekeeping = asyncio.create_task(self._keep_house(), name="housekeeping")
        try:
            await self._ship(housekeeping)
        finally:
            if self._reading is not None:
                self._reading[2].cancel()
            housekeeping.cancel()
            await asyncio.wait([housekeeping])

    async def _ship(self, housekeeping: "asyncio.Task[None]") -> None:
        failures, last_tick = 0, NEVER
        while not self._stopping:
            if housekeeping.done():
                housekeeping.result()
            try:
                if time.monotonic() - last_tick >= TICK_S:
                    await self._tick()
                    last_tick = time.monotonic()
                progressed = await self._ship_some()
                failures, self.breaker_state = 0, 0
            except StreamUnavailable as exc:
                if failures == 0:
                    log.warning("shipper.stream_unavailable", extra={"error": str(exc)})
                failures += 1
                self.breaker_state = 2
                await self._link.reset()
                await self._pause(BACKOFF_S[min(failures, len(BACKOFF_S)) - 1])
                self.breaker_state = 1
                continue
            if not progressed:
                self._work.clear()
                await self._wait_for_work(max(0.0, last_tick + TICK_S - time.monotonic()))

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._stopping:
                    await asyncio.sleep(0.05)

    async def _wait_for_work(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._work.wait()
        is_urgent = self._stopping or self._reading is not None or (self.own is not None and bool(self.own.unsent()))
        if self._work.is_set() and not is_urgent:
            await asyncio.sleep(LINGER_S)

    def _is_window_open(self) -> bool:
        return self._window_bytes() < WINDOW_BYTES and sum(len(boot.window) for boot in self.logs()) < WINDOW_ENTRIES

    def _window_bytes(self) -> int:
        return sum(boot.window_bytes for boot in self.logs())

    async def _ship_some(self) -> bool:
        """One turn: of each boot a run from memory, and one from the disk if it is read. Fresh clicks never wait for a backlog."""
        progressed = False
        for boot in self.logs():
            if not boot.is_opened and boot.line.is_kept:
                await self._send(boot, wire.Entry(boot.node, boot.boot, self.host_id, 1, 0, (), 0, _now_ms()))
                boot.is_opened = True
            if boot.todo:
                run = boot.memory_run(ENTRY_BYTES, unjournaled_only=not self._is_window_open())
                progressed = await self._ship_run(boot, run) or progressed
        return await self._ship_from_disk() or progressed

    async def _ship_from_disk(self) -> bool:
        if self._reading is None:
            self._reading = self._begin_reading()
            return False
        boot, seq, task = self._reading
        if not task.done():
            return False
        run = task.result()
        if not run and seq in boot.todo:
            boot.put_aside(seq)
            self._try_again_at = self._try_again_at or time.monotonic() + RETRY_READING_S
        still_wanted = [stored for stored in run if stored.seq in boot.todo]
        await self._ship_run(boot, still_wanted if len(still_wanted) == len(run) else still_wanted[:1])
        self._reading = self._begin_reading()
        return True

    def _begin_reading(self) -> tuple[BootLog, int, asyncio.Task[list[Stored]]] | None:
        if not self._is_window_open():
            return None
        for boot in self.logs():
            wanted = boot.next_on_disk() if boot.todo else None
            if wanted is not None:
                task = asyncio.create_task(asyncio.to_thread(self._reader.read, *wanted, ENTRY_BYTES), name="backlog")
                task.add_done_callback(lambda _: self._work.set())
                return boot, wanted[1], task
        return None

    async def _ship_run(self, boot: BootLog, run: list[Stored]) -> bool:
        if not run:
            return False
        counts = tuple(stored.records for stored in run)
        payload = b"".join(stored.frame for stored in run)
        entry = wire.Entry(boot.node, boot.boot, self.host_id, run[0].seq, run[-1].seq, counts, run[-1].accepted, _now_ms(), payload)
        crash_at("shipper.before_xadd")
        stream_id = await self._send(boot, entry)
        crash_at("shipper.after_xadd")
        boot.shipped(run, stream_id, time.monotonic())
        self.shipped_records += entry.records
        return True

    async def _send(self, boot: BootLog, entry: wire.Entry) -> bytes:
        shard = wire.shard_of(boot.boot, self._policy.shards)
        stream_id = await self._link.append(wire.stream_key(boot.kind, shard), entry.fields())
        self._last_ids[shard] = stream_id
        return stream_id

    # -- once a second

    async def _tick(self) -> None:
        if self._try_again_at and time.monotonic() >= self._try_again_at:
            self._try_again_at = 0.0
            for boot in self.logs():
                boot.try_again()
        now_ms = await self._link.now_ms()  # the server's clock: a node's own may be hours off
        for boot in self.logs():
            await self._link.report(boot.report(self.host_id, now_ms, self.kept_bytes))
            state = await self._link.covered(boot.boot)
            if state is not None and not _is_overtaken(state, boot.state):
                boot.apply(state)
        for shard in {wire.shard_of(boot.boot, self._policy.shards) for boot in self.logs()}:
            await self._check_stream(shard)
        for held in self.held.copy():
            for boot in held.logs.copy():
                if boot is not self.own:
                    await self._settle(held, boot)

    async def _check_stream(self, shard: int) -> None:
        """Find out what the stream has lost, and what was acked without being covered; ship it again."""
        position = await self._link.position(wire.stream_key(self._kind, shard))
        before, self._position[shard] = self._position.get(shard), position
        boots = [boot for boot in self.logs() if wire.shard_of(boot.boot, self._policy.shards) == shard]
        if position.has_lost(before, self._last_ids.get(shard)):
            log.warning("shipper.stream_went_back", extra={"shard": shard})
            self._last_ids.pop(shard, None)
            for boot in boots:
                boot.reship(boot.window)
                boot.closing_sent_at = NEVER
                boot.is_opened = boot is not self.own and boot.is_opened
            return
        now = time.monotonic()
        for boot in boots:
            boot.reship([entry for entry in boot.window if _is_stale(entry, position, now)])

    async def _settle(self, held: Held, boot: BootLog) -> None:
        """Bring a boot of a dead process to its end: all its batches covered, then closed with its final count, then forgotten."""
        if boot.is_in_the_books():
            boot.line.release()
            if not boot.segments:
                held.logs.remove(boot)
            return
        if boot.todo or boot.window or boot.state is None or boot.held():
            return
        is_early = time.monotonic() - self._adopted_at[boot.boot] < SETTLE_S
        if boot.missing() and (held.unread or is_early):
            return
        if time.monotonic() - boot.closing_sent_at > CLOSE_AGAIN_S:
            boot.lost = boot.missing()
            await self.close_boot(boot)
            boot.closing_sent_at = time.monotonic()

    async def close_boot(self, boot: BootLog) -> bytes:
        """Send a boot's closing entry: its last seq, all it accepted, and what of it was never written anywhere."""
        line = boot.line
        accepted = max(line.accepted, boot.accounted(), boot.state.accepted if boot.state else 0)
        unrecorded = line.unrecorded if boot is self.own or not boot.lost else accepted - boot.accounted()
        entry = wire.Entry(
            boot.node, boot.boot, self.host_id, 1, 0, (), accepted, _now_ms(),
            closed_seq=line.last_seq, unrecorded=unrecorded, lost=str(boot.lost),
        )  # fmt: skip
        return await self._send(boot, entry)

    # -- housekeeping: slots of the dead, and the disk. In its own task, for a frozen disk may hold it up.

    async def _keep_house(self) -> None:
        last_adoption = NEVER
        while True:
            if time.monotonic() - last_adoption >= ADOPT_EVERY_S:
                last_adoption = time.monotonic()
                await self.adopt_orphans()
            await self._do_chores()
            await asyncio.sleep(HOUSEKEEPING_S)

    async def adopt_orphans(self) -> None:
        """Take over slots whose process is gone, and look through what is there; give back slots that are empty."""
        mine = {held.slot.directory for held in self.held}
        for slot in await asyncio.to_thread(shelf.lock_orphans, self._root, mine):
            log.info("journal.slot_taken_over", extra={"slot": str(slot.directory)})
            self.hold(slot, is_own=False)
        for held in self.held.copy():
            if held.unread or held.lines:
                await self._adopt(held)
        for held in [held for held in self.held if held.is_done()]:
            held.slot.release()
            self.held.remove(held)

    async def _adopt(self, held: Held) -> None:
        remains = await asyncio.to_thread(read_remains, held.unread)
        lines = {line.boot: line for line in held.lines}
        logs = {boot.boot: boot for boot in held.logs}
        covered = await asyncio.to_thread(
            shelf.read_covered, held.slot.directory, {*lines, *(found.header.boot for found in remains.segments)}
        )
        for found in remains.segments:
            header = found.header
            if header.boot not in logs:
                line = lines.pop(header.boot, None) or CounterLine(header.boot, values=(FREE, 0, 0, 0, 0, 0))
                logs[header.boot] = BootLog(header.kind, header.node, header.boot, line, held.slot.directory)
            logs[header.boot].adopt(found.path, found.seqs, found.size_bytes, found.written_at)
        for boot, line in lines.items():
            logs.setdefault(boot, BootLog(self._kind, self._node, boot, line, held.slot.directory))
        for boot_log in logs.values():
            self._prepare(boot_log, covered.get(boot_log.boot))
        held.unread, held.lines, held.logs = remains.unreadable, [], list(logs.values())
        held.damaged += remains.damaged
        self._work.set()

    def _prepare(self, boot: BootLog, covered: SeqSet | None) -> None:
        boot.is_opened = True
        if covered is not None and not boot.covered:
            boot.covered = covered
        boot.line.last_seq = max(boot.line.last_seq, boot.on_disk.last or 0)
        boot.todo.update(boot.on_disk.minus(boot.covered))
        self._adopted_at.setdefault(boot.boot, time.monotonic())

    async def _do_chores(self) -> None:
        self.kept_bytes = sum(boot.kept_bytes() for boot in self.logs())
        excess = self.kept_bytes - self._policy.max_bytes
        unlink, note = list[tuple[BootLog, Path]](), list[tuple[Path, str]]()
        for boot in self.logs():
            current = self.current() if boot is self.own else None
            expired = boot.expired(time.time(), self._policy.keep_s, excess, current)
            unlink += [(boot, path) for path in expired]
            text = str(boot.covered)
            if boot.directory is not None and self._noted.get(boot.boot, "{}") != text and boot.segments:
                note.append((shelf.covered_file(boot.directory, boot.boot), text))
                self._noted[boot.boot] = text
        pages = [held.slot.page for held in self.held if held.slot.page is not None]
        for boot, path in await asyncio.to_thread(shelf.do_chores, shelf.Chores(unlink, note, pages)):
            boot.drop(path)
            if boot.directory is not None and boot is not self.own and not boot.segments:
                await asyncio.to_thread(shelf.forget, boot.directory, boot.boot)
                self._noted.pop(boot.boot, None)

    def uncovered(self, now: float) -> tuple[int, float]:
        """Bytes that PostgreSQL is not known to have, and the age in seconds of the oldest segment that holds some (`now`: Unix time)."""
        total, oldest = 0, now
        for boot in self.logs():
            held = boot.held()
            total += boot.held_bytes(held)
            oldest = min([oldest, *boot.written_at(held)])
        return total, max(0.0, now - oldest)

    # -- the end

    async def stop(self, wait_s: float, until: Callable[[], bool] | None = None) -> None:
        """Go on until all is in the stream (or `until` says so), for up to `wait_s`; then `run` returns. The rest stays in the journal."""
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline and not (until or self.is_done)():
            await asyncio.sleep(0.05)
        self._stopping = True
        self._work.set()

    def is_done(self) -> bool:
        """Whether everything held is in the stream."""
        return not any(boot.todo for boot in self.logs())

    async def end(self) -> None:
        """Close the own boot, say so, and let the slots go. After `run` has returned."""
        if self.own is not None:
            for seq in self.own.unsent():
                self.own.give_up(seq)
            self.own.line.state = CLOSED
            self.own.line.save()
            with contextlib.suppress(StreamUnavailable):
                await self.close_boot(self.own)
                await self._link.report(self.own.report(self.host_id, await self._link.now_ms(), self.kept_bytes))
        await self._link.reset()
        for held in self.held:
            held.slot.release()


def _is_stale(entry: Shipped, position: StreamPosition, now: float) -> bool:
    """Whether the writers are done with an entry that did not get covered. One that still waits in the stream is not."""
    return now - entry.sent_at > ACKED_S and position.has_acked(entry.key)


def _is_overtaken(state: wire.CoveredState, seen: wire.CoveredState | None) -> bool:
    return seen is not None and seen.at_ms - OVERTAKEN_MS <= state.at_ms < seen.at_ms


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
