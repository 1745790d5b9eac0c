"""The redirector: an ASGI application without a framework, and its composition root.

Never a 5xx for anything a client can send. No request waits for Redis or PostgreSQL.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from redirector.handler import Answer, Handler
from redirector.limits import FloodLimiter
from redirector.lookup import LOOKED_UP, Lookups
from redirector.metrics import RedirectMetrics
from redirector.metrics_pages import MetricsPages, pages_of
from redirector.request import Request
from tracker.adapters import http_server
from tracker.adapters.countries import CountryLookup
from tracker.adapters.journal.recording import Recording
from tracker.domain import addresses
from tracker.domain.posted import BODY_MAX_BYTES
from tracker.errors import RejectedInput
from tracker.journals import click_journal, conversion_journal
from tracker.old_hosts import ANSWER_HEADERS, SEEN_PATH, UNAVAILABLE, is_kept
from tracker.platforms.replies import GIF
from tracker.request_body import read_body
from tracker.route_table import route_table
from tracker.settings import Settings

if TYPE_CHECKING:
    from tracker.adapters.outbound import Outbound

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

DRAIN_S = 10.0
WATCH_EVERY_S = 1.0
_OWN = b"/-/"
HEAD_MAX_BYTES = 64 * 1024


class RedirectorApp:
    """`/c/{slug}`, old URLs and the reports that come to old hosts, and `/-/` for those who run it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._table = route_table(settings)
        self._recording = Recording(click_journal(settings))
        self._reports = Recording(conversion_journal(settings))
        countries = CountryLookup(settings.geoip_db)
        limiter = FloodLimiter(settings.flood_limit)
        self._handler = Handler(self._table, countries, limiter, ip_mode=settings.ip_mode, trusted=settings.trusted_proxies)
        self._lookups = Lookups(self._outbound, self._handler.leads_back)
        pages = MetricsPages(pages_of(settings.directory.root))
        self._metrics = RedirectMetrics(self._table, self._recording, self._reports, self._lookups.outcomes, pages)
        self._is_fresh = False
        self._watcher: asyncio.Task[None] | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await send({"type": "websocket.close"})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await self._recording.start()
        await self._reports.start()
        self._table.refresh()
        self._metrics.tick()
        self._watcher = asyncio.create_task(self._watch(), name="watcher")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._watcher.cancel()
        await self._lookups.close()
        await asyncio.gather(self._recording.stop(DRAIN_S), self._reports.stop(DRAIN_S))
        self._metrics.close()
        self._table.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            self._table.refresh()
            self._metrics.tick()
            failure = self._recording.failed() or self._reports.failed()
            if failure is not None:  # a bug in the shipper must not turn into a slowly filling disk
                log.critical("redirector.recording_failed", exc_info=failure)
                http_server.leave_with(1)

    async def _http(self, scope: Message, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        client = scope.get("client")
        query = scope["query_string"]
        raw_path = scope.get("raw_path") or scope["path"].encode()
        request = Request(scope["method"].encode(), raw_path + b"?" + query if query else raw_path, client[0] if client else None)
        request.scheme = scope["scheme"]
        headers = scope["headers"]
        if len(request.target) + sum(len(name) + len(value) for name, value in headers) > HEAD_MAX_BYTES:
            await _plain(send, 431, b"request header fields too large\n")
            return
        request.read_headers(headers)
        if raw_path.startswith(_OWN):  # as sent: what a proxy's rule for /-/ does not see is none
            await self._own(raw_path, request, send)
            return
        if request.method == b"POST" and not await self._has_body(request, receive, send):
            return
        answer = self._answer(request)
        if answer.told is not None:
            await self._report(answer, send, is_head=request.method == b"HEAD")
            return
        if answer.question is not None:
            await self._look_up(answer)
        if answer.record is not None:
            await self._recording.record(answer.record)
        await _send(send, answer, is_head=request.method == b"HEAD")
        self._metrics.observe(answer.outcome, answer.resolved, time.perf_counter() - started)

    async def _has_body(self, request: Request, receive: Receive, send: Send) -> bool:
        """Read the body of a POST to an old host; nobody else's is read. False: it was refused, and that is answered."""
        if self._is_old_host(request):
            try:
                request.body = await read_body(receive, request.headers, max_bytes=BODY_MAX_BYTES)
            except RejectedInput as exc:
                if self._handler.is_click(request):
                    return True  # as a click it needs no body
                self._metrics.refused[exc.code] += 1
                await _plain(send, exc.status, f"{exc}\n".encode())
                return False
        return True

    async def _report(self, answer: Answer, send: Send, *, is_head: bool) -> None:
        """Answer a report of an old host as soon as it is safe."""
        told = answer.told
        if told is not None and told.report is not None and not answer.refusal:
            if await is_kept(self._reports, told.report):
                self._metrics.reports[told.platform, told.kind] += 1
            else:
                if told.must_be_kept:
                    answer.status, answer.content_type, answer.body = UNAVAILABLE.status, UNAVAILABLE.content_type, UNAVAILABLE.body
                answer.refusal = "unavailable"
        if answer.refusal:
            self._metrics.refused[answer.refusal] += 1
        await _send(send, answer, is_head=is_head)

    async def _look_up(self, answer: Answer) -> None:
        """Send a visitor whose link nobody knows where the old platform says."""
        location = await self._lookups.find(answer.question) if answer.question is not None else b""
        if location and answer.record is not None:
            answer.status, answer.location, answer.body = 302, location, b""
            answer.record.destination = location
            answer.record.extra = {**answer.record.extra, LOOKED_UP: b"1"}

    def _outbound(self) -> "Outbound":
        """The way to old platforms; most redirectors never need one."""
        from tracker.adapters.outbound import Outbound

        return Outbound(self._settings.outbound_allow)

    def _is_old_host(self, request: Request) -> bool:
        self._refresh()
        return self._handler.is_old_host(request.host)

    def _refresh(self) -> None:
        if not self._is_fresh:
            self._is_fresh = True
            self._table.refresh()
            asyncio.get_running_loop().call_soon(self._is_stale)

    def _answer(self, request: Request) -> Answer:
        self._refresh()
        answer = self._handler.handle(request)
        if answer.is_flooded:
            self._recording.line.flooded += 1
            self._recording.line.save()
        return answer

    def _is_stale(self) -> None:
        self._is_fresh = False

    async def _own(self, path: bytes, request: Request, send: Send) -> None:
        if path == b"/-/healthz":
            await _plain(send, 200, b"ok\n")
        elif path == b"/-/readyz":
            await _plain(send, *self._readiness())
        elif path == b"/-/metrics" and self._may_read_metrics(request):
            await _plain(send, 200, self._metrics.exposition(), b"text/plain; version=0.0.4; charset=utf-8")
        elif path == SEEN_PATH and self._is_old_host(request):
            await self._seen(request, send)
        else:
            await _plain(send, 404, b"not found\n")

    async def _seen(self, request: Request, send: Send) -> None:
        """At an old host: the old platform's id of the click that brought a visitor, as a shop's page knows it. Always a GIF."""
        report = self._handler.seen(request)
        if report is not None:
            if await is_kept(self._reports, report):
                self._metrics.reports[report.platform, report.kind] += 1
            else:
                self._metrics.refused["unavailable"] += 1
        await _plain(send, 200, b"" if request.method == b"HEAD" else GIF, b"image/gif")

    def _readiness(self) -> tuple[int, bytes]:
        return (200, b"ready\n") if self._table.is_open else (503, b"no route table yet: is the route publisher running?\n")

    def _may_read_metrics(self, request: Request) -> bool:
        client = addresses.client_address(request.peer, request.forwarded_for, self._settings.trusted_proxies)
        return bool(client) and any(ip_address(client) in network for network in self._settings.metrics_allow)


async def _send(send: Send, answer: Answer, *, is_head: bool) -> None:
    headers = [(b"cache-control", b"no-store"), (b"referrer-policy", b"no-referrer-when-downgrade")]
    if answer.click_id:
        headers.append((b"x-click-id", answer.click_id))
    if answer.told is not None:
        headers += ANSWER_HEADERS
    if answer.cookie:
        headers.append((b"set-cookie", answer.cookie.encode("latin-1")))
    if answer.status == 405:
        await _plain(send, 405, b"method not allowed\n", extra=[(b"allow", b"GET, HEAD, POST")])
        return
    if answer.location:
        headers += [(b"location", answer.location), (b"content-length", b"0")]
    else:
        headers += [(b"content-type", answer.content_type.encode("ascii")), (b"content-length", b"%d" % len(answer.body))]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if is_head else answer.body})


async def _plain(
    send: Send, status: int, body: bytes, content_type: bytes = b"text/plain; charset=utf-8", extra: list[tuple[bytes, bytes]] | None = None
) -> None:
    headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body)), (b"cache-control", b"no-store"), *(extra or [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def serve(settings: Settings, fd: int | None = None) -> int:
    """Run the redirector until SIGTERM; `fd` is an inherited listening socket. Starts with PostgreSQL, Redis and disk space all missing."""
    return http_server.serve(RedirectorApp(settings), host=settings.host, port=settings.redirector_port, fd=fd, name="redirector")
