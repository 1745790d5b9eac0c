"""What stores send: postbacks, pixels, and the question what became of an order."""

import asyncio
import base64
import dataclasses
import hashlib
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import parse_qsl
from uuid import UUID

from fastapi import APIRouter, Request, Response

from tracker.adapters.postgres_conversions import RECEIVE_BUDGET_S, new_id
from tracker.adapters.postgres_conversions_read import Conversions
from tracker.api.answers import answer, problem, read_body
from tracker.api.clients import client_address, kept_address
from tracker.api.metrics import Metrics
from tracker.domain import postback as postbacks
from tracker.domain.postback import Advertiser, InvalidPostback, Postback, Verdict
from tracker.errors import NotFound, RejectedInput, StoreUnavailable, Unauthorized
from tracker.settings import Settings

log = logging.getLogger(__name__)

GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
BODY_MAX_BYTES = 64 * 1024
FIELDS_MAX = 500
SECRET_MAX = 200  # characters of a token that are looked at
TOKEN_TTL_S = 1.0  # a revoked token works at most this long
TOKENS_MAX = 10_000  # remembered, wrong ones included
Receive = Callable[[Postback], Awaitable[Verdict]]
Refused = Callable[[list[Any]], Awaitable[None]]
Kind = Literal["token", "pixel"]


class Tokens:
    """Tells an advertiser from a token or pixel key; remembers for a second, and through an outage of PostgreSQL."""

    def __init__(self, conversions: Conversions) -> None:
        self._conversions = conversions
        self._known: dict[tuple[Kind, bytes], tuple[float, Advertiser | None]] = {}

    async def advertiser(self, secret: str, kind: Kind) -> Advertiser:
        """Whose secret this is. Unauthorized `bad_token`; StoreUnavailable when nobody can tell."""
        if not 0 < len(secret) <= SECRET_MAX:
            raise Unauthorized("bad_token", "the token is missing or wrong", field="token")
        key = (kind, hashlib.sha256(secret.encode("utf-8", "replace")).digest())
        until, found = self._known.get(key, (0.0, None))
        if until <= time.monotonic():
            found = await self._look_up(secret, key, found)
        if found is None:
            raise Unauthorized("bad_token", "the token is missing or wrong", field="token")
        return found

    async def _look_up(self, secret: str, key: tuple[Kind, bytes], stale: Advertiser | None) -> Advertiser | None:
        try:
            found = await self._conversions.find_advertiser(secret, key[0])
        except StoreUnavailable:
            if stale is None:
                raise
            return stale
        if len(self._known) >= TOKENS_MAX:
            self._known.clear()
        self._known[key] = (time.monotonic() + TOKEN_TTL_S, found)
        return found


@dataclasses.dataclass(frozen=True, slots=True)
class Desk:
    """What the routes need. `receive` stores a postback and decides; `refused` keeps one that was not acceptable."""

    tokens: Tokens
    conversions: Conversions
    metrics: Metrics
    settings: Settings
    receive: Receive
    refused: Refused


def routes(desk: Desk) -> APIRouter:
    """`/postback`, `/pixel.gif` and `/postback/status`."""
    router = APIRouter(tags=["postbacks"])

    @router.get("/postback")
    @router.post("/postback")
    async def receive_postback(request: Request) -> Response:
        postback_id, received_at = new_id(), datetime.now(UTC)  # before any I/O: our own retry can never count twice
        try:
            parameters = await read_parameters(request)
            if "sig" in parameters and "token" not in parameters:
                raise Unauthorized("bad_signature", "the signature is wrong; signed postbacks are not set up, send the token", field="sig")
            with within_budget():
                async with asyncio.timeout(RECEIVE_BUDGET_S):
                    advertiser = await desk.tokens.advertiser(parameters.get("token", ""), "token")
                    return await _take(desk, request, parameters, advertiser, postback_id=postback_id, received_at=received_at)
        except StoreUnavailable:
            desk.metrics.postbacks.labels("unavailable").inc()
            raise
        except RejectedInput:
            desk.metrics.postbacks.labels("rejected").inc()
            raise

    @router.get("/pixel.gif")
    async def pixel(request: Request) -> Response:
        await _pixel(desk, request)
        return Response(GIF, media_type="image/gif", headers={"Cache-Control": "no-store"})

    @router.get("/postback/status")
    async def status(request: Request) -> Response:
        parameters = request.query_params
        advertiser = await desk.tokens.advertiser(parameters.get("token", ""), "token")
        txid = parameters.get("txid", "").strip(" \t")
        if not txid or "\x00" in txid:
            raise RejectedInput("invalid_txid", "txid is required", field="txid")
        if len(txid) > postbacks.TXID_MAX:
            raise NotFound("unknown_txid", "no postback has this txid", field="txid")
        return answer(await desk.conversions.verdicts(advertiser.advertiser_id, txid))

    return router


@contextmanager
def within_budget() -> Iterator[None]:
    """Time that is up means an outage: whoever sent this must not wait for a frozen database."""
    try:
        yield
    except TimeoutError as exc:
        raise StoreUnavailable(f"PostgreSQL did not answer within {RECEIVE_BUDGET_S} s") from exc


async def _take(
    desk: Desk, request: Request, parameters: dict[str, str], advertiser: Advertiser, *, postback_id: UUID, received_at: datetime
) -> Response:
    ip = kept_address(client_address(request, desk.settings.trusted_proxies), desk.settings.ip_mode)
    try:
        postback = postbacks.read(parameters, advertiser, postback_id=postback_id, received_at=received_at, ip=ip)
    except InvalidPostback as exc:
        await _keep_refused(desk, parameters, advertiser, postback_id=postback_id, received_at=received_at, ip=ip, reason=str(exc))
        raise RejectedInput(exc.code, str(exc), field=exc.field) from exc
    verdict = await desk.receive(postback)
    desk.metrics.record(postback, verdict)
    return _told(verdict)


async def _pixel(desk: Desk, request: Request) -> None:
    postback_id, received_at = new_id(), datetime.now(UTC)
    parameters = dict(request.query_params)
    secret = parameters.get("pixel_key") or parameters.get("token", "")
    ip = kept_address(client_address(request, desk.settings.trusted_proxies), desk.settings.ip_mode)
    try:
        with within_budget():
            async with asyncio.timeout(RECEIVE_BUDGET_S):
                advertiser = await desk.tokens.advertiser(secret, "pixel")
                postback = postbacks.read(parameters, advertiser, postback_id=postback_id, received_at=received_at, source="pixel", ip=ip)
                desk.metrics.record(postback, await desk.receive(postback))
    except (RejectedInput, InvalidPostback) as exc:
        desk.metrics.postbacks.labels("rejected").inc()
        log.info("pixel.rejected", extra={"reason": str(exc)})
    except StoreUnavailable as exc:  # lost until the journal takes it over
        desk.metrics.postbacks.labels("unavailable").inc()
        log.warning("pixel.lost", extra={"postback_id": str(postback_id), "reason": str(exc)})


async def _keep_refused(
    desk: Desk, parameters: dict[str, str], advertiser: Advertiser, *, postback_id: UUID, received_at: datetime, ip: str, reason: str
) -> None:
    said = {name: postbacks.storable(parameters.get(name, ""))[:255] for name in ("txid", "click_id", "amount", "currency", "status")}
    kept = {
        postbacks.storable(name): postbacks.storable(value)
        for name, value in list(parameters.items())[:100]
        if name not in postbacks.SECRETS
    }
    row = [postback_id, received_at, "postback", advertiser.advertiser_id, said["txid"] or None, said["click_id"] or None]
    try:
        await desk.refused([*row, said["amount"], said["currency"], said["status"], kept, ip, reason])
    except StoreUnavailable as exc:  # its sender is told anyway
        log.warning("postback.refused_not_kept", extra={"reason": str(exc)})


def _told(verdict: Verdict) -> Response:
    ids: dict[str, Any] = {"postback_id": verdict.postback_id}
    if verdict.conversion_id:
        ids["conversion_id"] = verdict.conversion_id
    if verdict.status == "conflict":
        return problem(409, "conflict", verdict.reason, field="amount", **{name: str(value) for name, value in ids.items()})
    if verdict.status == "parked":
        return answer({"status": "parked", **ids, "reason": verdict.reason}, 202)
    reason = {} if verdict.outcome == "attributed" else {"reason": verdict.reason}
    return answer({"status": verdict.status, **ids, "duplicate": verdict.duplicate, **reason})


async def read_parameters(request: Request) -> dict[str, str]:
    """Query parameters and, of a POST, those of its form or JSON body, which win. Values are text, numbers unrounded."""
    parameters = dict(request.query_params)
    if request.method != "POST":
        return parameters
    body = await read_body(request, BODY_MAX_BYTES)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not body.strip():
        return parameters
    if kind.endswith("json") or (not kind and body.lstrip()[:1] == b"{"):
        return parameters | _json(body)
    if kind in ("", "application/x-www-form-urlencoded", "text/plain"):
        return parameters | _form(body)
    raise RejectedInput("invalid_body", "send a query, a form (application/x-www-form-urlencoded) or JSON")


def _form(body: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=FIELDS_MAX))
    except ValueError as exc:
        raise RejectedInput("invalid_body", f"a form may have at most {FIELDS_MAX} fields") from exc


def _json(body: bytes) -> dict[str, str]:
    try:
        content = json.loads(body, parse_float=str, parse_int=str)
    except (ValueError, RecursionError) as exc:
        raise RejectedInput("invalid_json", f"the body is not JSON: {exc}") from exc
    if not isinstance(content, dict):
        raise RejectedInput("invalid_json", "the body must be a JSON object")
    return {name: _scalar(value) for name, value in list(content.items())[:FIELDS_MAX] if value is not None}


def _scalar(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
