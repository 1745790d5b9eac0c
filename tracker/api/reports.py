"""Reports and the audit, as JSON and CSV."""

import importlib
from typing import Any

from fastapi import APIRouter, Request, Response

from tracker.adapters import postgres_reports
from tracker.adapters.postgres_pool import Database
from tracker.adapters.postgres_reports_question import BASIC, GROUPS, GROUPS_MAX, METRICS, ROWS_MAX
from tracker.api.answers import answer
from tracker.api.document import REFUSALS
from tracker.api.report_questions import as_csv, joined, read_question
from tracker.errors import RejectedInput
from tracker.settings import Settings

PARAMETERS = [
    {"name": name, "in": "query", "schema": {"type": "string"}, "description": text}
    for name, text in (
        ("from", "first day, default today"),
        ("to", "last day, included, default today"),
        ("group_by", f"at most {GROUPS_MAX} of {', '.join(GROUPS)}"),
        ("metrics", f"of {', '.join(METRICS)}; default {', '.join(BASIC)}"),
        ("filter[partner]", "values that are counted, separated by commas or repeated, empty for none; so for every group"),
        ("sort", "groups and metrics asked for, a minus in front for descending; default the groups"),
        ("limit", f"at most so many rows, 1 to {ROWS_MAX}, default {ROWS_MAX}; totals are of all"),
        (
            "currency",
            "what money is turned into, such as EUR, each conversion by the rate of its UTC day; default: nothing is",
        ),
        ("time", "when a conversion stands: conversion, its own time, the default; click, that of its click"),
        ("tz", "time zone of days and hours, default UTC"),
        ("format", "json or csv"),
    )
]

AS_CSV: dict[int | str, dict[str, Any]] = {200: {"description": "The report", "content": {"text/csv": {}}}}


def routes(database: Database, settings: Settings) -> APIRouter:
    """Routes below /api/v1 for reports and the audit."""
    router = APIRouter(prefix="/api/v1", responses=REFUSALS)

    @router.get("/reports", tags=["reports"], openapi_extra={"parameters": PARAMETERS}, responses=AS_CSV)
    async def report(request: Request) -> Response:
        """Clicks, conversions and money by group; `rows` and `totals`.

        A group whose money is of several currencies has one row for each pair of `currency` and `payout_currency`. Its
        clicks stand in the first of them and are 0 in the others, so that rows can be summed. When the whole is of several
        currencies, `totals` has no money; `totals_by_currency` lists what is earned for each.

        `impressions` and `ctr`, clicks by impression, are counted by partner, campaign, link, advertiser, day and hour alone.

        `cr` is conversions by click, `epc` payout by click, `aov` revenue by conversion; null where that divides by 0. Clicks are
        those of the whole group.

        With `currency` all money is in it, revenue and payout rounded half even at its minor unit. Each row and the totals say in
        `unconverted` what has no rate and is left out of them, in its own currencies, null where that part is in; `missing_rates`
        lists the days and currencies, at most 100 (`missing_rates_left_out`: how many more). `conversions` counts all; `aov` divides
        by those whose revenue is in. With `time=click` a conversion without a click stands at its own time.

        `rows_left_out` says how many rows `limit` cut off (in CSV the header `X-Rows-Left-Out`);
        `clicks_kept_from` says since when single clicks are kept, when that is after `from` and the question needs them.
        """
        parameters = joined(request.query_params.multi_items())
        form = parameters.get("format", "json")
        if form not in ("json", "csv"):
            raise RejectedInput("invalid_format", "format must be json or csv", field="format")
        question = read_question(parameters, advertiser_id=request.state.actor.advertiser_id)
        found = await postgres_reports.report(database, question)
        if form == "csv":
            headers = {"Cache-Control": "no-store"}
            headers |= {"X-Rows-Left-Out": str(found["rows_left_out"])} if "rows_left_out" in found else {}
            return Response(as_csv(found, question), media_type="text/csv; charset=utf-8", headers=headers)
        return answer(found)

    @router.get("/audit", tags=["audit"])
    async def audit() -> Response:
        books: Any = importlib.import_module("tracker.adapters.audit")
        return answer(await books.audit(settings.dsn, settings.stream_url, settings.stream_shards))

    return router
