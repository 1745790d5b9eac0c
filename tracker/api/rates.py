"""Exchange rates: import them, list them."""

from typing import Any

from fastapi import APIRouter, Query, Request, Response

from tracker.api.answers import answer, paging, read_body, read_json
from tracker.api.document import CHANGING, CURSORS, REFUSALS
from tracker.errors import RejectedInput
from tracker.payouts.rates import DAYS, RATES_MAX, SOURCE_MAX, ExchangeRates

CODE = {"type": "string", "pattern": "^[A-Z]{3}$"}
ONE: dict[str, Any] = {
    "type": "object",
    "required": ["day", "currency", "rate"],
    "additionalProperties": False,
    "properties": {
        "day": {"type": "string", "format": "date"},
        "currency": CODE,
        "rate": {
            "type": "string",
            "description": "units of the currency for one of the base, above 0",
            "pattern": r"^[0-9]{1,12}(\.[0-9]{1,12})?$",
        },
        "base": CODE | {"description": "default EUR"},
        "source": {"type": "string", "description": "who published it, default that of the request"},
    },
}
MANY = {
    "type": "object",
    "required": ["rates"],
    "additionalProperties": False,
    "properties": {
        "source": {"type": "string", "maxLength": SOURCE_MAX, "description": "who published them"},
        "rates": {"type": "array", "items": ONE, "minItems": 1, "maxItems": RATES_MAX},
    },
}
EXAMPLE = {"source": "ecb", "rates": [{"day": "2026-11-20", "currency": "USD", "rate": "1.0905"}]}
EXAMPLE_CSV = "Date, USD, JPY, \n20 November 2026, 1.0905, 162.34, \n"
CONTENT = {"application/json": {"schema": MANY, "example": EXAMPLE}, "text/csv": {"schema": {"type": "string"}, "example": EXAMPLE_CSV}}
BODY = {"requestBody": {"required": True, "content": CONTENT}}
FILTERS = [
    {"name": name, "in": "query", "schema": {"type": "string"}, "description": text, "example": example}
    for name, text, example in (
        ("from", f"first day, default {DAYS} days with the last", "2026-11-16"),
        ("to", "last day, included, default today (UTC)", "2026-11-20"),
        ("currency", "only this one", "USD"),
    )
]
SOURCE = Query("", max_length=SOURCE_MAX, description="who published the rates; a file of the ECB says it by itself")
REPLACE = Query(False, description="replace known rates by others of the same day; reports of that time change")
DRY_RUN = Query(False, description="store nothing, only say what would be")


def routes(rates: ExchangeRates) -> APIRouter:
    """`/api/v1/rates`."""
    router = APIRouter(prefix="/api/v1", responses=REFUSALS, tags=["rates"])

    @router.post("/rates", openapi_extra=BODY, responses=CHANGING)
    async def import_rates(request: Request, source: str = SOURCE, replace: bool = REPLACE, dry_run: bool = DRY_RUN) -> Response:
        """Store exchange rates by day, all or none: a CSV file as the ECB publishes it, one with day,currency,rate, or JSON.

        The same again changes nothing. Another rate than the known one of its day is a 409 `rate_differs` unless `replace`.
        """
        actor = request.state.actor.name
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "text/csv":
            content = await read_body(request)
            return answer(await rates.import_csv(content, actor, source=source, replacing=replace, dry_run=dry_run))
        body = await read_json(request)
        return answer(await rates.import_json(body, actor, source=source, replacing=replace, dry_run=dry_run))

    @router.get("/rates", openapi_extra={"parameters": [*FILTERS, *CURSORS]})
    async def list_rates(request: Request) -> Response:
        """Exchange rates by day, currency and base: one of the base is `rate` of the currency."""
        limit, cursor, filters = paging(request)
        if unknown := set(filters) - {"from", "to", "currency"}:
            raise RejectedInput("invalid_parameter", "the parameters are from, to, currency, limit, cursor", field=min(unknown)[:40])
        first, last, currency = (filters.get(name, "") for name in ("from", "to", "currency"))
        return answer(await rates.listed(first=first, last=last, currency=currency, limit=limit, cursor=cursor))

    return router
