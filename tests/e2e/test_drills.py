"""`turnout drill`: what an operator proves on the running installation."""

import json

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


@pytest.mark.parametrize("names", [("healthy", "redis-down", "worker-kill"), ("redirector-kill", "postgres-down", "tracker-kill")])
def test_drills_lose_nothing_and_leave_a_dated_record(installation, names):
    installation.up()
    for name in names:
        done = installation.turnout("drill", name, "--seconds", "6", "--json")
        told = json.loads(done.stdout)
        assert (done.returncode, told["good"], told["lost"], told["doubled"]) == (0, True, [], 0), told
        assert told["orders"] > 0
        assert told["stored"] >= told["redirected"] > 0
        assert bool(told["pids"]) == (name != "healthy")
        (record,) = (installation.directory / "drills").glob(f"*-{name}.json")
        assert json.loads(record.read_text()) == told
    audit = json.loads(installation.turnout("audit", "--json").stdout)
    assert audit["unaccounted"] == 0
    installation.down()


def test_a_drill_that_cannot_be_done_here_says_so_before_anything_is_touched(installation):
    installation.up()
    unknown = installation.turnout("drill", "flood")
    assert (unknown.returncode, unknown.stderr.count("\n")) == (2, 1)
    assert "redis-down" in unknown.stderr
    elsewhere = {"TURNOUT_DATA_DIR": str(installation.directory.parent / "elsewhere")}
    dsn = installation.turnout("db", "url").stdout.strip()
    done = installation.run(("drill", "redis-down"), TURNOUT_DATABASE_URL=dsn, **elsewhere)
    assert done.returncode == 2
    assert "no process of redis" in done.stderr
    installation.down()
