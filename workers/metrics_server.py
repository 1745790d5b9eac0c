"""`/metrics`, `/readyz` and `/healthz` of a worker process: a few lines of HTTP, so that no worker needs a web framework."""

import asyncio
import contextlib
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from tracker.errors import BadConfiguration
from tracker.settings import Network

READ_TIMEOUT_S = 5.0
HEAD_MAX_BYTES = 16 * 1024


class MetricsServer:
    """Serves one process's metrics, on a unix socket where one is named, else on a TCP port."""

    def __init__(self, registry: CollectorRegistry, allow: tuple[Network, ...]) -> None:
        self._registry, self._allow = registry, allow
        self._server: asyncio.Server | None = None
        self.is_ready: Callable[[], bool] = lambda: False

    async def start(self, socket: str, host: str, port: int) -> None:
        """Listen on the unix socket `socket`, or on `host:port` when it is empty. BadConfiguration when that is taken."""
        if socket:
            Path(socket).unlink(missing_ok=True)  # left by a predecessor that was killed
            self._server = await asyncio.start_unix_server(self._serve, socket, limit=HEAD_MAX_BYTES)
        else:
            try:
                self._server = await asyncio.start_server(self._serve, host, port, limit=HEAD_MAX_BYTES)
            except OSError as exc:
                message = f"worker metrics: cannot listen on {host}:{port} ({exc.strerror}); set TURNOUT_WORKER_METRICS_PORT"
                raise BadConfiguration(message) from exc

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                status, kind, body = self._answer(head.split(b" ", 2)[1:2], writer.get_extra_info("peername"))
                lines = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
                writer.write(lines.encode() + body)
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a client that is slow, gone or no HTTP client
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _answer(self, target: list[bytes], peer: object) -> tuple[str, str, bytes]:
        path = target[0].partition(b"?")[0] if target else b""
        if path in (b"/healthz", b"/-/healthz"):
            return "200 OK", "text/plain", b"ok\n"
        if path in (b"/readyz", b"/-/readyz"):
            return ("200 OK", "text/plain", b"ready\n") if self.is_ready() else ("503 Service Unavailable", "text/plain", b"not ready\n")
        if path in (b"/metrics", b"/-/metrics") and self._may_read(peer):
            return "200 OK", CONTENT_TYPE_LATEST, generate_latest(self._registry)
        return "404 Not Found", "text/plain", b"not found\n"

    def _may_read(self, peer: object) -> bool:
        if not isinstance(peer, tuple):
            return True  # a unix socket: whoever can open it is of this machine
        address = ip_address(peer[0].partition("%")[0])
        return any(address in network for network in self._allow if network.version == address.version)
