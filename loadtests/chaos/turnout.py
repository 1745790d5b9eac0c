"""Turnout as a user runs it in parts: by its command line, each part a process that is started again at once when it dies."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtests.chaos.http_client import Cut, Reply, ask, request
from loadtests.chaos.processes import Workplace, is_stopped, wait_until
from loadtests.chaos.servers import free_port

ADMIN_KEY = "chaos-admin-key-0123456789abcdef"
SERVERS = ("redirector", "tracker")
PARTS = ("redirector", "tracker", "clicks", "conversions", "routes", "keeper")
BACKLOG = 2048
CLI_S = 60.0
API_S = 10.0
QUICK_DEATH_S = 1.0  # sooner than that after its start: the next one waits a little
PAUSE_S = 0.25
LAST_WORDS_MAX = 1500


@dataclass(slots=True)
class Death:
    """How a process ended: the return code of `wait` (negative: by that signal)."""

    pid: int
    code: int
    at: float


@dataclass(eq=False, slots=True)
class Part:
    """One supervised process. `next_environment` holds for the next start only, unless `is_kept`. `doomed`: pids that are meant to die."""

    name: str
    argv: list[str]
    environment: dict[str, str]
    log: str
    pass_fds: tuple[int, ...] = ()
    next_environment: dict[str, str] = field(default_factory=dict)
    is_kept: bool = False
    is_wanted: bool = True
    process: asyncio.subprocess.Process | None = None
    deaths: list[Death] = field(default_factory=list)
    doomed: set[int] = field(default_factory=set)
    starts: int = 0
    keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Of the process that runs now, or ran last."""
        return self.process.pid if self.process else 0

    @property
    def is_running(self) -> bool:
        """Whether there is a process."""
        return self.process is not None and self.process.returncode is None


class Installation:
    """A data directory, ports, and the parts on them."""

    def __init__(self, place: Workplace, tree: Path, database_url: str, redis_url: str) -> None:
        self.place, self.tree = place, tree
        self.data = place.root / "data"
        self.listeners = {name: _listen() for name in SERVERS}
        self.ports = {name: int(listener.getsockname()[1]) for name, listener in self.listeners.items()}
        self.ports |= {name: free_port() for name in PARTS if name not in SERVERS}
        self.parts: dict[str, Part] = {}
        self._power = asyncio.Event()
        self._power.set()
        self._surprises: list[str] = []
        self.environment = clean_environment(tree) | {
            "TURNOUT_DATA_DIR": str(self.data), "TURNOUT_DATABASE_URL": database_url, "TURNOUT_REDIS_URL": redis_url,
            "TURNOUT_REDIRECTOR_PORT": str(self.ports["redirector"]), "TURNOUT_TRACKER_PORT": str(self.ports["tracker"]),
            "TURNOUT_ADMIN_KEY": ADMIN_KEY, "TURNOUT_FLOOD_LIMIT": "0", "TURNOUT_NODE": "node-1",
            "TURNOUT_ACK_DEADLINE_MS": os.environ.get("CHAOS_ACK_DEADLINE_MS", "25"),
            "TURNOUT_FALLBACK_URL": "https://shop.example/lost", "TURNOUT_JOURNAL_SEGMENT_BYTES": "4MB",
            "TURNOUT_INTERNAL_SHARED_MEMORY": str(place.memory), "CHAOS_RUN": place.marker,
        }  # fmt: skip

    # -- parts

    async def start_all(self) -> None:
        """Start every part and wait until a link could work."""
        for name in PARTS:
            self.add(name)
        for name, path in (("redirector", "/-/readyz"), ("tracker", "/readyz")):
            if not await wait_until(lambda name=name, path=path: self.is_ready(name, path), 60.0):  # type: ignore[misc]
                raise TimeoutError(f"{name} is not ready, see its log in {self.place.logs}")

    def add(self, name: str, key: str | None = None, **environment: str) -> Part:
        """Start supervising a part; `key` names a second one of a kind."""
        words = ["serve", name, "--fd", str(self.listeners[name].fileno())] if name in SERVERS else ["work", name]
        fds = (self.listeners[name].fileno(),) if name in SERVERS else ()
        port = self.ports.setdefault(key or name, free_port())
        env = self.environment | {"TURNOUT_WORKER_METRICS_PORT": str(port)} | environment
        part = Part(key or name, [sys.executable, "-m", "tracker", *words], env, key or name, fds)
        self.parts[part.name] = part
        part.keeper = asyncio.create_task(self._keep(part), name=f"keep {part.name}")
        return part

    async def _keep(self, part: Part) -> None:
        while part.is_wanted:
            await self._power.wait()
            started = time.monotonic()
            env = part.environment | part.next_environment
            if not part.is_kept:
                part.next_environment = {}
            part.process = await self.place.spawn(part.argv, part.log, env=env, pass_fds=part.pass_fds)
            part.starts += 1
            code = await part.process.wait()
            part.deaths.append(Death(part.process.pid, code, time.monotonic()))
            if part.process.pid not in part.doomed:
                self._surprises.append(f"{part.name} ended by itself with {code}: {self._last_words(part)}")
            if time.monotonic() - started < QUICK_DEATH_S:
                await asyncio.sleep(PAUSE_S)

    def _last_words(self, part: Part) -> str:
        """The end of its log: whoever reads the report has nothing else of it."""
        lines = (self.place.logs / f"{part.log}.log").read_text("utf-8", "replace").strip().splitlines()
        return lines[-1][-LAST_WORDS_MAX:] if lines else "it said nothing"

    async def kill(self, name: str, number: signal.Signals = signal.SIGKILL, within_s: float = 30.0) -> Death:
        """End a part by a signal; its death. TimeoutError when it does not die. It is started again unless it is not wanted."""
        part = self.parts[name]
        if not await wait_until(lambda: part.is_running, 10.0):
            raise TimeoutError(f"{name} does not run")
        pid, before = part.pid, len(part.deaths)
        part.doomed.add(pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        if not await wait_until(lambda: len(part.deaths) > before, within_s, every_s=0.01):
            raise TimeoutError(f"{name} ({pid}) did not die of {number.name}")
        return part.deaths[before]

    async def restart(self, name: str, *, keep: bool = False, **environment: str) -> None:
        """Kill a part and have the next one run with other variables: once, or (`keep`) until the next call."""
        part = self.parts[name]
        part.next_environment, part.is_kept = environment, keep
        await self.kill(name)
        await wait_until(lambda: part.is_running, 10.0, every_s=0.01)

    async def remove(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        """End a part for good."""
        part = self.parts[name]
        part.is_wanted = False
        with contextlib.suppress(TimeoutError):
            await self.kill(name, number)
        if part.keeper is not None:
            await asyncio.wait([part.keeper], timeout=10)
        del self.parts[name]

    def surprises(self) -> list[str]:
        """Deaths that nobody asked for, since the last look."""
        found, self._surprises = self._surprises, []
        return found

    def freeze(self, name: str) -> bool:
        """SIGSTOP; whether it is stopped."""
        os.kill(self.parts[name].pid, signal.SIGSTOP)
        time.sleep(0.02)
        return is_stopped(self.parts[name].pid)

    def thaw(self, name: str) -> None:
        """SIGCONT."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.parts[name].pid, signal.SIGCONT)

    async def power_off(self, cut: Callable[[], None]) -> None:
        """Every part stops in its step, `cut` takes what was not synced, and the parts are gone; they start again with `power_on`."""
        self._power.clear()
        for name in self.parts:
            self.freeze(name)
        cut()
        await asyncio.gather(*(self.kill(name) for name in self.parts))
        self.place.forget_memory()

    def power_on(self) -> None:
        """The machine is back: every part starts."""
        self._power.set()

    async def stop_all(self) -> dict[str, int]:
        """Stop in the order of the documents; the exit code of each."""
        codes = {}
        for name in list(self.parts):
            part = self.parts[name]
            await self.remove(name)
            codes[name] = part.deaths[-1].code if part.deaths else -1
        return codes

    # -- outside

    async def cli(self, *words: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of a command."""
        return await run_cli(self.environment, words)

    async def audit(self) -> tuple[int, dict[str, Any]]:
        """`turnout audit --json`; empty when it could not tell."""
        code, out, _ = await self.cli("audit", "--json")
        return code, dict(json.loads(out)) if out.strip() else {}

    async def api(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and decoded body of an API call."""
        return await call_api(self.ports["tracker"], method, path, body)

    async def is_ready(self, name: str, path: str) -> bool:
        """Whether a server's readiness answers 200."""
        return await answers_200(self.ports[name], path)

    async def metrics(self, name: str) -> str:
        """Prometheus text of a part; empty when it does not answer, an empty line when it has nothing to tell."""
        path = "/-/metrics" if name == "redirector" else "/metrics"
        with contextlib.suppress(OSError, TimeoutError, Cut, KeyError):
            reply = await ask(self.ports[name], request("GET", path), timeout_s=2.0)
            return (reply.body.decode() or "\n") if reply.status == 200 else ""
        return ""


def clean_environment(tree: Path) -> dict[str, str]:
    """Ours without settings of Turnout, PostgreSQL or a coverage run; `tracker` comes from `tree`."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("TURNOUT_", "PG", "COVERAGE", "COV_"))}
    return kept | {"PYTHONPATH": str(tree)}


async def run_cli(environment: dict[str, str], words: tuple[str, ...]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `turnout WORDS`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tracker", *words,
        env=environment, cwd="/", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        out, errors = await asyncio.wait_for(process.communicate(), CLI_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        return 124, "", f"no end after {CLI_S} s"
    return process.returncode or 0, out.decode(), errors.decode()


async def call_api(port: int, method: str, path: str, body: Any = None, key: str = ADMIN_KEY) -> tuple[int, Any]:
    """Status and decoded body; 0 when nothing came back."""
    payload = b"" if body is None else json.dumps(body).encode()
    words = request(method, f"/api/v1{path}", body=payload, Authorization=f"Bearer {key}", Content_Type="application/json")
    try:
        reply: Reply = await ask(port, words, timeout_s=API_S)
        return reply.status, json.loads(reply.body) if reply.body else None
    except (OSError, TimeoutError, Cut, ValueError):
        return 0, None


async def answers_200(port: int, path: str) -> bool:
    """Whether a GET is answered 200 within 2 s."""
    with contextlib.suppress(OSError, TimeoutError, Cut):
        return (await ask(port, request("GET", path), timeout_s=2.0)).status == 200
    return False


def _listen() -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(BACKLOG)
    listener.setblocking(False)
    listener.set_inheritable(True)
    return listener
