"""The smallest HTTP client that can ask a part of ours how it is: one GET, by TCP or unix socket."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

PROBE_TIMEOUT_S = 2.0
ANSWER_MAX_BYTES = 16 * 1024**2


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a part listens: `socket_path`, else `host` and `port`."""

    host: str = ""
    port: int = 0
    socket_path: Path | None = None


async def fetch(endpoint: Endpoint, path: str, timeout_s: float = PROBE_TIMEOUT_S) -> tuple[int, bytes]:
    """GET `path`: status and body. OSError or TimeoutError: no answer in time; ValueError: the answer is not HTTP."""
    async with asyncio.timeout(timeout_s):
        reader, writer = await _connect(endpoint)
        try:
            writer.write(f"GET {path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
            answer = await _read_to_end(reader)
        finally:
            writer.close()
    head, separator, body = answer.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if not separator or not words[0].startswith(b"HTTP/"):
        raise ValueError("the answer is not HTTP")
    return int(words[1]), _unchunked(head, body)


def readiness(endpoint: Endpoint, path: str) -> Callable[[], Awaitable[bool]]:
    """A probe for `Part.ready`: yes when `path` answers 200."""

    async def is_ready() -> bool:
        try:
            status, _ = await fetch(endpoint, path)
        except (OSError, TimeoutError, ValueError):
            return False
        return status == 200

    return is_ready


async def _connect(endpoint: Endpoint) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if endpoint.socket_path is not None:
        return await asyncio.open_unix_connection(str(endpoint.socket_path))
    return await asyncio.open_connection(endpoint.host, endpoint.port)


async def _read_to_end(reader: asyncio.StreamReader) -> bytes:
    pieces, size = [], 0
    while piece := await reader.read(65536):
        pieces.append(piece)
        size += len(piece)
        if size > ANSWER_MAX_BYTES:
            raise ValueError(f"the answer is longer than {ANSWER_MAX_BYTES} bytes")
    return b"".join(pieces)


def _unchunked(head: bytes, body: bytes) -> bytes:
    """Undo chunked encoding, which some servers send even to HTTP/1.0."""
    if b"transfer-encoding: chunked" not in head.lower():
        return body
    pieces = []
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size.split(b";")[0], 16)
        if length == 0:
            break
        pieces.append(rest[:length])
        body = rest[length + 2 :]
    return b"".join(pieces)
