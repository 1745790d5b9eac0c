"""Which rule resolves a URL, and where its visitor would land."""

import time
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from tracker.api.answers import answer, read_json
from tracker.api.document import REFUSALS, WITH_BODY, body_of
from tracker.domain.explanation import as_dict, explanation
from tracker.errors import RejectedInput
from tracker.route_table import route_table
from tracker.settings import Settings

PROPERTIES = {"url": {"type": "string"}, "headers": {"type": "object", "additionalProperties": {"type": "string"}}}
EXAMPLE = {"url": "https://go.old.example/aff_c?offer_id=1&aff_id=2", "headers": {"Host": "go.old.example"}}


def routes(settings: Settings) -> APIRouter:
    """`POST /api/v1/explain`."""
    router = APIRouter(prefix="/api/v1", responses=REFUSALS | WITH_BODY)

    @router.post("/explain", tags=["explain"], openapi_extra=body_of(PROPERTIES, ["url"], example=EXAMPLE))
    async def explain_url(request: Request) -> Response:
        body = await read_json(request)
        if not isinstance(body, dict) or not isinstance(body.get("url"), str) or not body["url"]:
            raise RejectedInput("invalid_url", "url is required", field="url")
        headers = body.get("headers") or {}
        if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
            raise RejectedInput("invalid_headers", "headers must be an object of strings", field="headers")
        host = next((value for name, value in headers.items() if name.lower() == "host"), "")
        return answer(await run_in_threadpool(_explain, settings, body["url"], host))

    return router


def _explain(settings: Settings, url: str, host: str) -> dict[str, Any]:
    table = route_table(settings)
    table.refresh()
    try:
        return as_dict(explanation(table, url, time.time_ns() // 1_000_000, host))
    finally:
        table.close()
