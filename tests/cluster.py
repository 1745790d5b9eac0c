"""A PostgreSQL cluster with the schema, made once a run and copied: a first start costs seconds, and few tests are about it."""

import contextlib
import fcntl
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tracker.adapters import schema
from tracker.data_dir import DataDir
from tracker.local.postgres import SETTINGS, EmbeddedPostgres
from tracker.local.servers import LocalServers

SHARED = "TEST_SHARED_DIRECTORY"  # of all processes of a run


def give_cluster(directory: Path) -> None:
    """Put a stopped cluster with the schema into a data directory that has none, as if an `up` had been there."""
    place = DataDir.at(directory)
    place.create()
    where = EmbeddedPostgres(place).residence
    _copy(_original(), where.data)
    if where.link:
        where.link.symlink_to(where.data)


@contextlib.contextmanager
def quick_servers(directory: Path) -> Iterator[LocalServers]:
    """Embedded servers with the schema, for a test: they survive kill -9, but no power cut, and end without a last checkpoint."""
    give_cluster(directory)
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(SETTINGS, "fsync", "off")
            local = stack.enter_context(LocalServers(directory))
        yield local
        local.postgres.resume()
        with contextlib.suppress(RuntimeError):  # it does not run
            os.kill(local.postgres.pid, signal.SIGQUIT)


def _original() -> Path:
    """Made by the first process that asks; the others wait for it."""
    shared = Path(os.environ[SHARED])
    made = shared / "postgres"
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            with LocalServers(shared / "servers") as local:
                schema.upgrade(local.dsn)
                local.postgres.stop()
                _copy(EmbeddedPostgres(local.directory).residence.data, made)
    return made


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", "--reflink=auto", source, target], check=True)
