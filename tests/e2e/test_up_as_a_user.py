"""`turnout up` as a newcomer runs it: an old link, the books, the metrics; killed and started again; what it says when it cannot start."""

import json
import signal
import socket
import subprocess
import sys

import pytest

from tests.e2e.deployment import ask
from tests.e2e.programme import make_programme
from tests.wait import wait_until_sync

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def test_an_old_link_the_books_on_the_command_line_and_the_metrics_of_all_parts(installation):
    installation.up()
    turnout = installation.deployment()
    programme = make_programme(turnout)
    turnout.api("/aliases", {"url": "https://go.old.example/aff_c?offer_id=1&aff_id=2", "link": programme.slug})
    programme.wait_until_live("/aff_c?offer_id=1&aff_id=2", Host="go.old.example")
    status, headers, _ = turnout.visit("/aff_c?offer_id=1&aff_id=2", Host="go.old.example")
    assert (status, headers["Location"]) == (302, f"{programme.shop}?click_id={headers['X-Click-Id']}")
    wait_until_sync(lambda: turnout.has_click(headers["X-Click-Id"]), because="the click is stored")
    wait_until_sync(lambda: turnout.api("/audit")["state"] == "balanced", because="the books balance")
    done = installation.turnout("audit", "--json")
    assert (done.returncode, json.loads(done.stdout)["unaccounted"]) == (0, 0)
    for port, path in ((installation.redirector, "/-/metrics"), (installation.tracker, "/metrics"), (installation.workers, "/metrics")):
        status, _, text = ask(f"http://127.0.0.1:{port}{path}")
        assert status == 200
        assert b"turnout_" in text
    installation.down()


def test_everything_killed_and_started_again_has_every_click_once(installation):
    installation.up()
    turnout = installation.deployment()
    programme = make_programme(turnout)
    programme.wait_until_live()
    seen = [programme.click(f"?sub1={number}")[0] for number in range(1000)]
    installation.kill_everything()
    installation.up()
    wait_until_sync(lambda: json.loads(installation.turnout("audit", "--json").stdout)["state"] == "balanced", within_s=90, every_s=0.5)
    (row,) = programme.reported("link")
    assert (row["link"], row["clicks"], len(set(seen))) == (programme.slug, 1000, 1000)
    assert turnout.has_click(seen[-1])
    installation.down()


def test_a_part_that_dies_comes_back_and_refuses_nobody_meanwhile(installation):
    installation.up()
    for name in ("serve redirector", "serve tracker", "work clicks", "work routes", "work keeper", "work conversions", "work postbacks"):
        (part,) = installation.parts(name)
        part.kill()
        wait_until_sync(lambda name=name, pid=part.pid: [p for p in installation.parts(name) if p.pid != pid], within_s=5, because=name)
    assert installation.deployment().visit("/-/healthz")[0] == 200
    installation.down()


def test_a_running_redirector_has_loaded_neither_postgresql_nor_fastapi(installation):
    environment = installation.environment | {"PYTHONPROFILEIMPORTTIME": "1"}
    process = subprocess.Popen([sys.executable, "-m", "tracker", "serve", "redirector"], env=environment, stderr=subprocess.PIPE, text=True)

    def answers():
        try:
            return ask(f"http://127.0.0.1:{installation.redirector}/c/none")[0] == 404
        except OSError:
            return False

    wait_until_sync(answers)
    process.send_signal(signal.SIGTERM)
    _, imports = process.communicate(timeout=40)
    assert "redirector.handler" in imports
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in imports.splitlines() if "|" in line}
    assert not loaded & {"asyncpg", "fastapi", "starlette", "sqlalchemy", "alembic"}


def test_a_taken_port_ends_the_start_with_one_line_and_78(installation):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        line = refusal(installation, TURNOUT_REDIRECTOR_PORT=port)
    assert port in line
    assert "TURNOUT_REDIRECTOR_PORT" in line


@pytest.mark.parametrize("variables", [{"TURNOUT_ACK": "sometimes"}, {"TURNOUT_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x"}])
def test_bad_configuration_is_one_line_and_78(installation, variables):
    assert next(iter(variables)) in refusal(installation, **variables)


def refusal(installation, **variables):
    """The one line that `up` ends with when it will not start."""
    done = installation.run(["up"], **variables)
    assert done.returncode == 78
    lines = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert len(lines) == 1, lines
    return lines[0]
