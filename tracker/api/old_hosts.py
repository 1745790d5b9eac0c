"""Reports of old platforms at the tracker's own port: where the Host header names an old host, the shapes of its platform come first."""

import os
import time
from collections.abc import Sequence

from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tracker import old_hosts
from tracker.adapters.lmdb_routes import RouteTable
from tracker.api.intake import Intake
from tracker.api.metrics import Metrics
from tracker.api.parameters import BODY_MAX_BYTES as OUR_BODY_MAX
from tracker.domain import addresses
from tracker.domain.posted import BODY_MAX_BYTES
from tracker.domain.resolve import registered_host, resolve
from tracker.domain.routes import HostRoute
from tracker.errors import RejectedInput
from tracker.old_hosts import Asked, Told
from tracker.platforms.compiled import Source
from tracker.platforms.replies import Answer
from tracker.request_body import read_body, too_large
from tracker.settings import Settings

OURS = ("/api/", "/webhooks/")  # what our own API has below these stays ours, whatever the host is called
HOST_MAX, AGENT_MAX, HOPS_MAX = 300, 512, 8  # as the redirector has them


class OldHosts:
    """ASGI middleware, before authentication. What is no report of the host's platform goes on as it came; clicks are not served."""

    def __init__(
        self, app: ASGIApp, *, table: RouteTable, intake: Intake, metrics: Metrics, settings: Settings, routes: Sequence[BaseRoute]
    ) -> None:
        self._app, self._table, self._intake, self._metrics, self._routes = app, table, intake, metrics, routes
        self._ip_mode, self._trusted = settings.ip_mode, settings.trusted_proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a report, or pass the request on."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD", "POST") or self._is_ours(scope):
            await self._app(scope, receive, send)
            return
        self._table.refresh()
        route = registered_host(self._table, _header(scope, b"host"))
        source = self._table.source_of(route) if route is not None else None
        if route is None or source is None:
            await self._app(scope, receive, send)
            return
        body, longest = b"", OUR_BODY_MAX if self._has_path(scope) else BODY_MAX_BYTES
        if scope["method"] == "POST":
            try:
                body = await read_body(receive, scope["headers"], max_bytes=longest)
            except RejectedInput as exc:
                await self._refuse(exc, send)
                return
            receive = _again(body, receive)
        told = self._told(scope, route, source, body if len(body) <= BODY_MAX_BYTES else b"")
        if told is None:
            await self._app(scope, receive, send)
        elif len(body) > BODY_MAX_BYTES:
            await self._refuse(too_large(BODY_MAX_BYTES), send)
        else:
            await _send(send, await self._answer(told), told, is_head=scope["method"] == "HEAD")

    async def _refuse(self, why: RejectedInput, send: Send) -> None:
        self._metrics.old_refusals.labels(why.code).inc()
        await _send(send, Answer(why.status, "text/plain; charset=utf-8", f"{why}\n".encode()), None, is_head=False)

    def _is_ours(self, scope: Scope) -> bool:
        return scope["path"].startswith(OURS) and self._has_path(scope)

    def _has_path(self, scope: Scope) -> bool:
        return any(route.matches(scope)[0] is not Match.NONE for route in self._routes)

    def _told(self, scope: Scope, route: HostRoute, source: Source, body: bytes) -> Told | None:
        now_us = time.time_ns() // 1000
        raw_path, query = scope.get("raw_path") or scope["path"].encode(), scope["query_string"]
        host, target = _header(scope, b"host")[:HOST_MAX], raw_path + b"?" + query if query else raw_path
        found = resolve(self._table, host, target, now_us // 1000)
        reading = old_hosts.reading_of(found, host, target, _header(scope, b"content-type"), body)
        if reading is None:
            return None
        asked = self._asked(scope, host, target, body, now_us)
        return old_hosts.told(route, source, reading, asked, self._table.installation(), self._ip_mode, found.forward)

    def _asked(self, scope: Scope, host: bytes, target: bytes, body: bytes, now_us: int) -> Asked:
        peer = scope["client"][0] if scope.get("client") else None
        hops = [value for name, value in scope["headers"] if name == b"x-forwarded-for"][-HOPS_MAX:]
        proto = _header(scope, b"x-forwarded-proto").decode("latin-1")
        return Asked(
            os.urandom(16),
            now_us,
            scope["method"].encode("latin-1"),
            host,
            target,
            addresses.client_address(peer, hops, self._trusted),
            content_type=_header(scope, b"content-type"),
            body=body,
            user_agent=_header(scope, b"user-agent")[:AGENT_MAX],
            cookies=b"; ".join(value for name, value in scope["headers"] if name == b"cookie"),
            is_https=addresses.came_by_https(scope.get("scheme", "http"), peer, proto, self._trusted),
            is_ahead=any(name in old_hosts.PURPOSES and old_hosts.is_loaded_ahead(value) for name, value in scope["headers"]),
        )

    async def _answer(self, told: Told) -> Answer:
        if told.report is None:
            return told.answer
        if not await old_hosts.is_kept(self._intake.recording, told.report):
            self._metrics.old_refusals.labels("unavailable").inc()
            return old_hosts.UNAVAILABLE if told.must_be_kept else told.answer
        self._metrics.old_reports.labels(told.platform, told.kind).inc()
        return told.answer


def _header(scope: Scope, wanted: bytes) -> bytes:
    found: bytes = next((value for name, value in scope["headers"] if name == wanted), b"")
    return found


def _again(body: bytes, receive: Receive) -> Receive:
    """`receive`, for somebody who has not read the body yet."""
    unread = [body]

    async def first_the_body() -> Message:
        return {"type": "http.request", "body": unread.pop()} if unread else await receive()

    return first_the_body


async def _send(send: Send, answer: Answer, told: Told | None, *, is_head: bool) -> None:
    headers = [(b"cache-control", b"no-store"), *old_hosts.ANSWER_HEADERS]
    status, body = answer.status, answer.body
    if told is not None and told.location:
        status, body = told.status, b""
        headers += [(b"location", told.location), (b"referrer-policy", b"no-referrer-when-downgrade")]
    else:
        headers.append((b"content-type", answer.content_type.encode("ascii")))
    headers.append((b"content-length", b"%d" % len(body)))
    if told is not None and told.cookie:
        headers.append((b"set-cookie", told.cookie.encode("latin-1")))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if is_head else body})
