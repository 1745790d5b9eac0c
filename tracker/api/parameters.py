"""What a store sends, as name → text, from a query, a form in either encoding, or JSON."""

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request

from tracker.api.answers import RefusedBody, read_body
from tracker.errors import RejectedInput

BODY_MAX_BYTES = 1024**2
BODY_TIMEOUT_S = 10.0  # whoever sends a parameter a minute holds a connection no longer
FIELDS_MAX = 500
ACCEPTED = "application/x-www-form-urlencoded, multipart/form-data or application/json"
_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_NAME = re.compile(rb'^content-disposition:[^\r\n]*[;\s]name="([^"\r\n]*)"', re.IGNORECASE | re.MULTILINE)
_FILE = re.compile(rb"^content-disposition:[^\r\n]*[;\s]filename\*?=", re.IGNORECASE | re.MULTILINE)


async def read_parameters(request: Request) -> dict[str, str]:
    """Query parameters and, of a POST, those of its form or JSON body, which win. Values are text, numbers unrounded.

    Raises RejectedInput: 413 `too_large`, 408 `too_slow`, 415 `unsupported_media_type`, 422 `invalid_json` or `invalid_body`.
    """
    parameters = dict(request.query_params)
    if request.method != "POST":
        return parameters
    body = await read_body(request, BODY_MAX_BYTES, timeout_s=BODY_TIMEOUT_S)
    kind = request.headers.get("content-type", "")
    return parameters | _body(body, kind) if body.strip() else parameters


def _body(body: bytes, content_type: str) -> dict[str, str]:
    kind = content_type.partition(";")[0].strip().lower()
    if kind.endswith("json") or (kind in ("", "text/plain") and body.lstrip()[:1] == b"{"):
        return _json(body)
    if kind in ("", "application/x-www-form-urlencoded", "text/plain"):
        return _form(body)
    if kind == "multipart/form-data":
        return _multipart(body, content_type)
    raise RefusedBody(415, "unsupported_media_type", f"send a query, or a body as {ACCEPTED}")


def _form(body: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=FIELDS_MAX))
    except ValueError as exc:
        raise RejectedInput("invalid_body", f"a form may have at most {FIELDS_MAX} fields") from exc


def _multipart(body: bytes, content_type: str) -> dict[str, str]:
    """The text fields of multipart/form-data; files are passed over. One pass, nothing nested."""
    match = _BOUNDARY.search(content_type)
    if not match:
        raise RejectedInput("invalid_body", "multipart/form-data needs a boundary")
    mark = b"\r\n--" + (match[1] or match[2]).encode("latin-1", "replace")
    parts = (b"\r\n" + body).split(mark, FIELDS_MAX + 2)
    if len(parts) < 2 or not parts[-1].startswith(b"--"):
        raise RejectedInput("invalid_body", f"the body is not multipart/form-data as announced, or has more than {FIELDS_MAX} fields")
    return dict(_fields(parts[1:-1]))


def _fields(parts: list[bytes]) -> Iterator[tuple[str, str]]:
    for part in parts:
        head, _, value = part.partition(b"\r\n\r\n")
        name = _NAME.search(head)
        if name and not _FILE.search(head):
            yield name[1].decode("utf-8", "replace"), value.decode("utf-8", "replace")


def _json(body: bytes) -> dict[str, str]:
    try:
        content = json.loads(body, parse_float=str, parse_int=str)
        if not isinstance(content, dict):
            raise RejectedInput("invalid_json", "the body must be a JSON object")
        return {name: _scalar(value) for name, value in list(content.items())[:FIELDS_MAX] if value is not None}
    except (ValueError, RecursionError) as exc:
        raise RejectedInput("invalid_json", f"the body is not JSON: {exc}") from exc


def _scalar(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
