"""Processes of Turnout without the second of imports that each costs: forks of one that has everything imported and done nothing.

`launch` and `run` take the words after `python` and behave as `subprocess.Popen` and `subprocess.run` do. A fork is a process like
any other, to be killed, frozen and asked; only its command line is its parent's. Tests about the start itself, or about what is
imported, start Python.
"""

import atexit
import contextlib
import fcntl
import functools
import gc
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from importlib import import_module, reload
from pathlib import Path

from tracker.local import child

ROOT = Path(__file__).parents[1]
LARGEST_BYTES = 128 * 1024
FIRST_FREE_FD = 300  # where inherited descriptors wait until those that they become are free
# Read when a module is imported, or by Python itself: with others of these a process must be started.
FIXED = ("PYTHON", "TURNOUT_INTERNAL_SHARED_MEMORY")
ENDS_AFTER_S = 10


# -- the process that forks


def _import_everything():
    for package in ("tracker", "redirector", "workers"):
        found = import_module(package)
        for module in pkgutil.walk_packages(found.__path__, f"{package}."):
            if not module.name.endswith("__main__"):
                import_module(module.name)


def _serve(control):
    _import_everything()
    gc.collect()
    gc.freeze()
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, LARGEST_BYTES, 20)
        if not message:
            os._exit(0)
        asked = json.loads(message)
        if "reap" in asked:
            control.send(str(os.waitstatus_to_exitcode(os.waitpid(asked["reap"], 0)[1])).encode())
            continue
        pid = os.fork()
        if pid == 0:
            return asked, descriptors
        for descriptor in descriptors:
            os.close(descriptor)
        control.send(str(pid).encode())


def _become(asked, descriptors, control):
    """In the fork: what a fresh Python would be. It ends with the tests, however those end."""
    child.die_with_parent(os.getppid())
    control.close()
    waiting = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE_FD) for descriptor in descriptors]
    for descriptor in descriptors:
        os.close(descriptor)
    for descriptor, target in zip(waiting, asked["targets"], strict=True):
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(asked["env"])
    time.tzset()
    os.chdir(asked["cwd"])
    reload(sys.modules["tracker.crash"])  # it reads the environment when it is imported
    kind, what, *rest = asked["words"]
    sys.argv = [kind, *rest]
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(what, "<string>", "exec"), main.__dict__)


def _main(descriptor):
    control = socket.socket(fileno=descriptor)
    _become(*_serve(control), control)


# -- the tests' side


class _Parent:
    """The process that forks; it ends with the tests."""

    def __init__(self):
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        code = f"from tests import launcher; launcher._main({theirs.fileno()})"
        with theirs:
            environment = os.environ | {"PYTHONPATH": str(ROOT)}
            self._process = subprocess.Popen([sys.executable, "-c", code], env=environment, pass_fds=[theirs.fileno()], cwd=ROOT)
        atexit.register(self._end)

    def ask(self, request, descriptors=()):
        with self._lock:
            socket.send_fds(self._control, [json.dumps(request).encode()], descriptors)
            answer = self._control.recv(100)
        assert answer, "the process that forks has ended"
        return int(answer)

    def _end(self):
        self._control.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(ENDS_AFTER_S)


_parent = functools.cache(_Parent)


class Launched(subprocess.Popen):
    """A fork, with the methods of `subprocess.Popen`."""

    def __init__(self, words, *, env, cwd, stdin, stdout, stderr, pass_fds, text):
        self._words = words
        super().__init__(
            ["python", *words], executable=None, env=env, cwd=cwd, stdin=stdin, stdout=stdout, stderr=stderr, pass_fds=pass_fds, text=text
        )

    def _execute_child(self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo, creationflags, shell,
                       p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, *_):  # fmt: skip
        """Instead of fork and exec."""
        given = [theirs if theirs != -1 else ours for theirs, ours in ((p2cread, 0), (c2pwrite, 1), (errwrite, 2))]
        asked = {"words": self._words, "env": dict(env), "cwd": str(cwd or Path.cwd()), "targets": [0, 1, 2, *pass_fds]}
        self.pid = _parent().ask(asked, [*given, *pass_fds])
        self._child_created = True
        self._fd = os.pidfd_open(self.pid)
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)

    def _internal_poll(self, _deadstate=None, **_):
        self._wait_for(0)
        return self.returncode

    def _wait(self, timeout):
        if self.returncode is None and not self._wait_for(timeout):
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def _wait_for(self, timeout):
        """Whether it has ended within that time; None is for ever."""
        with self._waitpid_lock:
            if self.returncode is None:
                ended = select.poll()
                ended.register(self._fd, select.POLLIN)
                if not ended.poll(None if timeout is None else max(timeout, 0) * 1000):
                    return False
                self.returncode = _parent().ask({"reap": self.pid})
                os.close(self._fd)
        return True


def launch(words, *, env, cwd=None, stdin=None, stdout=None, stderr=None, pass_fds=(), text=None):
    """A running `python *words`."""
    ours = os.environ
    same = all((env.get(name) or "") == (ours.get(name) or "") for name in {*env, *ours} - {"PYTHONPATH"} if name.startswith(FIXED))
    if same and env.get("PYTHONPATH", "") in ("", ".", str(ROOT)):
        return Launched(words, env=env, cwd=cwd, stdin=stdin, stdout=stdout, stderr=stderr, pass_fds=pass_fds, text=text)
    command = [sys.executable, *words]
    return subprocess.Popen(command, env=env, cwd=cwd, stdin=stdin, stdout=stdout, stderr=stderr, pass_fds=pass_fds, text=text)


def run(words, *, env, input=None, timeout=None, cwd=None, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True):  # noqa: A002
    """The ended `python *words`, with what it said."""
    stdin = None if input is None else subprocess.PIPE
    with launch(words, env=env, cwd=cwd, stdin=stdin, stdout=stdout, stderr=stderr, text=text) as process:
        try:
            out, err = process.communicate(input, timeout=timeout)
        except BaseException:
            process.send_signal(signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)
