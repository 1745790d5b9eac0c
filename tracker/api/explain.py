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

PROPERTIES = {
    "url": {"type": "string"},
    "headers": {"type": "object", "additionalProperties": {"type": "string"}},
    "platform": {"type": ["string", "null"], "description": "take a host that is not registered as one of this platform"},
    "source": {"type": ["string", "null"], "description": "whose ids stand in its links; the platform's name when missing"},
}
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
        platform, source = (_text(body, name) for name in ("platform", "source"))
        return answer(await run_in_threadpool(_explain, settings, body["url"], host, platform, source))

    return router


def _text(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise RejectedInput(f"invalid_{name}", f"{name} must be a string", field=name)
    return value


def _explain(settings: Settings, url: str, host: str, platform: str | None, source: str | None) -> dict[str, Any]:
    table = route_table(settings)
    table.refresh()
    try:
        return as_dict(explanation(table, url, time.time_ns() // 1_000_000, host, platform, source))
    finally:
        table.close()
