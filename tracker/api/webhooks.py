"""What shops send of their own accord: webhooks of Shopify, WooCommerce and Stripe, read as postbacks."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from fastapi import APIRouter, Path, Request, Response

from tracker.api.answers import answer, read_body
from tracker.api.clients import client_address, kept_address
from tracker.api.intake import Breaker
from tracker.api.parameters import BODY_MAX_BYTES, BODY_TIMEOUT_S
from tracker.api.postback_document import answers
from tracker.api.postbacks import Desk, report
from tracker.domain import signatures, webhooks
from tracker.domain.postback import Advertiser
from tracker.domain.webhooks import SHOPS, Ignored, Order, Shop
from tracker.errors import NotFound, RejectedInput, StoreUnavailable

TOPICS: dict[Shop, str] = {"shopify": "x-shopify-topic", "woocommerce": "x-wc-webhook-topic"}
GOAL = "sale"
ANSWERS = answers(
    _401="The shop's signature is missing, wrong or too old",
    _404="No such shop, no such advertiser, or none with a secret of that shop",
    _422="The payload is not what the shop sends; `code` and `field` say what is wrong",
    _503="Neither database nor journal nor Redis take it: the shop sends it again",
)
BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}, "example": {"id": 1}}}}
}


def routes(desk: Desk, breaker: Breaker) -> APIRouter:
    """`/webhooks/{shop}/{advertiser}`."""
    router = APIRouter(tags=["postbacks"])
    which = Path(json_schema_extra={"enum": list(SHOPS)}, examples=["shopify"])

    @router.post("/webhooks/{shop}/{advertiser}", openapi_extra=BODY, responses=ANSWERS)
    async def receive_webhook(request: Request, shop: str = which, advertiser: str = Path(examples=["shop"])) -> Response:
        """An order as the shop itself reports it, signed with the secret that was set for it.

        What is none of ours is `ignored`, with its reason; else the answer is that of a postback. Sent again, it is the same
        postback.
        """
        with desk.metrics.counted():
            return await _receive(desk, breaker, request, shop, advertiser)

    return router


async def _receive(desk: Desk, breaker: Breaker, request: Request, shop: str, slug: str) -> Response:
    received_at = datetime.now(UTC)
    if shop not in SHOPS:
        raise NotFound("unknown_shop", f"webhooks are taken from {', '.join(SHOPS)}", field="shop")
    body = await read_body(request, BODY_MAX_BYTES, timeout_s=BODY_TIMEOUT_S)
    if webhooks.is_ping(shop, body):
        return _ignored(desk, "the webhook is set up; its secret is checked with the first order")
    advertiser = (await desk.reporters.of_webhook(request, shop, slug, body)).advertiser
    found = _read(desk, shop, request.headers.get(TOPICS.get(shop, ""), ""), body)
    if isinstance(found, Ignored):
        return _ignored(desk, found.reason)
    parameters = await _of_known_order(desk, breaker, found, advertiser) if found.is_only_known else found.parameters
    if parameters is None:
        return _ignored(desk, "no order with this txid is known")
    return await report(
        desk,
        parameters,
        advertiser,
        postback_id=signatures.webhook_id_of(found.happened_ms, shop, advertiser.slug, found.identity),
        received_at=received_at,
        source="webhook",
        ip=kept_address(client_address(request, desk.settings.trusted_proxies), desk.settings.ip_mode),
    )


def _read(desk: Desk, shop: Shop, topic: str, body: bytes) -> Order | Ignored:
    try:
        return webhooks.read(shop, topic, body)
    except ValueError as exc:
        desk.metrics.refusals.labels("bad_payload").inc()
        raise RejectedInput("bad_payload", str(exc), field="payload") from exc


async def _of_known_order(desk: Desk, breaker: Breaker, order: Order, advertiser: Advertiser) -> Mapping[str, str] | None:
    """The parameters with the number, click, coupon or customer that the order is known by; None when nobody told of it."""
    known = await _known(desk, breaker, advertiser, order.parameters["txid"])
    if known is None and (event := order.parameters.get("event_id")):
        txid = await breaker.call(partial(desk.conversions.txid_of_event, advertiser.advertiser_id, event))
        known = await _known(desk, breaker, advertiser, txid) if txid else None
    if known is None and desk.intake.is_draining():
        raise StoreUnavailable("reports from an outage are still being stored, and the order may be among them; send it again")
    if known is None:
        return None
    reports = [*known["conversions"], *reversed(known["postbacks"])]  # the oldest that is kept comes first
    goals = [found["goal"] for found in reports if found["goal"]]
    goal = GOAL if GOAL in goals else next(iter(goals), GOAL)
    of_goal = [found for found in reports if found["goal"] == goal]
    by = {name: next((found[name] for found in of_goal if found.get(name)), "") for name in webhooks.WHO}
    who = {name: str(value) for name, value in by.items() if value}
    return order.parameters | who | {"goal": goal, "txid": known["txid"]} if who else None


async def _known(desk: Desk, breaker: Breaker, advertiser: Advertiser, txid: str) -> dict[str, Any] | None:
    try:
        return await breaker.call(partial(desk.conversions.verdicts, advertiser.advertiser_id, txid))
    except NotFound:
        return None


def _ignored(desk: Desk, reason: str) -> Response:
    desk.metrics.postbacks.labels("ignored").inc()
    return answer({"status": "ignored", "reason": reason})
