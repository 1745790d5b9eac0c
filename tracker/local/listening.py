"""Listening sockets that `turnout up` keeps open, so that the restart of a part refuses no connection."""

import errno
import os
import socket

from tracker.errors import BadConfiguration
from tracker.local.http_probe import Endpoint

BACKLOG = 2048  # clicks of some seconds wait here while the redirector restarts
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def listen(host: str, port: int, setting: str) -> socket.socket:
    """A listening, inheritable, non-blocking socket. `setting` names the variable that chose `port`.

    Raises BadConfiguration, naming the port and the setting to change.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except socket.gaierror as exc:
        raise BadConfiguration(f"TURNOUT_HOST {host} is not an address of this machine ({exc.strerror})") from exc
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as exc:
        listener.close()
        raise BadConfiguration(_explanation(exc, host, port, setting)) from exc
    listener.setblocking(False)
    listener.set_inheritable(True)
    return listener


def endpoint_of(listener: socket.socket) -> Endpoint:
    """Where this machine reaches `listener`."""
    host, port = listener.getsockname()[:2]
    return Endpoint(host=WILDCARDS.get(host, host), port=port)


def _explanation(error: OSError, host: str, port: int, setting: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is already in use by another program; stop it or set {setting} to a free port"
    if error.errno == errno.EACCES:
        return f"port {port} on {host} is not allowed to this user; set {setting} to a port above 1023"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"TURNOUT_HOST {host} is not an address of this machine"
    return f"cannot listen on {host} port {port} ({os.strerror(error.errno or 0)}); see TURNOUT_HOST and {setting}"
