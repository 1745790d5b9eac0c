"""The counter page of a slot: 4 KB, preallocated, so that it works on a full disk, and mapped from memory, so that it survives
`kill -9` and a frozen disk cannot hold up whoever counts.

It holds one line for each boot whose end is not yet in the books: last seq, records accepted, unrecorded and so on. A store into
the mapping is all an update costs. The mapping is a file in /dev/shm: a store into a mapped file of the journal's own disk blocks
while that is frozen (its first store after each writeback is a page fault that waits). `copy_to_disk`, once a second in a thread,
brings the page into the slot; after a reboot that copy is what there is, and the frames themselves carry the count of records.
That a boot began or ended is synced: after a power cut somebody must still be able to close its books.
"""

import contextlib
import hashlib
import mmap
import os
import struct
from pathlib import Path

from tracker.adapters.journal.sync import sync_directory

PAGE_BYTES = 4096
_LINE = struct.Struct(
    "<16sQQQQQQ"
)  # boot, state, last seq, accepted, unrecorded, answered at the deadline, refused by the hard flood limit
_LINE_BYTES = 128
LINES = PAGE_BYTES // _LINE_BYTES
_IDENTITY = slice(112, 128)  # in the unused end of the first line: ties the page in memory to the one on disk
# Names there are ours by user and path, mode 600. The variable is for tests, which would else leave pages of folders that are gone.
SHARED_MEMORY = Path(os.environ.get("TURNOUT_INTERNAL_SHARED_MEMORY", "/dev/shm"))  # noqa: S108
FREE, OPEN, CLOSED = 0, 1, 2


class CounterLine:
    """The numbers of one boot; each assignment is in the page at once. Without a page they live in this process alone."""

    __slots__ = ("_at", "_page", "accepted", "boot", "flooded", "last_seq", "late", "state", "unrecorded")

    def __init__(
        self, boot: bytes, page: "CounterPage | None" = None, at: int = 0, values: tuple[int, ...] = (OPEN, 0, 0, 0, 0, 0)
    ) -> None:
        self.boot, self._page, self._at = boot, page, at
        self.state, self.last_seq, self.accepted, self.unrecorded, self.late, self.flooded = values

    @property
    def is_kept(self) -> bool:
        """Whether the numbers outlive this process."""
        return self._page is not None

    def save(self) -> None:
        """Put the numbers into the page."""
        if self._page is not None:
            self._page.store(self._at, self.boot, self.state, self.last_seq, self.accepted, self.unrecorded, self.late, self.flooded)

    def attach(self, page: "CounterPage") -> bool:
        """Keep the numbers in a free line of `page` from now on; False when all lines are taken (then they live in memory only)."""
        at = page.free_line()
        if at is None:
            return False
        self._page, self._at = page, at
        self.save()
        return True

    def release(self) -> None:
        """Give the line back: the boot's end is in the books."""
        self.state = FREE
        if self._page is not None:
            self._page.store(self._at, bytes(16), FREE, 0, 0, 0, 0, 0)
            self._page = None


def in_shared_memory(path: Path) -> Path:
    """Where this user has in memory what belongs to `path` on disk."""
    digest = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:32]
    return SHARED_MEMORY / f"turnout-{os.getuid()}-{digest}"


class CounterPage:
    """The page of one slot, used by the one process that holds the slot's lock."""

    def __init__(self, path: Path) -> None:
        """Map the page, making it when it is not there. OSError when the disk is full and the page was never made."""
        self._path = path
        on_disk = self._prepare()
        self._shared: Path | None = in_shared_memory(path)
        try:
            self._map = _mapped(self._shared)
        except OSError:  # no shared memory here: the page on disk itself
            self._shared, self._map = None, _mapped(path)
        if self._map[_IDENTITY] != on_disk[_IDENTITY]:  # a first use, a reboot, or another volume under this path
            self._map[:] = on_disk
        self._copied = bytes(self._map)
        self._synced: list[tuple[bytes, int]] = []

    def _prepare(self) -> bytes:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, PAGE_BYTES)
            page = os.pread(descriptor, PAGE_BYTES, 0)
            if not any(page[_IDENTITY]):
                os.pwrite(descriptor, os.urandom(16), _IDENTITY.start)
                page = os.pread(descriptor, PAGE_BYTES, 0)
        finally:
            os.close(descriptor)
        return page

    def copy_to_disk(self) -> None:
        """Bring the page into the slot if it changed. Blocks as long as the disk does; the space is there."""
        page = bytes(self._map)
        if self._shared is None or page == self._copied:
            return
        with contextlib.suppress(OSError):
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.pwrite(descriptor, page, 0)
                boots = [(line.boot, line.state) for line in self.lines()]
                if boots != self._synced:
                    os.fsync(descriptor)
                    sync_directory(self._path.parent)
                    self._synced = boots
            finally:
                os.close(descriptor)
            self._copied = page

    def lines(self) -> list[CounterLine]:
        """The lines in use: boots whose end is not in the books yet."""
        found = []
        for at in range(0, PAGE_BYTES, _LINE_BYTES):
            boot, *values = _LINE.unpack_from(self._map, at)
            if values[0] in (OPEN, CLOSED):
                found.append(CounterLine(boot, self, at, tuple(values)))
        return found

    def free_line(self) -> int | None:
        """Where a line is free; None when all are taken by boots whose end is not in the books."""
        taken = (_LINE.unpack_from(self._map, at)[1] in (OPEN, CLOSED) for at in range(0, PAGE_BYTES, _LINE_BYTES))
        return next((number * _LINE_BYTES for number, is_taken in enumerate(taken) if not is_taken), None)

    def store(self, at: int, *values: bytes | int) -> None:
        """One line, in one store."""
        _LINE.pack_into(self._map, at, *values)

    def close(self) -> None:
        """Let go of the page; what is in memory stays only while a boot in it waits for its end."""
        self.copy_to_disk()
        if self._shared is not None and not self.lines():
            self._shared.unlink(missing_ok=True)
        self._map.close()


def _mapped(path: Path) -> mmap.mmap:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if os.fstat(descriptor).st_uid != os.getuid():
            raise PermissionError(f"{path} belongs to somebody else")
        os.posix_fallocate(descriptor, 0, PAGE_BYTES)  # space first: a mapped page without space is SIGBUS
        return mmap.mmap(descriptor, PAGE_BYTES)
    finally:
        os.close(descriptor)
