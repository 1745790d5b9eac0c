"""From stream entries to what one transaction shall store: which batches are new, what they hold, what is damaged."""

import logging
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import msgspec

from tracker.adapters.postgres_clicks import DeadLetter, Load, uuid_of
from tracker.adapters.redis_streams import Delivery
from tracker.domain.books import Delta
from tracker.domain.intervals import SeqSet
from tracker.errors import CorruptData, UnknownVersion
from tracker.wire import Entry, Frame, decode_frame, scan
from workers.enrich import Click, UniqueClicks, fault_of, mark_unique, row_of

log = logging.getLogger(__name__)
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


def read_entries(deliveries: Iterable[Delivery]) -> tuple[list[Entry], list[DeadLetter], list[bytes]]:
    """The entries, a dead letter for each delivery that cannot be read (nobody knows whose books it belongs to), and the ids of both.

    A delivery of a later version is none of these: it stays unacked until a writer runs that knows it.
    """
    entries, letters, ids = list[Entry](), list[DeadLetter](), list[bytes]()
    for delivery in deliveries:
        try:
            entries.append(Entry.read(delivery.fields))
        except UnknownVersion as exc:
            log.error("click_writer.unknown_version", extra={"entry": delivery.id.decode(), "error": str(exc)})
            continue
        except CorruptData as exc:
            letters.append(_unreadable(delivery, exc))
        ids.append(delivery.id)
    return entries, letters, ids


def _unreadable(delivery: Delivery, exc: CorruptData) -> DeadLetter:
    count = delivery.fields.get(b"n", b"")
    records = min(int(count), 2**31 - 1) if count.isdigit() and len(count) < 12 else 0
    detail = f"entry {delivery.id.decode()}: {exc}"
    return DeadLetter("corrupt", detail, "", NO_BOOT, 0, records, msgspec.msgpack.encode(list(delivery.fields.items())))


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


def plan(entries: Sequence[Entry], covered: dict[bytes, SeqSet]) -> tuple[dict[bytes, Delta], list[Batch]]:
    """Which batches are new, given what is covered: each seq once, by a good copy if there is one. The rest is redelivered."""
    deltas: dict[bytes, Delta] = {}
    chosen: dict[tuple[bytes, int], Batch] = {}
    for entry in entries:
        delta = deltas.setdefault(entry.boot, Delta(entry.boot, entry.node.replace("\0", ""), "clicks", entry.host_id.replace("\0", "")))
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


async def load_of(
    entries: Sequence[Entry], covered: dict[bytes, SeqSet], letters: Sequence[DeadLetter], floor: bytes, uniques: UniqueClicks, today: date
) -> Load:
    """What is to be stored of `entries`. Asked again with more covered, it decides the same of what is left.

    `floor` is the least click id that is kept; `letters` are those of unreadable entries.
    """
    deltas, batches = plan(entries, covered)
    load = Load(letters=list(letters), deltas=deltas)
    clicks = list[Click]()
    for batch in batches:
        clicks += _clicks(batch, load, floor)
    await mark_unique(clicks, uniques, today)
    load.rows = [row_of(click) for click in clicks]
    return load


def _clicks(batch: Batch, load: Load, floor: bytes) -> list[Click]:
    entry, frame = batch.entry, batch.frame
    if frame is None:
        _reject(load, batch, "corrupt", "frame: missing or damaged", batch.count, entry.payload)
        return []
    try:
        records, unreadable = decode_frame(memoryview(entry.payload)[frame.start : frame.stop])
    except CorruptData as exc:
        _reject(load, batch, "corrupt", str(exc), batch.count, entry.payload)
        return []
    for raw in unreadable:
        _reject(load, batch, "corrupt", "record cannot be decoded", 1, raw)
    node, boot = load.deltas[entry.boot].node, uuid_of(entry.boot)
    clicks, expired = list[Click](), 0
    for record in records:
        if problem := fault_of(record):
            _reject(load, batch, "invalid", problem, 1, _encoded(record))
        elif record.click_id < floor:
            expired += 1
        else:
            clicks.append(Click(record, node, boot, batch.seq))
    if expired:  # counted only: retention must not bring back what it dropped
        _reject(load, batch, "expired", "older than the retention", expired, b"")
    return clicks


def _encoded(record: Any) -> bytes:
    return msgspec.msgpack.encode(record)


def _reject(load: Load, batch: Batch, reason: str, detail: str, records: int, payload: bytes) -> None:
    delta = load.deltas[batch.entry.boot]
    delta.rejected += records
    load.letters.append(DeadLetter(reason, detail, delta.node, batch.entry.boot, batch.seq, records, payload))
