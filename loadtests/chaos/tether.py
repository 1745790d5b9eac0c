"""Exec shim: give up root, ask the kernel for SIGKILL when the parent dies, become ARGV. Standard library only; run by path.

python -SE tether.py PARENT_PID UID GID ARGV…    (UID - : stay who we are)
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Become ARGV, or end with 126 or, orphaned, with 1."""
    parent, uid, gid, *argv = sys.argv[1:]
    if uid != "-":
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
        os.chdir("/")
    if ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(126)
    if os.getppid() != int(parent):  # it died before prctl took effect
        sys.exit(1)
    os.execv(argv[0], argv)


if __name__ == "__main__":
    main()
