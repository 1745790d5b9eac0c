"""The shipper's dealings with the disk, each in a thread: a frozen disk must hold up neither a visitor nor what memory can ship."""

import contextlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tracker import wire
from tracker.adapters.journal import slot as slots
from tracker.adapters.journal.boot_log import BootLog
from tracker.adapters.journal.counter_page import CounterPage
from tracker.adapters.journal.segment import SegmentReader, Stored
from tracker.domain.intervals import SeqSet
from tracker.errors import CorruptData

log = logging.getLogger(__name__)


class BacklogReader:
    """Reads runs of batches back from segments; keeps the last one open. Used by one thread at a time."""

    def __init__(self) -> None:
        self._reader: SegmentReader | None = None

    def read(self, path: Path, seq: int, stop: int, max_bytes: int) -> list[Stored]:
        """Batches from `seq` on, below `stop`; none when they cannot be read now. Blocks."""
        try:
            if self._reader is None or self._reader.path != path:
                self._reader = SegmentReader(path)
            run = self._reader.read_run(seq, stop, max_bytes)
            if not run:
                self._reader.extend()
                run = self._reader.read_run(seq, stop, max_bytes)
        except (OSError, CorruptData) as exc:
            log.error("journal.unreadable", extra={"segment": str(path), "seq": seq, "error": str(exc)})
            self._reader = None
            return []
        return run


@dataclass(frozen=True, slots=True)
class Chores:
    """What one round of housekeeping has to do: segments to unlink, what is covered to be noted beside the
    segments, counter pages to be brought to disk."""

    unlink: list[tuple[BootLog, Path]]
    note: list[tuple[Path, str]]
    pages: list[CounterPage]


def do_chores(chores: Chores) -> list[tuple[BootLog, Path]]:
    """Do them; gives back the segments that are gone. Blocks."""
    gone = []
    for boot, path in chores.unlink:
        try:
            path.unlink(missing_ok=True)
        except OSError as exc:
            log.warning("journal.unlink_failed", extra={"segment": str(path), "error": exc.strerror})
            continue
        gone.append((boot, path))
    for page in chores.pages:
        page.copy_to_disk()
    for path, text in chores.note:
        with contextlib.suppress(OSError):  # only saves work after a restart
            path.with_suffix(".new").write_text(text)
            path.with_suffix(".new").replace(path)
    return gone


def covered_file(directory: Path, boot: bytes) -> Path:
    """Where it is noted what was covered when somebody last looked."""
    return directory / f"{boot.hex()}.covered"


def read_covered(directory: Path, boots: Iterable[bytes]) -> dict[bytes, SeqSet]:
    """What was covered, as far as it was noted; a restart with Redis empty then does not ship a day again. Blocks."""
    found = {}
    for boot in boots:
        with contextlib.suppress(OSError, ValueError):
            found[boot] = SeqSet.parse(covered_file(directory, boot).read_text())
    return found


def lock_orphans(root: Path, mine: set[Path]) -> list[slots.Slot]:
    """Lock the slots of dead processes that hold something. Blocks."""
    try:
        return list(slots.take_over(root, mine))
    except OSError as exc:
        log.warning("journal.take_over_failed", extra={"root": str(root), "error": exc.strerror})
        return []


def forget(directory: Path, boot: bytes) -> None:
    """Remove the notes of a boot whose end is in the books. Blocks."""
    with contextlib.suppress(OSError):
        covered_file(directory, boot).unlink(missing_ok=True)


def retire(path: Path) -> None:
    """Put a distrusted segment aside, for people; its batches are written elsewhere. Blocks."""
    with contextlib.suppress(OSError):
        path.replace(path.with_suffix(".suspect"))


REWRITE_BYTES = 4 * 1024 * 1024


def read_suspect(path: Path, seqs: SeqSet) -> list[Stored]:
    """Some of the batches of a distrusted segment, while the cache still holds them. Blocks."""
    reader, found, taken = BacklogReader(), list[Stored](), 0
    for start, stop in seqs:
        seq = start
        while seq < stop and taken < REWRITE_BYTES:
            run = reader.read(path, seq, stop, wire.FRAME_MAX_BYTES)
            if not run:
                break
            found += run
            taken += sum(len(stored.frame) for stored in run)
            seq = run[-1].seq + 1
    return found
