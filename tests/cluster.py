"""A PostgreSQL cluster with the schema, made once a run and copied: a first start costs seconds, and few tests are about it."""

import atexit
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from tracker.adapters import schema
from tracker.data_dir import DataDir
from tracker.local.postgres import EmbeddedPostgres
from tracker.local.servers import LocalServers


def give_cluster(directory: Path) -> None:
    """Put a stopped cluster with the schema into a data directory that has none, as if an `up` had been there."""
    place = DataDir.at(directory)
    place.create()
    where = EmbeddedPostgres(place).residence
    _copy(_original(), where.data)
    if where.link:
        where.link.symlink_to(where.data)


@cache
def _original() -> Path:
    kept = tempfile.TemporaryDirectory(prefix="turnout-test-")
    atexit.register(kept.cleanup)
    with LocalServers(Path(kept.name) / "servers") as local:
        schema.upgrade(local.dsn)
        local.postgres.stop()
        _copy(EmbeddedPostgres(local.directory).residence.data, Path(kept.name) / "postgres")
    return Path(kept.name) / "postgres"


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", "--reflink=auto", source, target], check=True)
