"""Reports and the audit, as JSON and CSV."""

import importlib
from typing import Any

from fastapi import APIRouter, Request, Response

from tracker.adapters import postgres_reports
from tracker.adapters.postgres_pool import Database
from tracker.api.answers import answer
from tracker.api.report_questions import as_csv, read_question
from tracker.errors import RejectedInput
from tracker.settings import Settings

PARAMETERS = [
    {"name": name, "in": "query", "schema": {"type": "string"}, "description": text}
    for name, text in (
        ("from", "first day, default today"),
        ("to", "last day, included, default today"),
        ("group_by", "of " + ", ".join(postgres_reports.GROUPS)),
        ("metrics", "of " + ", ".join(postgres_reports.METRICS)),
        ("filter[partner]", "a slug; also campaign, link, advertiser"),
        ("tz", "time zone of days, default UTC"),
        ("format", "json or csv"),
    )
]


def routes(database: Database, settings: Settings) -> APIRouter:
    """Routes below /api/v1 for reports and the audit."""
    router = APIRouter(prefix="/api/v1")

    @router.get("/reports", tags=["reports"], openapi_extra={"parameters": PARAMETERS})
    async def report(request: Request) -> Response:
        """Clicks, conversions and money by group; `rows` and `totals`.

        A group whose money is of several currencies has one row for each pair of `currency` and `payout_currency`. Its
        clicks stand in the first of them and are 0 in the others, so that rows can be summed. When the whole is of several
        currencies, `totals` has no money; `totals_by_currency` lists conversions, revenue and payout for each.
        """
        parameters = dict(request.query_params)
        form = parameters.get("format", "json")
        if form not in ("json", "csv"):
            raise RejectedInput("invalid_format", "format must be json or csv", field="format")
        question = read_question(parameters, advertiser_id=request.state.actor.advertiser_id)
        found = await postgres_reports.report(database, question)
        if form == "csv":
            return Response(as_csv(found, question), media_type="text/csv; charset=utf-8", headers={"Cache-Control": "no-store"})
        return answer(found)

    @router.get("/audit", tags=["audit"])
    async def audit() -> Response:
        books: Any = importlib.import_module("tracker.adapters.audit")
        return answer(await books.audit(settings.dsn, settings.stream_url, settings.stream_shards))

    return router
