"""Rolling restart of redirectors under load: who notices, and what is lost.

    python loadtests/rolling_restart.py [--restarts 6] [--rate 100]

Needs `nginx` (Debian). Three ways in one run, each with clicks on new and on kept connections while redirectors are stopped with
SIGTERM and started again, one after the other. As browsers do, a client whose kept connection was closed before any answer asks again on a
new one at once; that is counted as `asked again`, and noticed only when it fails too.

* `nginx`: two redirectors on ports of their own behind nginx, which tries the next one (`proxy_next_upstream`);
* `handed`: the redirector of `turnout up`, whose listening socket outlives it;
* `direct`: a redirector that binds its port itself, alone: the worst case.

Black box: starts `turnout` as a user does, talks HTTP, asks PostgreSQL for what was stored. The raw result goes to
loadtests/results/rolling-restart.json. Exit code 1 when a click was lost or doubled, or when nginx let a client see an error.
"""

import argparse
import asyncio
import http.client
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import asyncpg
import psutil
from installation import HOST, Installation, status, wait_for

HERE = Path(__file__).parent
UP_PORT = 18180  # and the two after it
FIRST, SECOND, ALONE, PROXY = range(18183, 18187)
BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
CLIENTS = 8
NGINX = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 512; }}
http {{
  access_log off; client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  upstream redirectors {{ server {host}:{first} max_fails=0; server {host}:{second} max_fails=0; keepalive 16; }}
  server {{
    listen {host}:{port};
    location / {{
      proxy_pass http://redirectors; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
      proxy_next_upstream error timeout; proxy_next_upstream_tries 3; proxy_connect_timeout 2s;
    }}
  }}
}}
"""


class Clients:
    """Visitors on threads; every answer is counted, every click id kept."""

    def __init__(self, port: int, rate: int, *, keep: bool) -> None:
        self._port, self._pause_s, self._keep = port, CLIENTS / rate, keep
        self._stop = threading.Event()
        self.outcomes: Counter[str] = Counter()
        self.again = 0
        self.clicks: list[str] = []
        self._threads = [threading.Thread(target=self._visit) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, and wait for all."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _visit(self) -> None:
        connection = None
        while not self._stop.wait(self._pause_s):
            is_kept = connection is not None
            connection = connection or self._connection()
            try:
                answer = self._ask(connection)
            except (OSError, http.client.HTTPException) as exc:
                connection.close()
                connection = None
                if is_kept and isinstance(exc, ConnectionError):
                    self.again += 1
                    connection, answer = self._ask_again()
                else:
                    answer = None
                    self.outcomes[type(exc).__name__] += 1
            if answer is not None and connection is not None:
                self.outcomes[str(answer.status)] += 1
                if answer.status == http.client.FOUND:
                    self.clicks.append(answer.getheader("X-Click-Id") or "")
                if not self._keep or answer.getheader("Connection") == "close":
                    connection.close()
                    connection = None

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(HOST, self._port, timeout=10)

    def _ask(self, connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
        connection.request("GET", "/c/c0", headers={"User-Agent": BROWSER, "Host": "go.example"})
        answer = connection.getresponse()
        answer.read()
        return answer

    def _ask_again(self) -> tuple[http.client.HTTPConnection | None, http.client.HTTPResponse | None]:
        connection = self._connection()
        try:
            return connection, self._ask(connection)
        except (OSError, http.client.HTTPException) as exc:
            connection.close()
            self.outcomes[type(exc).__name__] += 1
            return None, None


class Fleet(Installation):
    """An installation with one link, and further redirectors on its servers."""

    def start_redirector(self, port: int) -> subprocess.Popen[bytes]:
        """A redirector that binds `port` itself; returns when it is ready."""
        environment = self.environment | {"TURNOUT_REDIRECTOR_PORT": str(port)}
        process = subprocess.Popen([sys.executable, "-m", "tracker", "serve", "redirector"], env=environment)
        wait_for(lambda: status(port, "/-/readyz") == http.client.OK, f"the redirector on {port} is ready")
        return process

    def stored(self) -> list[str]:
        """The click ids of visits, as UUIDs in PostgreSQL's order."""
        return asyncio.run(_stored(self.cli("db", "url").strip()))


async def _stored(dsn: str) -> list[str]:
    connection = await asyncpg.connect(dsn)
    try:
        return [row["click_id"].hex for row in await connection.fetch("SELECT click_id FROM clicks WHERE method = 'GET'")]
    finally:
        await connection.close()


def restart(process: subprocess.Popen[bytes], fleet: Fleet, port: int) -> subprocess.Popen[bytes]:
    """SIGTERM, the end, and a new one on the same port."""
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    return fleet.start_redirector(port)


def measure(name: str, port: int, rate: int, turn: Callable[[int], None], restarts: int) -> tuple[dict[str, object], list[str]]:
    """Clicks on new and on kept connections to `port` while `turn` restarts something, so many times."""
    result: dict[str, object] = {"restarts": restarts}
    clicks: list[str] = []
    for kept in (False, True):
        clients = Clients(port, rate, keep=kept)
        for number in range(restarts):
            time.sleep(1)
            turn(number)
        time.sleep(1)
        clients.stop()
        clicks += clients.clicks
        asked, redirected = sum(clients.outcomes.values()), clients.outcomes[str(int(http.client.FOUND))]
        noticed = round((asked - redirected) / asked * 100, 4)
        result["kept connections" if kept else "new connections"] = dict(clients.outcomes) | {
            "asked_again": clients.again, "noticed_percent": noticed,
        }  # fmt: skip
        print(f"{name:8} {'kept' if kept else 'new':5} {redirected} of {asked} redirected, {noticed} % noticed", flush=True)
    return result, clicks


def run(folder: Path, restarts: int, rate: int) -> dict[str, object]:
    """All three ways; the books at the end."""
    fleet = Fleet(folder, UP_PORT, 1)
    clicks: list[str] = []
    results: dict[str, object] = {"rate": rate}
    try:
        pair = [fleet.start_redirector(port) for port in (FIRST, SECOND)]
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, host=HOST, first=FIRST, second=SECOND, port=PROXY))
        nginx = subprocess.Popen(["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")])
        wait_for(lambda: status(PROXY, "/c/c0", "HEAD") == http.client.FOUND, "nginx answers")

        def turn_pair(number: int) -> None:
            pair[number % 2] = restart(pair[number % 2], fleet, (FIRST, SECOND)[number % 2])

        def turn_own(_: int) -> None:
            old = fleet.redirector()
            old.terminate()
            psutil.wait_procs([old], timeout=60)
            wait_for(lambda: status(UP_PORT, "/-/readyz") == http.client.OK, "the redirector of up is back")

        results["nginx"], found = measure("nginx", PROXY, rate, turn_pair, restarts)
        clicks += found
        nginx.terminate()
        nginx.wait(10)
        for process in pair:
            process.terminate()
            process.wait(60)
        results["handed"], found = measure("handed", UP_PORT, rate, turn_own, restarts)
        clicks += found
        alone = [fleet.start_redirector(ALONE)]

        def turn_alone(_: int) -> None:
            alone[0] = restart(alone[0], fleet, ALONE)

        results["direct"], found = measure("direct", ALONE, rate, turn_alone, restarts)
        clicks += found
        alone[0].terminate()
        alone[0].wait(60)
        wait_for(lambda: json.loads(fleet.cli("audit", "--json"))["state"] == "balanced", "the books balance", 90)
        stored = fleet.stored()
        results |= {"redirected": len(clicks), "stored": len(stored), "doubled": len(stored) - len(set(stored))}
        results["lost"] = len({_hex(text) for text in clicks} - set(stored))
    finally:
        fleet.close()
    return results


def _hex(text: str) -> str:
    """A click id of 26 letters (Crockford base32) as 32 hexadecimal digits."""
    value = 0
    for letter in text:
        value = value * 32 + "0123456789abcdefghjkmnpqrstvwxyz".index(letter)
    return f"{value:032x}"


def main() -> int:
    """Run, print, keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--restarts", type=int, default=6)
    parser.add_argument("--rate", type=int, default=100, help="clicks a second")
    chosen = parser.parse_args()
    if shutil.which("nginx") is None:
        print("nginx is not installed", file=sys.stderr)
        return 2
    for port in (UP_PORT, FIRST, SECOND, ALONE, PROXY):
        with socket.socket() as probe:
            probe.bind((HOST, port))
    with tempfile.TemporaryDirectory(prefix="rolling-") as folder:
        results = run(Path(folder), chosen.restarts, chosen.rate)
    out = HERE / "results" / "rolling-restart.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(results, indent=2) + "\n")
    print(f"redirected {results['redirected']}, lost {results['lost']}, doubled {results['doubled']}; {out}")
    behind = results["nginx"]
    noticed = [part["noticed_percent"] for part in behind.values() if isinstance(part, dict)]  # type: ignore[attr-defined]
    return 1 if results["lost"] or results["doubled"] or any(noticed) else 0


if __name__ == "__main__":
    sys.exit(main())
