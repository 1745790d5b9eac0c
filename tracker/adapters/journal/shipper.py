"""The shipper: moves batches from the journal into the stream, and keeps the journal until PostgreSQL has them.

One task owns the Redis connection; request handlers never await it. At-least-once: what is shipped twice is recognised by the
click writer from `boots.covered`. Nothing is unlinked before it is covered and the keep window has passed.
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
from tracker.adapters.journal import slot as slots
from tracker.adapters.journal.boot_log import NEVER, BootLog, Shipped
from tracker.adapters.journal.counter_page import CLOSED, FREE, CounterLine
from tracker.adapters.journal.remains import read_remains
from tracker.adapters.journal.segment import open_segment
from tracker.adapters.journal.stream_link import StreamLink, StreamPosition
from tracker.adapters.journal.writer import Batch
from tracker.crash import crash_at
from tracker.domain.intervals import SeqSet
from tracker.errors import StreamUnavailable

log = logging.getLogger(__name__)

ENTRY_BYTES = 64 * 1024
WINDOW_BYTES = 64 * 1024 * 1024  # shipped and not yet covered, per process: bounds what Redis must hold, like a TCP window
LINGER_S = 0.02  # lets batches of a quiet moment share an entry
TICK_S = 1.0
STALE_S = 30.0  # a batch that is not covered while a later one is, for so long, is shipped again
ACKED_S = 5.0  # acked in the stream and still not covered for so long: the database went back
ADOPT_EVERY_S = 10.0
SETTLE_S = 30.0  # a boot taken over: how long its last batches may still come out of the stream before they are missing
CLOSE_AGAIN_S = 10.0  # a closing entry that does not show in the books is sent again
OVERTAKEN_MS = 5000  # a state read this much before the one seen last was overtaken on its way; an older one means that Redis went back
BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


@dataclass(slots=True)
class Policy:
    """Settings of the shipper; see README.md for their defaults."""

    keep_s: float
    max_bytes: int
    shards: int = 1


@dataclass(slots=True)
class Held:
    """A slot this process holds, and the boots whose remains are in it."""

    slot: slots.Slot
    is_own: bool
    unread: list[Path]
    lines: list[CounterLine]
    logs: list[BootLog] = field(default_factory=list)
    has_unreadable: bool = False

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
        self.breaker_state = 0  # 0 closed, 1 half open, 2 open
        self.shipped_records = 0
        self.kept_bytes = 0
        self._work = asyncio.Event()
        self._position: dict[int, StreamPosition] = {}
        self._last_ids: dict[int, bytes] = {}
        self._adopted_at: dict[bytes, float] = {}
        self._newest = False
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
        """Take charge of a locked slot. What earlier boots left in it is looked through by `run`, in a thread."""
        lines = slot.page.lines() if slot.page else []
        self.held.append(Held(slot, is_own=is_own, unread=slot.segments(), lines=lines))
        self._work.set()

    async def _adopt(self, held: Held) -> None:
        remains = await asyncio.to_thread(read_remains, held.unread)
        lines = {line.boot: line for line in held.lines}
        logs: dict[bytes, BootLog] = {}
        for path, header, seqs in remains.segments:
            if header.boot not in logs:
                line = lines.pop(header.boot, None) or CounterLine(header.boot, values=(FREE, 0, 0, 0, 0, 0))
                logs[header.boot] = BootLog(header.kind, header.node, header.boot, line, held.slot.directory)
            logs[header.boot].adopt(path, seqs)
        for boot, line in lines.items():
            logs[boot] = BootLog(self._kind, self._node, boot, line, held.slot.directory)
        for found in logs.values():
            self._prepare(found)
        held.has_unreadable = remains.unreadable
        held.unread, held.lines, held.logs = [], [], list(logs.values())
        self._work.set()

    def _prepare(self, boot: BootLog) -> None:
        boot.load_covered()
        boot.is_opened = True
        boot.line.last_seq = max(boot.line.last_seq, boot.on_disk.last or 0)
        boot.todo = boot.on_disk.minus(boot.covered)
        self._adopted_at[boot.boot] = time.monotonic()

    # -- the loop

    async def run(self) -> None:
        """Ship until `stop`; survives every outage of Redis."""
        failures = 0
        last_tick = last_adoption = NEVER
        self._adopting = asyncio.create_task(self.adopt_orphans(), name="adoption")  # beside the loop: a day's journal takes seconds
        while not self._stopping:
            now = time.monotonic()
            try:
                if now - last_adoption >= ADOPT_EVERY_S and self._adopting.done():
                    self._adopting.result()
                    self._adopting = asyncio.create_task(self.adopt_orphans(), name="adoption")
                    last_adoption = now
                if now - last_tick >= TICK_S:
                    await self._tick()
                    last_tick = now
                progressed = await self._ship_some()
                failures, self.breaker_state = 0, 0
            except StreamUnavailable as exc:
                if failures == 0:
                    log.warning("shipper.stream_unavailable", extra={"error": str(exc)})
                failures += 1
                self.breaker_state = 2
                await self._link.reset()
                self.expire()
                await self._pause(BACKOFF_S[min(failures, len(BACKOFF_S)) - 1])
                self.breaker_state = 1
                continue
            if not progressed:
                self._work.clear()
                if not self._has_work():
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
        if self._work.is_set() and not self._stopping and not (self.own and self.own.unjournaled()):
            await asyncio.sleep(LINGER_S)

    def _has_work(self) -> bool:
        return self._window_bytes() < WINDOW_BYTES and any(boot.todo for boot in self.logs())

    def _window_bytes(self) -> int:
        return sum(boot.window_bytes for boot in self.logs())

    async def _ship_some(self) -> bool:
        progressed = False
        for boot in self.logs():
            if not boot.is_opened:
                await self._send(boot, wire.Entry(boot.node, boot.boot, self.host_id, 1, 0, (), 0, _now_ms()))
                boot.is_opened = True
            if boot.todo and self._window_bytes() < WINDOW_BYTES:
                self._newest = not self._newest  # old and fresh take turns, so that a backlog does not keep fresh clicks from attribution
                progressed = await self._ship_one(boot, newest=self._newest) or progressed
        return progressed

    async def _ship_one(self, boot: BootLog, *, newest: bool) -> bool:
        path = boot.segment_to_open(newest=newest)
        if path is not None:
            boot.reader = await asyncio.to_thread(open_segment, path)  # a whole segment takes a third of a second
        run = boot.next_run(ENTRY_BYTES, newest=newest)
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
        now_ms = _now_ms()
        self.kept_bytes = self._kept_bytes()
        for boot in self.logs():
            boot.try_again()
            await self._link.report(boot.report(self.host_id, now_ms, self.kept_bytes))
            state = await self._link.covered(boot.boot)
            if state is not None and not _is_overtaken(state, boot.state):
                boot.apply(state)
                boot.save_covered()
        for shard in {wire.shard_of(boot.boot, self._policy.shards) for boot in self.logs()}:
            await self._check_stream(shard)
        for held in self.held.copy():
            for boot in held.logs.copy():
                if boot is not self.own:
                    await self._settle(held, boot)
        self.expire()

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
            boot.reship([entry for entry in boot.window if _is_stale(entry, boot.covered, position, now)])

    async def _settle(self, held: Held, boot: BootLog) -> None:
        """Bring a boot of a dead process to its end: all its batches covered, then closed with its final count, then forgotten."""
        if boot.is_in_the_books():
            boot.line.release()
            if not boot.segments:
                boot.forget_files()
                held.logs.remove(boot)
            return
        if boot.todo or boot.window or boot.state is None:
            return
        missing = SeqSet([(1, boot.line.last_seq + 1)]).minus(boot.covered)
        if missing and (held.has_unreadable or time.monotonic() - self._adopted_at[boot.boot] < SETTLE_S):
            return
        if time.monotonic() - boot.closing_sent_at > CLOSE_AGAIN_S:
            await self.close_boot(boot)
            boot.closing_sent_at = time.monotonic()

    async def close_boot(self, boot: BootLog) -> bytes:
        """Send a boot's closing entry: its last seq, all it accepted, and what of it was never written anywhere."""
        line = boot.line
        accepted = max(line.accepted, boot.accounted(), boot.state.accepted if boot.state else 0)
        missing = SeqSet([(1, line.last_seq + 1)]).minus(boot.covered).minus(boot.on_disk)
        unrecorded = accepted - boot.accounted() if missing and boot is not self.own else line.unrecorded
        entry = wire.Entry(
            boot.node, boot.boot, self.host_id, 1, 0, (), accepted, _now_ms(), closed_seq=line.last_seq, unrecorded=unrecorded
        )
        return await self._send(boot, entry)

    # -- slots of the dead, and the disk

    async def adopt_orphans(self) -> None:
        """Take over slots whose process is gone, and look through what is there; give back slots that are empty."""
        with contextlib.suppress(OSError):
            mine = {held.slot.directory for held in self.held}
            for slot in slots.take_over(self._root, mine):
                log.info("journal.slot_taken_over", extra={"slot": str(slot.directory)})
                self.hold(slot, is_own=False)
        for held in self.held.copy():
            if held.unread or held.lines:
                await self._adopt(held)
        for held in [held for held in self.held if held.is_done()]:
            held.slot.release()
            self.held.remove(held)

    def expire(self) -> None:
        """Unlink covered segments that are older than the keep window, or too many. Never an uncovered one."""
        kept = self._kept_bytes()
        now = time.time()
        for boot in self.logs():
            for path in boot.sealed(is_own=boot is self.own):
                with contextlib.suppress(OSError):
                    info = path.stat()
                    if boot.is_covered(path) and (now - info.st_mtime >= self._policy.keep_s or kept > self._policy.max_bytes):
                        boot.unlink(path)
                        kept -= info.st_size
        self.kept_bytes = kept

    def uncovered(self, now: float) -> tuple[int, float]:
        """Bytes that PostgreSQL is not known to have, and the age in seconds of the oldest segment that holds some (`now`: Unix time)."""
        total, oldest = 0, now
        for boot in self.logs():
            held = boot.held()
            total += boot.held_bytes(held)
            oldest = min([oldest, *boot.written_at(held)])
        return total, max(0.0, now - oldest)

    def _kept_bytes(self) -> int:
        total = 0
        for boot in self.logs():
            for path in boot.segments:
                with contextlib.suppress(OSError):
                    total += path.stat().st_size
        return total

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

    def is_settled(self) -> bool:
        """Whether everything held is covered."""
        return not any(boot.held() for boot in self.logs())

    async def end(self) -> None:
        """Close the own boot, say so, and let the slots go. After `run` has returned."""
        if self.own is not None:
            for batch in self.own.unjournaled():
                if batch.seq in self.own.todo:
                    self.own.give_up(batch.seq)
            self.own.line.state = CLOSED
            self.own.line.save()
            with contextlib.suppress(StreamUnavailable):
                await self.close_boot(self.own)
                await self._link.report(self.own.report(self.host_id, _now_ms(), self.kept_bytes))
        await self._link.reset()
        await asyncio.wait([self._adopting])
        for held in self.held:
            held.slot.release()


def _is_stale(entry: Shipped, covered: SeqSet, position: StreamPosition, now: float) -> bool:
    age = now - entry.sent_at
    is_passed_over = age > STALE_S and (covered.last or 0) > entry.seq_to
    return is_passed_over or (age > ACKED_S and position.has_acked(entry.stream_id))


def _is_overtaken(state: wire.CoveredState, seen: wire.CoveredState | None) -> bool:
    return seen is not None and seen.at_ms - OVERTAKEN_MS <= state.at_ms < seen.at_ms


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
