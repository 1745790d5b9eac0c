"""`turnout up` with some links, for the measurements beside this file: started as a user does, reached over HTTP."""

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

HOST = "127.0.0.1"
LIVE_WITHIN_S, LINKS_PER_S = 60.0, 5_000


class Installation:
    """One data directory below `folder`; redirector, tracker and worker metrics on `port` and the two after it.

    Links are `/c/c0`, `/c/c1` …; when it is made, they are live. With a `source` each has an old key there too, `k0`, `k1` …
    """

    def __init__(self, folder: Path, port: int, links: int, source: str = "") -> None:
        self.port, self.source = port, source
        self.environment = os.environ | {
            "TURNOUT_DATA_DIR": str(folder / "data"),
            "TURNOUT_REDIRECTOR_PORT": str(port),
            "TURNOUT_TRACKER_PORT": str(port + 1),
            "TURNOUT_WORKER_METRICS_PORT": str(port + 2),
            "TURNOUT_FLOOD_LIMIT": "0",
            "TURNOUT_LOG_LEVEL": "error",
        }
        self.up = subprocess.Popen([sys.executable, "-m", "tracker", "up"], env=self.environment, stdout=subprocess.PIPE, text=True)
        if self.up.stdout is None or self.up.stdout.readline() != "ready\n":
            raise RuntimeError("turnout up did not get ready")
        self._make(folder / "links.csv", links)

    def _make(self, file: Path, links: int) -> None:
        self.cli("advertiser", "add", "shop", "--currency", "EUR", "--name", "Shop")
        self.cli("campaign", "add", "shop", "--advertiser", "shop", "--destination-url", "https://shop.example/p")
        self.cli("partner", "add", "blog", "--name", "Blog")
        with file.open("w") as out:
            out.write("slug,partner,campaign" + (",source,source_id\n" if self.source else "\n"))
            keys = (f",{self.source},k{number}" if self.source else "" for number in range(links))
            out.writelines(f"c{number},blog,shop{key}\n" for number, key in enumerate(keys))
        self.cli("link", "import", str(file))
        within_s = LIVE_WITHIN_S + links / LINKS_PER_S
        wait_for(lambda: status(self.port, f"/c/c{links - 1}", "HEAD") == http.client.FOUND, "the links are live", within_s)

    def cli(self, *arguments: str) -> str:
        """What a command prints."""
        command = [sys.executable, "-m", "tracker", *arguments]
        return subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True).stdout

    def redirector(self) -> psutil.Process:
        """Its redirector."""
        family = psutil.Process(self.up.pid).children(recursive=True)
        return next(process for process in family if process.cmdline()[-4:-2] == ["serve", "redirector"])

    def close(self) -> None:
        """Stop it in order."""
        self.up.send_signal(signal.SIGTERM)
        self.up.wait(90)


def status(port: int, path: str, method: str = "GET", host: str = "go.example") -> int:
    """The status of one answer; 0: none."""
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    with suppress(OSError, http.client.HTTPException):
        connection.request(method, path, headers={"Host": host})
        return connection.getresponse().status
    return 0


def wait_for(is_true: Callable[[], bool], what: str, within_s: float = LIVE_WITHIN_S) -> None:
    """Return when it is; RuntimeError when it never is."""
    deadline = time.monotonic() + within_s
    while not is_true():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {within_s} s: {what}")
        time.sleep(0.05)
