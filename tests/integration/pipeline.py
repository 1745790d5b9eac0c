"""The way of a click as processes of its own, for tests that kill them: redirector, route publisher, click writer, real servers."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import asyncpg
import redis

from tests import launcher
from tests.ports import free_port
from tests.wait import wait_until_sync
from tracker.adapters.audit import audit
from tracker.domain import click_id

ROOT = Path(__file__).parents[2]
BROWSER = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36"
PROGRAMME = """
    INSERT INTO advertisers (slug, name, currency, domains) VALUES ('shop', 'Shop', 'EUR', '{shop.example}');
    INSERT INTO campaigns (slug, advertiser_id, destination_url) SELECT 'spring', id, 'https://shop.example/' FROM advertisers;
    INSERT INTO partners (slug, name) VALUES ('blog', 'Blog');
    INSERT INTO links (slug, partner_id, campaign_id, advertiser_id)
        SELECT 'l' || n, p.id, c.id, c.advertiser_id FROM partners p, campaigns c, generate_series(1, 5) n;
"""


def environment_without_settings():
    """Ours, less the settings of whoever runs the tests."""
    return {k: v for k, v in os.environ.items() if not k.startswith("TURNOUT_") or k.startswith("TURNOUT_INTERNAL_SHARED")}


class Pipeline:
    """Parts are named by their command line: `serve redirector`, `work clicks` …; each may run several times."""

    def __init__(self, directory, dsn, redis_url, **settings):
        self.directory, self.dsn, self.redis_url = Path(directory), dsn, redis_url
        self.port = free_port()
        self.parts = {}
        self.accepted = []  # click ids of every 302 that was seen
        self.unknown = 0  # requests whose answer was cut off
        self.refused = []
        self._log = (self.directory.parent / f"{self.directory.name}.log").open("ab")
        self._settings = {
            "TURNOUT_DATA_DIR": str(self.directory),
            "TURNOUT_DATABASE_URL": dsn,
            "TURNOUT_REDIS_URL": redis_url,
            "TURNOUT_REDIRECTOR_PORT": str(self.port),
            "TURNOUT_FLOOD_LIMIT": "0",
            "TURNOUT_NODE": "node-1",
        } | settings

    # -- parts

    def start(self, name, key=None, **environment):
        """Start a part; `environment` for crash points and the like."""
        env = environment_without_settings() | self._settings | environment
        if "work" in name:
            file_name = (key or name).replace(" ", "-") + ".sock"
            env["TURNOUT_INTERNAL_METRICS_SOCKET"] = str(self.directory.parent / file_name)
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [environment.get("PYTHONPATH"), str(ROOT)]))
        self.parts[key or name] = launcher.launch(["-m", "tracker", *name.split()], env=env, stdout=self._log, stderr=self._log)
        if name == "serve redirector":
            wait_until_sync(self.answers, because="the redirector answers")

    def start_all(self, **environment):
        self.start("work routes")
        self.start("serve redirector", **environment.get("redirector", {}))
        self.start("work clicks", **environment.get("clicks", {}))
        wait_until_sync(lambda: self.get("/-/readyz")[0] == 200, because="routes are published")
        wait_until_sync(lambda: self.get("/c/l1", method="HEAD")[2], because="link l1 is live")

    def kill(self, key):
        process = self.parts.pop(key)
        process.kill()
        process.wait()

    def stop(self, key):
        process = self.parts.pop(key)
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0, f"{key} ended with {process.returncode}"

    def died(self, key):
        return self.parts[key].poll() is not None

    def close(self):
        for process in self.parts.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
        self._log.close()

    # -- visitors

    def answers(self):
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.get("/-/healthz")[0] == 200
        return False

    def get(self, path, method="GET", connection=None):
        """Status, click id as UUID or None, Location."""
        ours = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            ours.request(method, path, headers={"User-Agent": BROWSER, "Host": "go.example"})
            answer = ours.getresponse()
            answer.read()
            text = answer.getheader("X-Click-Id")
            return answer.status, UUID(bytes=click_id.from_text(text)) if text else None, answer.getheader("Location")
        finally:
            if connection is None:
                ours.close()

    def click(self, count, threads=4):
        """Send clicks; every 302 seen is remembered. A cut connection is an unknown outcome, as a visitor's would be."""
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(self._visitor, [count // threads] * threads))

    def _visitor(self, count):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        for number in range(count):
            try:
                status, found, _ = self.get(f"/c/l{number % 5 + 1}?sub1=s{number}", connection=connection)
            except (OSError, http.client.HTTPException):
                self.unknown += 1
                connection.close()
                if not self.answers():
                    return
                continue
            if status == 302 and found is not None:
                self.accepted.append(found)
            else:
                self.refused.append(status)
        connection.close()

    # -- the truth

    def query(self, sql, *arguments):
        return asyncio.run(self._query(sql, *arguments))

    async def _query(self, sql, *arguments):
        connection = await asyncpg.connect(self.dsn, timeout=10)
        try:
            return await connection.fetch(sql, *arguments)
        finally:
            await connection.close()

    def redis(self):
        return redis.Redis.from_url(self.redis_url)

    def stored(self):
        return [row["click_id"] for row in self.query("SELECT click_id FROM clicks WHERE method = 'GET'")]

    def turnout(self, *arguments, stdin=None):
        """Exit code, standard output and standard error of a command."""
        env = environment_without_settings() | self._settings | {"PYTHONPATH": str(ROOT)}
        done = launcher.run(["-m", "tracker", *arguments], env=env, input=stdin, timeout=90)
        return done.returncode, done.stdout, done.stderr

    def audit(self):
        code, out, err = self.turnout("audit", "--json")
        assert out, err
        return code, json.loads(out)

    def look_at_books(self):
        """What `turnout audit` would print, without a process for each look."""
        shards = int(self._settings.get("TURNOUT_STREAM_SHARDS", 1))
        return asyncio.run(audit(self.dsn, self.redis_url, shards))

    def settle(self, within_s=60):
        """Wait until every 302 seen is stored and the books balance; then check all verdicts."""
        wait_until_sync(lambda: set(self.accepted) <= set(self.stored()), within_s=within_s, every_s=0.2, because="every 302 is stored")
        wait_until_sync(lambda: self.look_at_books()["state"] == "balanced", within_s=within_s, every_s=0.2, because="the books balance")
        self.check()

    def check(self):
        stored = self.stored()
        assert len(stored) == len(set(stored)), "DUP"
        lost = set(self.accepted) - set(stored)
        assert not lost, f"LOST {len(lost)}"
        ghosts = len(set(stored) - set(self.accepted))
        assert ghosts <= self.unknown, f"GHOST {ghosts} of {self.unknown} unknown"
        (drift,) = self.query(
            "SELECT (SELECT coalesce(sum(total), 0) FROM click_stats) - count(*) AS total,"
            " (SELECT coalesce(sum(clicks), 0) FROM click_stats) - count(*) FILTER (WHERE counted) AS clicks,"
            " (SELECT coalesce(sum(total), 0) FROM daily_stats) - count(*) AS daily FROM clicks"
        )
        assert tuple(drift) == (0, 0, 0), f"DRIFT {dict(drift)}"
        assert not self.refused, f"non-302: {self.refused[:5]}"
        code, books = self.audit()
        assert (code, books["state"], books["unaccounted"], books["unrecorded"]) == (0, "balanced", 0, 0), books
        assert books["accepted"] == books["stored"], books


async def make_programme(dsn):
    connection = await asyncpg.connect(dsn)
    await connection.execute(PROGRAMME)
    await connection.close()


def time_shift(directory, seconds):
    """A PYTHONPATH folder under which a Python process sees a clock that is `seconds` off."""
    folder = Path(directory) / f"shift{seconds}"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(
        "import time\n_ns, _s = time.time_ns, time.time\n"
        f"time.time_ns = lambda: _ns() + {seconds} * 10**9\ntime.time = lambda: _s() + {seconds}\n"
    )
    return str(folder)
