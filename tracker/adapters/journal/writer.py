"""The journal's one writer thread: batches that wait are written together, one write after the other.

write(2) and fdatasync release the GIL, so a slow or frozen disk holds up this thread and not the event loop. Batches that
gather while one write is in flight make the next: the group commit is natural. A full segment is synced beside it, by a thread of its
own: 64 MB may take a disk seconds, and nobody who comes meanwhile is to wait for that.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

from tracker.adapters.journal import segment
from tracker.adapters.journal.sync import sync_directory
from tracker.crash import crash_at

log = logging.getLogger(__name__)

RETRY_AFTER_S = 1.0  # how long a journal that refused is left alone before it is tried again
SEGMENT_MAX_AGE_S = 600.0  # a quiet journal is sealed too, so that covered segments can go
IOV_MAX = 512


class _SyncError(OSError):
    """fdatasync failed: what was written before cannot be trusted either."""


class Batch:
    """One sealed batch on its way: encoded, numbered, with those who wait for it. Used by the event loop; the thread reads `frame`."""

    __slots__ = ("accepted", "frame", "journaled", "opened_at", "records", "seq", "shipping", "waiters", "writing")

    def __init__(self, seq: int, records: int, accepted: int, frame: bytes, opened_at: float, waiters: list[Callable[[], None]]) -> None:
        self.seq, self.records, self.accepted, self.frame, self.opened_at, self.waiters = seq, records, accepted, frame, opened_at, waiters
        self.journaled = self.shipping = self.writing = False

    @property
    def is_done(self) -> bool:
        """Nobody waits for it, and the shipper has it."""
        return self.shipping and not self.waiters

    def answer(self) -> None:
        """Tell everybody who waits, once."""
        waiters, self.waiters = self.waiters, []
        for done in waiters:
            done()


class JournalWriter(threading.Thread):
    """Writes batches into segments below one slot.

    `on_done(batches, path, error)` is called *on this thread* after each group: error None means written to `path` (and synced, with
    `sync`); with an OSError the group must be taken as not written. `on_abandoned(path)`: a sync failed, so what lies in that segment
    cannot be trusted. After an error the journal is left alone for RETRY_AFTER_S, then tried again in a new segment.
    """

    def __init__(
        self,
        directory: Path,
        header: segment.Header,
        on_done: Callable[[list[Batch], Path | None, OSError | None], None],
        on_abandoned: Callable[[Path], None],
        *,
        sync: bool,
        segment_bytes: int,
    ) -> None:
        super().__init__(name="journal-writer", daemon=True)
        self._directory, self._header, self._on_done, self._on_abandoned = directory, header, on_done, on_abandoned
        self._sync, self._segment_bytes = sync, segment_bytes
        self._queue: SimpleQueue[Batch | None] = SimpleQueue()
        self._descriptor = -1
        self._path: Path | None = None
        self._header_bytes = len(header.encode())
        self._bytes = self._good_bytes = self._segments = 0
        self._opened_at = 0.0
        self._retry_at = 0.0
        self._error: OSError | None = None
        self._stopping = False
        self._busy_since = 0.0  # monotonic; 0: this thread asks nothing of the disk
        self._sealing: list[threading.Thread] = []

    def hangs_for(self) -> float:
        """Seconds since the disk was asked for what it has not done yet; 0 when it is asked for nothing. For the event loop."""
        since = self._busy_since
        return time.monotonic() - since if since else 0.0

    @property
    def current(self) -> Path | None:
        """The segment that is being written."""
        return self._path

    def submit(self, batch: Batch) -> None:
        """Queue a batch; never blocks."""
        self._queue.put(batch)

    def stop(self) -> None:
        """Write what waits, seal, and end. Join to wait for it."""
        self._queue.put(None)

    def run(self) -> None:
        while not self._stopping:
            group = self._gather()
            if group:
                self._busy_since = time.monotonic()
                error = self._write(group)
                self._busy_since = 0.0
                self._on_done(group, self._path, error)
                if self._is_full():
                    self._seal()
        self._seal()
        for thread in self._sealing:
            thread.join()

    def _is_full(self) -> bool:
        return self._bytes >= self._segment_bytes or (self._bytes > 0 and time.monotonic() - self._opened_at > SEGMENT_MAX_AGE_S)

    def _gather(self) -> list[Batch]:
        group: list[Batch] = []
        item = self._queue.get()
        while True:
            if item is None:
                self._stopping = True
                return group
            group.append(item)
            if self._queue.empty() or len(group) >= IOV_MAX:
                return group
            item = self._queue.get()

    def _write(self, group: list[Batch]) -> OSError | None:
        if self._error is not None and time.monotonic() < self._retry_at:
            return self._error
        try:
            if self._descriptor < 0:
                self._open()
            self._append(group)
        except OSError as exc:
            self._refuse(exc)
            return exc
        if self._error is not None:
            log.info("journal.recovered", extra={"segment": str(self._path)})
            self._error = None
        return None

    def _open(self) -> None:
        self._segments += 1
        path = self._directory / segment.file_name(self._header.boot, self._segments)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._path = path
        self._put([self._header.encode()])
        self._opened_at = time.monotonic()
        if self._sync:
            _sync(self._descriptor)
            sync_directory(self._directory)

    def _append(self, group: list[Batch]) -> None:
        crash_at("journal.before_write")
        self._put([batch.frame for batch in group])
        crash_at("journal.after_write")
        if self._sync:
            _sync(self._descriptor)
            crash_at("journal.after_sync")
        self._good_bytes = self._bytes

    def _put(self, parts: list[bytes]) -> None:
        wanted = sum(map(len, parts))
        written = os.writev(self._descriptor, parts)
        self._bytes += written
        if written != wanted:  # a disk that fills up takes a part: finish it, or fail with the real error
            rest = b"".join(parts)[written:]
            while rest:
                taken = os.write(self._descriptor, rest)
                self._bytes += taken
                rest = rest[taken:]

    def _refuse(self, exc: OSError) -> None:
        if self._error is None or self._error.errno != exc.errno:
            log.error("journal.refused", extra={"errno": exc.errno, "error": exc.strerror, "segment": str(self._path)})
        self._error, self._retry_at = exc, time.monotonic() + RETRY_AFTER_S
        path, descriptor, good = self._path, self._descriptor, self._good_bytes
        self._path, self._descriptor, self._bytes, self._good_bytes = None, -1, 0, 0
        if descriptor < 0 or path is None:
            return
        with contextlib.suppress(OSError):  # the segment ends at its last whole group; its torn tail is found and cut at take-over too
            os.ftruncate(descriptor, good)
            if good <= self._header_bytes:
                path.unlink()
        _close(descriptor)
        if isinstance(exc, _SyncError):
            # Linux may have marked the lost pages clean: a second fsync would "succeed". Nothing in this file can be trusted.
            self._on_abandoned(path)

    def _seal(self) -> None:
        """Have the segment synced and closed by another thread; the next write opens a new one."""
        if self._descriptor < 0 or self._path is None:
            return
        thread = threading.Thread(target=self._sync_and_close, args=(self._descriptor, self._path), name="journal-seal", daemon=True)
        self._sealing = [other for other in self._sealing if other.is_alive()]
        self._descriptor, self._path, self._bytes, self._good_bytes = -1, None, 0, 0
        try:
            thread.start()
            self._sealing.append(thread)
        except RuntimeError:  # this machine has no thread to spare
            thread.run()

    def _sync_and_close(self, descriptor: int, path: Path) -> None:
        try:
            _sync(descriptor)
        except OSError as exc:
            _close(descriptor)
            log.error("journal.sync_failed", extra={"errno": exc.errno, "error": exc.strerror, "segment": str(path)})
            self._on_abandoned(path)
            return
        _close(descriptor)


def _close(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # the descriptor is gone either way; what it says of lost writes was said by fdatasync
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    try:
        os.fdatasync(descriptor)
    except OSError as exc:
        raise _SyncError(exc.errno, exc.strerror) from exc
