"""The least HTTP/1.1 that a visitor and a shop need; nothing is retried, and nothing is hidden."""

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass

LINGER_0 = struct.pack("ii", 1, 0)
HEAD_MAX_BYTES = 65536


class Cut(Exception):
    """The connection ended before a whole answer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Status, headers with lower-case names, body."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """A keep-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, host: str, port: int) -> "Connection":
        """OSError when nobody listens."""
        return cls(*await asyncio.open_connection(host, port, limit=HEAD_MAX_BYTES))

    @property
    def is_open(self) -> bool:
        """False when the other end is seen to have closed."""
        return not (self._reader.at_eof() or self._writer.is_closing())

    def send(self, request: bytes) -> None:
        """Put a request on its way."""
        self._writer.write(request)

    async def receive(self, *, has_body: bool = True) -> Reply:
        """The next answer. Raises Cut."""
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
            length = int(headers.get("content-length", "0")) if has_body else 0
            body = await self._reader.readexactly(length) if length else b""
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as exc:
            raise Cut(str(exc)) from exc
        return Reply(int(first.split(" ")[1]), headers, body)

    def close(self) -> None:
        """An ordinary end."""
        self._writer.close()

    def reset(self) -> None:
        """RST: what a phone in a tunnel does."""
        with contextlib.suppress(OSError):
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
        self._writer.transport.abort()


async def ask(port: int, request: bytes, *, timeout_s: float) -> Reply:
    """One request on a connection of its own. Raises OSError, TimeoutError or Cut."""
    async with asyncio.timeout(timeout_s):
        connection = await Connection.open("127.0.0.1", port)
        try:
            connection.send(request)
            return await connection.receive(has_body=not request.startswith(b"HEAD"))
        finally:
            connection.close()


def request(method: str, target: str, *, body: bytes = b"", keep: bool = False, **headers: str) -> bytes:
    """The bytes of a request; header names are given with underscores."""
    given = {"Host": "127.0.0.1", "Connection": "keep-alive" if keep else "close"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    if body:
        given["Content-Length"] = str(len(body))
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode() + body
