"""What dead processes left in a slot: read in a thread, since a day's journal takes seconds, and nobody waits for it."""

import contextlib
import logging
from dataclasses import dataclass, field
from pathlib import Path

from tracker.adapters.journal.segment import Header, SegmentReader, quarantine_tail
from tracker.domain.intervals import SeqSet
from tracker.errors import CorruptData

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """One readable segment. `written_at` is Unix time."""

    path: Path
    header: Header
    seqs: SeqSet
    size_bytes: int
    written_at: float


@dataclass(slots=True)
class Remains:
    """What a slot's segments hold. `unreadable` may be read another time; `damaged` were put aside, whole or their tails."""

    segments: list[Found] = field(default_factory=list)
    unreadable: list[Path] = field(default_factory=list)
    damaged: list[Path] = field(default_factory=list)


def read_remains(paths: list[Path]) -> Remains:
    """Look through segments nobody writes: damaged tails are put aside, files that are no segments too. Blocks; touches nothing else."""
    remains = Remains()
    for path in paths:
        try:
            info = path.stat()
            reader = SegmentReader(path)
        except CorruptData as exc:
            log.error("journal.segment_damaged", extra={"segment": str(path), "error": str(exc)})
            remains.damaged.append(path.with_suffix(".damaged"))
            with contextlib.suppress(OSError):
                path.rename(path.with_suffix(".damaged"))
        except OSError as exc:
            log.error("journal.segment_unreadable", extra={"segment": str(path), "error": exc.strerror})
            remains.unreadable.append(path)
        else:
            if _has_damaged_tail(reader):
                remains.damaged.append(path.with_suffix(".damaged"))
            remains.segments.append(Found(path, reader.header, reader.seqs(), info.st_size, info.st_mtime))
    return remains


def _has_damaged_tail(reader: SegmentReader) -> bool:
    try:
        cut_bytes, is_junk = quarantine_tail(reader)
    except OSError as exc:  # a full disk: the clean prefix is good all the same, the tail stays where it is
        log.warning("journal.tail_left", extra={"segment": str(reader.path), "error": exc.strerror})
        return False
    if cut_bytes:
        log.warning("journal.tail_quarantined", extra={"segment": str(reader.path), "bytes": cut_bytes})
    return is_junk
