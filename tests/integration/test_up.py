"""`turnout up` as a process, with the embedded servers, and with stand-ins for the parts of Turnout itself."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests.cluster import give_cluster
from tests.ports import free_port
from tracker.data_dir import DataDir
from tracker.local.postgres import EmbeddedPostgres
from tracker.local.servers import LocalServers

pytestmark = pytest.mark.integration

PARTS = ("serve redirector", "serve tracker", "work clicks", "work conversions", "work postbacks", "work routes", "work keeper")
SERVERS = ("valkey-server", "postgres -D")

# What `turnout up` is run by here; the real command line is the CLI's.
DRIVER = """
import asyncio, logging, sys
from tracker.errors import BadConfiguration
from tracker.local import up
from tracker.settings import load
logging.basicConfig(level="INFO")
try:
    program = (sys.executable, sys.argv[1])
    sys.exit(asyncio.run(up.run(load(), redirector_workers=int(sys.argv[2]), demo="demo" in sys.argv, program=program)))
except BadConfiguration as exc:
    print(exc, file=sys.stderr)
    sys.exit(78)
"""
# A part: answers on its socket as the real ones do, notes what it was given and when it was stopped.
STAND_IN = """
import http.server, json, os, pathlib, signal, socket, socketserver, sys, time
root = pathlib.Path(os.environ["TURNOUT_DATA_DIR"])
words = [word for word in sys.argv[1:]]
if (root / "refuse").exists() and words[1] == "keeper":
    print("keeper refuses", file=sys.stderr)
    sys.exit(78)
def note(word):
    with open(root / "notes", "a") as notes:
        notes.write(json.dumps([word, " ".join(words[:2])]) + "\\n")
def end(*_):
    note("stopped")
    os._exit(0)
signal.signal(signal.SIGTERM, end)
note("started")
if words[0] == "demo-traffic":
    time.sleep(60)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"# TYPE turnout_part gauge\\nturnout_part %d\\n" % os.getpid())
    def log_message(self, *_):
        pass
class Server(socketserver.ThreadingTCPServer):
    def __init__(self, listener):
        super().__init__(("", 0), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = "part", 0
    def get_request(self):
        connection, _ = self.socket.accept()
        return connection, ("127.0.0.1", 0)
if words[0] == "serve":
    listener = socket.socket(fileno=int(words[words.index("--fd") + 1]))
    listener.setblocking(True)
else:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.environ["TURNOUT_INTERNAL_METRICS_SOCKET"])
    listener.listen()
Server(listener).serve_forever()
"""


def wait_until(predicate, timeout_s=20.0):
    deadline = time.monotonic() + timeout_s
    while not (found := predicate()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)
    return found


class Up:
    """One `turnout up`; its stderr is kept in a file."""

    def __init__(self, directory, files, **settings):
        self.directory, self._files = directory, files
        self.ports = {name: free_port() for name in ("REDIRECTOR_PORT", "TRACKER_PORT", "WORKER_METRICS_PORT")}
        stated = {"DATA_DIR": directory, **self.ports, **settings}
        kept = {key: value for key, value in os.environ.items() if not key.startswith("TURNOUT_")}
        self._env = kept | {f"TURNOUT_{key}": str(value) for key, value in stated.items()}
        self.process = None

    def start(self, *words, workers=1):
        self.close()
        for name, text in (("driver.py", DRIVER), ("stand_in.py", STAND_IN)):
            (self._files / name).write_text(text)
        self._errors = (self._files / f"errors-{time.monotonic_ns()}").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, self._files / "driver.py", self._files / "stand_in.py", str(workers), *words],
            env=self._env, cwd=self._files, stdout=subprocess.PIPE, stderr=self._errors, text=True,
        )  # fmt: skip
        return self

    def wait_ready(self):
        watchdog = threading.Timer(60, self.process.kill)
        watchdog.start()
        line = self.process.stdout.readline()
        watchdog.cancel()
        assert line == "ready\n", self.errors
        return self

    def ended(self, timeout_s=60):
        """Exit code, once it has ended."""
        return self.process.wait(timeout_s)

    @property
    def errors(self):
        return Path(self._errors.name).read_text()

    def family(self):
        """Living processes below it, by command line."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    def pid_of(self, words):
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                line = " ".join(process.cmdline())
                if words in line and "tracker.local.child" not in line:
                    return process.pid
        return None

    def get(self, port, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[port]}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()

    def notes(self, word):
        lines = (self.directory / "notes").read_text().splitlines()
        return [part for what, part in map(json.loads, lines) if what == word]

    def close(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            self._errors.close()


@pytest.fixture
def make_up(tmp_path):
    made = []

    def make(directory=None, *, is_first=False, **settings):
        made.append(Up(directory or tmp_path / "turnout", tmp_path, **settings))
        if not (is_first or made[-1].directory.exists()):
            give_cluster(made[-1].directory)
        return made[-1]

    yield make
    for up in made:
        family = up.family() if up.process else []
        up.close()
        psutil.wait_procs(family, timeout=10)
    for root in {up.directory for up in made if up.directory.exists()}:
        EmbeddedPostgres(DataDir.at(root)).remove()
        shutil.rmtree(DataDir.at(root).sockets, ignore_errors=True)


def all_gone(processes):
    return not [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def test_all_parts_run_answer_and_stop_in_order(make_up):
    up = make_up(is_first=True).start("demo", workers=2).wait_ready()
    for words in (*PARTS, *SERVERS, "demo-traffic"):
        wait_until(lambda words=words: up.pid_of(words))
    assert up.get("REDIRECTOR_PORT", "/-/readyz")[0] == 200
    assert up.get("TRACKER_PORT", "/readyz")[0] == 200
    metrics = up.get("WORKER_METRICS_PORT", "/metrics")[1]
    for worker in ("clicks", "conversions", "routes", "keeper"):
        assert f'turnout_part{{worker="{worker}"}} {up.pid_of(f"work {worker}")}.0' in metrics
    wait_until(lambda: "demo-traffic" in up.notes("started"))
    family = up.family()
    up.process.terminate()
    assert up.ended() == 0, up.errors
    assert all_gone(family)
    stopped = up.notes("stopped")
    assert stopped[:4] == ["demo-traffic", "serve redirector", "serve redirector", "serve tracker"]
    assert stopped[-1] == "work clicks"
    assert up.process.stdout.read() == ""


def test_data_survive_a_kill_of_up_itself_and_no_child_does(make_up):
    up = make_up().start().wait_ready()
    family = up.family()
    assert len(family) >= len(PARTS) + len(SERVERS)
    up.process.kill()
    up.ended()
    wait_until(lambda: all_gone(family), timeout_s=3)
    again = up.start().wait_ready()
    again.process.send_signal(signal.SIGINT)
    assert again.ended() == 0


def test_each_part_and_each_server_is_back_within_five_seconds(make_up):
    up = make_up().start().wait_ready()
    for words in (*PARTS, *SERVERS):
        pid = up.pid_of(words)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda words=words, pid=pid: up.pid_of(words) not in (pid, None), timeout_s=5)
    assert up.process.poll() is None


def test_a_restart_of_the_redirector_refuses_no_connection(make_up):
    up = make_up().start().wait_ready()
    pid = up.pid_of("serve redirector")
    os.kill(pid, signal.SIGKILL)
    assert up.get("REDIRECTOR_PORT", "/")[0] == 200
    assert up.pid_of("serve redirector") != pid


def test_a_port_that_is_taken_is_named_with_its_setting(make_up):
    for setting in ("REDIRECTOR_PORT", "TRACKER_PORT", "WORKER_METRICS_PORT"):
        up = make_up(is_first=True)
        with socket.socket() as other:
            other.bind(("127.0.0.1", up.ports[setting]))
            other.listen()
            up.start()
            assert up.ended() == 78
        assert f"port {up.ports[setting]} " in up.errors
        assert f"TURNOUT_{setting}" in up.errors
        assert not up.directory.joinpath("postgres").exists()


def test_a_second_up_on_the_same_directory_is_refused(make_up):
    up = make_up().start().wait_ready()
    second = make_up().start()
    assert second.ended() == 78
    assert f"already in use by another `turnout up` (pid {up.process.pid})" in second.errors
    assert up.process.poll() is None


@pytest.mark.parametrize(
    ("setting", "url"),
    [
        ("DATABASE_URL", "postgresql://u:sesame@127.0.0.1:1/x"),
        ("DATABASE_URL", "postgresql://u:sesame@127.0.0.1:sesame/x"),
        ("DATABASE_URL", "mysql://u:sesame@127.0.0.1/x"),
        ("REDIS_URL", "redis://:sesame@127.0.0.1:1/0"),
        ("REDIS_URL", "http://:sesame@127.0.0.1"),
        ("REDIS_URL", "redis://:sesame@127.0.0.1:sesame/0"),
    ],
)
def test_an_unreachable_server_is_named_without_its_password_and_nothing_is_left(make_up, setting, url):
    up = make_up(is_first=True, **{setting: url}).start()
    assert up.ended() == 78
    assert f"TURNOUT_{setting}" in up.errors
    assert "sesame" not in up.errors
    assert "Traceback" not in up.errors


def test_given_servers_are_used_instead_of_the_embedded_ones(make_up, tmp_path):
    with LocalServers(tmp_path / "given") as given:
        up = make_up(is_first=True, DATABASE_URL=given.dsn, REDIS_URL=given.redis_url).start().wait_ready()
        assert not any(up.pid_of(words) for words in SERVERS)
        up.process.terminate()
        assert up.ended() == 0


def test_a_part_that_refuses_its_configuration_stops_everything_with_78(make_up):
    up = make_up(is_first=True)
    up.directory.mkdir(mode=0o700)
    (up.directory / "refuse").touch()
    up.start()
    family = []
    while up.process.poll() is None:
        family += up.family()
        time.sleep(0.1)
    assert up.process.returncode == 78
    assert "keeper refuses" in up.errors
    assert all_gone(family)


@pytest.mark.parametrize("delay_s", [0.3, 0.6, 1.0, 2.0, 3.0])
def test_a_stop_during_the_start_is_clean(make_up, delay_s):
    up = make_up(is_first=True).start()
    wait_until(up.directory.joinpath("up.lock").exists)
    time.sleep(delay_s)
    family = up.family()
    up.process.terminate()
    assert up.ended() == 0, up.errors
    assert all_gone(family)
    assert "Traceback" not in up.errors


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_at_the_first_start_is_one_clear_line(small_disk, make_up):
    for used_bytes in (0, 8 * 1024**2 - 4096 * 3):
        (small_disk / "filler").write_bytes(bytes(used_bytes))
        up = make_up(small_disk / "turnout", is_first=True).start()
        assert up.ended() == 78
        assert "disk full" in up.errors
        assert "Traceback" not in up.errors


def test_a_very_long_directory_below_a_closed_one_works(make_up, tmp_path):
    closed = tmp_path / ("closed-" * 20)
    closed.mkdir(mode=0o700)
    up = make_up(closed / "turnout", is_first=True).start().wait_ready()
    up.process.terminate()
    assert up.ended() == 0
