"""`turnout up` as a newcomer runs it: one data directory, its ports, and the processes, which may be killed."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil

from tests.e2e.deployment import Deployment
from tests.integration.pipeline import environment_without_settings
from tests.ports import free_port

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

    def close(self):
        """End what still runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)
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

    def deployment(self):
        """The same as others reach it; once it is up."""
        key = (self.directory / "admin.key").read_text().strip()
        return Deployment(f"http://127.0.0.1:{self.redirector}", f"http://127.0.0.1:{self.tracker}", key)

    def turnout(self, *arguments):
        return self.run(arguments)

    def run(self, arguments, **variables):
        """A command to its end, with other settings where they are given."""
        return subprocess.run(
            [sys.executable, "-m", "tracker", *arguments],
            env=self.environment | variables,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def parts(self, name):
        return [process for process in psutil.Process(self.process.pid).children(recursive=True) if name in command_line(process)]


def command_line(process):
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
