"""Freezes a file system for a while and always thaws it: standard library only; run by path, in a session of its own.

python -SE freezer.py MOUNT SECONDS

Two processes: the watchdog is there before the freeze, touches no file, and thaws after at most 5 s whatever happens to the other one.
Prints `frozen` once it is. It is not tied to its parent: a killed run must not leave a frozen disk.
"""

import os
import subprocess
import sys
import time

LONGEST_S = 5.0


def main() -> int:
    """Freeze, wait for the watchdog's thaw."""
    mount, seconds = sys.argv[1], min(float(sys.argv[2]), LONGEST_S)
    watchdog = os.fork()
    if watchdog == 0:
        time.sleep(seconds)
        subprocess.run(["fsfreeze", "-u", mount], capture_output=True, check=False)
        os._exit(0)
    frozen = subprocess.run(["fsfreeze", "-f", mount], capture_output=True, check=False).returncode == 0
    sys.stdout.write("frozen\n" if frozen else "refused\n")
    sys.stdout.flush()
    os.waitpid(watchdog, 0)
    return 0 if frozen else 1


if __name__ == "__main__":
    sys.exit(main())
