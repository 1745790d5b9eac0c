"""Faults that can be injected into an installation on this machine, each taken back by itself."""

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from tracker.data_dir import DataDir
from tracker.errors import RejectedInput

PARTS = {
    "redirector": ("serve", "redirector"),
    "tracker": ("serve", "tracker"),
    "clicks": ("work", "clicks"),
    "conversions": ("work", "conversions"),
    "routes": ("work", "routes"),
}


@dataclass(frozen=True, slots=True)
class Drill:
    """What happens to whom. `pauses`: the processes are stopped and let go again; else they are killed, and started by their supervisor."""

    name: str
    does: str
    parts: tuple[str, ...]
    pauses: bool


DRILLS = {
    drill.name: drill
    for drill in (
        Drill("healthy", "nothing: traffic without a fault", (), pauses=False),
        Drill("redis-down", "Redis hangs: SIGSTOP", ("redis",), pauses=True),
        Drill("redis-kill", "kill -9 of Redis", ("redis",), pauses=False),
        Drill("postgres-down", "PostgreSQL hangs: SIGSTOP", ("postgres",), pauses=True),
        Drill("postgres-kill", "kill -9 of PostgreSQL", ("postgres",), pauses=False),
        Drill("stores-down", "Redis and PostgreSQL hang: SIGSTOP", ("redis", "postgres"), pauses=True),
        Drill("worker-kill", "kill -9 of the writers of clicks and conversions", ("clicks", "conversions"), pauses=False),
        Drill("redirector-kill", "kill -9 of the redirectors", ("redirector",), pauses=False),
        Drill("tracker-kill", "kill -9 of the tracker", ("tracker",), pauses=False),
        Drill("routes-kill", "kill -9 of the route publisher", ("routes",), pauses=False),
    )
}


class Machine:
    """The processes of the installation that `turnout up` runs on this machine, below one data directory."""

    def __init__(self, directory: DataDir) -> None:
        self._directory = directory

    def victims(self, drill: Drill) -> list[psutil.Process]:
        """Whom it will meet. RejectedInput `not_here` when a process of it does not run on this machine."""
        return [process for part in drill.parts for process in self._processes(part)]

    @contextlib.contextmanager
    def during(self, drill: Drill) -> Iterator[list[int]]:
        """Inject the fault, yield the pids it met, take it back."""
        victims = self.victims(drill)
        with contextlib.ExitStack() as mended:
            for process in victims:
                if drill.pauses:
                    mended.callback(_send, process, signal.SIGCONT)
                _send(process, signal.SIGSTOP if drill.pauses else signal.SIGKILL)
            yield [process.pid for process in victims]

    def _processes(self, part: str) -> list[psutil.Process]:
        found = {"redis": self._redis, "postgres": self._postgres}.get(part, lambda: self._part(part))()
        if not found:
            raise RejectedInput(
                "not_here",
                f"no process of {part} runs below {self._directory.root}; drills need the machine of `turnout up` "
                "and its embedded servers, with TURNOUT_DATA_DIR set as it is there",
                field="NAME",
            )
        return found

    def _part(self, part: str) -> list[psutil.Process]:
        words = PARTS[part]
        return [process for process, line in self._ours() if _follows(line, words) and self._is_of_this_directory(process)]

    def _redis(self) -> list[psutil.Process]:
        socket = str(self._directory.valkey_socket)
        return [process for process, line in self._ours() if socket in line]

    def _postgres(self) -> list[psutil.Process]:
        """The postmaster, and its children: paused alone, it would leave sessions at work."""
        lock = (self._directory.root / "postgres").resolve() / "postmaster.pid"
        with contextlib.suppress(OSError, ValueError, psutil.NoSuchProcess):
            postmaster = psutil.Process(int(lock.read_text().splitlines()[0]))
            return [postmaster, *postmaster.children(recursive=True)]
        return []

    def _ours(self) -> Iterator[tuple[psutil.Process, list[str]]]:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                line = process.cmdline()
                if line and process.pid != os.getpid():
                    yield process, line

    def _is_of_this_directory(self, process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            named = process.environ().get("TURNOUT_DATA_DIR")
            return bool(named) and DataDir.at(Path(process.cwd()) / str(named)).root == self._directory.root
        return False


def _follows(line: list[str], words: tuple[str, ...]) -> bool:
    return any(tuple(line[at : at + len(words)]) == words for at in range(1, len(line)))


def _send(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)
