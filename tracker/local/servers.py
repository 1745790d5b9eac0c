"""The embedded servers for a test-suite or a script: started and stopped by hand, without an event loop."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tracker.data_dir import DataDir
from tracker.local.postgres import EmbeddedPostgres
from tracker.local.valkey import EmbeddedValkey

READY_TIMEOUT_S = 60.0
POLL_S = 0.02
RETRY_S = 0.1


class LocalServer:
    """One embedded server, under the caller's control. Not thread-safe; it dies with the thread that started it."""

    def __init__(self, server: EmbeddedPostgres | EmbeddedValkey) -> None:
        self._server = server
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Pid of the running server (PostgreSQL: of its postmaster). RuntimeError when it is not running."""
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"{self._server.name} is not running")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Start on the data there is and wait until it answers; nothing if it runs. TimeoutError when it does not."""
        deadline = time.monotonic() + timeout_s
        part = self._server.part()
        while not (self.is_running and self._server.is_ready()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{part.name} is not ready after {timeout_s} s")
            if not self.is_running:
                part.before_start()
                self._process = subprocess.Popen(part.command(), **part.options())  # noqa: S603 - argv is ours
                time.sleep(RETRY_S)
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Orderly stop, by SIGKILL if that takes too long; nothing if it does not run."""
        part = self._server.part()
        self.resume()
        self._end(part.stop_signal, part.stop_timeout_s)

    def kill(self) -> None:
        """kill -9 of the server process; returns when it is gone. `start` recovers."""
        self._end(signal.SIGKILL, READY_TIMEOUT_S)

    def pause(self) -> None:
        """SIGSTOP the server and all its children: connections stay, nothing answers."""
        self._signal_family(signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`; harmless otherwise."""
        self._signal_family(signal.SIGCONT)

    def _end(self, number: signal.Signals, timeout_s: float) -> None:
        if self._process is None:
            return
        family = self._family()
        if self._process.poll() is None:
            self._process.send_signal(number)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for process in family[1:]:  # children that were paused do not see their parent's death
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
        self._process = None

    def _family(self) -> list[psutil.Process]:
        if self._process is None or self._process.poll() is not None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self._process.pid)
            return [parent, *parent.children(recursive=True)]
        return []

    def _signal_family(self, number: signal.Signals) -> None:
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)


class LocalServers:
    """Embedded PostgreSQL and Valkey in `directory`, as a context manager.

    `postgres` and `valkey` are `LocalServer`s, to be killed, stopped, paused and started each on its own. On exit both
    are stopped and, unless `keep`, a cluster that had to live outside `directory` (as root) is removed.

    Raises:
        BadConfiguration: the machine does not allow it.
        TimeoutError: a server does not answer within a minute.
    """

    def __init__(self, directory: str | os.PathLike[str], *, keep: bool = False) -> None:
        self.directory = DataDir.at(Path(directory))
        self._postgres, self._valkey = EmbeddedPostgres(self.directory), EmbeddedValkey(self.directory)
        self.postgres, self.valkey = LocalServer(self._postgres), LocalServer(self._valkey)
        self._keep = keep

    @property
    def dsn(self) -> str:
        """libpq URL of the database `turnout`, whose user is a superuser."""
        return self._postgres.dsn

    @property
    def redis_url(self) -> str:
        return self._valkey.url

    def __enter__(self) -> Self:
        self.directory.create()
        self._postgres.prepare()
        self._valkey.prepare()
        try:
            self.valkey.start()
            self.postgres.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.valkey.stop()
        self.postgres.stop()
        if not self._keep:
            self._postgres.remove()
