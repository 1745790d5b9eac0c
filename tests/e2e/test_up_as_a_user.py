"""`turnout up` as a newcomer runs it: ready, a click, an old link, a postback twice, the report, the books, killed and started again."""

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests.integration.pipeline import BROWSER, environment_without_settings, free_port
from tests.wait import wait_until_sync

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
ROOT = Path(__file__).parents[2]


class Installation:
    """One data directory with its ports, and the `up` that runs on it."""

    def __init__(self, directory):
        self.directory = directory
        self.redirector, self.tracker, self.workers = free_port(), free_port(), free_port()
        self.environment = environment_without_settings() | {
            "TURNOUT_DATA_DIR": str(directory),
            "TURNOUT_REDIRECTOR_PORT": str(self.redirector),
            "TURNOUT_TRACKER_PORT": str(self.tracker),
            "TURNOUT_WORKER_METRICS_PORT": str(self.workers),
            "TURNOUT_FLOOD_LIMIT": "0",
            "PYTHONPATH": str(ROOT),
        }
        self.process = None

    def up(self, *arguments):
        command = [sys.executable, "-m", "tracker", "up", *arguments]
        with (self.directory.parent / "up.err").open("ab") as errors:
            self.process = subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, stderr=errors, text=True)
        line = self.process.stdout.readline()
        assert line == "ready\n", (line, (self.directory.parent / "up.err").read_text()[-3000:])

    def down(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0
        self.process.stdout.close()

    def kill_everything(self):
        """kill -9 of `up`, all parts and both servers at once."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        for process in [psutil.Process(self.process.pid), *family]:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait()
        self.process.stdout.close()
        psutil.wait_procs(family, timeout=10)

    def ask(self, port, path, *, method="GET", body=None, **headers):
        """Status, headers, body; redirects are not followed."""
        headers = {"User-Agent": BROWSER} | {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method, headers=headers)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with OPENER.open(request, timeout=10) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.headers, answer.read()

    def api(self, path, body=None):
        key = (self.directory / "admin.key").read_text().strip()
        method = "GET" if body is None else "POST"
        status, _, answer = self.ask(self.tracker, f"/api/v1{path}", method=method, body=body, Authorization=f"Bearer {key}")
        assert status in (200, 201), answer
        return json.loads(answer)

    def turnout(self, *arguments):
        return subprocess.run(
            [sys.executable, "-m", "tracker", *arguments], env=self.environment, capture_output=True, text=True, check=False
        )

    def parts(self, name):
        return [process for process in psutil.Process(self.process.pid).children(recursive=True) if name in command_line(process)]


def command_line(process):
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


class NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


OPENER = urllib.request.build_opener(NoRedirects)


@pytest.fixture
def installation(tmp_path):
    built = Installation(tmp_path / "data")
    yield built
    if built.process is not None and built.process.poll() is None:
        built.process.terminate()
        built.process.wait(60)
        built.process.stdout.close()


def make_programme(turnout):
    made = turnout.api("/advertisers", {"slug": "shop", "name": "Shop", "currency": "EUR", "domains": ["shop.example"]})
    payout = {"type": "percent", "percent": "10"}
    turnout.api(
        "/campaigns", {"slug": "spring", "advertiser": "shop", "name": "S", "destination_url": "https://shop.example/", "payout": payout}
    )
    turnout.api("/partners", {"slug": "blog", "name": "Blog", "email": "blog@partners.example", "parent": None})
    turnout.api("/links", {"slug": "l1", "partner": "blog", "campaign": "spring", "destination_url": None})
    turnout.api("/aliases", {"url": "https://go.old.example/aff_c?offer_id=1&aff_id=2", "link": "l1"})
    return made["postback_token"]


def test_the_whole_job_from_link_to_books(installation):
    installation.up()
    token = make_programme(installation)

    def click(path, **headers):
        return installation.ask(installation.redirector, path, **headers)

    wait_until_sync(lambda: click("/c/l1", method="HEAD")[0] == 302, within_s=2, because="a change is live within two seconds")
    alias = {"method": "HEAD", "Host": "go.old.example"}  # made after the link, so it may be live a moment later
    wait_until_sync(lambda: click("/aff_c?offer_id=1&aff_id=2", **alias)[0] == 302, within_s=2, because="so is the alias")
    status, headers, _ = click("/c/l1?sub1=a")
    assert (status, headers["Cache-Control"]) == (302, "no-store")
    assert headers["Location"] == f"https://shop.example/?click_id={headers['X-Click-Id']}"
    status, old, _ = click("/aff_c?offer_id=1&aff_id=2", Host="go.old.example")
    assert status == 302

    order = f"/postback?token={token}&click_id={old['X-Click-Id']}&txid=A1&amount=49.90&currency=EUR"

    def report():
        return json.loads(installation.ask(installation.tracker, order)[2])

    wait_until_sync(lambda: click_is_stored(installation, old["X-Click-Id"]), because="the click is stored")
    first, again = report(), report()
    assert (first["status"], first["duplicate"], again["duplicate"]) == ("attributed", False, True)
    assert first["conversion_id"] == again["conversion_id"]
    status, _, body = installation.ask(installation.tracker, order.replace(token, "wrong"))
    assert (status, json.loads(body)["code"]) == (401, "bad_token")

    day = time.strftime("%Y-%m-%d", time.gmtime())
    rows = installation.api(f"/reports?from={day}&to={day}&group_by=partner")["rows"]
    (row,) = [row for row in rows if row["partner"] == "blog"]  # what was asked before it was live is an orphan, of nobody
    assert (row["partner"], row["clicks"], row["all_clicks"], row["conversions"]) == ("blog", 2, row["all_clicks"], 1)
    assert (row["revenue"], row["payout"]) == ("49.90", "4.99")
    wait_until_sync(lambda: installation.api("/audit")["state"] == "balanced", because="the books balance")
    done = installation.turnout("audit", "--json")
    assert (done.returncode, json.loads(done.stdout)["unaccounted"]) == (0, 0)
    for port, path in ((installation.redirector, "/-/metrics"), (installation.tracker, "/metrics"), (installation.workers, "/metrics")):
        status, _, text = installation.ask(port, path)
        assert status == 200
        assert b"turnout_" in text
    installation.down()


def click_is_stored(installation, text):
    key = (installation.directory / "admin.key").read_text().strip()
    return installation.ask(installation.tracker, f"/api/v1/clicks/{text}", Authorization=f"Bearer {key}")[0] == 200


def test_everything_killed_and_started_again_has_every_click_once(installation):
    installation.up()
    make_programme(installation)
    wait_until_sync(lambda: installation.ask(installation.redirector, "/c/l1", method="HEAD")[0] == 302)
    seen = []
    for number in range(1000):
        status, headers, _ = installation.ask(installation.redirector, f"/c/l1?sub1={number}")
        assert status == 302
        seen.append(headers["X-Click-Id"])
    installation.kill_everything()
    installation.up()
    wait_until_sync(lambda: json.loads(installation.turnout("audit", "--json").stdout)["state"] == "balanced", within_s=90, every_s=0.5)
    day = time.strftime("%Y-%m-%d", time.gmtime())
    (row,) = [row for row in installation.api(f"/reports?from={day}&to={day}&group_by=link")["rows"] if row["link"] == "l1"]
    assert row["clicks"] == len(set(seen)) == 1000
    assert click_is_stored(installation, seen[-1])
    installation.down()


def test_a_part_that_dies_comes_back_and_refuses_nobody_meanwhile(installation):
    installation.up()
    for name in ("serve redirector", "serve tracker", "work clicks", "work routes", "work keeper", "work conversions"):
        (part,) = installation.parts(name)
        part.kill()
        wait_until_sync(lambda name=name, pid=part.pid: [p for p in installation.parts(name) if p.pid != pid], within_s=5, because=name)
    status, _, _ = installation.ask(installation.redirector, "/-/healthz")
    assert status == 200
    installation.down()


def test_a_running_redirector_has_loaded_neither_postgresql_nor_fastapi(tmp_path):
    environment = Installation(tmp_path / "data").environment | {"PYTHONPROFILEIMPORTTIME": "1"}
    port = environment["TURNOUT_REDIRECTOR_PORT"]
    process = subprocess.Popen([sys.executable, "-m", "tracker", "serve", "redirector"], env=environment, stderr=subprocess.PIPE, text=True)

    def answers():
        try:
            request = urllib.request.Request(f"http://127.0.0.1:{port}/c/none", headers={"User-Agent": BROWSER})
            return OPENER.open(request, timeout=1).status
        except urllib.error.HTTPError as answer:
            return answer.code == 404
        except OSError:
            return False

    wait_until_sync(answers)
    process.terminate()
    _, imports = process.communicate(timeout=40)
    assert "redirector.handler" in imports
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in imports.splitlines() if "|" in line}
    assert not loaded & {"asyncpg", "fastapi", "starlette", "sqlalchemy", "alembic"}


def test_a_taken_port_ends_the_start_with_one_line_and_78(installation):
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "tracker", "up"],
            env=installation.environment | {"TURNOUT_REDIRECTOR_PORT": str(port)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 78
    lines = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert len(lines) == 1
    assert str(port) in lines[0]
    assert "TURNOUT_REDIRECTOR_PORT" in lines[0]


@pytest.mark.parametrize("variables", [{"TURNOUT_ACK": "sometimes"}, {"TURNOUT_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x"}])
def test_bad_configuration_is_one_line_and_78(installation, variables):
    done = subprocess.run(
        [sys.executable, "-m", "tracker", "up"],
        env=installation.environment | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 78
    lines = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert len(lines) == 1, lines
    assert next(iter(variables)) in lines[0]
