"""Orphan clicks: what is missing, and the mapping that mends it."""

from typing import Any

from fastapi import APIRouter, Query, Request, Response

from tracker.api.answers import answer, read_json
from tracker.api.document import CHANGING, EXAMPLES, REFUSALS, body_of, body_of_thing
from tracker.errors import RejectedInput
from tracker.orphans import DAYS, DAYS_MAX, LISTED_DAYS_MAX, Orphans
from tracker.programme import OLD_ID

DAYS_OF = Query(DAYS, ge=1, le=LISTED_DAYS_MAX, description="how far back")


def routes(orphans: Orphans) -> APIRouter:
    """`/api/v1/orphans`."""
    router = APIRouter(prefix="/api/v1", responses=REFUSALS, tags=["orphans"])

    @router.get("/orphans")
    async def list_orphans(days: int = DAYS_OF, limit: int = Query(100, ge=1, le=1000)) -> Response:
        """Heaps of orphan clicks by what is missing, those with the most clicks first."""
        return answer(await orphans.listed(days=days, limit=limit))

    mapping = body_of_thing(OLD_ID, changing=False)
    mapping["requestBody"]["content"]["application/json"]["schema"]["properties"]["reason"] = {"type": "string"}
    mapping["requestBody"]["content"]["application/json"]["example"] = {**EXAMPLES["old-ids"], "reason": "named in the export"}

    @router.post("/orphans/map", status_code=201, openapi_extra=mapping, responses=CHANGING)
    async def map_orphans(request: Request) -> Response:
        """Say what an old id means, and attribute the clicks that waited for it. An id that is mapped already is mapped anew."""
        return answer(await orphans.map(await read_json(request), request.state.actor.name), 201)

    days_of = {"type": "integer", "minimum": 1, "maximum": DAYS_MAX}
    cursor_of = {"type": ["string", "null"], "description": "next_cursor of the call before"}
    given = body_of({"days": days_of, "cursor": cursor_of, "reason": {"type": "string"}}, example={"days": 30})

    @router.post("/orphans/attribute", openapi_extra=given, responses=CHANGING)
    async def attribute_orphans(request: Request) -> Response:
        """Attribute every orphan that the map of today resolves. Call again with `next_cursor` as `cursor` while there is one."""
        body = await read_json(request, empty={})
        days, cursor, actor = _days(body), body.get("cursor"), request.state.actor.name
        if cursor is not None and not isinstance(cursor, str):
            raise RejectedInput("invalid_cursor", "cursor must be the next_cursor of an earlier answer", field="cursor")
        return answer(await orphans.attribute(days=days, cursor=cursor, reason=body.get("reason"), actor=actor))

    return router


def _days(body: Any) -> int:
    if not isinstance(body, dict):
        raise RejectedInput("invalid_body", 'send {"days":30,"reason":"…"}')
    days = body.get("days", DAYS)
    if not isinstance(days, int) or isinstance(days, bool) or not 1 <= days <= DAYS_MAX:
        raise RejectedInput("invalid_days", f"days must be a whole number from 1 to {DAYS_MAX}", field="days")
    return days
