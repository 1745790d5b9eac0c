"""What shops send of their own accord: webhooks of Shopify, WooCommerce and Stripe, read as postbacks."""

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Path, Request, Response

from tracker.api.answers import answer, read_body
from tracker.api.clients import client_address, kept_address
from tracker.api.parameters import BODY_MAX_BYTES, BODY_TIMEOUT_S
from tracker.api.postback_document import answers
from tracker.api.postbacks import Desk, report
from tracker.domain import signatures, webhooks
from tracker.domain.webhooks import SHOPS, Ignored, Order, Shop
from tracker.errors import NotFound, RejectedInput

TOPICS: dict[Shop, str] = {"shopify": "x-shopify-topic", "woocommerce": "x-wc-webhook-topic"}
ANSWERS = answers(
    _401="The shop's signature is missing, wrong or too old",
    _404="No such shop, no such advertiser, or none with a secret of that shop",
    _422="The payload is not what the shop sends; `code` and `field` say what is wrong",
    _503="Neither database nor journal nor Redis take it: the shop sends it again",
)
BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}, "example": {"id": 1}}}}
}


def routes(desk: Desk) -> APIRouter:
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
            return await _receive(desk, request, shop, advertiser)

    return router


async def _receive(desk: Desk, request: Request, shop: str, slug: str) -> Response:
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
    return await report(
        desk,
        found.parameters,
        advertiser,
        postback_id=signatures.webhook_id_of(found.happened_ms, shop, advertiser.slug, found.identity),
        received_at=received_at,
        source="webhook",
        is_only_known=found.is_only_known,
        ip=kept_address(client_address(request, desk.settings.trusted_proxies), desk.settings.ip_mode),
    )


def _read(desk: Desk, shop: Shop, topic: str, body: bytes) -> Order | Ignored:
    try:
        return webhooks.read(shop, topic, body)
    except ValueError as exc:
        desk.metrics.refusals.labels("bad_payload").inc()
        raise RejectedInput("bad_payload", str(exc), field="payload") from exc


def _ignored(desk: Desk, reason: str) -> Response:
    desk.metrics.postbacks.labels("ignored").inc()
    return answer({"status": "ignored", "reason": reason})
