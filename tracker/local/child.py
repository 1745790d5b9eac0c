"""Exec shim that ties a child process to its parent: `python -m tracker.local.child [options] -- ARGV...`.

It gives up root where asked, asks the kernel for a signal at the parent's death, then becomes ARGV. Doing this in
the child itself keeps `preexec_fn`, which may deadlock in a process with threads, out of the parent.
"""

import argparse
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence

PARENT_VARIABLE = "TURNOUT_INTERNAL_PARENT"
PR_SET_PDEATHSIG = 1  # linux/prctl.h
EXIT_ORPHANED = 1
EXIT_CANNOT_EXECUTE = 126  # as shells have it
EXIT_NOT_FOUND = 127


def command(
    argv: Sequence[str],
    *,
    uid: int | None = None,
    gid: int | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
) -> list[str]:
    """Command line that runs `argv` through the shim. Start it with `environment()`.

    The kernel sends `death_signal` when the *thread* that started the child ends: start children from a thread that
    lives as long as they should.
    """
    identity = [] if uid is None else ["--uid", str(uid), "--gid", str(uid if gid is None else gid)]
    return [sys.executable, "-m", "tracker.local.child", *identity, "--signal", str(int(death_signal)), "--", *argv]


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """`base` with the pid of this process as the parent to die with."""
    return {**base, PARENT_VARIABLE: str(os.getpid())}


def die_with_parent(expected_ppid: int | None = None, death_signal: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send `death_signal` to this process when its parent dies.

    Args:
        expected_ppid: pid of the parent to die with. None: the one in TURNOUT_INTERNAL_PARENT; does nothing without it.
        death_signal: what the kernel sends.

    Raises:
        SystemExit: the expected parent is dead already.
    """
    if expected_ppid is None:
        stated = os.environ.get(PARENT_VARIABLE, "")
        if not stated.isdigit():
            return
        expected_ppid = int(stated)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != expected_ppid:  # it died before prctl took effect: no signal will come
        raise SystemExit(EXIT_ORPHANED)


def _drop_privileges(uid: int, gid: int) -> None:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    os.chdir("/")  # the parent's working directory may be closed to this user, which initdb and others complain of


def main(arguments: Sequence[str] | None = None) -> int:
    """Become ARGV; return an exit code, after one line on stderr, only when that fails."""
    parser = argparse.ArgumentParser(prog="python -m tracker.local.child")
    parser.add_argument("--uid", type=int)
    parser.add_argument("--gid", type=int)
    parser.add_argument("--signal", type=int, default=int(signal.SIGKILL))
    parser.add_argument("argv", nargs="+")
    options = parser.parse_args(arguments)
    try:
        if options.uid is not None:
            _drop_privileges(options.uid, options.uid if options.gid is None else options.gid)
        die_with_parent(None, signal.Signals(options.signal))  # after setuid, which clears the setting
        os.execv(options.argv[0], options.argv)  # noqa: S606 - becoming another program is the purpose
    except OSError as exc:
        print(f"cannot run {options.argv[0]}: {exc.strerror or exc}", file=sys.stderr)  # noqa: T201 - no logging yet
        return EXIT_NOT_FOUND if isinstance(exc, FileNotFoundError) else EXIT_CANNOT_EXECUTE


if __name__ == "__main__":
    sys.exit(main())
