"""What stores send: postbacks, pixels, and the question what became of an order."""

import base64
import dataclasses
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Request, Response

from tracker.adapters.lmdb_routes import RouteTable
from tracker.adapters.postgres_conversions_read import Conversions
from tracker.adapters.postgres_deals import new_id
from tracker.api.answers import answer, problem, problem_of
from tracker.api.clients import client_address, kept_address
from tracker.api.intake import Intake
from tracker.api.metrics import Metrics
from tracker.api.parameters import Sent, read_sent
from tracker.api.postback_document import ANSWERS, GIF_ANSWER, STATUS_ANSWERS, described, query, with_body
from tracker.api.reporters import Reporter, Reporters
from tracker.api.tokens import Tokens
from tracker.api.visits import visits_of
from tracker.domain import postback as postbacks
from tracker.domain.postback import Advertiser, InvalidPostback, Postback, Source, Verdict
from tracker.domain.postback_settings import renamed
from tracker.errors import NotFound, RejectedInput, StoreUnavailable
from tracker.settings import Settings

log = logging.getLogger(__name__)

LIST_BUDGET_S = 20.0  # of a list of reports: whoever waits longer has given up
GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
NOBODYS = "nobody's"  # in the place of a click, where a report needs to name none
Refused = Callable[[list[Any]], Awaitable[None]]


@dataclasses.dataclass(frozen=True, slots=True)
class Desk:
    """What the routes need. `refused` keeps a postback that was not acceptable."""

    tokens: Tokens
    reporters: Reporters
    conversions: Conversions
    metrics: Metrics
    settings: Settings
    intake: Intake
    refused: Refused
    table: RouteTable


def routes(desk: Desk) -> APIRouter:
    """`/postback`, `/pixel.gif` and `/postback/status`."""
    router = APIRouter(tags=["postbacks"])

    @router.get("/postback", openapi_extra=described(), responses=ANSWERS)
    @router.post("/postback", openapi_extra=with_body(), responses=ANSWERS)
    async def receive_postback(request: Request) -> Response:
        """What a store reports of an order: parameters in the query, a form or JSON.

        The same order again is `duplicate`; a stated status moves it along the lifecycle (`rejected` and `reversed` both
        take it back, their amount is not looked at); what could not be followed is said in `reason`. The store's own
        report replaces what only a pixel said, and one that can be attributed replaces an orphan.
        """
        with desk.metrics.counted():
            return await _receive(desk, request)

    @router.get("/pixel.gif", openapi_extra=described("pixel_key"), response_class=Response, responses=GIF_ANSWER)
    @router.post("/pixel.gif", openapi_extra=with_body("pixel_key"), response_class=Response, responses=GIF_ANSWER)
    async def pixel(request: Request) -> Response:
        """The same with the public `pixel_key`; also what `navigator.sendBeacon` posts. Always a 1×1 GIF, whatever becomes of it."""
        await _pixel(desk, request)
        return _gif()

    @router.head("/pixel.gif", include_in_schema=False)
    async def look_at_pixel() -> Response:
        return _gif()  # link checkers look; that is no conversion

    @router.get("/postback/status", openapi_extra={"parameters": query(only=("token", "txid"))}, responses=STATUS_ANSWERS)
    async def status(request: Request) -> Response:
        """The verdict on an order in one word, its conversions, and its last 100 postbacks, newest first."""
        parameters = request.query_params
        advertiser = await desk.tokens.advertiser(parameters.get("token", ""), "token")
        txid = parameters.get("txid", "").strip(" \t")
        if not txid or postbacks.storable(txid) != txid[: postbacks.VALUE_MAX]:
            raise RejectedInput("invalid_txid", "txid is required", field="txid")
        if len(txid) > postbacks.TXID_MAX:
            raise NotFound("unknown_txid", "no postback has this txid", field="txid")
        return answer(await desk.conversions.verdicts(advertiser.advertiser_id, txid))

    return router


def _gif() -> Response:
    return Response(GIF, media_type="image/gif", headers={"Cache-Control": "no-store"})


def _address(desk: Desk, request: Request) -> str:
    return kept_address(client_address(request, desk.settings.trusted_proxies), desk.settings.ip_mode)


async def _receive(desk: Desk, request: Request) -> Response:
    postback_id, received_at = new_id(), datetime.now(UTC)  # before any I/O: our own retry can never count twice
    sent, ip = await read_sent(request), _address(desk, request)
    reporter = await desk.reporters.of_postback(request, request.scope["query_string"], sent.body, sent.parameters)
    if reporter.is_signed and request.method == "POST":
        sent = dataclasses.replace(sent, query={})  # what stands beside a signed body is not signed
    if sent.reports is not None:
        return await _report_each(desk, sent, reporter, received_at=received_at, ip=ip)
    postback_id = reporter.postback_id or postback_id
    return await report(desk, sent.parameters, reporter.advertiser, postback_id=postback_id, received_at=received_at, ip=ip)


async def report(
    desk: Desk,
    parameters: Mapping[str, str],
    advertiser: Advertiser,
    *,
    postback_id: UUID,
    received_at: datetime,
    ip: str,
    source: Source = "postback",
    is_only_known: bool = False,
) -> Response:
    """Read one report, decide on it, and answer. RejectedInput when it cannot be read: it is kept as refused then.

    `is_only_known`: it concerns an order that is known otherwise, whoever earns by that.
    """
    visits = [NOBODYS] if is_only_known else visits_of(None, renamed(parameters, advertiser.settings), desk.table)
    try:
        postback = postbacks.read(
            parameters, advertiser, postback_id=postback_id, received_at=received_at, source=source, ip=ip, visits=visits
        )
        if is_only_known:
            postback = dataclasses.replace(postback, click_id=None, coupon=None, customer=None, visits=[])
    except InvalidPostback as exc:
        # Not under its own id: the same message, signed, may be acceptable once the settings are mended.
        await _keep_refused(desk, parameters, advertiser, Refusal(new_id(), received_at, source, ip, str(exc)))
        raise RejectedInput(exc.code, str(exc), field=exc.field) from exc
    return _told(await _decide(desk, postback))


async def _report_each(desk: Desk, sent: Sent, reporter: Reporter, *, received_at: datetime, ip: str) -> Response:
    """One after the other, so that what a list says later of an order comes later. 207 when there is a refusal among the answers."""
    end = time.monotonic() + LIST_BUDGET_S
    answers = [
        await _report_one(desk, stated, sent, reporter.advertiser, postback_id=postback_id, received_at=received_at, ip=ip)
        if time.monotonic() < end
        else problem(503, "not_reached", "the reports before this one took too long; send this one again")
        for stated, postback_id in _numbered(sent.reports or [], reporter)
    ]
    results = [{"http_status": found.status_code} | orjson.loads(found.body) for found in answers]
    return answer({"results": results}, 200 if all(found.status_code < 300 for found in answers) else 207)


def _numbered(reports: list[dict[str, str] | None], reporter: Reporter) -> list[tuple[dict[str, str] | None, UUID]]:
    return [(stated, reporter.item_id(number) or new_id()) for number, stated in enumerate(reports)]


async def _report_one(
    desk: Desk, stated: dict[str, str] | None, sent: Sent, advertiser: Advertiser, *, postback_id: UUID, received_at: datetime, ip: str
) -> Response:
    try:
        with desk.metrics.counted():
            return await report(desk, sent.query | _object(stated), advertiser, postback_id=postback_id, received_at=received_at, ip=ip)
    except (StoreUnavailable, RejectedInput) as exc:
        return problem_of(exc)


def _object(stated: dict[str, str] | None) -> dict[str, str]:
    if stated is None:
        raise RejectedInput("invalid_json", "a report must be a JSON object")
    return stated


async def _decide(desk: Desk, postback: Postback) -> Verdict:
    verdict, is_only_kept = await desk.intake.take(postback)
    if is_only_kept:
        desk.metrics.kept()
    else:
        desk.metrics.decided(postback, verdict)
    return verdict


async def _pixel(desk: Desk, request: Request) -> None:
    postback_id, received_at = new_id(), datetime.now(UTC)
    ip = _address(desk, request)
    try:
        parameters = (await read_sent(request)).parameters
        secret = parameters.get("pixel_key") or parameters.get("token", "")
        advertiser = await desk.tokens.advertiser(secret, "pixel")
        await _decide(
            desk, await _read_pixel(desk, request, parameters, advertiser, postback_id=postback_id, received_at=received_at, ip=ip)
        )
    except (RejectedInput, InvalidPostback) as exc:
        desk.metrics.postbacks.labels("rejected").inc()
        log.info("pixel.rejected", extra={"reason": str(exc)})
    except StoreUnavailable as exc:  # PostgreSQL, the journal and Redis all refuse
        desk.metrics.postbacks.labels("unavailable").inc()
        log.warning("pixel.lost", extra={"postback_id": str(postback_id), "reason": str(exc)})


async def _read_pixel(
    desk: Desk, request: Request, parameters: dict[str, str], advertiser: Advertiser, *, postback_id: UUID, received_at: datetime, ip: str
) -> Postback:
    visits = visits_of(request, renamed(parameters, advertiser.settings), desk.table)
    try:
        return postbacks.read(
            parameters, advertiser, postback_id=postback_id, received_at=received_at, source="pixel", ip=ip, visits=visits
        )
    except InvalidPostback as exc:
        if exc.field != "click_id" or parameters.get("click_id"):  # a page may tell of every order; those of nobody are no refusals
            await _keep_refused(desk, parameters, advertiser, Refusal(postback_id, received_at, "pixel", ip, str(exc)))
        raise


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """A postback that was not acceptable: which, when, from where, and why."""

    postback_id: UUID
    received_at: datetime
    source: Source
    ip: str
    reason: str


async def _keep_refused(desk: Desk, parameters: Mapping[str, str], advertiser: Advertiser, refusal: Refusal) -> None:
    said = {name: postbacks.storable(parameters.get(name, ""))[:255] for name in ("txid", "click_id", "amount", "currency", "status")}
    kept = {
        postbacks.storable(name): postbacks.storable(value)
        for name, value in list(parameters.items())[:100]
        if name not in postbacks.SECRETS
    }
    whose = [refusal.postback_id, refusal.received_at, refusal.source, advertiser.advertiser_id]
    order = [said["txid"] or None, said["click_id"] or None, said["amount"], said["currency"], said["status"]]
    try:
        await desk.refused([*whose, *order, kept, refusal.ip, refusal.reason])
    except StoreUnavailable as exc:  # its sender is told anyway
        log.warning("postback.refused_not_kept", extra={"reason": str(exc)})


def _told(verdict: Verdict) -> Response:
    ids: dict[str, Any] = {"postback_id": verdict.postback_id}
    if verdict.conversion_id:
        ids["conversion_id"] = verdict.conversion_id
    if verdict.status == "conflict":
        return problem(409, "conflict", verdict.reason, field="amount", **{name: str(value) for name, value in ids.items()})
    if verdict.status == "ignored":
        return answer({"status": "ignored", **ids, "reason": verdict.reason})
    if verdict.status == "parked":
        return answer({"status": "parked", **ids, "reason": verdict.reason}, 202)
    reason = {} if verdict.outcome == "attributed" else {"reason": verdict.reason}
    return answer({"status": verdict.status, **ids, "duplicate": verdict.duplicate, **reason})
