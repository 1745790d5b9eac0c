"""The supervisor and its exec shim, with stand-in commands and with the embedded servers."""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tracker.data_dir import DataDir
from tracker.local import child
from tracker.local.postgres import EmbeddedPostgres
from tracker.local.supervisor import Part, Supervisor
from tracker.local.valkey import EmbeddedValkey

pytestmark = pytest.mark.integration

SLEEP = ("/bin/sleep", "60")
STUBBORN = (sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); print(); time.sleep(60)")


async def wait_until(predicate, timeout_s=5.0):
    deadline = time.monotonic() + timeout_s
    while not predicate():
        assert time.monotonic() < deadline, "waited too long"
        await asyncio.sleep(0.01)


def runs(pid, words):
    """True once the exec shim has become `words`."""
    try:
        return pid is not None and psutil.Process(pid).cmdline() == list(words)
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
async def supervisor():
    supervisor = Supervisor()
    yield supervisor
    await supervisor.stop_all()


@pytest.mark.parametrize("server", [EmbeddedPostgres, EmbeddedValkey])
async def test_a_killed_server_is_back_within_five_seconds(tmp_path, supervisor, server):
    directory = DataDir.at(tmp_path / "turnout")
    directory.create()
    embedded = server(directory)
    await asyncio.to_thread(embedded.prepare)
    supervisor.start(embedded.part())
    try:
        assert await supervisor.wait_ready([server.name], 20) == []
        for _ in range(3):
            killed = supervisor.pid(server.name)
            os.kill(killed, signal.SIGKILL)
            await wait_until(lambda killed=killed: supervisor.pid(server.name) not in (killed, None))
            assert await supervisor.wait_ready([server.name], 30) == []  # how long PostgreSQL recovers is a matter of the disk
        await supervisor.stop(server.name)
        assert supervisor.names == ()
    finally:
        await supervisor.stop_all()
        EmbeddedPostgres(directory).remove()


async def test_a_part_that_dies_is_started_again_at_once_then_ever_later(supervisor, tmp_path):
    log = tmp_path / "starts"
    supervisor.start(Part("brief", ("/bin/sh", "-c", f"date +%s.%N >> {log}; exit 3")))
    await wait_until(lambda: log.exists() and len(log.read_text().split()) >= 4)
    starts = [float(line) for line in log.read_text().split()][:4]
    pauses = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert pauses[0] < 0.5
    assert pauses[2] > 0.4


async def test_deaths_are_told_with_their_exit_code():
    deaths = []
    supervisor = Supervisor(lambda name, code: deaths.append((name, code)))
    supervisor.start(Part("refusing", ("/bin/sh", "-c", "exit 78")))
    await wait_until(lambda: deaths)
    await supervisor.stop_all()
    assert deaths[0] == ("refusing", 78)


async def test_a_program_that_is_missing_is_tried_again(supervisor, tmp_path):
    deaths = []
    supervisor = Supervisor(lambda name, code: deaths.append(code))
    supervisor.start(Part("missing", (str(tmp_path / "missing"),)))
    await wait_until(lambda: len(deaths) >= 2)
    await supervisor.stop_all()
    assert deaths[0] == child.EXIT_NOT_FOUND


async def test_a_part_that_ignores_its_signal_is_killed_alone(supervisor):
    supervisor.start(Part("stubborn", STUBBORN, stop_timeout_s=0.5))
    supervisor.start(Part("other", SLEEP))
    await wait_until(lambda: runs(supervisor.pid("stubborn"), STUBBORN) and runs(supervisor.pid("other"), SLEEP))
    await asyncio.sleep(0.3)  # until it ignores the signal
    other, started_at = supervisor.pid("other"), time.monotonic()
    await supervisor.stop("stubborn")
    assert time.monotonic() - started_at > 0.4  # it was given its time
    assert runs(other, SLEEP)


async def test_a_stop_during_the_start_leaves_nothing(supervisor):
    for delay_s in (0, 0.001, 0.01, 0.05):
        supervisor.start(Part("part", SLEEP))
        await asyncio.sleep(delay_s)
        await supervisor.stop("part")
    assert not [p for p in psutil.Process().children() if p.cmdline() == list(SLEEP)]


async def test_children_get_neither_the_terminal_group_nor_our_stdin(supervisor):
    supervisor.start(Part("part", SLEEP))
    await wait_until(lambda: runs(supervisor.pid("part"), SLEEP))
    pid = supervisor.pid("part")
    assert os.getpgid(pid) == pid
    assert psutil.Process(pid).open_files() == []


def test_children_die_when_the_supervisor_is_killed():
    script = (
        "import asyncio\nfrom tracker.local.supervisor import Part, Supervisor\n"
        "async def main():\n"
        "    s = Supervisor()\n"
        f"    s.start(Part('a', {SLEEP!r})); s.start(Part('b', {STUBBORN!r}))\n"
        "    while not (s.pid('a') and s.pid('b')): await asyncio.sleep(0.01)\n"
        "    await asyncio.sleep(0.5); print(s.pid('a'), s.pid('b'), flush=True); await asyncio.sleep(60)\n"
        "asyncio.run(main())"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert runs(pids[0], SLEEP)
        parent.kill()
    deadline = time.monotonic() + 3
    while any(map(psutil.pid_exists, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(pids) == 2
    assert not any(map(psutil.pid_exists, pids))


def test_the_shim_ends_at_once_when_its_parent_is_not_the_expected_one():
    environment = {**os.environ, child.PARENT_VARIABLE: "1"}
    done = subprocess.run(child.command(SLEEP), env=environment, timeout=10, check=False)
    assert done.returncode == child.EXIT_ORPHANED


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_the_shim_gives_up_root_and_still_dies_with_its_parent():
    script = (
        "import os, subprocess, time; from tracker.local import child\n"
        f"p = subprocess.Popen(child.command({SLEEP!r}, uid=65534, gid=65534), env=child.environment(os.environ))\n"
        "time.sleep(1); print(p.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        process = psutil.Process(pid)
        assert runs(pid, SLEEP)
        assert (set(process.uids()), set(process.gids())) == ({65534}, {65534})
        parent.kill()
    deadline = time.monotonic() + 3
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not psutil.pid_exists(pid)
