"""Terms of payout: add rows, list them; and work conversions out anew by them."""

from typing import Any

from fastapi import APIRouter, Path, Request, Response

from tracker.api.answers import answer, paging, read_json
from tracker.api.document import CHANGING, CURSORS, REFUSALS, body_of
from tracker.payouts.recompute import Recomputing
from tracker.payouts.terms import FILTERS, TermsBook

TEXT: dict[str, Any] = {"type": "string"}
WHEN: dict[str, Any] = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}
SLUG: dict[str, Any] = {"anyOf": [TEXT, {"type": "null"}]}
PAYOUT: dict[str, Any] = {
    "anyOf": [{"type": "object"}, TEXT, {"type": "null"}],
    "description": 'a payout in any form: {"type":"percent","percent":"12"}, 5.00 EUR, a plan; null: none of their own from then on',
}
NEW = body_of(
    {
        "campaign": TEXT,
        "goal": SLUG,
        "partner": SLUG,
        "payout": PAYOUT,
        "effective_from": WHEN | {"description": "default: now; an earlier one changes nothing that is booked"},
        "effective_to": WHEN | {"description": "default: until further notice"},
        "reason": TEXT,
    },
    ["campaign", "payout"],
    example={"campaign": "spring", "partner": "blog", "payout": {"type": "percent", "percent": "12"}, "reason": "agreed by mail"},
)
WANTED = [{"name": name, "in": "query", "schema": TEXT, "description": "slug"} for name in FILTERS]
ANEW = body_of(
    {
        "from": TEXT | {"description": "first day, by the time of conversion in UTC"},
        "to": TEXT | {"description": "last day, included"},
        "as_of": WHEN | {"description": "by the terms as they were known then; default: now"},
        "dry_run": {"type": "boolean"},
        "reason": TEXT,
        "cursor": SLUG,
    },
    ["from", "to"],
    example={"from": "2026-11-01", "to": "2026-11-30", "dry_run": True, "reason": "the rate was agreed in October"},
)


def routes(terms: TermsBook, recomputing: Recomputing) -> APIRouter:
    """`/api/v1/terms` and `/api/v1/campaigns/{slug}/recompute`."""
    router = APIRouter(prefix="/api/v1", responses=REFUSALS)

    @router.post("/terms", status_code=201, tags=["terms"], openapi_extra=NEW, responses=CHANGING)
    async def add_terms(request: Request) -> Response:
        """Terms of a partner, a goal or a campaign, for a time or from an earlier day on. They change nothing that is booked."""
        return answer(await terms.add(await read_json(request), request.state.actor.name), 201)

    @router.get("/terms", tags=["terms"], openapi_extra={"parameters": [*WANTED, *CURSORS]})
    async def list_terms(request: Request) -> Response:
        """All terms there ever were, oldest first: who set them, and from when to when they hold."""
        limit, cursor, filters = paging(request)
        advertiser = request.state.actor.advertiser_id
        return answer(await terms.listed(limit=limit, cursor=cursor, filters=filters, advertiser_id=advertiser))

    @router.post("/campaigns/{slug}/recompute", tags=["campaigns"], openapi_extra=ANEW, responses=CHANGING)
    async def recompute(request: Request, slug: str = Path(examples=["spring"])) -> Response:
        """Work out anew what the conversions of these days earn, and book the differences as corrections."""
        return answer(await recomputing.run(slug, await read_json(request), request.state.actor.name))

    return router
