"""`turnout work` as a process: metrics, readiness, an orderly end."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests import launcher
from tests.integration.click_source import Node, one

pytestmark = pytest.mark.integration
PROGRAM = "import sys; from tracker.settings import load; from workers.run import work; sys.exit(work(load(), sys.argv[1:]))"


def ask(path: Path, target: str) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(path))
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return b"".join(iter(lambda: client.recv(65536), b"")).decode()


def until(predicate, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def start(tmp_path: Path, dsn: str, redis_url: str, *names: str) -> tuple[subprocess.Popen[bytes], Path]:
    path = tmp_path / "m.sock"
    environment = os.environ | {
        "PYTHONPATH": ".", "TURNOUT_DATABASE_URL": dsn, "TURNOUT_REDIS_URL": redis_url, "TURNOUT_DATA_DIR": str(tmp_path / "data"),
        "TURNOUT_INTERNAL_METRICS_SOCKET": str(path),
    }  # fmt: skip
    return launcher.launch(["-c", PROGRAM, *names], env=environment), path


def test_clicks_and_keeper_run_in_one_process_and_end_when_told(dsn, redis_url, tmp_path):
    import asyncio

    process, path = start(tmp_path, dsn, redis_url, "clicks", "keeper")
    try:
        until(path.exists)
        until(lambda: "200 OK" in ask(path, "/readyz"))
        node = Node(redis_url)
        node.accept(20)
        node.ship(1, 20)
        until(lambda: asyncio.run(one(dsn, "SELECT count(*) FROM clicks")) == 100)
        until(lambda: "turnout_clicks_stored_total 100.0" in ask(path, "/metrics"))
        assert "turnout_clicks_unaccounted 0.0" in ask(path, "/metrics")
        assert "404" in ask(path, "/other")
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    finally:
        process.kill()
        process.wait()


def test_a_worker_is_ready_while_both_servers_are_away_and_ends_when_told(tmp_path):
    process, path = start(tmp_path, "postgresql://x@127.0.0.1:1/x", "redis://127.0.0.1:1", "clicks", "keeper")
    try:
        until(path.exists)
        until(lambda: "200 OK" in ask(path, "/readyz"))
        time.sleep(1)
        assert "200 OK" in ask(path, "/healthz")
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    finally:
        process.kill()
        process.wait()
