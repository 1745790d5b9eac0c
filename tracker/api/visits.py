"""What a shop's pages load: the script, and the image that keeps a visitor's clicks in a cookie of ours."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response

from tracker.adapters.lmdb_routes import RouteTable
from tracker.api.clients import is_https
from tracker.api.metrics import Metrics
from tracker.api.postback_document import GIF_ANSWER, query
from tracker.api.tokens import Tokens
from tracker.domain import click_id, visitor_cookie
from tracker.errors import RejectedInput, StoreUnavailable
from tracker.platforms.replies import GIF
from tracker.settings import Settings

SCRIPT = Path(__file__).with_name("turnout.js")
SCRIPT_MAX_AGE_S = 3600
SCRIPT_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The script", "content": {"text/javascript": {}}},
    304: {"description": "It is as `If-None-Match` says"},
}


def routes(tokens: Tokens, table: RouteTable, metrics: Metrics, settings: Settings) -> APIRouter:
    """`/visit.gif` and `/turnout.js`."""
    router = APIRouter(tags=["postbacks"])
    script = SCRIPT.read_bytes()
    headers = {
        "Cache-Control": f"public, max-age={SCRIPT_MAX_AGE_S}",
        "ETag": f'"{hashlib.sha256(script).hexdigest()[:32]}"',
        "X-Content-Type-Options": "nosniff",
    }
    described = {"parameters": query("pixel_key", only=("token", "click_id"))}

    @router.get("/visit.gif", openapi_extra=described, response_class=Response, responses=GIF_ANSWER)
    async def visit(request: Request) -> Response:
        """Puts a click into the visitor's cookie, by which `/pixel.gif` finds it later. Always a 1×1 GIF.

        No cookie for what another page than a shop's asks: `Origin`, else `Referer`, is within the domains that advertisers declare.
        Where none of them declares any, every page may ask.
        """
        answer = _gif()
        outcome, cookie = await _cookie(request, tokens, table)
        metrics.visits.labels(outcome).inc()
        if cookie:
            answer.headers["Set-Cookie"] = visitor_cookie.set_cookie(cookie, is_secure=is_https(request, settings.trusted_proxies))
        return answer

    @router.head("/visit.gif", include_in_schema=False)
    async def look_at_visit() -> Response:
        return _gif()  # link checkers look; that is no visit

    @router.get("/turnout.js", response_class=Response, responses=SCRIPT_ANSWERS)
    @router.head("/turnout.js", include_in_schema=False)
    async def shop_script(request: Request) -> Response:
        """The script for a shop's pages: keeps the click id, reports orders by pixel."""
        known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
        if headers["ETag"] in known or known == ["*"]:
            return Response(status_code=304, headers=headers)
        return Response(script, media_type="text/javascript", headers=headers)

    return router


def visits_of(request: Request | None, parameters: Mapping[str, str], table: RouteTable) -> tuple[str, ...]:
    """The clicks that the visitor's cookie names, newest first; `()` when there is none that we made.

    The cookie is the parameter `cookie`, by the name that is ours, else the request's own; without a request the parameter
    alone counts, as it must where only the parameters are signed.
    """
    key = _key(table)
    if key is None:
        return ()
    said = visitor_cookie.read(parameters.get(visitor_cookie.PARAMETER, "").strip(), key)
    return said or (visitor_cookie.read(_sent(request), key) if request is not None else ())


async def _cookie(request: Request, tokens: Tokens, table: RouteTable) -> tuple[str, str]:
    """What becomes of a visit, one of `metrics.VISITS`, and the visitor's cookie with its click; `""` when it is not kept."""
    parameters, key = request.query_params, _key(table)
    click = click_id.from_any(parameters.get("click_id", ""))
    if key is None:
        return "unavailable", ""
    if click is None:
        return "rejected", ""
    # Not the domains of the key's advertiser alone: keys are public, the cookie is that of all shops, and a click does not say whose it is.
    page = visitor_cookie.page_of(request.headers.get("origin", ""), request.headers.get("referer", ""), table.shop_domains())
    if page != "shop":
        return page, ""
    try:
        await tokens.advertiser(parameters.get("pixel_key", ""), "pixel")
    except RejectedInput:
        return "rejected", ""
    except StoreUnavailable:
        return "unavailable", ""
    return "kept", visitor_cookie.with_click(_sent(request), key, click_id.to_text(click).decode("ascii"))


def _key(table: RouteTable) -> bytes | None:
    """None on a machine whose route table has not been published yet."""
    table.refresh()
    secret = table.installation().visitor_secret
    return visitor_cookie.derive(secret.encode()) if secret else None


def _sent(request: Request) -> str:
    return request.cookies.get(visitor_cookie.NAME, "")


def _gif() -> Response:
    return Response(GIF, media_type="image/gif", headers={"Cache-Control": "no-store"})
