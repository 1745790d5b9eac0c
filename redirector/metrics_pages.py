"""Pages on which the redirector processes of a host show one another their figures: `redirector-K` in shared memory.

The kernel gives a scrape to whichever process accepts it, so each must be able to answer for all. A process locks a page (`flock`,
which goes with it) and writes its figures there once a tick, and before it tells anybody. Who takes over the page of a dead process
goes on from its counts. Pages lie in memory, with their space reserved: a full or frozen disk can hold up neither tick nor scrape.
"""

import contextlib
import fcntl
import logging
import os
import struct
import zlib
from pathlib import Path

import msgspec

from redirector.figures import Figures
from tracker.adapters.journal.counter_page import in_shared_memory

log = logging.getLogger(__name__)

PAGES_MAX = 256  # as many as `turnout up` starts processes
HALF_BYTES = 16 * 1024  # figures take about 2 KB
READS_MAX = 20  # a half is written in microseconds, so one read in a row that meets no write is soon found
_HEAD = struct.Struct("<4sIQI")  # format, CRC-32 of what follows, serial number, length of the figures
_FORMAT = b"TRM1"  # another one is another meaning of the figures: such pages are not read
_decoder = msgspec.msgpack.Decoder(Figures)


def pages_of(data_directory: Path) -> Path:
    """Where the pages of the redirectors on this data directory lie."""
    return in_shared_memory(data_directory).with_suffix(".metrics")


class MetricsPages:
    """One process's view of the pages in a directory. Nothing here raises: without pages a process knows its own figures alone."""

    def __init__(self, directory: Path) -> None:
        """Nothing is opened yet."""
        self._directory = directory
        self._own: tuple[Path, int] | None = None
        self._serial = 0
        self._was_refused = False

    @property
    def is_shown(self) -> bool:
        """Whether this process has a page."""
        return self._own is not None

    def take(self) -> Figures | None:
        """Lock the first page nobody holds; the figures of the dead process that had it, None for a new page or for none at all."""
        try:
            _make(self._directory)
            self._own = next(filter(None, (_lock(self._directory / f"redirector-{number}") for number in range(PAGES_MAX))), None)
        except OSError as exc:
            self._refused(exc)
            return None
        if self._own is None:
            return None
        self._was_refused = False
        self._serial, inherited = _read(self._own[1])
        return inherited

    def save(self, figures: Figures) -> None:
        """Show `figures` to the other processes: whole, or not at all when this process dies meanwhile."""
        if self._own is None:
            return
        body = msgspec.msgpack.encode(figures)
        if _HEAD.size + len(body) > HALF_BYTES:
            self._refused(OSError(f"{len(body)} bytes of figures do not fit"))
            return
        self._serial += 1
        rest = struct.pack("<QI", self._serial, len(body)) + body
        try:
            os.pwrite(self._own[1], _FORMAT + struct.pack("<I", zlib.crc32(rest)) + rest, self._serial % 2 * HALF_BYTES)
        except OSError as exc:
            self._refused(exc)

    def others(self) -> list[tuple[Figures, bool]]:
        """The figures of every other page, and whether its process lives."""
        found = []
        mine = self._own[0] if self._own else None
        for path in self._paths():
            if path == mine:
                continue
            with contextlib.suppress(OSError):
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                try:
                    _, figures = _read(descriptor)
                    if figures is not None:
                        found.append((figures, not _try_lock(descriptor, fcntl.LOCK_SH)))
                finally:
                    os.close(descriptor)
        return found

    def leave(self) -> None:
        """Let go of the page. It stays for an heir while another process lives; the last one takes all pages with it."""
        if self._own is None:
            return
        mine, nobodys = self._own[0], list[tuple[Path, int]]()
        with contextlib.suppress(OSError):
            nobodys += filter(None, (_lock(path) for path in self._paths() if path != mine))
            if {mine, *(path for path, _ in nobodys)} == set(self._paths()):
                for path in self._paths():
                    path.unlink(missing_ok=True)
                self._directory.rmdir()
        for _, descriptor in nobodys:
            os.close(descriptor)
        self.let_go()

    def let_go(self) -> None:
        """Unlock the page, as the end of the process does: what was saved last waits there for an heir."""
        if self._own is not None:
            os.close(self._own[1])
        self._own = None

    def _paths(self) -> list[Path]:
        try:
            return sorted(self._directory.glob("redirector-*"))
        except OSError:
            return []

    def _refused(self, error: OSError) -> None:
        if not self._was_refused:
            log.warning("metrics.no_page", extra={"directory": str(self._directory), "error": error.strerror or str(error)})
        self._was_refused = True


def _make(directory: Path) -> None:
    directory.mkdir(mode=0o700, exist_ok=True)
    if directory.lstat().st_uid != os.getuid() or directory.is_symlink():
        raise PermissionError(f"{directory} belongs to somebody else")


def _lock(path: Path) -> tuple[Path, int] | None:
    """The page, made if need be, with its lock; None while somebody holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if _try_lock(descriptor, fcntl.LOCK_EX) and os.fstat(descriptor).st_nlink:  # 0: its last holder took it away just now
            os.posix_fallocate(descriptor, 0, 2 * HALF_BYTES)
            return path, descriptor
    except OSError:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(descriptor: int) -> tuple[int, Figures | None]:
    """The newest whole half of a page; (0, None) when it was never written. A half that is just being written does not count."""
    for _ in range(READS_MAX):
        page = os.pread(descriptor, 2 * HALF_BYTES, 0)
        halves = filter(None, (_half(page[:HALF_BYTES]), _half(page[HALF_BYTES:])))
        serial, figures = max(halves, key=lambda half: half[0], default=(0, None))
        if figures is not None or not any(page):
            return serial, figures
    return 0, None


def _half(half: bytes) -> tuple[int, Figures] | None:
    if len(half) < _HEAD.size:
        return None
    kind, checksum, serial, length = _HEAD.unpack_from(half)
    end = _HEAD.size + length
    if kind != _FORMAT or end > len(half) or zlib.crc32(half[8:end]) != checksum:
        return None
    try:
        return serial, _decoder.decode(half[_HEAD.size : end])
    except msgspec.MsgspecError:
        return None
