"""The tracker: API, postbacks, pixel, reports. `create` wires it, `serve` is its composition root."""

import logging
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response

from tracker.adapters import postgres_conversions
from tracker.adapters.postgres_conversions_read import Conversions
from tracker.adapters.postgres_pool import Database
from tracker.adapters.postgres_programme import Programme
from tracker.adapters.postgres_programme_keys import Keys
from tracker.api import conversions as conversion_routes
from tracker.api import explain, postbacks, reports, system, things
from tracker.api.answers import handle_errors, problem
from tracker.api.auth import Authenticate, Authority, admin_key
from tracker.api.metrics import Metrics
from tracker.errors import BadConfiguration
from tracker.settings import Settings

log = logging.getLogger(__name__)

DESCRIPTION = (
    "Click and conversion tracker. The API below /api/v1 needs `Authorization: Bearer KEY` (turnout key create); "
    "refusals are application/problem+json with a stable `code`."
)
BACKLOG = 2048
DRAIN_S = 10  # longest wait for running requests at a stop


def create(settings: Settings) -> FastAPI:
    """The application; it connects to PostgreSQL when it first has to. BadConfiguration when there is no admin key to be had."""
    database = Database(settings.dsn, name="tracker")
    programme = Programme(database, link_base=settings.link_base)
    keys, conversions, metrics = Keys(database), Conversions(database), Metrics()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await database.close()

    app = FastAPI(title="Turnout", description=DESCRIPTION, version="1", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.database = database
    handle_errors(app)
    desk = postbacks.Desk(
        postbacks.Tokens(conversions),
        conversions,
        metrics,
        settings,
        receive=partial(postgres_conversions.receive, database),
        refused=partial(postgres_conversions.reject, database),
    )
    app.include_router(postbacks.routes(desk))
    app.include_router(things.routes(programme, keys))
    app.include_router(conversion_routes.routes(conversions))
    app.include_router(reports.routes(database, settings))
    app.include_router(explain.routes(settings))
    app.include_router(system.routes(database, conversions, metrics, settings))
    system.add_docs(app)
    app.add_exception_handler(Exception, _bug)
    app.add_middleware(Authenticate, authority=Authority(admin_key(settings), keys))
    return app


async def _bug(request: Request, error: Exception) -> Response:
    log.error("request.failed", exc_info=error, extra={"path": request.url.path, "method": request.method})
    return problem(500, "internal_error", "This is a bug of ours; it is in the log.")


def serve(settings: Settings, fd: int | None = None) -> int:
    """Serve until SIGTERM or SIGINT, then finish running requests; returns the exit code.

    `fd` is a listening socket that was inherited; without it HOST:TRACKER_PORT is bound. BadConfiguration when that fails.
    """
    listening = socket.socket(fileno=fd) if fd is not None else _bind(settings.host, settings.tracker_port)
    options: dict[str, Any] = {"loop": "uvloop", "http": "httptools", "ws": "none", "lifespan": "on", "log_config": None}
    options |= {"access_log": False, "proxy_headers": False, "server_header": False, "timeout_graceful_shutdown": DRAIN_S}
    server = uvicorn.Server(uvicorn.Config(create(settings), backlog=BACKLOG, **options))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _ignore)  # uvicorn raises the signal again when it is done; that must not end us in anger
    server.run(sockets=[listening])
    return 0 if server.started else 1


def _ignore(*_: object) -> None:
    return None


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as exc:
        raise BadConfiguration(
            f"cannot listen on {host}:{port} ({exc.strerror}); stop what uses it, or set TURNOUT_HOST, TURNOUT_TRACKER_PORT"
        ) from exc
