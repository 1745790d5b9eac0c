"""What one boot has on disk and in memory, what of it PostgreSQL is known to have, and what must be shipped (again).

The state of the shipper without I/O: nothing here touches a disk or a connection. Everything is told by seq; sets are `SeqSet`s.
"""

import logging
import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from tracker import wire
from tracker.adapters.journal.counter_page import OPEN, CounterLine
from tracker.adapters.journal.segment import Stored
from tracker.adapters.journal.stream_link import stream_id_key
from tracker.adapters.journal.writer import Batch
from tracker.domain.intervals import SeqSet

log = logging.getLogger(__name__)

RECENT_MAX_BYTES = 16 * 1024 * 1024  # frames kept in memory so that a healthy shipper never reads the disk
MEMORY_MAX_BYTES = 64 * 1024 * 1024  # batches without a journal
ENTRY_OVERHEAD_BYTES = 300  # what the fields of an entry take in Redis beside the payload
NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class Shipped:
    """One stream entry that was sent and is not known to be covered yet. `key` orders it in its stream."""

    seq_from: int
    seq_to: int
    size_bytes: int
    sent_at: float
    key: tuple[int, int]


@dataclass(slots=True)
class SegmentFacts:
    """What is known of a segment file without asking the disk. `written_at` is Unix time."""

    seqs: SeqSet
    size_bytes: int
    written_at: float
    is_suspect: bool = False


class BootLog:
    """One boot: the process's own, or one taken over from a dead process."""

    def __init__(self, kind: str, node: str, boot: bytes, line: CounterLine, directory: Path | None) -> None:
        self.kind, self.node, self.boot, self.line, self.directory = kind, node, boot, line, directory
        self.segments: dict[Path, SegmentFacts] = {}
        self.on_disk, self.covered, self.todo, self.lost = SeqSet(), SeqSet(), SeqSet(), SeqSet()
        self.window: list[Shipped] = []
        self.window_bytes = 0
        self.state: wire.CoveredState | None = None
        self.is_opened = False
        self.closing_sent_at = NEVER
        self.journaled_records = 0
        self._memory: OrderedDict[int, Batch] = OrderedDict()  # no journal has them
        self._unsent: OrderedDict[int, None] = OrderedDict()  # those of them that no stream has either
        self._memory_bytes = 0
        self._recent: OrderedDict[int, Stored] = OrderedDict()
        self._recent_bytes = 0
        self._waiting: dict[int, Batch] = {}  # those whose visitors wait for the stream
        self._given_up: dict[int, int] = {}
        self._aside = SeqSet()  # could not be read from disk; to be tried again

    # -- what there is

    def remember(self, batch: Batch) -> None:
        """A batch is sealed; until a journal or PostgreSQL has it, memory is all there is."""
        self._memory[batch.seq] = batch
        self._unsent[batch.seq] = None
        self._memory_bytes += len(batch.frame)
        while self._memory_bytes > MEMORY_MAX_BYTES:
            self._shrink()

    def _shrink(self) -> None:
        """Let go of the oldest batch that Redis has taken; when there is none, give up the oldest of all."""
        oldest = next(iter(self._memory))
        if oldest not in self._unsent:
            log.warning("journal.memory_released", extra={"seq": oldest})
            self._forget(oldest)
            return
        self.give_up(next(iter(self._unsent)))

    def give_up(self, seq: int) -> None:
        """The permitted loss: neither journal nor Redis takes the batch. Counted; taken back if it turns up after all."""
        batch = self._forget(seq)
        self._waiting.pop(seq, None)
        self.todo.discard(seq, seq + 1)
        self._given_up[seq] = batch.records
        self.lost.add(seq, seq + 1)
        self.line.unrecorded += batch.records
        self.line.save()
        batch.answer()
        if len(self._given_up) % 100 == 1:
            log.error("journal.unrecorded", extra={"seq": seq, "records": self.line.unrecorded})

    def _take_back(self, seq: int) -> bool:
        records = self._given_up.pop(seq, 0)
        if records:
            self.lost.discard(seq, seq + 1)
            self.line.unrecorded -= records
            self.line.save()
        return records > 0

    def _forget(self, seq: int) -> Batch:
        batch = self._memory.pop(seq)
        self._unsent.pop(seq, None)
        self._memory_bytes -= len(batch.frame)
        return batch

    def journaled(self, batch: Batch, path: Path, now: float) -> None:
        """The batch is in segment `path`, written at `now` (Unix time)."""
        if not batch.journaled:
            batch.journaled = True
            self.journaled_records += batch.records
        facts = self.segments.setdefault(path, SegmentFacts(SeqSet(), 0, now))
        facts.seqs.add(batch.seq, batch.seq + 1)
        facts.size_bytes, facts.written_at = facts.size_bytes + len(batch.frame), now
        self.on_disk.add(batch.seq, batch.seq + 1)
        if batch.seq in self._memory:
            self._forget(batch.seq)
        if self._take_back(batch.seq):
            self.todo.add(batch.seq, batch.seq + 1)

    def unjournaled(self) -> list[Batch]:
        """Batches that only memory holds, oldest first."""
        return list(self._memory.values())

    def unsent(self) -> list[int]:
        """Batches that neither journal nor stream holds, oldest first."""
        return list(self._unsent)

    def offer(self, batch: Batch) -> None:
        """The batch may be shipped."""
        if batch.seq in self._given_up or batch.seq in self.covered:
            return
        self.todo.add(batch.seq, batch.seq + 1)
        if batch.waiters:
            self._waiting[batch.seq] = batch
        self._recent[batch.seq] = Stored(batch.seq, batch.records, batch.accepted, batch.frame)
        self._recent_bytes += len(batch.frame)
        while self._recent_bytes > RECENT_MAX_BYTES:
            self._recent_bytes -= len(self._recent.popitem(last=False)[1].frame)

    def let_go(self, seq: int) -> None:
        """Nobody waits for this batch any more."""
        self._waiting.pop(seq, None)

    def adopt(self, path: Path, seqs: SeqSet, size_bytes: int, written_at: float) -> None:
        """A segment found on disk belongs to this boot."""
        self.segments[path] = SegmentFacts(seqs, size_bytes, written_at)
        self.on_disk.update(seqs)

    def distrust(self, path: Path) -> None:
        """A sync of the segment failed: what PostgreSQL does not have of it is to be written anew, see `suspects`."""
        facts = self.segments.get(path)
        if facts is not None:
            log.error("journal.segment_distrusted", extra={"segment": str(path), "batches": len(facts.seqs.minus(self.covered))})
            facts.is_suspect = True

    def suspects(self) -> list[tuple[Path, SeqSet]]:
        """Distrusted segments, with the batches that are neither covered nor in a trusted one."""
        safe = self.covered.copy()
        for facts in self.segments.values():
            if not facts.is_suspect:
                safe.update(facts.seqs)
        return [(path, facts.seqs.minus(safe)) for path, facts in self.segments.items() if facts.is_suspect]

    def held(self) -> SeqSet:
        """Seqs on this disk or in this memory that PostgreSQL is not known to have."""
        held = self.on_disk.minus(self.covered)
        for seq in self._memory:
            held.add(seq, seq + 1)
        return held

    # -- shipping

    def memory_run(self, max_bytes: int, *, unjournaled_only: bool) -> list[Stored]:
        """The next consecutive batches to ship whose bytes are in memory; with `unjournaled_only`, of those that no journal has."""
        source = self._unsent if unjournaled_only else self._recent
        seq = next((seq for seq in source if seq in self.todo), None)
        if seq is None:
            return []
        run: list[Stored] = []
        taken, stop = 0, self.todo.run_stop(seq)
        while seq < stop:
            stored = self._from_memory(seq)
            if stored is None or (run and taken + len(stored.frame) > max_bytes):
                break
            run.append(stored)
            taken, seq = taken + len(stored.frame), seq + 1
        return run

    def _from_memory(self, seq: int) -> Stored | None:
        stored = self._recent.get(seq)
        if stored is None and (batch := self._memory.get(seq)) is not None:
            stored = Stored(seq, batch.records, batch.accepted, batch.frame)
        return stored

    def next_on_disk(self) -> tuple[Path, int, int] | None:
        """A segment, and the seqs `[start, stop)` to be read of it next; None: nothing is to be read."""
        for start, stop in self.todo:
            for seq in range(start, stop):
                if self._from_memory(seq) is not None:
                    continue
                path = next((path for path, facts in self.segments.items() if seq in facts.seqs), None)
                if path is not None:
                    return path, seq, min(stop, self.segments[path].seqs.run_stop(seq))
                log.error("journal.batch_gone", extra={"boot": self.boot.hex(), "seq": seq})
                self.todo.discard(seq, seq + 1)
        return None

    def put_aside(self, seq: int) -> None:
        """The batch cannot be read now."""
        log.error("journal.batch_unreadable", extra={"boot": self.boot.hex(), "seq": seq})
        self.todo.discard(seq, seq + 1)
        self._aside.add(seq, seq + 1)

    def try_again(self) -> None:
        """Batches that could not be read may be readable now."""
        if self._aside:
            self.todo.update(self._aside.minus(self.covered))
            self._aside = SeqSet()

    def shipped(self, run: list[Stored], stream_id: bytes, now: float) -> None:
        """The run is in the stream under `stream_id`."""
        size = sum(len(stored.frame) for stored in run) + ENTRY_OVERHEAD_BYTES
        self.window.append(Shipped(run[0].seq, run[-1].seq, size, now, stream_id_key(stream_id)))
        self.window_bytes += size
        self.todo.discard(run[0].seq, run[-1].seq + 1)
        for stored in run:
            self._unsent.pop(stored.seq, None)
            if self._recent.pop(stored.seq, None) is not None:
                self._recent_bytes -= len(stored.frame)
            batch = self._waiting.pop(stored.seq, None)
            if batch is not None:
                batch.answer()

    def reship(self, lost: list[Shipped]) -> None:
        """Entries that Redis or PostgreSQL no longer has."""
        if not lost:
            return
        gone = set(lost)
        self.window = [entry for entry in self.window if entry not in gone]
        self.window_bytes = sum(entry.size_bytes for entry in self.window)
        again = SeqSet((entry.seq_from, entry.seq_to + 1) for entry in lost).minus(self.covered)
        self.todo.update(again)
        for start, stop in again:
            self._unsent.update((seq, None) for seq in range(start, stop) if seq in self._memory)

    # -- what PostgreSQL says

    def apply(self, state: wire.CoveredState) -> None:
        """Take the published state as it is. A decrease, or another PostgreSQL, means: ship again from there."""
        covered = SeqSet.parse(state.covered)
        lost = self.covered.minus(covered).both(self.on_disk)
        is_other = self.state is not None and (self.state.system_id, self.state.timeline) != (state.system_id, state.timeline)
        self.covered, self.state = covered, state
        if lost or is_other:
            log.warning("journal.rewound", extra={"boot": self.boot.hex(), "batches": len(lost), "other_postgresql": is_other})
            self.reship(self.window)
            self.todo.update(lost)
        self._drop_covered()

    def _drop_covered(self) -> None:
        if self.window:
            self.window = [entry for entry in self.window if not self.covered.covers(entry.seq_from, entry.seq_to + 1)]
            self.window_bytes = sum(entry.size_bytes for entry in self.window)
        if self.todo:
            self.todo = self.todo.minus(self.covered)
        for seq in [seq for seq in self._memory if seq in self.covered]:
            self._waiting.pop(seq, None)
            self._forget(seq).answer()
        for seq in [seq for seq in self._recent if seq in self.covered]:
            self._recent_bytes -= len(self._recent.pop(seq).frame)
        for seq in [seq for seq in self._given_up if seq in self.covered]:
            self._take_back(seq)

    # -- the disk

    def expired(self, now: float, keep_s: float, excess_bytes: int, current: Path | None) -> list[Path]:
        """Covered segments that are older than the keep window, or too many, oldest first; never an uncovered one, nor `current`."""
        found = []
        for path in sorted(self.segments):
            facts = self.segments[path]
            if path == current or facts.seqs.minus(self.covered):
                continue
            if now - facts.written_at >= keep_s or excess_bytes > 0:
                found.append(path)
                excess_bytes -= facts.size_bytes
        return found

    def drop(self, path: Path) -> None:
        """The segment is gone."""
        self.segments.pop(path, None)
        self.on_disk = SeqSet()
        for facts in self.segments.values():
            self.on_disk.update(facts.seqs)

    def kept_bytes(self) -> int:
        """Bytes of all segments."""
        return sum(facts.size_bytes for facts in self.segments.values())

    def held_bytes(self, held: SeqSet) -> int:
        """Bytes of segments that hold some of `held`, plus what is in memory only."""
        return self._memory_bytes + sum(facts.size_bytes for facts in self.segments.values() if facts.seqs.both(held))

    def written_at(self, held: SeqSet) -> list[float]:
        """When the segments that hold some of `held` were last written, Unix time."""
        return [facts.written_at for facts in self.segments.values() if facts.seqs.both(held)]

    # -- its end

    def accounted(self) -> int:
        """Records of this boot that PostgreSQL has accounted for, as last published."""
        return self.state.stored + self.state.duplicate + self.state.rejected if self.state else 0

    def is_in_the_books(self) -> bool:
        """Whether PostgreSQL knows how the boot ended."""
        return self.state is not None and self.state.closed_seq is not None

    def missing(self) -> SeqSet:
        """Seqs that were given and are neither covered nor on this disk."""
        return SeqSet([(1, self.line.last_seq + 1)]).minus(self.covered).minus(self.on_disk)

    def report(self, host_id: str, at_ms: int, kept_bytes: int) -> wire.NodeReport:
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
            at_ms=at_ms,
            lost=str(self.lost),
        )
