"""Journal slots: `slot-0`, `slot-1` … below one directory, each used by the one process that holds its lock."""

import contextlib
import fcntl
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from tracker.adapters.journal.counter_page import CounterPage
from tracker.adapters.journal.segment import SUFFIX
from tracker.adapters.journal.sync import sync_directory

MAX_SLOTS = 256


class Slot:
    """A locked slot. The lock (flock, so local file systems only) goes with the process that dies."""

    def __init__(self, directory: Path, descriptor: int) -> None:
        self.directory, self._descriptor = directory, descriptor
        self.page: CounterPage | None = None

    def open_page(self) -> CounterPage:
        """The slot's counter page. OSError when there is no space for it."""
        if self.page is None:
            self.page = CounterPage(self.directory / "counters")
        return self.page

    def segments(self) -> list[Path]:
        """Segment files, by boot and seq."""
        return sorted(self.directory.glob(f"*{SUFFIX}"))

    def is_empty(self) -> bool:
        """Whether nothing in it waits for anybody."""
        return not self.segments() and not (self.page and self.page.lines())

    def release(self) -> None:
        """Let another process have it."""
        if self.page is not None:
            self.page.close()
        os.close(self._descriptor)


def _try_lock(directory: Path) -> Slot | None:
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return Slot(directory, descriptor)


def acquire(root: Path) -> Slot:
    """The first free slot below `root`, made when all others are taken. OSError when the disk does not let us."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for number in range(MAX_SLOTS):
        directory = root / f"slot-{number}"
        if not directory.is_dir():
            directory.mkdir(mode=0o700, exist_ok=True)
            sync_directory(root)
        slot = _try_lock(directory)
        if slot is not None:
            return slot
    raise OSError(f"all {MAX_SLOTS} journal slots below {root} are in use")


def take_over(root: Path, mine: Collection[Path] = ()) -> Iterator[Slot]:
    """Lock, one after the other, the slots of dead processes that still hold something; empty ones are let go again."""
    for directory in sorted(root.glob("slot-*")):
        if directory in mine or not directory.is_dir():
            continue
        slot = _try_lock(directory)
        if slot is None:
            continue
        with contextlib.suppress(OSError):  # no space for a page: what the segments hold can be shipped without
            slot.open_page()
        if slot.is_empty():
            slot.release()
        else:
            yield slot
