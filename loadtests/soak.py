"""A soak: a million redirects beside rude clients, and what the redirector's memory and descriptors do.

    python loadtests/soak.py [--requests 1000000] [--links 1000]

Needs `wrk` (Debian). Rude clients all the while: connections that are reset in the middle of an answer, half-closed, dripping a
request byte by byte, or asking a hundred times without ever reading. Black box: starts `turnout up`, talks HTTP, reads /proc. Passes
when anonymous memory (RssAnon) grows by less than 1 MB for each 100,000 requests after the first fifth, and all descriptors are given
back. The raw result goes to loadtests/results/soak.json.
"""

import argparse
import contextlib
import json
import random
import re
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
from installation import HOST, Installation

HERE = Path(__file__).parent
PORT = 18280
REQUEST = b"GET /c/c%d?sub1=soak HTTP/1.1\r\nHost: go.example\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0\r\n\r\n"
SLICE_S = 5
CONNECTIONS = 48
GROWTH_MAX_BYTES = 1_000_000  # for each 100,000 requests
SETTLE_S = 20
WRK = """
local n = 0
request = function()
  n = (n * 1103515245 + 12345) % 2147483648
  return wrk.format("GET", "/c/c" .. (n % LINKS) .. "?sub1=" .. n, { ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0" })
end
"""


class RudeClients:
    """Threads that misbehave until `stop`; what they did is counted."""

    def __init__(self, links: int) -> None:
        self.done: Counter[str] = Counter()
        self._links, self._stop = links, threading.Event()
        ways: tuple[Callable[[socket.socket], None], ...] = (self._reset, self._half_close, self._drip, self._never_read)
        self._threads = [threading.Thread(target=self._behave, args=(way,)) for way in ways]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End all."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _behave(self, way: Callable[[socket.socket], None]) -> None:
        while not self._stop.wait(0.02):
            with contextlib.suppress(OSError), socket.create_connection((HOST, PORT), timeout=5) as connection:
                way(connection)
                self.done[way.__name__.strip("_")] += 1

    def _request(self) -> bytes:
        return REQUEST % random.randrange(self._links)

    def _reset(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(self._request() * 3)

    def _half_close(self, connection: socket.socket) -> None:
        connection.sendall(self._request())
        connection.shutdown(socket.SHUT_WR)
        connection.recv(65536)

    def _drip(self, connection: socket.socket) -> None:
        for byte in self._request()[:40]:
            connection.sendall(bytes((byte,)))
            if self._stop.wait(0.05):
                return

    def _never_read(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(1)
        connection.sendall(self._request() * 100)
        self._stop.wait(2)


def anonymous_bytes(process: psutil.Process) -> int:
    """RssAnon: what is the process's own, without files it maps."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    if found is None:
        raise RuntimeError("no RssAnon in /proc")
    return int(found[1]) * 1024


def burst(folder: Path, links: int) -> int:
    """Some seconds of wrk; how many requests were answered. RuntimeError when one was no redirect."""
    script = folder / "wrk.lua"
    script.write_text(WRK.replace("LINKS", str(links)))
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SLICE_S}s", "--timeout", "10s", "-s", str(script), f"http://{HOST}:{PORT}"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx or 3xx" in out:
        raise RuntimeError(out)
    found = re.search(r"(\d+) requests in", out)
    return int(found[1]) if found else 0


def run(folder: Path, requests: int, links: int) -> dict[str, object]:
    """The soak itself."""
    installation = Installation(folder, PORT, links)
    try:
        process = installation.redirector()
        burst(folder, links)  # opens what it keeps open: a segment, its connections to Redis
        time.sleep(2)
        descriptors = process.num_fds()
        rude, sent = RudeClients(links), 0
        samples: list[tuple[int, int]] = []
        while sent < requests:
            sent += burst(folder, links)
            samples.append((sent, anonymous_bytes(process)))
            print(f"{sent:>9} requests, {samples[-1][1] / 1e6:.1f} MB anonymous, {process.num_fds()} descriptors", flush=True)
        rude.stop()
        warm = [sample for sample in samples if sample[0] >= requests / 5]
        slope = statistics.linear_regression([count for count, _ in warm], [size for _, size in warm]).slope * 100_000
        deadline = time.monotonic() + SETTLE_S
        while process.num_fds() > descriptors and time.monotonic() < deadline:
            time.sleep(0.2)
        return {
            "requests": sent,
            "rude": dict(rude.done),
            "same_process": process.is_running() and installation.redirector().pid == process.pid,
            "growth_bytes_per_100k": round(slope),
            "samples": samples,
            "descriptors_before": descriptors,
            "descriptors_after": process.num_fds(),
            "audit": json.loads(installation.cli("audit", "--json"))["state"],
        }
    finally:
        installation.close()


def main() -> int:
    """Run, print, keep the result; 0 when it passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--links", type=int, default=1000)
    chosen = parser.parse_args()
    if shutil.which("wrk") is None:
        print("wrk is not installed", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        result = run(Path(folder), chosen.requests, chosen.links)
    out = HERE / "results" / "soak.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result) + "\n")
    print({name: value for name, value in result.items() if name != "samples"})
    growth, before, after = (result[name] for name in ("growth_bytes_per_100k", "descriptors_before", "descriptors_after"))
    is_good = growth < GROWTH_MAX_BYTES and after <= before and result["same_process"]  # type: ignore[operator]
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
