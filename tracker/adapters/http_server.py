"""uvicorn, set up the one way both HTTP parts use it: uvloop, httptools, no access log, a socket that may be inherited."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
import uvloop

from tracker.adapters.transports import is_gone
from tracker.errors import BadConfiguration

log = logging.getLogger(__name__)

BACKLOG = 2048
KEEP_ALIVE_S = 5
GRACE_S = 10


class _PassingOver:
    """An ASGI application whose clients may go while they are answered: that is no error of ours, and must not fill the log."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self._app(scope, receive, send)
        except RuntimeError as exc:
            if not is_gone(exc):
                raise
            log.debug("http.client_gone")


class _Server(uvicorn.Server):
    """uvicorn raises the signal that ended it once more; here a wished end is exit code 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


def _listen(host: str, port: int, fd: int | None, name: str) -> socket.socket:
    if fd is not None:
        return socket.socket(fileno=fd)
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as exc:
        listener.close()
        raise BadConfiguration(
            f"{name}: cannot listen on {host}:{port} ({exc.strerror}); set TURNOUT_{name.upper()}_PORT or TURNOUT_HOST"
        ) from exc
    listener.listen(BACKLOG)
    return listener


def serve(app: Any, *, host: str, port: int, fd: int | None, name: str) -> int:
    """Serve an ASGI application until SIGTERM or SIGINT; 0 when it ended well, 1 when it could not start."""
    listener = _listen(host, port, fd, name)
    config = uvicorn.Config(
        _PassingOver(app),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        backlog=BACKLOG,
    )
    server = _Server(config)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.serve(sockets=[listener]))
    return 0 if server.started else 1


def leave_with(code: int) -> None:
    """End the process now; what was answered is in the journal, and the supervisor starts another."""
    os._exit(code)
