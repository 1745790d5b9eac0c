"""Cleans up behind a run, also behind one that was killed: standard library only; run by path, in a session of its own.

python -SE janitor.py MARKER    with one JSON line an item on stdin: {"mount": PATH} or {"directory": PATH}

When stdin ends (the run closed it, or died) every process of the run is killed, file systems are thawed and unmounted, directories
removed. A process is of the run when its environment holds CHAOS_RUN=MARKER, or when it works below one of the directories: those of
PostgreSQL overwrite their environment with their title.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 50
PAUSE_S = 0.1


def is_of_the_run(process: Path, marker: bytes, directories: list[str]) -> bool:
    """Whether the process in `/proc/N` was started, directly or not, by the run."""
    with contextlib.suppress(OSError):
        if marker in (process / "environ").read_bytes().split(b"\0"):
            return True
    with contextlib.suppress(OSError):
        where = str((process / "cwd").readlink())
        return any(where == folder or where.startswith(folder + "/") for folder in directories)
    return False


def remaining(marker: bytes, directories: list[str]) -> list[int]:
    """Pids of the run's processes but our own; zombies are not counted."""
    ours = {os.getpid(), os.getppid()}
    found = [entry for entry in Path("/proc").glob("[0-9]*") if int(entry.name) not in ours]
    return [int(entry.name) for entry in found if is_of_the_run(entry, marker, directories)]


def end_all(marker: bytes, directories: list[str]) -> None:
    """Kill until nobody is left, stopped ones too."""
    for _ in range(ROUNDS):
        pids = remaining(marker, directories)
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(PAUSE_S)


def main() -> None:
    """Remember until the run ends, then clean up."""
    marker = f"CHAOS_RUN={sys.argv[1]}".encode()
    mounts, directories = list[str](), list[str]()
    for line in sys.stdin:
        item = json.loads(line)
        mounts += [item["mount"]] if "mount" in item else []
        directories += [item["directory"]] if "directory" in item else []
    for mount in mounts:
        subprocess.run(["fsfreeze", "-u", mount], capture_output=True, check=False, timeout=20)
    end_all(marker, directories)
    for mount in reversed(mounts):
        subprocess.run(["umount", "-l", mount], capture_output=True, check=False, timeout=20)
    for folder in directories:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    main()
