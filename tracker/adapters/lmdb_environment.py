"""LMDB files as this process has them open: paths, the space they need, and one environment a file.

`routes.mdb` holds three databases: `routes` (key → row id and route), `rows` (kind and id → revision and key, so that a
changed or deleted row takes its old key with it) and `meta` (how far the change feed is in). Beside it lie the lock
file, made with its space before anything opens it (LMDB dies of SIGBUS on a full disk without it), and `routes.alive`,
whose time says when the publisher last found the table current.
"""

import errno
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import lmdb

from tracker.errors import CorruptData

MAP_SIZE_BYTES = 16 * 1024**3  # address space, not disk: the file grows as it fills
MAX_READERS = 512  # one a reading thread
LOCK_FILE_BYTES = 64 * 1024  # header and 512 slots of 64 bytes, with room
SPACE_BYTES = 4 * 1024**2  # least free space to begin a table with
ROUTES, ROWS, META = b"routes", b"rows", b"meta"

Identity = tuple[int, int]  # device and inode of a file
Databases = dict[bytes, Any]  # by name


class _Opened(NamedTuple):
    env: Any
    databases: Databases
    is_writable: bool


def lock_path(path: Path) -> Path:
    """The lock file of a table; LMDB names it."""
    return path.with_name(path.name + "-lock")


def alive_path(path: Path) -> Path:
    """The file whose modification time says when the publisher last found the table current."""
    return path.with_suffix(".alive")


def reserve(path: Path) -> None:
    """Make the lock file with all its space, as whoever opens the table must first. OSError when the disk is full."""
    handle = os.open(lock_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
    try:
        os.posix_fallocate(handle, 0, LOCK_FILE_BYTES)
    finally:
        os.close(handle)


class Environments:
    """What this process has open: LMDB must not open a file twice, so a publisher and readers in one process share.

    The databases are opened once, with the file: opening one later takes LMDB's lock of writers and waits for it with Python's own
    held, so that a writer in another thread could never let go.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[Identity, _Opened] = {}
        self._users: Counter[Identity] = Counter()

    def acquire(self, path: Path, *, writable: bool, map_size_bytes: int) -> tuple[Identity, Any, Databases]:
        """What to `release`, the environment of `path`, and its databases. The space for its lock file is made first."""
        with self._lock:
            found = self._open.get(identity_of(path)) if path.exists() else None
            if found is None:
                found = _enter(path, writable, map_size_bytes)
            elif writable and not found.is_writable:
                raise OSError(errno.EBUSY, f"{path} is open for reading here: start the publisher before the readers")
            identity = identity_of(path)
            self._open[identity] = found
            self._users[identity] += 1
            return identity, found.env, found.databases

    def release(self, identity: Identity) -> None:
        """Close the environment when nobody here uses it any more."""
        with self._lock:
            self._users[identity] -= 1
            if not self._users[identity]:
                self._open.pop(identity).env.close()


environments = Environments()


def identity_of(path: Path) -> Identity:
    """Which file `path` is now."""
    info = path.stat()
    return info.st_dev, info.st_ino


def _enter(path: Path, writable: bool, map_size_bytes: int) -> _Opened:
    reserve(path)
    options: dict[str, Any] = {"subdir": False, "max_dbs": 8, "max_readers": MAX_READERS, "mode": 0o660}
    env = lmdb.open(str(path), readonly=not writable, map_size=map_size_bytes, **options)
    try:
        names = (ROUTES, ROWS, META) if writable else (ROUTES, ROWS)
        return _Opened(env, {name: env.open_db(name, create=writable) for name in names}, writable)
    except lmdb.Error:
        env.close()
        raise


@contextmanager
def table_errors() -> Iterator[None]:
    """Turn LMDB's errors into OSError (full disk and the like) or CorruptData, so that callers need not know LMDB."""
    try:
        yield
    except (lmdb.DiskError, lmdb.MapFullError) as exc:
        raise OSError(errno.ENOSPC, f"route table: {exc}") from exc
    except lmdb.Error as exc:
        raise CorruptData(f"route table: {exc}") from exc


def require_space(path: Path) -> None:
    """OSError when there is no room to begin a table."""
    free = os.statvfs(path.parent)
    if free.f_bavail * free.f_frsize < SPACE_BYTES:
        raise OSError(errno.ENOSPC, f"{path}: a route table needs {SPACE_BYTES} bytes of free space")
