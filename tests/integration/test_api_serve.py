"""`turnout serve tracker` as a process: an inherited socket, JSON logs, a clean stop, the admin key."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.integration
START_S = 30


def test_it_serves_on_an_inherited_socket_and_stops_with_0(dsn: str, tmp_path: Path) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.set_inheritable(True)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    environment = os.environ | {"TURNOUT_DATABASE_URL": dsn, "TURNOUT_DATA_DIR": str(tmp_path / "data")}
    environment.pop("TURNOUT_ADMIN_KEY", None)
    command = [sys.executable, "-m", "tracker", "serve", "tracker", "--fd", str(listening.fileno())]
    with subprocess.Popen(
        command, env=environment, cwd=tmp_path, pass_fds=[listening.fileno()], stderr=subprocess.PIPE, text=True
    ) as process:
        _wait(url)
        file = tmp_path / "data" / "admin.key"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        headers = {"Authorization": f"Bearer {file.read_text().strip()}"}
        answer = httpx.get(f"{url}/api/v1/links", headers=headers)
        assert answer.json() == {"items": [], "next_cursor": None}
        assert "server" not in answer.headers
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
    listening.close()
    assert process.returncode == 0
    assert all(json.loads(line)["level"] for line in errors.splitlines())


def _wait(url: str) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/readyz", timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.05)
    raise TimeoutError("the tracker did not become ready")
