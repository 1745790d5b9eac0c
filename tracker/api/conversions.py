"""Clicks and conversions: read them; approve, reject or reverse a conversion."""

from typing import Literal

from fastapi import APIRouter, Request, Response

from tracker.adapters.postgres_conversions_read import Conversions
from tracker.api.answers import answer, paging, read_json
from tracker.api.document import CHANGING, CURSORS, REFUSALS, body_of
from tracker.errors import RejectedInput
from tracker.programme import moment, text

Action = Literal["approve", "reject", "reverse"]
AMOUNT = {
    "anyOf": [{"type": "string"}, {"type": "null"}],
    "description": "for reverse: how much is taken back, in the conversion's currency; default: all that is left",
}


def routes(conversions: Conversions) -> APIRouter:
    """Routes below /api/v1 for clicks and conversions."""
    router = APIRouter(prefix="/api/v1", responses=REFUSALS)

    @router.get("/clicks/{click_id}", tags=["clicks"])
    async def show_click(request: Request, click_id: str) -> Response:
        return answer(await conversions.click(click_id, advertiser_id=request.state.actor.advertiser_id))

    @router.get("/conversions", tags=["conversions"], openapi_extra={"parameters": CURSORS})
    async def list_conversions(request: Request) -> Response:
        limit, cursor, filters = paging(request)
        start, end = moment(filters.pop("from", ""), "from"), moment(filters.pop("to", ""), "to")
        return answer(
            await conversions.listed(
                limit=limit, cursor=cursor, filters=filters, start=start, end=end, advertiser_id=request.state.actor.advertiser_id
            )
        )

    @router.get("/conversions/{conversion_id}", tags=["conversions"])
    async def show_conversion(request: Request, conversion_id: str) -> Response:
        return answer(await conversions.get(conversion_id, advertiser_id=request.state.actor.advertiser_id))

    reason_of = body_of({"reason": {"type": "string"}, "amount": AMOUNT}, example={"reason": "the order was returned"})

    @router.post("/conversions/{conversion_id}/{action}", tags=["conversions"], openapi_extra=reason_of, responses=CHANGING)
    async def change_conversion(request: Request, conversion_id: str, action: Action) -> Response:
        actor, (reason, amount) = request.state.actor, await _reason(request, action)
        who = {"reason": reason, "actor": actor.name, "advertiser_id": actor.advertiser_id}
        if amount is not None:
            return answer(await conversions.reverse_part(conversion_id, amount, **who))
        return answer(await conversions.change(conversion_id, action, **who))

    return router


async def _reason(request: Request, action: Action) -> tuple[str, str | None]:
    """Why, and how much of the amount; None: all of it."""
    body = await read_json(request, empty={})
    if not isinstance(body, dict):
        raise RejectedInput("invalid_body", 'send {"reason":"…"}')
    amount = body.get("amount")
    if amount is not None and (action != "reverse" or not isinstance(amount, str)):
        raise RejectedInput("invalid_amount", "amount is a decimal string such as 10.00, and only for reverse", field="amount")
    try:
        return text(body.get("reason") or ""), amount
    except ValueError as exc:
        raise RejectedInput("invalid_reason", f"reason {exc}", field="reason") from None
