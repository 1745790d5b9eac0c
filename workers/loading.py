"""From stream entries to batches: which are new, what they hold, what is damaged. For clicks and conversions alike."""

import logging
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from tracker.adapters.postgres_loads import DeadLetter, Load
from tracker.adapters.redis_streams import Delivery
from tracker.domain.books import Delta
from tracker.domain.intervals import SeqSet
from tracker.errors import CorruptData, UnknownVersion
from tracker.wire import Entry, Frame, Receipt, Record, decode_frame, scan

log = logging.getLogger(__name__)
R = TypeVar("R", Record, Receipt)
NO_BOOT = bytes(16)
_SEQ = struct.Struct("<Q")
_BEFORE_SEQ = 8  # length and checksum come before it in a frame


@dataclass(slots=True)
class Batch:
    """A batch that is accounted for the first time. `frame` is None where no good copy of it is at hand."""

    entry: Entry
    seq: int
    count: int
    frame: Frame | None


def read_entries(deliveries: Iterable[Delivery], kind: str) -> tuple[list[Entry], list[DeadLetter], list[bytes]]:
    """The entries, a dead letter for each delivery that cannot be read (nobody knows whose books it belongs to), and the ids of both.

    A delivery of a later version is none of these: it stays unacked until a writer runs that knows it.
    """
    entries, letters, ids = list[Entry](), list[DeadLetter](), list[bytes]()
    for delivery in deliveries:
        try:
            entries.append(Entry.read(delivery.fields))
        except UnknownVersion as exc:
            log.error("writer.unknown_version", extra={"kind": kind, "entry": delivery.id.decode(), "error": str(exc)})
            continue
        except CorruptData as exc:
            letters.append(_unreadable(delivery, exc, kind))
        ids.append(delivery.id)
    return entries, letters, ids


def _unreadable(delivery: Delivery, exc: CorruptData, kind: str) -> DeadLetter:
    count = delivery.fields.get(b"n", b"")
    records = min(int(count), 2**31 - 1) if count.isdigit() and len(count) < 12 else 0
    detail = f"entry {delivery.id.decode()}: {exc}"
    return DeadLetter("corrupt", detail, "", NO_BOOT, 0, records, msgspec.msgpack.encode(list(delivery.fields.items())), kind)


def boots_of(entries: Iterable[Entry]) -> set[bytes]:
    """The boots that `entries` speak of."""
    return {entry.boot for entry in entries}


def frames_of(entry: Entry) -> list[Frame | None]:
    """The good frames of an entry by batch, those behind a damaged one too."""
    frames = entry.frames()
    if None not in frames:
        return frames
    batches = zip(range(entry.seq_from, entry.seq_to + 1), entry.counts, frames, strict=True)
    return [frame or _search(entry.payload, seq, count) for seq, count, frame in batches]


def _search(payload: bytes, seq: int, count: int) -> Frame | None:
    """The frame of one batch wherever it lies; its checksum proves that it is one."""
    head = _SEQ.pack(seq)
    at = payload.find(head, _BEFORE_SEQ)
    while at >= 0:
        frame = next(scan(payload, at - _BEFORE_SEQ), None)
        if frame is not None and (frame.seq, frame.records) == (seq, count):
            return frame
        at = payload.find(head, at + 1)
    return None


def plan(entries: Sequence[Entry], covered: dict[bytes, SeqSet], kind: str) -> tuple[dict[bytes, Delta], list[Batch]]:
    """Which batches are new, given what is covered: each seq once, by a good copy if there is one. The rest is redelivered."""
    deltas: dict[bytes, Delta] = {}
    chosen: dict[tuple[bytes, int], Batch] = {}
    for entry in entries:
        delta = deltas.setdefault(entry.boot, Delta(entry.boot, entry.node.replace("\0", ""), kind, entry.host_id.replace("\0", "")))
        delta.heard(entry.accepted, entry.seq_to, entry.closed_seq, entry.unrecorded, SeqSet.parse(entry.lost))
        known = covered.get(entry.boot, SeqSet())
        if known.covers(entry.seq_from, entry.seq_to + 1):  # as after every lost ack: skipped without decoding
            delta.redelivered += entry.records
            delta.seen.add(entry.seq_from, entry.seq_to + 1)
            continue
        for seq, count, frame in zip(range(entry.seq_from, entry.seq_to + 1), entry.counts, frames_of(entry), strict=True):
            _choose(chosen, delta, known, Batch(entry, seq, count, frame))
    return deltas, list(chosen.values())


def _choose(chosen: dict[tuple[bytes, int], Batch], delta: Delta, known: SeqSet, batch: Batch) -> None:
    key = (batch.entry.boot, batch.seq)
    if batch.seq in known:
        delta.seen.add(batch.seq, batch.seq + 1)
        delta.redelivered += batch.count
        return
    earlier = chosen.get(key)
    if earlier is None:
        delta.fresh.add(batch.seq, batch.seq + 1)
        chosen[key] = batch
        return
    delta.redelivered += batch.count
    if earlier.frame is None and batch.frame is not None and batch.count == earlier.count:
        chosen[key] = batch


def records_of(batch: Batch, of: type[R], load: Load, kind: str) -> Iterator[R]:
    """The good records of a batch; a dead letter in `load` for each that cannot be read."""
    if batch.frame is None:
        reject(load, batch, kind, "corrupt", "frame: missing or damaged", batch.count, batch.entry.payload)
        return
    try:
        records, unreadable = decode_frame(memoryview(batch.entry.payload)[batch.frame.start : batch.frame.stop], of)
    except CorruptData as exc:
        reject(load, batch, kind, "corrupt", str(exc), batch.count, batch.entry.payload)
        return
    for raw in unreadable:
        reject(load, batch, kind, "corrupt", "record cannot be decoded", 1, raw)
    yield from records


def encoded(record: Any) -> bytes:
    """A record's bytes, for a dead letter."""
    return msgspec.msgpack.encode(record)


def reject(load: Load, batch: Batch, kind: str, reason: str, detail: str, records: int, payload: bytes) -> None:
    """Account `records` of `batch` as rejected, with a dead letter."""
    delta = load.deltas[batch.entry.boot]
    delta.rejected += records
    load.letters.append(DeadLetter(reason, detail, delta.node, batch.entry.boot, batch.seq, records, payload, kind))
