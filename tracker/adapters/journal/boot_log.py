"""What one boot has on disk and in memory, what of it PostgreSQL is known to have, and what must be shipped (again).

The state machine of the shipper without its I/O to Redis. Everything is told by seq; sets are `SeqSet`s.
"""

import contextlib
import logging
import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from tracker import wire
from tracker.adapters.journal.counter_page import OPEN, CounterLine
from tracker.adapters.journal.segment import SegmentReader, Stored
from tracker.adapters.journal.writer import Batch
from tracker.domain.intervals import SeqSet
from tracker.errors import CorruptData

log = logging.getLogger(__name__)

RECENT_MAX_BYTES = 16 * 1024 * 1024  # frames kept in memory so that a healthy shipper never reads the disk
MEMORY_MAX_BYTES = 64 * 1024 * 1024  # batches without a journal; beyond it the oldest not yet shipped are given up, and counted

NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class Shipped:
    """One stream entry that was sent and is not known to be covered yet."""

    seq_from: int
    seq_to: int
    size_bytes: int
    sent_at: float
    stream_id: bytes


class BootLog:
    """One boot: the process's own, or one taken over from a dead process."""

    def __init__(self, kind: str, node: str, boot: bytes, line: CounterLine, directory: Path | None) -> None:
        self.kind, self.node, self.boot, self.line, self.directory = kind, node, boot, line, directory
        self.segments: dict[Path, SeqSet] = {}
        self.on_disk, self.covered, self.todo = SeqSet(), SeqSet(), SeqSet()
        self.window: list[Shipped] = []
        self.window_bytes = 0
        self.state: wire.CoveredState | None = None
        self.is_opened = False
        self.journaled_records = 0
        self.closing_sent_at = NEVER
        self._memory: OrderedDict[int, Batch] = OrderedDict()
        self._memory_bytes = 0
        self._recent: OrderedDict[int, Stored] = OrderedDict()
        self._recent_bytes = 0
        self._waiting: dict[int, Batch] = {}  # those whose visitors wait for the stream
        self._given_up: dict[int, int] = {}
        self._aside = SeqSet()
        self.reader: SegmentReader | None = None
        self._saved = ""

    # -- what there is

    def remember(self, batch: Batch) -> None:
        """A batch is sealed; until a journal or PostgreSQL has it, memory is all there is."""
        self._memory[batch.seq] = batch
        self._memory_bytes += len(batch.frame)
        while self._memory_bytes > MEMORY_MAX_BYTES and self._give_up_oldest():
            pass

    def _give_up_oldest(self) -> bool:
        for seq in self._memory:
            if seq in self.todo or not self._is_shipped(seq):
                self.give_up(seq)
                return True
        return False

    def _is_shipped(self, seq: int) -> bool:
        return any(entry.seq_from <= seq <= entry.seq_to for entry in self.window)

    def give_up(self, seq: int) -> None:
        """The permitted loss: neither journal nor Redis takes the batch. Counted; taken back if its write ends well after all."""
        batch = self._forget(seq)
        self._waiting.pop(seq, None)
        self.todo.discard(seq, seq + 1)
        self._given_up[seq] = batch.records
        self.line.unrecorded += batch.records
        self.line.save()
        batch.answer()
        log.error("journal.unrecorded", extra={"seq": seq, "records": batch.records})

    def _forget(self, seq: int) -> Batch:
        batch = self._memory.pop(seq)
        self._memory_bytes -= len(batch.frame)
        return batch

    def journaled(self, batch: Batch, path: Path) -> None:
        """The batch is in segment `path`."""
        if not batch.journaled:
            batch.journaled = True
            self.journaled_records += batch.records
        self.segments.setdefault(path, SeqSet()).add(batch.seq, batch.seq + 1)
        self.on_disk.add(batch.seq, batch.seq + 1)
        if batch.seq in self._memory:
            self._forget(batch.seq)
        records = self._given_up.pop(batch.seq, 0)
        if records:
            self.line.unrecorded -= records
            self.line.save()
            self.todo.add(batch.seq, batch.seq + 1)

    def unjournaled(self) -> list[Batch]:
        """Batches that only memory holds, oldest first."""
        return list(self._memory.values())

    def offer(self, batch: Batch) -> None:
        """The batch may be shipped."""
        if batch.seq in self._given_up:
            return
        self.todo.add(batch.seq, batch.seq + 1)
        if batch.waiters:
            self._waiting[batch.seq] = batch
        self._recent[batch.seq] = Stored(batch.seq, batch.records, batch.accepted, batch.frame)
        self._recent_bytes += len(batch.frame)
        while self._recent_bytes > RECENT_MAX_BYTES:
            self._recent_bytes -= len(self._recent.popitem(last=False)[1].frame)

    def adopt(self, path: Path, seqs: SeqSet) -> None:
        """A segment found on disk belongs to this boot."""
        self.segments[path] = seqs
        self.on_disk.update(seqs)

    def distrust(self, path: Path) -> None:
        """A sync of the segment failed: read what PostgreSQL does not have of it while the cache still holds it, and write it anew."""
        seqs = self.segments.pop(path, SeqSet()).minus(self.covered)
        log.error("journal.segment_distrusted", extra={"segment": str(path), "batches": len(seqs)})
        reader = SegmentReader(path)
        for start, stop in seqs:
            self.on_disk.discard(start, stop)
            for stored in reader.read_run(start, stop, wire.FRAME_MAX_BYTES * 64):
                batch = Batch(stored.seq, stored.records, stored.accepted, stored.frame, 0.0, [])
                batch.shipping = True
                self.remember(batch)
        with contextlib.suppress(OSError):
            path.rename(path.with_suffix(".suspect"))

    def held(self) -> SeqSet:
        """Seqs on this disk or in this memory that PostgreSQL is not known to have."""
        held = self.on_disk.minus(self.covered)
        for seq in self._memory:
            held.add(seq, seq + 1)
        return held

    # -- shipping

    def segment_to_open(self, *, newest: bool) -> Path | None:
        """The segment that `next_run` will read and `reader` is not open on; None when memory or `reader` has it."""
        seq = self._next_seq(newest=newest)
        if seq is None or self._from_memory(seq) is not None:
            return None
        path = next((path for path, seqs in self.segments.items() if seq in seqs), None)
        return None if path is None or (self.reader is not None and self.reader.path == path) else path

    def _next_seq(self, *, newest: bool) -> int | None:
        recent = next((seq for seq in self._recent if seq in self.todo), None) if newest else None
        return self.todo.first if recent is None else recent

    def next_run(self, max_bytes: int, *, newest: bool = False) -> list[Stored]:
        """The next consecutive batches to ship: the oldest, or the oldest still in memory. What cannot be read now is put aside."""
        seq = self._next_seq(newest=newest)
        while seq is not None:
            run = self._read_run(seq, self.todo.run_stop(seq), max_bytes)
            if run:
                return run
            log.error("journal.batch_unreadable", extra={"boot": self.boot.hex(), "seq": seq})
            self.todo.discard(seq, seq + 1)
            self._aside.add(seq, seq + 1)
            seq = self.todo.first
        return []

    def try_again(self) -> None:
        """Batches that could not be read may be readable now."""
        if self._aside:
            self.todo.update(self._aside.minus(self.covered))
            self._aside = SeqSet()

    def _read_run(self, seq: int, stop: int, max_bytes: int) -> list[Stored]:
        run: list[Stored] = []
        taken = 0
        while seq < stop:
            stored = self._from_memory(seq)
            if stored is None:
                return run or self._from_disk(seq, stop, max_bytes)
            if run and taken + len(stored.frame) > max_bytes:
                break
            run.append(stored)
            taken, seq = taken + len(stored.frame), seq + 1
        return run

    def _from_memory(self, seq: int) -> Stored | None:
        stored = self._recent.get(seq)
        if stored is None and (batch := self._memory.get(seq)) is not None:
            stored = Stored(seq, batch.records, batch.accepted, batch.frame)
        return stored

    def _from_disk(self, seq: int, stop: int, max_bytes: int) -> list[Stored]:
        reader = self.reader
        if reader is None or seq not in self.segments.get(reader.path, ()):
            return []
        try:
            run = reader.read_run(seq, stop, max_bytes)
            if not run:
                reader.extend()
                run = reader.read_run(seq, stop, max_bytes)
        except (OSError, CorruptData) as exc:
            log.error("journal.unreadable", extra={"segment": str(reader.path), "seq": seq, "error": str(exc)})
            self.reader = None
            return []
        return run

    def shipped(self, run: list[Stored], stream_id: bytes, now: float) -> None:
        """The run is in the stream under `stream_id`."""
        size = sum(len(stored.frame) for stored in run)
        self.window.append(Shipped(run[0].seq, run[-1].seq, size, now, stream_id))
        self.window_bytes += size
        self.todo.discard(run[0].seq, run[-1].seq + 1)
        for stored in run:
            if self._recent.pop(stored.seq, None) is not None:
                self._recent_bytes -= len(stored.frame)
            batch = self._waiting.pop(stored.seq, None)
            if batch is not None:
                batch.answer()

    def reship(self, lost: list[Shipped]) -> None:
        """Entries that Redis or PostgreSQL no longer has."""
        for entry in lost.copy():
            self.window.remove(entry)
            self.window_bytes -= entry.size_bytes
            again = SeqSet([(entry.seq_from, entry.seq_to + 1)]).minus(self.covered)
            self.todo.update(again)

    # -- what PostgreSQL says

    def apply(self, state: wire.CoveredState) -> None:
        """Take the published state as it is. A decrease, or another PostgreSQL, means: ship again from there."""
        covered = SeqSet.parse(state.covered)
        known = self.on_disk.copy()
        for seq in self._memory:
            known.add(seq, seq + 1)
        lost = self.covered.minus(covered).both(known)
        is_other = self.state is not None and (self.state.system_id, self.state.timeline) != (state.system_id, state.timeline)
        self.covered, self.state = covered, state
        if lost or is_other:
            log.warning("journal.rewound", extra={"boot": self.boot.hex(), "batches": len(lost), "other_postgresql": is_other})
            self.reship(self.window)
            self.todo.update(lost)
        self._drop_covered()

    def _drop_covered(self) -> None:
        self.window = [entry for entry in self.window if not self.covered.covers(entry.seq_from, entry.seq_to + 1)]
        self.window_bytes = sum(entry.size_bytes for entry in self.window)
        if self.todo:
            self.todo = self.todo.minus(self.covered)
        for seq in [seq for seq in self._memory if seq in self.covered]:
            self._forget(seq).answer()
        for seq in [seq for seq in self._recent if seq in self.covered]:
            self._recent_bytes -= len(self._recent.pop(seq).frame)

    # -- the disk

    def save_covered(self) -> None:
        """Keep what is covered beside the segments, so that a restart with Redis empty does not ship a day again. Best effort."""
        text = str(self.covered)
        if self.directory is None or text == self._saved:
            return
        path = self.directory / f"{self.boot.hex()}.covered"
        with contextlib.suppress(OSError):
            path.with_suffix(".new").write_text(text)
            path.with_suffix(".new").replace(path)
            self._saved = text

    def load_covered(self) -> None:
        """What was covered when somebody last looked; nothing when that is not known."""
        if self.directory is not None:
            with contextlib.suppress(OSError, ValueError):
                self.covered = SeqSet.parse((self.directory / f"{self.boot.hex()}.covered").read_text())

    def sealed(self, *, is_own: bool) -> list[Path]:
        """Segments nobody writes any more, oldest first."""
        paths = sorted(self.segments)
        return paths[:-1] if is_own else paths

    def is_covered(self, path: Path) -> bool:
        """Whether PostgreSQL has all of a segment."""
        return not self.segments[path].minus(self.covered)

    def unlink(self, path: Path) -> None:
        """Remove a covered segment."""
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        del self.segments[path]
        self.on_disk = SeqSet()
        for seqs in self.segments.values():
            self.on_disk.update(seqs)
        if self.reader is not None and self.reader.path == path:
            self.reader = None

    def forget_files(self) -> None:
        """The boot's end is in the books and its segments are gone."""
        if self.directory is not None:
            with contextlib.suppress(FileNotFoundError):
                (self.directory / f"{self.boot.hex()}.covered").unlink()

    # -- its end

    def accounted(self) -> int:
        """Records of this boot that PostgreSQL has accounted for, as last published."""
        return self.state.stored + self.state.duplicate + self.state.rejected if self.state else 0

    def is_in_the_books(self) -> bool:
        """Whether PostgreSQL knows how the boot ended."""
        return self.state is not None and self.state.closed_seq is not None

    def report(self, host_id: str, now_ms: int, kept_bytes: int) -> wire.NodeReport:
        """What the audit is told of this boot."""
        held = self.held()
        return wire.NodeReport(
            node=self.node,
            boot=self.boot.hex(),
            kind=self.kind,
            host_id=host_id,
            pid=os.getpid(),
            last_seq=self.line.last_seq,
            accepted=self.line.accepted,
            unrecorded=self.line.unrecorded,
            held=str(held),
            held_bytes=self.held_bytes(held),
            kept_bytes=kept_bytes,
            closed=self.line.state != OPEN,
            at_ms=now_ms,
        )

    def written_at(self, held: SeqSet) -> list[float]:
        """When the segments that hold some of `held` were last written, Unix time."""
        found = []
        for path, seqs in self.segments.items():
            if seqs.both(held):
                with contextlib.suppress(OSError):
                    found.append(path.stat().st_mtime)
        return found

    def held_bytes(self, held: SeqSet) -> int:
        """Bytes of segments that hold something not covered, plus what is in memory only."""
        on_disk = sum(_size(path) for path, seqs in self.segments.items() if seqs.both(held))
        return on_disk + self._memory_bytes


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
