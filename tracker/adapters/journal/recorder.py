"""The recorder: gives records their place in the books and lets the visitor go when they are safe.

Records join the open batch; the journal thread writes batches one after the other. Runs on one event loop; nothing here awaits.
"""

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from tracker import wire
from tracker.adapters.journal import shelf
from tracker.adapters.journal.boot_log import BootLog
from tracker.adapters.journal.segment import Header
from tracker.adapters.journal.slot import Slot
from tracker.adapters.journal.writer import Batch, JournalWriter
from tracker.domain.intervals import SeqSet

log = logging.getLogger(__name__)

BATCH_MAX_RECORDS = 500  # clicks: × 8 KB is well below a frame's limit; and one stream entry stays near 64 KB in the usual case
QUEUE_MAX_BYTES = (
    64 * 1024 * 1024
)  # handed to the journal thread and not written; beyond it batches wait in the boot's memory, which is bounded
REFUSED_DEADLINE_S = 0.025  # the longest wait of a visitor once the journal has refused, where there is no other deadline
REWRITE_EVERY_S = 1.0
STARVED_MAX_S = 1.0  # how long an answer waits beyond the deadline for a disk that does not hang: this process got no time to ask it
LOOK_AGAIN_S = 0.005


class Recorder:
    """One boot of one process. `offer` (the shipper's) takes each batch as soon as it may be shipped."""

    def __init__(
        self,
        own: BootLog,
        slot: Slot | None,
        offer: Callable[[Batch], None],
        *,
        ack: str,
        deadline_s: float,
        segment_bytes: int,
        batch_records: int = BATCH_MAX_RECORDS,
        answers_anyway: bool = True,
    ) -> None:
        """`slot` None: no journal can be had (a full disk at start): batches wait for Redis alone until there is one.

        With `answers_anyway` nobody waits for ever: at the deadline everybody is let go, safe or not. Without, only what is safe is
        answered; what no disk took by the deadline goes to Redis.
        """
        self._own, self._offer, self._ack = own, offer, ack
        self._deadline_s = 0.0 if ack == "journal-sync" and answers_anyway else deadline_s
        self._segment_bytes, self._batch_records, self._answers_anyway = segment_bytes, batch_records, answers_anyway
        self._loop = asyncio.get_running_loop()
        self._records: list[wire.Record | wire.Receipt] = []
        self._waiters: list[Callable[[], None]] = []
        self._opened_at = 0.0
        self._flush_is_due = False
        self._unwritten: deque[Batch] = deque()  # sealed, in seq order, their write not finished
        self._writing = self._queued_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._writer: JournalWriter | None = None
        self._rescue: asyncio.Task[None] | None = None
        self._is_closing = False
        self._rewriter = self._loop.call_later(REWRITE_EVERY_S, self._rewrite)
        if slot is not None:
            self.use(slot)

    def use(self, slot: Slot) -> None:
        """Begin to write the journal in `slot`."""
        header = Header(self._own.kind, self._own.node, self._own.boot)
        self._writer = JournalWriter(
            slot.directory,
            header,
            self._written_on_thread,
            self._abandoned_on_thread,
            sync=self._ack == "journal-sync",
            segment_bytes=self._segment_bytes,
        )
        self._writer.start()

    def add(self, record: wire.Record | wire.Receipt, done: Callable[[], None]) -> None:
        """Record it; `done` is called once, when it is as safe as the ack mode asks, or at the deadline."""
        if not self._records:
            self._opened_at = self._loop.time()
            if not self._flush_is_due:
                self._flush_is_due = True
                self._loop.call_soon(self._flush)
        self._records.append(wire.fit(record) if isinstance(record, wire.Record) else record)
        self._waiters.append(done)

    def _flush(self) -> None:
        self._flush_is_due = False
        if self._records and (not self._writing or len(self._records) >= self._batch_records):
            self._seal()
        elif self._records:
            self._arm()

    def _seal(self) -> None:
        while self._records:
            records, self._records = self._records[: self._batch_records], self._records[self._batch_records :]
            waiters, self._waiters = self._waiters[: len(records)], self._waiters[len(records) :]
            self._submit(records, waiters)
        self._arm()

    def _submit(self, records: list[wire.Record | wire.Receipt], waiters: list[Callable[[], None]]) -> None:
        line = self._own.line
        line.last_seq += 1
        line.accepted += len(records)
        line.save()  # before any answer leaves: what was answered is in the books, whatever happens next
        frame = wire.encode_frame(line.last_seq, records, line.accepted)
        batch = Batch(line.last_seq, len(records), line.accepted, frame, self._opened_at, waiters)
        self._own.remember(batch)
        if self._ack == "memory":
            batch.answer()
        self._unwritten.append(batch)
        if self._writer is None:
            self._refused([batch])
        elif self._queued_bytes < QUEUE_MAX_BYTES:  # else `_rewrite` hands it on when the disk moves again
            self._hand_on(batch)

    def _hand_on(self, batch: Batch) -> None:
        if self._writer is not None:
            batch.writing = True
            self._writing += 1
            self._queued_bytes += len(batch.frame)
            self._writer.submit(batch)

    def _refused(self, group: list[Batch]) -> None:
        """No journal takes these: Redis is waited for, but no visitor waits for ever."""
        for batch in group:
            self._ship_unwritten(batch)
        if self._answers_anyway and not self._deadline_s and any(batch.waiters for batch in group):
            self._loop.call_later(REFUSED_DEADLINE_S, self._let_go, group)

    def _let_go(self, group: list[Batch]) -> None:
        for batch in group:
            if batch.waiters:
                self._own.line.late += len(batch.waiters)
                self._own.line.save()
                self._own.let_go(batch.seq)
                batch.answer()

    # -- the thread's answers

    def _written_on_thread(self, group: list[Batch], path: Path | None, error: OSError | None) -> None:
        self._loop.call_soon_threadsafe(self._written, group, path, error)

    def _abandoned_on_thread(self, path: Path) -> None:
        self._loop.call_soon_threadsafe(self._own.distrust, path)

    def _written(self, group: list[Batch], path: Path | None, error: OSError | None) -> None:
        self._writing -= len(group)
        now = time.time()
        for batch in group:
            batch.writing = False
            self._queued_bytes -= len(batch.frame)
            if error is None and path is not None:
                self._own.journaled(batch, path, now)
                if self._ack != "redis":
                    batch.answer()
                self._ship_unwritten(batch)
        if error is not None:
            self._refused(group)
        while self._unwritten and self._unwritten[0].is_done:
            self._unwritten.popleft()
        if self._records and not self._writing:
            self._seal()

    def _ship_unwritten(self, batch: Batch) -> None:
        if not batch.shipping:
            batch.shipping = True
            self._offer(batch)

    # -- the deadline

    def _arm(self) -> None:
        if self._timer is None and self._deadline_s:
            due = (batch.opened_at for batch in self._unwritten if self._answers_anyway or not batch.shipping)
            oldest = next(due, self._opened_at if self._records else None)
            if oldest is not None:
                self._timer = self._loop.call_at(oldest + self._deadline_s, self._deadline)

    def _deadline(self) -> None:
        """Give to Redis from memory what waited long enough for a disk that hangs, and answer its waiters, or let Redis do that.

        What is answered and never written is counted. It is the disk that has a deadline: where it does not hang, this process was late
        itself, and has still to ask it, or to hear what it said.
        """
        self._timer = None
        now = self._loop.time()
        due = now - self._deadline_s + 0.001
        if self._records and self._opened_at <= due:
            self._seal()
        for batch in self._unwritten:
            if batch.opened_at > due:
                break
            if batch.writing and not self._disk_hangs() and batch.opened_at > due - STARVED_MAX_S:
                self._timer = self._timer or self._loop.call_at(now + LOOK_AGAIN_S, self._deadline)
                break
            if self._answers_anyway:
                self._let_go([batch])
            self._ship_unwritten(batch)
        while self._unwritten and self._unwritten[0].is_done:
            self._unwritten.popleft()
        if self._unwritten or self._records:
            self._arm()

    def _disk_hangs(self) -> bool:
        return self._writer is not None and self._writer.hangs_for() >= self._deadline_s

    # -- healing

    def _rewrite(self) -> None:
        """Give batches that only memory and Redis hold another chance to get into the journal."""
        self._rewriter = self._loop.call_later(REWRITE_EVERY_S, self._rewrite)
        if self._writer is None:
            return
        for batch in self._own.unjournaled():
            if not batch.writing and self._queued_bytes < QUEUE_MAX_BYTES:
                self._hand_on(batch)
        if self._rescue is None or self._rescue.done():
            suspects = self._own.suspects()
            self._rescue = self._loop.create_task(self._rewrite_suspects(suspects)) if suspects else None

    async def _rewrite_suspects(self, suspects: list[tuple[Path, SeqSet]]) -> None:
        """Write anew what a segment held whose sync failed; it is put aside when nothing depends on it any more."""
        for path, seqs in suspects:
            if not seqs:
                self._own.drop(path)
                await asyncio.to_thread(shelf.retire, path)
            for stored in await asyncio.to_thread(shelf.read_suspect, path, seqs):
                batch = Batch(stored.seq, stored.records, stored.accepted, stored.frame, 0.0, [])
                batch.journaled = batch.shipping = True  # once before: it is not counted again
                self._hand_on(batch)

    def is_alive(self) -> bool:
        """Whether the journal thread, if there is one, runs."""
        return self._writer is None or self._writer.is_alive() or self._is_closing

    def current(self) -> Path | None:
        """The segment that is being written."""
        return self._writer.current if self._writer is not None else None

    async def close(self, wait_s: float) -> None:
        """Seal and write all there is, waiting up to `wait_s` for the disk. Afterwards no `add`."""
        self._seal()
        self._is_closing = True
        if self._writer is not None:
            self._writer.stop()
            await asyncio.to_thread(self._writer.join, wait_s)
            await asyncio.sleep(0)  # the thread's last answers are already queued on this loop
        self._rewriter.cancel()
        if self._timer is not None:
            self._timer.cancel()


def new_boot() -> bytes:
    """128 random bits: a process start is never mistaken for another, whatever happened to its disk or its name."""
    return os.urandom(16)
