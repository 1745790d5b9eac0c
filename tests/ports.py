"""Ports for servers that tests start: below those that the kernel gives to outgoing connections, and apart for each test process."""

import os
import socket
from itertools import count

FIRST, EACH = 12_000, 2_000  # the ephemeral range of Linux begins at 32768
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_numbers = count(os.getpid() * 7 % EACH)


def free_port():
    """A port of 127.0.0.1 that nobody uses, and that no other test of this run is given."""
    for number in _numbers:
        port = FIRST + _WORKER % 10 * EACH + number % EACH
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("unreachable")
