"""Processes of a run: each ends with it, in order or not."""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Identity:
    """A user to become."""

    uid: int
    gid: int


class Workplace:
    """The temporary directory of a run and the janitor that cleans up behind it, also when we are killed."""

    def __init__(self) -> None:
        self.marker = secrets.token_hex(8)
        self.root = Path(tempfile.mkdtemp(prefix="turnout-chaos-"))
        self.root.chmod(0o711)  # PostgreSQL and Valkey run as somebody else when we are root
        self.memory = Path(tempfile.mkdtemp(prefix="turnout-chaos-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.logs = self.root / "logs"
        self.logs.mkdir()
        command = [sys.executable, "-SE", str(HERE / "janitor.py"), self.marker]
        self._janitor = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)
        self._tell({"directory": str(self.root)})
        self._tell({"directory": str(self.memory)})

    def mounted(self, path: Path) -> None:
        """Have the janitor unmount `path` at the end."""
        self._tell({"mount": str(path)})

    def created(self, path: Path) -> None:
        """Have the janitor remove a directory outside of ours at the end."""
        self._tell({"directory": str(path)})

    def _tell(self, item: dict[str, str]) -> None:
        assert self._janitor.stdin is not None
        self._janitor.stdin.write(json.dumps(item) + "\n")
        self._janitor.stdin.flush()

    def keep_logs(self, target: Path) -> None:
        """Copy all logs to `target` before they go."""
        shutil.copytree(self.logs, target, dirs_exist_ok=True)

    def forget_memory(self) -> None:
        """What a machine without power does: shared memory is empty."""
        for found in self.memory.iterdir():
            if found.is_dir():
                shutil.rmtree(found)
            else:
                found.unlink()

    def close(self) -> None:
        """End everything that is left and remove the directory."""
        assert self._janitor.stdin is not None
        self._janitor.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._janitor.wait(60)

    async def spawn(
        self,
        argv: Sequence[str],
        log: str,
        *,
        env: Mapping[str, str],
        identity: Identity | None = None,
        pass_fds: Sequence[int] = (),
        talks: bool = False,
    ) -> asyncio.subprocess.Process:
        """Start `argv` (an absolute program) in a session of its own. `talks`: stdin and stdout are pipes, else stdout is the log."""
        who = (str(identity.uid), str(identity.gid)) if identity else ("-", "-")
        shim = [sys.executable, "-SE", str(HERE / "tether.py"), str(os.getpid()), *who]
        with (self.logs / f"{log}.log").open("ab") as errors:
            return await asyncio.create_subprocess_exec(
                *shim, *argv,
                stdin=asyncio.subprocess.PIPE if talks else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if talks else errors,
                stderr=errors,
                env={**env, "CHAOS_RUN": self.marker},
                cwd="/",
                pass_fds=tuple(pass_fds),
                start_new_session=True,
            )  # fmt: skip


def module(name: str, *words: str) -> list[str]:
    """Command line of a module of the harness."""
    return [sys.executable, "-m", f"loadtests.chaos.{name}", *words]


def plain_environment() -> dict[str, str]:
    """Ours, less the settings of whoever runs this; the harness itself can be imported."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("TURNOUT_", "PG"))}
    return kept | {"PYTHONPATH": str(ROOT)}


def family(pid: int) -> list[psutil.Process]:
    """The process and all its descendants that live."""
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    return []


def signal_family(pid: int, number: signal.Signals) -> int:
    """Send a signal to the process and its descendants; how many got it."""
    reached = 0
    for process in family(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
            reached += 1
    return reached


def is_stopped(pid: int) -> bool:
    """Whether the process is stopped (SIGSTOP)."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    return False


async def wait_until(predicate: Callable[[], bool | Awaitable[bool]], within_s: float, every_s: float = POLL_S) -> bool:
    """Whether `predicate` became true in time."""
    deadline = asyncio.get_running_loop().time() + within_s
    while True:
        value = predicate()
        if value if isinstance(value, bool) else await value:
            return True
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(every_s)
