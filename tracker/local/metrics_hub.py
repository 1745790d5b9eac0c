"""One Prometheus endpoint for all workers of one `turnout up`: each family once, with a label `worker`."""

import asyncio
import logging
import socket
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import Any

from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

from tracker.local.http_probe import Endpoint, fetch

log = logging.getLogger(__name__)

SCRAPE_TIMEOUT_S = 2.0
REQUEST_TIMEOUT_S = 5.0
REQUEST_MAX_LINES = 100
UP_NAME, UP_HELP = "turnout_worker_up", "1 if the worker answered this scrape, else 0."


def merge(texts: Mapping[str, str]) -> bytes:
    """Prometheus text of all workers in one: `texts` by worker name, each in Prometheus text format.

    A family keeps the help and type of the first worker that has it. A sample that has a label `worker` already keeps
    that value as `exported_worker`, as Prometheus does. ValueError when a text is not in the format.
    """
    families: dict[str, Metric] = {}
    for worker, text in texts.items():
        _add(families, worker, text)
    return _render(families.values())


def _add(families: dict[str, Metric], worker: str, text: str) -> None:
    for family in list(text_string_to_metric_families(text)):
        merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
        for sample in family.samples:
            own = {("exported_worker" if key == "worker" else key): value for key, value in sample.labels.items()}
            merged.samples.append(sample._replace(labels={**own, "worker": worker}))


class _Families(CollectorRegistry):
    """What `generate_latest` wants to read from."""

    def __init__(self, families: Iterable[Metric]) -> None:
        super().__init__()
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _render(families: Iterable[Metric]) -> bytes:
    return bytes(generate_latest(_Families(families)))


class MetricsHub:
    """HTTP endpoint that scrapes each worker's socket when it is scraped itself.

    Args:
        workers: the metrics socket of each worker, by name.
        allowed: networks of peers that may read; all others get 404, as if nothing were here.
    """

    def __init__(self, workers: Mapping[str, Path], allowed: Iterable[IPv4Network | IPv6Network]) -> None:
        self._workers, self._allowed = dict(workers), tuple(allowed)
        self._server: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> None:
        """Serve on `listener`, which the server closes in `stop`."""
        self._server = await asyncio.start_server(self._answer, sock=listener)

    async def stop(self) -> None:
        """Close the listening socket. Harmless when not started."""
        if self._server:
            self._server.close()
            self._server = None

    async def scrape(self) -> bytes:
        """The merged metrics. A worker that does not answer in 2 s only shows as `turnout_worker_up` 0."""
        texts = await asyncio.gather(*(self._scrape_one(name, path) for name, path in self._workers.items()))
        families: dict[str, Metric] = {}
        state = families[UP_NAME] = Metric(UP_NAME, UP_HELP, "gauge")
        for name, text in zip(self._workers, texts, strict=True):
            if text is not None:
                _add(families, name, text)
            state.add_sample(UP_NAME, {"worker": name}, 0 if text is None else 1)
        return _render(families.values())

    async def _scrape_one(self, name: str, path: Path) -> str | None:
        try:
            status, body = await fetch(Endpoint(socket_path=path), "/metrics", SCRAPE_TIMEOUT_S)
            text = body.decode()
            list(text_string_to_metric_families(text))  # a broken text must not spoil the others'
        except (OSError, TimeoutError, ValueError) as exc:
            log.warning("metrics_hub.worker_missing", extra={"worker": name, "error": str(exc) or type(exc).__name__})
            return None
        return text if status == 200 else None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                method, path = await _request(reader)
            is_known = method in ("GET", "HEAD") and path.split("?", 1)[0] == "/metrics"
            if is_known and self._may_read(writer.get_extra_info("peername")):
                writer.write(_response("200 OK", CONTENT_TYPE_LATEST, await self.scrape(), has_body=method == "GET"))
            else:
                writer.write(_response("404 Not Found", "text/plain; charset=utf-8", b"not found\n"))
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                await writer.drain()
        except (OSError, TimeoutError, ValueError):
            log.debug("metrics_hub.request_dropped")
        finally:
            writer.close()

    def _may_read(self, peer: Any) -> bool:
        address = ip_address(str(peer[0]).split("%", 1)[0])
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self._allowed)


async def _request(reader: asyncio.StreamReader) -> tuple[str, str]:
    """Method and path; the headers are read and dropped. ValueError when it is not HTTP."""
    words = (await reader.readline()).decode("latin-1").split()
    for _ in range(REQUEST_MAX_LINES):
        if (await reader.readline()).strip() == b"":
            break
    if len(words) != 3:
        raise ValueError("not an HTTP request")
    return words[0], words[1]


def _response(status: str, content_type: str, body: bytes, *, has_body: bool = True) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + (body if has_body else b"")
