"""A short seeded run of the chaos harness: kills, crash points, a Valkey that forgets, connections that are cut."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEAST = 6
RUN = [sys.executable, "-m", "loadtests.chaos"]
# No answer leaves before its click is written, however late a busy machine is: answered at the deadline and killed is a named loss.
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("TURNOUT_")} | {"CHAOS_ACK_DEADLINE_MS": "0"}


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_ninety_seconds_of_faults_lose_and_double_nothing(tmp_path):
    words = ["--seconds", "90", "--seed", "1", "--faults", "cheap", "--clicks-per-s", "150", "--least", str(LEAST), "--out", str(tmp_path)]
    done = subprocess.run([*RUN, *words], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=290, check=False)
    assert done.returncode == 0, done.stderr[-6000:]
    (report,) = tmp_path.glob("*.json")
    told = json.loads(report.read_text())
    assert sum(line["times"] for line in told["faults"] if line["fault"] != "all") >= LEAST
    assert told["clicks"]["rows"] > 1000
    assert told["facts"]["orders"] > 50


@pytest.fixture
def short_place():
    """A directory of this test's own whose path leaves room for the names of sockets, and that PostgreSQL's user may walk through."""
    with tempfile.TemporaryDirectory(prefix="c", dir="/tmp") as place:
        Path(place).chmod(0o755)
        yield Path(place)


@pytest.mark.chaos
@pytest.mark.timeout(120)
def test_a_run_that_is_killed_leaves_nothing_behind(tmp_path, short_place):
    words = ["--seconds", "60", "--seed", "1", "--faults", "none", "--out", str(tmp_path)]
    with (tmp_path / "log").open("wb") as log:
        run = subprocess.Popen([*RUN, *words], cwd=ROOT, env=ENVIRONMENT | {"TMPDIR": str(short_place)}, stdout=log, stderr=log)
    places = wait_for(lambda: [p for p in short_place.glob("turnout-chaos-*") if (p / "visits.log").exists()], 60)
    assert places, (tmp_path / "log").read_text()[-3000:]
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert wait_for(lambda: not any(p.exists() for p in places), 30)
    assert not [pid for pid in Path("/proc").glob("[0-9]*") if str(places[0]).encode() in cmdline(pid)]


def cmdline(process):
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def wait_for(predicate, within_s):
    deadline = time.monotonic() + within_s
    while not (found := predicate()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def test_an_unknown_fault_is_refused():
    done = subprocess.run(
        [*RUN, "--faults", "nonsense"], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "nonsense" in done.stderr
