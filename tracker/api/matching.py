"""Matching by hand: parked postbacks and orphan conversions, tried again at once."""

from fastapi import APIRouter, Request, Response

from tracker.api.answers import answer, read_json
from tracker.api.document import CHANGING, REFUSALS, body_of
from tracker.matching import Matching

TEXT = {"type": "string"}
FIELDS = {
    "txid": TEXT | {"description": "only this order"},
    "advertiser": TEXT | {"description": "only this advertiser's, by slug"},
    "since": TEXT | {"description": "only what was received since then, a day or an instant"},
    "reason": TEXT | {"description": "for the audit trail"},
    "cursor": {"type": ["string", "null"], "description": "next_cursor of the call before"},
}


def routes(matching: Matching) -> APIRouter:
    """`/api/v1/conversions/match`."""
    router = APIRouter(prefix="/api/v1", responses=REFUSALS, tags=["conversions"])
    given = body_of(FIELDS, example={"reason": "the click log was imported"})

    @router.post("/conversions/match", openapi_extra=given, responses=CHANGING)
    async def match_conversions(request: Request) -> Response:
        """Decide anew on parked postbacks and orphan conversions. Call again with `next_cursor` as `cursor` while there is one."""
        actor = request.state.actor
        return answer(await matching.match(await read_json(request, empty={}), actor.name, advertiser_id=actor.advertiser_id))

    return router
