"""The parts of Turnout as child processes: command lines, environment, readiness."""

import os
import socket
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from tracker.local.http_probe import Endpoint, readiness
from tracker.local.listening import endpoint_of
from tracker.local.supervisor import Part
from tracker.settings import PREFIX, Settings

Program = tuple[str, ...]  # the command line that a part's words are added to
TURNOUT: Program = (sys.executable, "-m", "tracker")
WORKERS = ("conversions", "postbacks", "routes", "keeper", "clicks")  # in the order of their stop: clicks empty their stream last
READY_PATHS = {"redirector": "/-/readyz", "tracker": "/readyz"}
METRICS_SOCKET_VARIABLE = "TURNOUT_INTERNAL_METRICS_SOCKET"
STOP_TIMEOUT_S = 10.0
DRAIN_STOP_TIMEOUT_S = 12.0  # ten to empty the stream, or to hear the answer to what was sent, two to end


def metrics_socket(settings: Settings, worker: str) -> Path:
    """Where `worker` serves `/metrics` and `/readyz`."""
    return settings.directory.sockets / f"metrics-{worker}.sock"


def environment(settings: Settings) -> dict[str, str]:
    """This process's environment with the effective settings, so that parts read what `up` was told, wherever from."""
    chosen = settings.model_fields_set | {"host", "redirector_port", "tracker_port", "worker_metrics_port", "log_level"}
    stated = {PREFIX + name.upper(): _as_text(getattr(settings, name)) for name in sorted(chosen)}
    return {**os.environ, **stated, "TURNOUT_DATA_DIR": str(settings.directory.root)}


def _as_text(value: Any) -> str:
    """The form that `Settings` reads back."""
    match value:
        case None:
            return ""
        case SecretStr():
            return value.get_secret_value()
        case bool():
            return str(int(value))
        case timedelta():
            return f"{value // timedelta(milliseconds=1)}ms"
        case tuple():
            return ",".join(map(str, value))
    return str(value)


def redirectors(settings: Settings, program: Program, listener: socket.socket, count: int) -> list[Part]:
    """`count` redirectors on one listening socket; the kernel shares the connections out."""
    names = ["redirector"] if count == 1 else [f"redirector-{number}" for number in range(1, count + 1)]
    return [_server(settings, program, "redirector", listener, name) for name in names]


def tracker(settings: Settings, program: Program, listener: socket.socket) -> Part:
    return _server(settings, program, "tracker", listener, "tracker")


def _server(settings: Settings, program: Program, kind: str, listener: socket.socket, name: str) -> Part:
    return Part(
        name=name,
        argv=(*program, "serve", kind, "--fd", str(listener.fileno())),
        ready=readiness(endpoint_of(listener), READY_PATHS[kind]),
        stop_timeout_s=STOP_TIMEOUT_S,
        env=environment(settings),
        pass_fds=(listener.fileno(),),
    )


def worker(settings: Settings, program: Program, name: str) -> Part:
    path = metrics_socket(settings, name)
    return Part(
        name=name,
        argv=(*program, "work", name),
        ready=readiness(Endpoint(socket_path=path), "/readyz"),
        stop_timeout_s=DRAIN_STOP_TIMEOUT_S if name in ("clicks", "conversions", "postbacks") else STOP_TIMEOUT_S,
        env=environment(settings) | {METRICS_SOCKET_VARIABLE: str(path)},
        before_start=lambda: path.unlink(missing_ok=True),
    )


def demo_traffic(settings: Settings, program: Program) -> Part:
    return Part(name="demo-traffic", argv=(*program, "demo-traffic"), stop_timeout_s=5.0, env=environment(settings), speaks=True)
