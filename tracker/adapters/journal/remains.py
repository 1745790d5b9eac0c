"""What dead processes left in a slot: read in a thread, since a day's journal takes seconds, and nobody waits for it."""

import contextlib
import logging
from dataclasses import dataclass, field
from pathlib import Path

from tracker.adapters.journal.segment import Header, SegmentReader, quarantine_tail
from tracker.domain.intervals import SeqSet
from tracker.errors import CorruptData

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Remains:
    """The readable segments of a slot with what is in them. `unreadable`: some could not be read now, and may be another time."""

    segments: list[tuple[Path, Header, SeqSet]] = field(default_factory=list)
    unreadable: bool = False


def read_remains(paths: list[Path]) -> Remains:
    """Look through segments nobody writes: damaged tails are put aside, files that are no segments too. Blocks; touches nothing else."""
    found = Remains()
    for path in paths:
        try:
            reader = SegmentReader(path)
            cut_bytes = quarantine_tail(reader)
        except CorruptData as exc:
            log.error("journal.segment_damaged", extra={"segment": str(path), "error": str(exc)})
            with contextlib.suppress(OSError):
                path.rename(path.with_suffix(".damaged"))
        except OSError as exc:
            log.error("journal.segment_unreadable", extra={"segment": str(path), "error": exc.strerror})
            found.unreadable = True
        else:
            if cut_bytes:
                log.warning("journal.tail_quarantined", extra={"segment": str(path), "bytes": cut_bytes})
            found.segments.append((path, reader.header, reader.seqs()))
    return found
