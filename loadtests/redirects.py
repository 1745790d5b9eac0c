"""Redirects a second, as ratios in one run: Turnout's redirector against nginx + Lua + one XADD a click, or against itself.

    python loadtests/redirects.py [--links 1000] [--seconds 5] [--rounds 3] [--peer nginx-lua.conf]

Needs `wrk` (Debian). The server is pinned to core 0, the load generator to core 1. Black box: starts `turnout` as a user does, talks HTTP.
The raw result goes to loadtests/results/redirects-*.json.
"""

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from installation import HOST, Installation

HERE = Path(__file__).parent
BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
CONNECTIONS = 64
PORT, PEER_PORT, PEER_REDIS_PORT = 18080, 8081, 6390
WRK = """
local n = 0
request = function()
  n = (n * 1103515245 + 12345) % 2147483648
  return wrk.format("GET", PREFIX .. (n % LINKS) .. SUFFIX, { ["User-Agent"] = "BROWSER", ["Host"] = "NAME" })
end
"""


def wrk(
    url: str, links: int, prefix: str, seconds: int, script: Path, *, suffix: str = "?sub1=bench", host: str = "go.example"
) -> dict[str, float]:
    """Requests a second and latencies of one run; raises when an answer was no redirect."""
    words = {"PREFIX": json.dumps(prefix), "SUFFIX": json.dumps(suffix), "LINKS": str(links), "BROWSER": BROWSER, "NAME": host}
    script.write_text(re.sub("|".join(words), lambda found: words[found[0]], WRK))
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-s", str(script), url]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx or 3xx" in out:
        raise RuntimeError(out)
    figures = {"requests_per_s": float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])}
    for percent in ("50", "99"):
        value, unit = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)", out).groups()
        figures[f"p{percent}_ms"] = float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit]
    return figures


def pin(process: psutil.Process, core: int) -> None:
    """Keep all threads of a process on one core."""
    subprocess.run(["taskset", "-a", "-p", "-c", str(core), str(process.pid)], check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def peer(config: Path):
    """nginx + Lua with a Redis of its own, from Debian's packages."""
    redis = subprocess.Popen(
        ["redis-server", "--port", str(PEER_REDIS_PORT), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
        stdout=subprocess.DEVNULL,
    )
    nginx = subprocess.Popen(["taskset", "-c", "0", "nginx", "-c", str(config.resolve())])
    time.sleep(1)
    try:
        yield
    finally:
        for process in (nginx, redis):
            process.terminate()
            process.wait(20)


def median_of(found: list[dict[str, float]]) -> float:
    return statistics.median(run["requests_per_s"] for run in found)


def circumstances() -> dict[str, object]:
    """On what, when and of which commit something was measured."""
    return {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "kernel": platform.release()},
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit(),
    }


def commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--links", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", type=Path, help="nginx configuration of the peer")
    asked = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.stderr.write("wrk is not installed (Debian: apt-get install wrk)\n")
        return 3
    runs: dict[str, list[dict[str, float]]] = {"turnout": [], "peer": []}
    with tempfile.TemporaryDirectory(prefix="turnout-bench-") as folder:
        directory = Path(folder)
        turnout = Installation(directory, PORT, asked.links)
        pin(turnout.redirector(), 0)
        try:
            with peer(asked.peer) if asked.peer else contextlib.nullcontext():
                for _ in range(asked.rounds):
                    runs["turnout"].append(wrk(f"http://{HOST}:{PORT}", asked.links, "/c/c", asked.seconds, directory / "t.lua"))
                    if asked.peer:
                        runs["peer"].append(wrk(f"http://{HOST}:{PEER_PORT}", 10_000, "/c/c", asked.seconds, directory / "p.lua"))
        finally:
            turnout.close()
    middle = {name: median_of(found) for name, found in runs.items() if found}
    result = {
        "what": "redirects, one core, journal on, writers running",
        "links": asked.links,
        "connections": CONNECTIONS,
        "runs": runs,
        "median_requests_per_s": middle,
        "ratio_to_peer": round(middle["turnout"] / middle["peer"], 3) if asked.peer else None,
        **circumstances(),
    }
    out = HERE / "results" / f"redirects-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.json"
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: result[key] for key in ("median_requests_per_s", "ratio_to_peer")}), out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
