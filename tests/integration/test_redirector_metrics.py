"""Redirector processes on one listening socket: whichever answers a scrape tells the figures of all. Neither PostgreSQL nor Redis runs."""

import http.client
import os
import re
import signal
import socket
import threading
from pathlib import Path

import pytest

from tests import launcher
from tests.integration.pipeline import BROWSER, environment_without_settings
from tests.wait import wait_until_sync

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
ACCEPTED, ANSWERED = "turnout_clicks_accepted_total", 'turnout_redirects_total{outcome="unknown"}'


class Host:
    """Redirectors by name. `only` stops all others, so that it is known who answers."""

    def __init__(self, directory):
        self.directory = directory
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.set_inheritable(True)
        self.processes = {}

    def start(self, name, **environment):
        fd = self.listener.fileno()
        settings = {"TURNOUT_DATA_DIR": str(self.directory), "TURNOUT_REDIS_URL": "unix:///nowhere", "TURNOUT_FLOOD_LIMIT": "0"}
        words = ["-m", "tracker", "serve", "redirector", "--fd", str(fd)]
        env = environment_without_settings() | settings | {"PYTHONPATH": str(ROOT)} | environment
        with (self.directory.parent / "redirector.log").open("ab") as log:
            self.processes[name] = launcher.launch(words, env=env, pass_fds=[fd], stderr=log)
        self.only(name, lambda: wait_until_sync(lambda: self.get("/-/healthz") == (200, "ok\n")))

    def only(self, name, do):
        """What `do` gives while no other process than `name` can answer."""
        others = [process for key, process in self.processes.items() if key != name]
        for process in others:
            process.send_signal(signal.SIGSTOP)
        try:
            return do()
        finally:
            for process in others:
                process.send_signal(signal.SIGCONT)

    def kill(self, name):
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def get(self, path, method="GET"):
        connection = http.client.HTTPConnection(*self.listener.getsockname(), timeout=20)
        try:
            connection.request(method, path, headers={"User-Agent": BROWSER})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def click(self, times):
        for number in range(times):
            assert self.get(f"/c/none?sub1={number}")[0] == 404

    def scrape(self):
        status, text = self.get("/-/metrics")
        assert status == 200
        return {name: float(value) for name, value in re.findall(r"^(turnout_\S+) (\S+)$", text, re.MULTILINE)}

    def counts(self):
        scraped = self.scrape()
        return scraped.get(ACCEPTED), scraped.get(ANSWERED), scraped["turnout_redirect_duration_seconds_count"]

    def close(self):
        for name in list(self.processes):
            self.processes[name].send_signal(signal.SIGCONT)
            self.kill(name)
        self.listener.close()


@pytest.fixture
def host(tmp_path):
    opened = Host(tmp_path / "data")
    yield opened
    opened.close()


def all_counts(host):
    return {name: host.only(name, host.counts) for name in host.processes}


def test_either_of_two_processes_tells_the_sums_through_kill_and_restart(host):
    host.start("a")
    host.start("b")
    host.only("a", lambda: host.click(7))
    host.only("b", lambda: host.click(5))
    wait_until_sync(lambda: all_counts(host) == {"a": (12, 12, 12), "b": (12, 12, 12)}, because="each has seen the other's figures")
    host.kill("b")
    assert [host.counts() for _ in range(3)] == [(12, 12, 12)] * 3
    host.start("b")
    assert all_counts(host) == {"a": (12, 12, 12), "b": (12, 12, 12)}
    host.only("b", lambda: host.click(3))
    assert host.only("b", host.counts) == (15, 15, 15)  # and once it is told, everybody knows
    assert host.only("a", host.counts) == (15, 15, 15)
    host.kill("a")
    assert host.counts() == (15, 15, 15)


def test_counters_never_go_back_while_processes_are_killed_and_started_under_traffic(host):
    host.start("a")
    host.start("b")
    done, told = threading.Event(), []

    def visit():
        while not done.is_set():
            try:
                host.get("/c/none")
            except (OSError, http.client.HTTPException):
                continue

    visitors = [threading.Thread(target=visit) for _ in range(2)]
    for visitor in visitors:
        visitor.start()
    try:
        for name in ("a", "b", "a"):
            for _ in range(20):
                told.append(scrape_or_none(host))
            host.kill(name)
            for _ in range(5):
                told.append(scrape_or_none(host))
            host.start(name)
    finally:
        done.set()
        for visitor in visitors:
            visitor.join()
    told += [host.counts() for _ in range(4)]
    seen = [counts for counts in told if counts]
    assert len(seen) > 60
    for number in range(3):
        column = [counts[number] or 0 for counts in seen]
        assert column == sorted(column)
    assert seen[-1][0] > seen[0][0]


def scrape_or_none(host):
    """A connection that the process just killed had accepted is cut."""
    try:
        return host.counts()
    except (OSError, http.client.HTTPException):
        return None


def test_a_process_that_stands_still_holds_nobody_up_and_its_figures_count(host):
    host.start("a")
    host.start("b")
    host.only("b", lambda: host.click(4))
    assert host.only("b", host.counts) == (4, 4, 4)
    assert host.only("a", host.counts) == (4, 4, 4)


def test_without_shared_memory_a_process_starts_and_tells_its_own(host):
    host.start("a", TURNOUT_INTERNAL_SHARED_MEMORY="/nowhere")
    host.click(3)
    assert host.counts() == (3, 3, 3)


def test_a_clean_stop_of_the_only_process_leaves_no_page_behind_and_the_next_counts_from_nothing(host):
    shared = Path(os.environ["TURNOUT_INTERNAL_SHARED_MEMORY"])
    before = set(shared.glob("*.metrics"))
    host.start("a")
    assert host.get("/c/none", method="DELETE")[0] == 405  # answered and counted, with nothing to ship: the stop need not wait
    assert host.counts() == (0, None, 1)
    assert len(set(shared.glob("*.metrics")) - before) == 1
    process = host.processes.pop("a")
    process.terminate()
    assert process.wait(40) == 0
    assert set(shared.glob("*.metrics")) <= before
    host.start("a")
    assert host.counts() == (0, None, 0)
