"""Where things lie below `TURNOUT_DATA_DIR`. One place, so that every process agrees.

up.lock            held by the one running `turnout up`
admin.key          the first API key, mode 600
run/               sockets and metrics sockets (or a short directory elsewhere, see `sockets`)
postgres/ valkey/  data of the embedded servers
routes/routes.mdb  the route table of this host, written by the route publisher alone
journal/clicks/slot-N/, journal/conversions/slot-N/   the journals
drills/            the dated records of drills
writers/           one lock a writer process: a stable consumer name
"""

import hashlib
import os
import re
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tracker.errors import BadConfiguration

_PLAIN_PATH = re.compile(r"[A-Za-z0-9._/-]+")
SOCKET_PATH_MAX_BYTES = 100  # sun_path holds 108; PostgreSQL appends `/.s.PGSQL.5432`, kept inside this figure


@dataclass(frozen=True, slots=True)
class DataDir:
    """Paths only; nothing is created but by the methods that say so."""

    root: Path

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> "DataDir":
        """The data directory at `path`, made absolute, so that a later chdir changes nothing."""
        return cls(Path(path).expanduser().absolute())

    @property
    def lock(self) -> Path:
        return self.root / "up.lock"

    @property
    def admin_key(self) -> Path:
        return self.root / "admin.key"

    @property
    def routes(self) -> Path:
        return self.root / "routes" / "routes.mdb"

    @property
    def drills(self) -> Path:
        return self.root / "drills"

    @property
    def writers(self) -> Path:
        return self.root / "writers"

    def journal(self, kind: str) -> Path:
        """The slots of one kind of journal: `clicks` or `conversions`."""
        return self.root / "journal" / kind

    @property
    def sockets(self) -> Path:
        """Directory for unix sockets: `run/`, or a short private one below the temporary directory when that path is too long
        or holds a character that has a meaning in a URL."""
        inside = self.root / "run"
        if _PLAIN_PATH.fullmatch(str(inside)) and len(os.fsencode(inside)) + len("/.s.PGSQL.5432.lock") <= SOCKET_PATH_MAX_BYTES:
            return inside
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"turnout-{os.getuid()}-{digest}"

    @property
    def valkey_socket(self) -> Path:
        return self.sockets / "valkey.sock"

    @property
    def embedded_database_url(self) -> str:
        return f"postgresql://turnout@/turnout?host={self.sockets}"

    @property
    def embedded_redis_url(self) -> str:
        return f"unix://{self.valkey_socket}"

    def create(self) -> None:
        """Make the directory, mode 700 where it is ours to make. BadConfiguration when that cannot be done."""
        try:
            for directory in (self.root, self.sockets):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = self.root / f".probe-{os.getpid()}"
            probe.touch(mode=0o600)
            probe.unlink()
        except OSError as exc:
            raise BadConfiguration(
                f"TURNOUT_DATA_DIR {self.root} cannot be written ({exc.strerror}); choose a directory this user may write"
            ) from exc
        info = self.sockets.stat()
        if info.st_uid not in (os.getuid(), 0) or stat.S_IMODE(info.st_mode) & 0o077:
            raise BadConfiguration(
                f"{self.sockets} must belong to this user alone (mode 700); remove it or choose another TURNOUT_DATA_DIR"
            )
