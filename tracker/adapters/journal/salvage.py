"""Shipping journals by hand: that of a dead node (`turnout drain`), or the kept one once more (`turnout replay`). Both are harmless."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tracker import wire
from tracker.adapters.journal import slot as slots
from tracker.adapters.journal.segment import KINDS, SUFFIX, SegmentReader, Stored
from tracker.adapters.journal.shipper import ENTRY_BYTES, WINDOW_BYTES, Policy, Shipper
from tracker.adapters.journal.stream_link import StreamLink, stream_id_key
from tracker.errors import CorruptData, RejectedInput, StreamUnavailable

log = logging.getLogger(__name__)

POLL_S = 0.2
ACK_WAIT_S = 300.0
Progress = Callable[[int, int], None]  # batches done, batches in all


@dataclass(slots=True)
class Salvage:
    """What came of it. `busy`: slots a running process still holds. `open`: batches not covered when the time was up, `unclosed`: boots
    that were not closed by then. `damaged`: files, or parts of them put aside, that could not be read."""

    boots: list[str] = field(default_factory=list)
    batches: int = 0
    records: int = 0
    open: int = 0
    unclosed: list[str] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


def journal_roots(directory: Path) -> list[tuple[str, Path]]:
    """The journals below `directory`: a data directory, a `journal` folder, one kind's folder, or a single slot's parent."""
    found = []
    for kind in KINDS:
        for root in (directory / "journal" / kind, directory / kind, directory):
            if any(root.glob("slot-*")) and (root.name == kind or root == directory):
                found.append((kind, root))
                break
    named = [(kind, root) for kind, root in found if root.name == kind]
    return named or found[:1]


async def drain(directory: Path, redis_url: str, *, shards: int, wait_s: float, progress: Progress) -> Salvage:
    """Ship all that dead processes left below `directory`, and wait up to `wait_s` until PostgreSQL has it and the boots are closed.

    RejectedInput when there is no journal; StreamUnavailable when Redis does not take it. The segments stay where they are, covered.
    """
    roots = journal_roots(directory)
    if not roots:
        raise RejectedInput("no_journal", f"{directory} holds no journal; name a data directory or its journal folder", field="DIR")
    total = Salvage()
    for kind, root in roots:
        await _drain_root(kind, root, redis_url, shards, wait_s, progress, total)
    return total


async def _drain_root(kind: str, root: Path, redis_url: str, shards: int, wait_s: float, progress: Progress, total: Salvage) -> None:
    shipper = Shipper(StreamLink(redis_url), kind, "drain", root, Policy(float("inf"), 1 << 62, shards))
    for slot in slots.take_over(root):
        shipper.hold(slot, is_own=True)
    mine = {held.slot.directory for held in shipper.held}
    total.busy += [str(path) for path in sorted(root.glob("slot-*")) if path not in mine and any(path.glob(f"*{SUFFIX}"))]
    await shipper.adopt_orphans()
    boots = shipper.logs()
    total.damaged += [str(path) for held in shipper.held for path in (*held.damaged, *held.unread)]
    batches = sum(len(boot.on_disk) for boot in boots)
    task = asyncio.create_task(shipper.run(), name="drain")
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline and not task.done():
        left = sum(len(boot.held()) for boot in boots)
        progress(batches - left, batches)
        if not left and all(boot.is_in_the_books() for boot in boots):
            break
        await asyncio.sleep(POLL_S)
    await shipper.stop(0)
    await task
    await shipper.end()
    total.boots += [boot.boot.hex() for boot in boots]
    total.batches += batches
    total.records += sum(boot.accounted() for boot in boots)
    total.open += sum(len(boot.held()) for boot in boots)
    total.unclosed += [boot.boot.hex() for boot in boots if not boot.is_in_the_books()]


async def replay(directory: Path, redis_url: str, *, since: float, shards: int, progress: Progress) -> Salvage:
    """Ship every kept batch of segments written at or after `since` (Unix time) again, live ones too, without touching them.

    What PostgreSQL has is recognised and only counted as redelivered. StreamUnavailable ends it; it may be begun anew.
    """
    paths = [
        path for _, root in journal_roots(directory) for path in sorted(root.glob(f"slot-*/*{SUFFIX}")) if path.stat().st_mtime >= since
    ]
    total, link, sent_bytes = Salvage(), StreamLink(redis_url), 0
    for number, path in enumerate(paths):
        try:
            reader = SegmentReader(path)
        except (CorruptData, OSError) as exc:
            log.warning("replay.segment_unreadable", extra={"segment": str(path), "error": str(exc)})
            total.damaged.append(str(path))
            continue
        if reader.header.boot.hex() not in total.boots:
            total.boots.append(reader.header.boot.hex())
        key = wire.stream_key(reader.header.kind, wire.shard_of(reader.header.boot, shards))
        for run in _runs(reader):
            stream_id = await link.append(key, _entry(reader, run).fields())
            total.batches, total.records = total.batches + len(run), total.records + sum(stored.records for stored in run)
            sent_bytes += sum(len(stored.frame) for stored in run)
            if sent_bytes >= WINDOW_BYTES:
                await _until_acked(link, key, stream_id)
                sent_bytes = 0
        progress(number + 1, len(paths))
    await link.reset()
    return total


def _runs(reader: SegmentReader) -> Iterator[list[Stored]]:
    for start, stop in reader.seqs():
        seq = start
        while seq < stop:
            run = reader.read_run(seq, stop, ENTRY_BYTES)
            yield run
            seq = run[-1].seq + 1


def _entry(reader: SegmentReader, run: list[Stored]) -> wire.Entry:
    counts = tuple(stored.records for stored in run)
    payload = b"".join(stored.frame for stored in run)
    now_ms = time.time_ns() // 1_000_000
    return wire.Entry(reader.header.node, reader.header.boot, "replay", run[0].seq, run[-1].seq, counts, run[-1].accepted, now_ms, payload)


async def _until_acked(link: StreamLink, key: str, stream_id: bytes) -> None:
    deadline = time.monotonic() + ACK_WAIT_S
    while not (await link.position(key)).has_acked(stream_id_key(stream_id)):
        if time.monotonic() > deadline:
            raise StreamUnavailable(
                f"the click writers did not take what was sent within {ACK_WAIT_S:.0f} s; is `turnout work clicks` running?"
            )
        await asyncio.sleep(POLL_S)
