"""`turnout up`: the whole of Turnout on one machine, each part a process of its own under one supervisor."""

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tracker.data_dir import DataDir
from tracker.errors import EXIT_CONFIGURATION, EXIT_FAILED, BadConfiguration
from tracker.local import turnout_parts
from tracker.local.listening import listen
from tracker.local.metrics_hub import MetricsHub
from tracker.local.postgres import EmbeddedPostgres
from tracker.local.reachable import check_postgres, check_redis
from tracker.local.supervisor import Part, Supervisor
from tracker.local.turnout_parts import TURNOUT, Program
from tracker.local.valkey import EmbeddedValkey
from tracker.settings import Settings

log = logging.getLogger(__name__)

READY_REPORT_S = 60.0
EMBEDDED_DEATHS_MAX = 8  # about 11 s of attempts: long enough for orphans of a killed server to go


async def run(settings: Settings, *, redirector_workers: int = 1, demo: bool = False, program: Program = TURNOUT) -> int:
    """Run everything until SIGTERM or SIGINT; prints `ready` on stdout when all parts answer.

    Args:
        settings: as read; parts get the same by their environment.
        redirector_workers: redirector processes on one port, > 0.
        demo: also start `demo-traffic`, once ready.
        program: command line that `serve redirector` and so on are added to; another one for tests only.

    Returns:
        0 after an ordered stop; 78 when a part refused its configuration before all were ready (it has said why);
        1 after a bug in the supervisor (logged).

    Raises:
        BadConfiguration: data directory in use or not writable, port taken, a given server out of reach, disk full, or
            an embedded server that does not start. Nothing is left running then.
    """
    settings.directory.create()
    with _disk_full_as_configuration(settings.directory), contextlib.ExitStack() as held:
        held.enter_context(_only_one(settings.directory))
        sockets = _Sockets.open(settings, held)
        stop = held.enter_context(_stop_signals())
        machine = _Machine(settings, program, sockets, redirector_workers, has_demo=demo)
        try:
            return await machine.run_until(stop)
        finally:
            await machine.stop()


@dataclass(frozen=True, slots=True)
class _Sockets:
    redirector: socket.socket
    tracker: socket.socket
    metrics: socket.socket

    @classmethod
    def open(cls, settings: Settings, held: contextlib.ExitStack) -> "_Sockets":
        ports = ("redirector_port", "tracker_port", "worker_metrics_port")
        return cls(*(held.enter_context(listen(settings.host, getattr(settings, port), f"TURNOUT_{port.upper()}")) for port in ports))


class _Machine:
    """All parts of one `turnout up`, from the first server to the last."""

    def __init__(self, settings: Settings, program: Program, sockets: _Sockets, redirector_count: int, *, has_demo: bool) -> None:
        self._program = program
        self._settings, self._sockets, self._has_demo = settings, sockets, has_demo
        self._supervisor = Supervisor(self._note_death)
        self._deaths: Counter[str] = Counter()
        self._is_ready, self._is_refused = False, asyncio.Event()
        self._redirectors = turnout_parts.redirectors(settings, program, sockets.redirector, redirector_count)
        self._hub = MetricsHub(
            {name: turnout_parts.metrics_socket(settings, name) for name in turnout_parts.WORKERS},
            settings.metrics_allow,
        )

    async def run_until(self, stop: asyncio.Event) -> int:
        """Start everything; keep it running until `stop` (0), a refusal (78) or a bug (1). Errors of the start propagate."""
        starting = asyncio.create_task(self._start())
        events = (stop, self._is_refused, self._supervisor.is_broken)
        ends = [asyncio.create_task(event.wait()) for event in events]
        try:
            await asyncio.wait({starting, *ends}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done() and not any(end.done() for end in ends):
                await starting
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if self._is_refused.is_set():
                return EXIT_CONFIGURATION
            return EXIT_FAILED if self._supervisor.is_broken.is_set() else 0
        finally:
            for task in (starting, *ends):
                task.cancel()
            await asyncio.gather(starting, *ends, return_exceptions=True)

    async def stop(self) -> None:
        """Stop whatever runs: visitors' side first, then the workers, clicks last, then the embedded servers."""
        log.info("up.stopping")
        await self._supervisor.stop("demo-traffic")
        await self._supervisor.stop(*(part.name for part in self._redirectors))
        await self._supervisor.stop("tracker")
        await self._supervisor.stop(*(name for name in turnout_parts.WORKERS if name != "clicks"))
        await self._supervisor.stop("clicks")
        await self._hub.stop()
        await self._supervisor.stop(EmbeddedValkey.name)
        await self._supervisor.stop(EmbeddedPostgres.name)
        log.info("up.stopped")

    async def _start(self) -> None:
        await self._provide_servers()
        await asyncio.to_thread(_upgrade_schema, self._settings.dsn)
        parts = self._parts()
        for part in parts:
            self._supervisor.start(part)
        await self._hub.start(self._sockets.metrics)
        await self._wait_for([part.name for part in parts])
        self._is_ready = True
        with contextlib.suppress(BrokenPipeError):  # `turnout up | head -1`
            print("ready", flush=True)  # noqa: T201 - the one line of output that scripts wait for
        log.info("up.ready")
        if self._has_demo:
            self._supervisor.start(turnout_parts.demo_traffic(self._settings, self._program))

    def _parts(self) -> list[Part]:
        workers = [turnout_parts.worker(self._settings, self._program, name) for name in turnout_parts.WORKERS]
        return [
            *self._redirectors,
            turnout_parts.tracker(self._settings, self._program, self._sockets.tracker),
            *workers,
        ]

    async def _provide_servers(self) -> None:
        """Embedded servers where no URL is set; a check where one is, before anything is started."""
        if self._settings.database_url:
            await check_postgres(self._settings.dsn)
        if self._settings.redis_url:
            await check_redis(self._settings.stream_url)
        if not self._settings.database_url:
            await self._start_embedded(EmbeddedPostgres(self._settings.directory))
        if not self._settings.redis_url:
            await self._start_embedded(EmbeddedValkey(self._settings.directory))

    async def _start_embedded(self, server: EmbeddedPostgres | EmbeddedValkey) -> None:
        await asyncio.to_thread(server.prepare)
        self._supervisor.start(server.part())
        await self._wait_for([server.name], give_up=lambda: self._deaths[server.name] >= EMBEDDED_DEATHS_MAX)

    async def _wait_for(self, names: list[str], give_up: Callable[[], bool] = lambda: False) -> None:
        """Return when all are ready, reporting each minute which are not. BadConfiguration when `give_up` says so."""
        reported_at = asyncio.get_running_loop().time()
        while missing := await self._supervisor.wait_ready(names, 1.0):
            if give_up():
                raise BadConfiguration(f"the embedded {missing[0]} does not start; its own lines above say why")
            if asyncio.get_running_loop().time() - reported_at >= READY_REPORT_S:
                log.warning("up.not_ready", extra={"missing": missing, "deaths": dict(self._deaths)})
                reported_at = asyncio.get_running_loop().time()

    def _note_death(self, name: str, code: int) -> None:
        self._deaths[name] += 1
        if code == EXIT_CONFIGURATION and not self._is_ready:
            log.error("up.configuration_refused", extra={"part": name})
            self._is_refused.set()


def _upgrade_schema(dsn: str) -> None:
    from tracker.adapters import schema

    schema.upgrade(dsn)


@contextlib.contextmanager
def _only_one(directory: DataDir) -> Iterator[None]:
    """Hold the data directory's lock; the kernel lets go of it with the process, however that ends."""
    descriptor = os.open(directory.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            raise BadConfiguration(
                f"TURNOUT_DATA_DIR {directory.root} is already in use by another `turnout up` (pid {holder}); "
                "stop that one, or choose another directory"
            ) from exc
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _stop_signals() -> Iterator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set; a second one changes nothing, the stop has deadlines of its own."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


@contextlib.contextmanager
def _disk_full_as_configuration(directory: DataDir) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise BadConfiguration(
            f"disk full: {exc.filename or directory.root} cannot be written; free some space, or choose another TURNOUT_DATA_DIR"
        ) from exc
