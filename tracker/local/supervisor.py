"""Keeps child processes alive: starts them in order, restarts what dies, stops them in order."""

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import TypedDict

from tracker.errors import TurnoutError
from tracker.local import child

log = logging.getLogger(__name__)

# A part that dies is started again at once; one that dies over and over, ever later, but never later than 5 s.
BACKOFF_S = (0.0, 0.2, 0.5, 1.0, 2.0)
BACKOFF_MAX_S = 3.5
STEADY_AFTER_S = 30.0  # a part that ran this long is healthy: its next death is again retried at once
PROBE_INTERVAL_S = 0.05


async def _always() -> bool:
    return True


def _nothing() -> None:
    return None


class ProcessOptions(TypedDict):
    """Keyword arguments for `subprocess.Popen` and `asyncio.create_subprocess_exec` alike."""

    env: dict[str, str]
    stdin: int
    stdout: int
    pass_fds: tuple[int, ...]
    start_new_session: bool


@dataclass(frozen=True, slots=True)
class Part:
    """One supervised process.

    `ready` is asked again until it says yes. `before_start` runs, in a thread, before every start. `env` is the whole
    environment (None: inherited). A part that ignores `stop_signal` for `stop_timeout_s` gets `second_signal` if any,
    then SIGKILL. `death_signal` is what the kernel sends it when the supervisor dies. One that `speaks` has our stdout.
    """

    name: str
    argv: tuple[str, ...]
    ready: Callable[[], Awaitable[bool]] = _always
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 10.0
    second_signal: signal.Signals | None = None
    second_timeout_s: float = 5.0
    death_signal: signal.Signals = signal.SIGKILL
    env: Mapping[str, str] | None = None
    uid: int | None = None
    gid: int | None = None
    pass_fds: tuple[int, ...] = ()
    before_start: Callable[[], None] = _nothing
    speaks: bool = False

    def command(self) -> list[str]:
        """The command line that starts it, through the exec shim."""
        return child.command(self.argv, uid=self.uid, gid=self.gid, death_signal=self.death_signal)

    def options(self) -> ProcessOptions:
        """How to start `command()`: its stdout joined to our stderr unless it speaks, nothing on stdin."""
        return ProcessOptions(
            env=child.environment(os.environ if self.env is None else self.env),
            stdin=subprocess.DEVNULL,
            stdout=1 if self.speaks else 2,
            pass_fds=self.pass_fds,
            start_new_session=True,  # Ctrl-C on the terminal must reach the supervisor alone, which stops in order
        )


@dataclass(slots=True)
class _Watched:
    part: Part
    watcher: asyncio.Task[None] | None = None
    process: asyncio.subprocess.Process | None = None
    is_stopping: asyncio.Event = field(default_factory=asyncio.Event)


class Supervisor:
    """Runs parts until told to stop. All calls belong to one event loop, on the thread that lives longest.

    `on_exit(name, code)` hears of each death that was not asked for, before the restart; a negative code is a signal.
    """

    def __init__(self, on_exit: Callable[[str, int], None] = lambda _name, _code: None) -> None:
        self._watched: dict[str, _Watched] = {}
        self._on_exit = on_exit
        self.is_broken = asyncio.Event()  # set when a bug ended the watch of a part, which nobody restarts then

    @property
    def names(self) -> tuple[str, ...]:
        """Parts under watch, in the order of their start."""
        return tuple(self._watched)

    def pid(self, name: str) -> int | None:
        """Pid of the part, None while it is not running."""
        process = self._watched[name].process
        return process.pid if process and process.returncode is None else None

    def start(self, part: Part) -> None:
        """Start `part` and keep it alive. ValueError when a part of that name is there already."""
        if part.name in self._watched:
            raise ValueError(f"part {part.name} is there already")
        watched = self._watched[part.name] = _Watched(part)
        watched.watcher = asyncio.create_task(self._keep_alive(watched), name=f"keep {part.name}")
        watched.watcher.add_done_callback(self._note_end)

    async def wait_ready(self, names: Iterable[str], timeout_s: float) -> list[str]:
        """Wait until all `names` are ready; return those that are not after `timeout_s`, in order."""
        missing = list(names)
        deadline = time.monotonic() + timeout_s
        while missing and time.monotonic() < deadline:
            missing = [name for name in missing if not await self.is_ready(name)]
            if missing:
                await asyncio.sleep(PROBE_INTERVAL_S)
        return missing

    async def is_ready(self, name: str) -> bool:
        """Ask the part's probe; a part that is not running is not ready."""
        return self.pid(name) is not None and await self._watched[name].part.ready()

    async def stop(self, *names: str) -> None:
        """Stop `names` at the same time, each within its own deadlines, and forget them. Unknown names are ignored."""
        known = [self._watched[name] for name in names if name in self._watched]
        await asyncio.gather(*(self._stop(watched) for watched in known))
        for watched in known:
            self._watched.pop(watched.part.name, None)

    async def stop_all(self) -> None:
        """Stop one part after another, the last started first."""
        for name in reversed(self.names):
            await self.stop(name)

    async def _keep_alive(self, watched: _Watched) -> None:
        part, delays = watched.part, _delays()
        while not watched.is_stopping.is_set():
            started_at = time.monotonic()
            code = await self._run_once(watched)
            if watched.is_stopping.is_set():
                return
            if time.monotonic() - started_at >= STEADY_AFTER_S:
                delays = _delays()
            delay_s = next(delays)
            log.warning("supervisor.part_died", extra={"part": part.name, "exit_code": code, "retry_in_s": delay_s})
            self._on_exit(part.name, code)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(watched.is_stopping.wait(), delay_s)

    async def _run_once(self, watched: _Watched) -> int:
        """Start the part and wait for its end; its exit code, 126 when it cannot be started."""
        part = watched.part
        try:
            await asyncio.to_thread(part.before_start)
            if watched.is_stopping.is_set():
                return 0
            watched.process = await asyncio.create_subprocess_exec(*part.command(), **part.options())
        except (OSError, TurnoutError) as exc:  # such as a full disk or too many processes: it may pass
            log.error("supervisor.part_not_started", extra={"part": part.name, "error": str(exc)})
            return child.EXIT_CANNOT_EXECUTE
        log.info("supervisor.part_started", extra={"part": part.name, "pid": watched.process.pid})
        if watched.is_stopping.is_set():  # it was asked to stop while it was being started, and has not heard of it
            watched.process.send_signal(part.stop_signal)
        return await watched.process.wait()

    def _note_end(self, watcher: asyncio.Task[None]) -> None:
        if not watcher.cancelled() and (bug := watcher.exception()):
            log.critical("supervisor.broken", exc_info=bug, extra={"task": watcher.get_name()})
            self.is_broken.set()

    async def _stop(self, watched: _Watched) -> None:
        watched.is_stopping.set()
        part, watcher = watched.part, watched.watcher
        if watcher is None:
            return
        steps = [(part.stop_signal, part.stop_timeout_s)]
        if part.second_signal:
            steps.append((part.second_signal, part.second_timeout_s))
        for number, timeout_s in (*steps, (signal.SIGKILL, None)):
            if watcher.done():
                break
            self._send(watched, number)
            await asyncio.wait({watcher}, timeout=timeout_s)
        log.info("supervisor.part_stopped", extra={"part": part.name})

    def _send(self, watched: _Watched, number: signal.Signals) -> None:
        if number is signal.SIGKILL:
            log.warning("supervisor.part_killed", extra={"part": watched.part.name})
        if watched.process and watched.process.returncode is None:
            watched.process.send_signal(number)


def _delays() -> Iterator[float]:
    return chain(BACKOFF_S, repeat(BACKOFF_MAX_S))
