"""The counter page of a slot: 4 KB, preallocated and mapped, so that it survives `kill -9` and works on a full disk.

It holds one line for each boot whose end is not yet in the books: last seq, records accepted, unrecorded and so on. A store into
the mapping is all an update costs. Numbers are 8-byte aligned; a power cut may lose the last moments of them, a kill does not.
"""

import mmap
import os
import struct
from pathlib import Path

PAGE_BYTES = 4096
_LINE = struct.Struct(
    "<16sQQQQQQ"
)  # boot, state, last seq, accepted, unrecorded, answered at the deadline, refused by the hard flood limit
_LINE_BYTES = 128
LINES = PAGE_BYTES // _LINE_BYTES
FREE, OPEN, CLOSED = 0, 1, 2


class CounterLine:
    """The numbers of one boot; each assignment is in the page at once. Without a page they live in this process alone."""

    __slots__ = ("_at", "_page", "accepted", "boot", "flooded", "last_seq", "late", "state", "unrecorded")

    def __init__(
        self, boot: bytes, page: "CounterPage | None" = None, at: int = 0, values: tuple[int, ...] = (OPEN, 0, 0, 0, 0, 0)
    ) -> None:
        self.boot, self._page, self._at = boot, page, at
        self.state, self.last_seq, self.accepted, self.unrecorded, self.late, self.flooded = values

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


class CounterPage:
    """The page of one slot, used by the one process that holds the slot's lock."""

    def __init__(self, path: Path) -> None:
        """Map the page, making it when it is not there. OSError when the disk is full and the page was never made."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, PAGE_BYTES)  # space first: a mapped page without space is SIGBUS
            self._map = mmap.mmap(descriptor, PAGE_BYTES)
        finally:
            os.close(descriptor)

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
        self._map.close()
