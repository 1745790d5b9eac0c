"""Health, metrics and the API's own documentation page (self-contained: nothing is loaded from anywhere)."""

from html import escape
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from prometheus_client import CONTENT_TYPE_LATEST

from tracker.adapters.postgres_conversions_read import Conversions
from tracker.adapters.postgres_pool import Database
from tracker.api.answers import answer, problem
from tracker.api.clients import client_address, is_within
from tracker.api.document import refusals
from tracker.api.metrics import Metrics
from tracker.settings import Settings

EXPOSITION = refusals(_404="Not for this address") | {200: {"description": "Prometheus text", "content": {"text/plain": {}}}}
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
h2{margin:2rem 0 .5rem;border-bottom:1px solid #d0d7de}
details{border:1px solid #d0d7de;border-radius:6px;margin:.3rem 0;padding:.3rem .7rem}
summary{cursor:pointer}b{display:inline-block;min-width:4rem}code{font:13px ui-monospace,monospace}
td{padding:.1rem 1rem .1rem 0;vertical-align:top}
@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}h2,details{border-color:#30363d}a{color:#58a6ff}}
"""


def routes(database: Database, conversions: Conversions, metrics: Metrics, settings: Settings) -> APIRouter:
    """`/healthz`, `/readyz`, `/metrics`."""
    router = APIRouter(tags=["system"])

    @router.head("/healthz", include_in_schema=False)
    @router.get("/healthz")
    async def healthz() -> Response:
        return answer({"status": "ok"})

    @router.head("/readyz", include_in_schema=False)
    @router.get("/readyz", responses={503: {"description": "PostgreSQL cannot be reached, or has another schema"}})
    async def readyz() -> Response:
        ready = await database.is_ready()
        return answer({"status": "ready" if ready else "not ready", "postgresql": ready}, 200 if ready else 503)

    @router.get("/metrics", response_class=Response, responses=EXPOSITION)
    async def exposition(request: Request) -> Response:
        if not is_within(client_address(request, settings.trusted_proxies), settings.metrics_allow):
            return problem(404, "not_found", "Not found")
        return Response(await metrics.exposition(conversions), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return router


def add_docs(app: FastAPI) -> None:
    """`/docs`: every operation of `/openapi.json` on one page without scripts."""

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(page(app.openapi()))


def page(document: dict[str, Any]) -> str:
    """An OpenAPI document as HTML."""
    groups: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            groups.setdefault((operation.get("tags") or ["other"])[0], []).append(_operation(path, method, operation))
    body = "".join(f"<h2>{escape(name)}</h2>{''.join(items)}" for name, items in groups.items())
    title = escape(document["info"]["title"])
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title} API</title><style>{STYLE}</style></head><body><h1>{title} API</h1>"
        f"<p>{escape(document['info'].get('description', ''))}</p>"
        f'<p>Machine-readable: <a href="/openapi.json">/openapi.json</a></p>{body}</body></html>'
    )


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    required = schema.get("required", ())
    rows = [(item["name"], item["in"], item.get("description", "")) for item in operation.get("parameters", [])]
    rows += [
        (name + (" *" if name in required else ""), _type(what), what.get("description", ""))
        for name, what in schema.get("properties", {}).items()
    ]
    table = "".join(f"<tr><td><code>{escape(a)}</code></td><td>{escape(b)}</td><td>{escape(c)}</td></tr>" for a, b, c in rows)
    heading = f"<b>{escape(method.upper())}</b> <code>{escape(path)}</code> {escape(operation.get('summary', ''))}"
    return f"<details><summary>{heading}</summary><table>{table or '<tr><td>no parameters</td></tr>'}</table></details>"


def _type(schema: dict[str, Any]) -> str:
    return " or ".join(str(one.get("type", "")) for one in schema.get("anyOf", [schema]))
