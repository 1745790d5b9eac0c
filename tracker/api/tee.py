"""The tee: what is passed on to old platforms, and what they answered."""

from typing import Any

from fastapi import APIRouter, Request, Response

from tracker.api.answers import answer, paging, read_json
from tracker.api.document import CHANGING, HOST_FIELD, HOST_PARAMETER, POSTBACK_CURSORS, REASON_FIELD, REFUSALS, body_of
from tracker.tee import STATES, Tee

WANTED: list[Any] = [
    {"name": "state", "in": "query", "schema": {"type": "string", "enum": list(STATES)}},
    {"name": "differences", "in": "query", "schema": {"type": "boolean"}, "description": "only where the two answers differ"},
    HOST_PARAMETER,
    *POSTBACK_CURSORS,
]
AGAIN = body_of(
    {
        "host": HOST_FIELD,
        "differences": {"type": "boolean", "description": "what was delivered and answered differently, in place of what was given up"},
        "before": {"type": "string", "description": "`before` of the answer before: only what ended until then"},
        "reason": REASON_FIELD,
    },
    example={"host": "go.old.example", "reason": "the old platform is back"},
)


def routes(tee: Tee) -> APIRouter:
    """`/api/v1/tee`."""
    router = APIRouter(prefix="/api/v1", responses=REFUSALS, tags=["tee"])

    @router.get("/tee", openapi_extra={"parameters": WANTED})
    async def list_tee(request: Request) -> Response:
        """Reports that are passed on to the old platform, newest first, with both answers. Tokens are masked."""
        limit, cursor, filters = paging(request)
        return answer(await tee.listed(filters, limit=limit, cursor=cursor))

    @router.get("/tee/{postback_id}")
    async def show_tee(postback_id: str) -> Response:
        """One of them, with its body and the bodies of both answers."""
        return answer(await tee.shown(postback_id))

    @router.post("/tee/retry", openapi_extra=AGAIN, responses=CHANGING)
    async def retry_tee(request: Request) -> Response:
        """Send again what was given up, or what was answered differently. Call again with `before` while `is_complete` is false."""
        return answer(await tee.retry(await read_json(request, empty={}), request.state.actor.name))

    return router
