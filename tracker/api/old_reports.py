"""Reports that came to old hosts: what became of each, and as what it was read."""

from typing import Any

from fastapi import APIRouter, Request, Response

from tracker.api.answers import answer, paging
from tracker.api.document import CURSORS, REFUSALS
from tracker.old_reports import STATES, OldReportBook

TEXT: dict[str, Any] = {"type": "string"}
WANTED = [
    {"name": "state", "in": "query", "schema": TEXT | {"enum": list(STATES)}},
    {"name": "host", "in": "query", "schema": TEXT, "description": "only what came to this host"},
    {"name": "platform", "in": "query", "schema": TEXT},
    {"name": "from", "in": "query", "schema": TEXT, "description": "a day or an instant, included", "example": "2026-01-01"},
    {"name": "to", "in": "query", "schema": TEXT, "description": "an instant, not included; a day, included", "example": "2026-01-31"},
    CURSORS[0],
    CURSORS[1] | {"example": "019a8e4e-0000-7000-8000-000000000000"},
]


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

    return router
