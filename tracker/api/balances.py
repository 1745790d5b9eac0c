"""Balances, and the ledger beneath them."""

from typing import Any

from fastapi import APIRouter, Request, Response

from tracker.api.answers import answer, paging
from tracker.api.document import REFUSALS
from tracker.errors import RejectedInput
from tracker.payouts.balances import Balances

Parameters = list[dict[str, Any]]
SLUGS = {"partner": "blog", "advertiser": "shop", "campaign": "spring"}


def _parameter(name: str, description: str, example: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": {"type": "string"}, "description": description, "example": example}


PARTNER, ADVERTISER, CAMPAIGN = (_parameter(name, "slug", example) for name, example in SLUGS.items())
CURRENCY = _parameter("currency", "ISO 4217", "EUR")
LEDGER_PARAMETERS: Parameters = [
    {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}, "example": 50},
    _parameter("cursor", "next_cursor of the answer before", "1793491200000000-42"),
    *(PARTNER, ADVERTISER, CAMPAIGN, CURRENCY),
    _parameter("conversion", "id", "0198f6a0-0000-7000-8000-000000000000"),
    _parameter("kind", "conversion, approval, rejection, reversal, correction, payment …", "payment"),
    _parameter("status", "pending or approved", "approved"),
    _parameter("account", "partner (what is owed) or advertiser (what is billed)", "partner"),
    _parameter("from", "first day or instant of the booking", "2026-10-01"),
    _parameter("to", "last day, included, or an instant, not included", "2026-10-31"),
]


def routes(balances: Balances) -> APIRouter:
    """`/api/v1/balances` and `/api/v1/ledger`."""
    router = APIRouter(prefix="/api/v1", responses=REFUSALS, tags=["balances"])

    @router.get("/balances", openapi_extra={"parameters": [PARTNER, ADVERTISER, CURRENCY]})
    async def show_balances(request: Request) -> Response:
        """By currency: what each partner is owed (`pending`, `approved`: due) and was `paid`, and what each advertiser is billed.

        An advertiser's key is told its own side only. `closed_until`: months before it are summed from their closings.
        """
        filters = _only_filters(request)
        return answer(await balances.balances(filters, advertiser_id=request.state.actor.advertiser_id))

    @router.get("/ledger", openapi_extra={"parameters": LEDGER_PARAMETERS})
    async def list_ledger(request: Request) -> Response:
        """Ledger entries, newest first. An advertiser's key is told those of its own programme."""
        limit, cursor, filters = paging(request)
        return answer(await balances.ledger(filters, limit=limit, cursor=cursor, advertiser_id=request.state.actor.advertiser_id))

    return router


def _only_filters(request: Request) -> dict[str, str]:
    _, _, filters = paging(request)
    for name in ("limit", "cursor"):
        if name in request.query_params:
            raise RejectedInput("invalid_filter", f"balances have no {name}: all of them are told", field=name)
    return filters
