"""Answers as the API gives them: JSON by orjson, problems as RFC 9457; and reading of bodies and paging parameters."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from tracker.adapters.postgres_pool import plain
from tracker.adapters.postgres_programme_sql import PAGE_MAX
from tracker.errors import RejectedInput, TransientError, TurnoutError

BODY_MAX_BYTES = 8 * 1024**2  # 1000 links with long destinations
BODY_TIMEOUT_S = 60.0
PAGE_DEFAULT = 100
RETRY_AFTER_S = "2"
OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS
TITLES = {400: "Bad request", 401: "Unauthorized", 403: "Forbidden", 404: "Not found", 405: "Method not allowed", 409: "Conflict"}
TITLES |= {408: "Too slow", 413: "Too large", 415: "Unsupported media type", 422: "Rejected input"}
TITLES |= {500: "Internal error", 503: "Unavailable"}


class RefusedBody(RejectedInput):
    """A body that is not read to its end: 408 too slow, 413 too large, 415 of a kind that is not understood."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(code, message)
        self.status = status


def answer(content: Any, status: int = 200) -> Response:
    """`content` as JSON; instants in UTC with a Z, UUIDs as text."""
    return Response(orjson.dumps(content, plain, OPTIONS), status, media_type="application/json", headers={"Cache-Control": "no-store"})


def problem(status: int, code: str, detail: str, **more: Any) -> Response:
    """An `application/problem+json` answer with a stable `code`."""
    content = {
        "type": f"urn:turnout:problem:{code}",
        "title": TITLES.get(status, "Error"),
        "status": status,
        "detail": detail,
        "code": code,
    }
    content |= {name: value for name, value in more.items() if value is not None}
    headers = {"Cache-Control": "no-store"}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status == 408:
        headers["Connection"] = "close"  # what is still to come of the body is not waited for
    if status == 503:
        headers["Retry-After"] = RETRY_AFTER_S
    return Response(orjson.dumps(content, plain, OPTIONS), status, headers, "application/problem+json")


def problem_of(error: TurnoutError) -> Response:
    """The one table from our errors to HTTP."""
    if isinstance(error, RejectedInput):
        return problem(error.status, error.code, str(error), field=error.field)
    if isinstance(error, TransientError):
        return problem(503, "unavailable", "The database cannot be reached; try again. Nothing is known to be changed.")
    return problem(500, "internal_error", str(error))


async def _turnout(_: Request, error: Exception) -> Response:
    assert isinstance(error, TurnoutError)  # noqa: S101 - registered for this class alone
    return problem_of(error)


async def _http(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    codes = {404: "not_found", 405: "method_not_allowed"}
    return problem(status, codes.get(status, "error"), str(getattr(error, "detail", "") or TITLES.get(status, "Error")))


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class alone
    first = error.errors()[0]
    field = str(first["loc"][-1])
    return problem(422, f"invalid_{field}", f"{field}: {first['msg']}", field=field)


async def _gone(_: Request, __: Exception) -> Response:
    return problem(400, "invalid_body", "The body ended before its end.")  # nobody reads this


def handle_errors(app: FastAPI) -> None:
    """Make every refusal of `app` a problem."""
    handlers: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
        TurnoutError: _turnout,
        HTTPException: _http,
        RequestValidationError: _invalid,
        ClientDisconnect: _gone,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


async def read_body(request: Request, limit_bytes: int = BODY_MAX_BYTES, *, timeout_s: float = BODY_TIMEOUT_S) -> bytes:
    """The whole body. RefusedBody: 413 when it is longer than `limit_bytes`, 408 when it takes longer than `timeout_s`."""
    chunks, size = [], 0
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit_bytes:
                    raise RefusedBody(413, "too_large", f"the body must have at most {limit_bytes} bytes")
                chunks.append(chunk)
    except TimeoutError as exc:
        raise RefusedBody(408, "too_slow", f"the body must arrive within {timeout_s:g} seconds") from exc
    return b"".join(chunks)


async def read_json(request: Request, *, empty: Any = None) -> Any:
    """The body as JSON; `empty` for no body at all, where that is allowed. RejectedInput `invalid_json`."""
    body = await read_body(request)
    try:
        return orjson.loads(body) if body or empty is None else empty
    except ValueError as exc:
        raise RejectedInput("invalid_json", f"the body is not JSON: {exc}") from exc


def paging(request: Request) -> tuple[int, str | None, dict[str, str]]:
    """`limit` (1–1000, default 100), `cursor`, and every other query parameter."""
    others = {name: value for name, value in request.query_params.items() if name not in ("limit", "cursor")}
    text = request.query_params.get("limit", str(PAGE_DEFAULT))
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= PAGE_MAX):
        raise RejectedInput("invalid_limit", f"limit must be a number from 1 to {PAGE_MAX}", field="limit")
    if any("\x00" in value for value in others.values()):
        raise RejectedInput("invalid_filter", "filters must not contain NUL")
    return int(text), request.query_params.get("cursor") or None, others
