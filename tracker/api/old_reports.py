"""Reports that came to old hosts: what became of each, as what it was read, and reading them once more."""

from typing import Any

from fastapi import APIRouter, Request, Response

from tracker.api.answers import answer, paging, read_json
from tracker.api.document import CHANGING, HOST_FIELD, HOST_PARAMETER, POSTBACK_CURSORS, REASON_FIELD, REFUSALS, body_of
from tracker.old_reports import STATES, OldReportBook

TEXT: dict[str, Any] = {"type": "string"}
WANTED = [
    {"name": "state", "in": "query", "schema": TEXT | {"enum": list(STATES)}},
    HOST_PARAMETER,
    {"name": "platform", "in": "query", "schema": TEXT},
    {"name": "from", "in": "query", "schema": TEXT, "description": "a day or an instant, included", "example": "2026-01-01"},
    {"name": "to", "in": "query", "schema": TEXT, "description": "an instant, not included; a day, included", "example": "2026-01-31"},
    *POSTBACK_CURSORS,
]
AGAIN = body_of(
    {
        "postback_id": TEXT | {"description": "this one alone"},
        "host": HOST_FIELD,
        "since": TEXT | {"description": "only what came since that day or instant"},
        "cursor": TEXT | {"description": "next_cursor of the answer before"},
        "reason": REASON_FIELD,
    },
    example={"host": "go.old.example", "reason": "the token is right now"},
)


def routes(book: OldReportBook) -> APIRouter:
    """`/api/v1/old-reports`."""
    router = APIRouter(prefix="/api/v1", responses=REFUSALS, tags=["old reports"])

    @router.get("/old-reports", openapi_extra={"parameters": WANTED})
    async def list_old_reports(request: Request) -> Response:
        """Postbacks and pixels that came to old hosts, newest first, with what became of each. Tokens are masked."""
        limit, cursor, filters = paging(request)
        return answer(await book.listed(filters, limit=limit, cursor=cursor))

    @router.get("/old-reports/{postback_id}")
    async def show_old_report(postback_id: str) -> Response:
        """One of them, with its body and what its host's platform reads in it today."""
        return answer(await book.shown(postback_id))

    @router.post("/old-reports/retry", openapi_extra=AGAIN, responses=CHANGING)
    async def retry_old_reports(request: Request) -> Response:
        """Read what was refused or ignored once more. Call again with `next_cursor` while `is_complete` is false."""
        return answer(await book.retry(await read_json(request, empty={}), request.state.actor.name))

    return router
