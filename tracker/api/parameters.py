"""What a store sends, as name → text, from a query, a form in either encoding, or JSON: one report, or a list of them."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request

from tracker.api.answers import RefusedBody, read_body
from tracker.errors import RejectedInput

BODY_MAX_BYTES = 1024**2
BODY_TIMEOUT_S = 10.0  # whoever sends a parameter a minute holds a connection no longer
FIELDS_MAX = 500
REPORTS_MAX = 1000
ACCEPTED = "application/x-www-form-urlencoded, multipart/form-data or application/json"
_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_NAME = re.compile(rb'^content-disposition:[^\r\n]*[;\s]name="([^"\r\n]*)"', re.IGNORECASE | re.MULTILINE)
_FILE = re.compile(rb"^content-disposition:[^\r\n]*[;\s]filename\*?=", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Sent:
    """A request as it came: what its query says, what its body says (values are text, numbers unrounded), the body's bytes.

    `reports`: the body is a list of reports, at most 1000; None in it: not an object.
    """

    query: dict[str, str]
    stated: dict[str, str]
    body: bytes = b""
    reports: list[dict[str, str] | None] | None = None

    @property
    def parameters(self) -> dict[str, str]:
        """Both; what the body says wins."""
        return self.query | self.stated


async def read_sent(request: Request) -> Sent:
    """What a GET or a POST carries.

    Raises RejectedInput: 413 `too_large`, 408 `too_slow`, 415 `unsupported_media_type`, 422 `invalid_json` or `invalid_body`.
    """
    query = dict(request.query_params)
    if request.method != "POST":
        return Sent(query, {})
    body = await read_body(request, BODY_MAX_BYTES, timeout_s=BODY_TIMEOUT_S)
    if not body.strip():
        return Sent(query, {}, body)
    found = _body(body, request.headers.get("content-type", ""))
    return Sent(query, found, body) if isinstance(found, dict) else Sent(query, {}, body, found)


def _body(body: bytes, content_type: str) -> dict[str, str] | list[dict[str, str] | None]:
    kind = content_type.partition(";")[0].strip().lower()
    if kind.endswith("json") or (kind in ("", "text/plain") and body.lstrip()[:1] in (b"{", b"[")):
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


def _json(body: bytes) -> dict[str, str] | list[dict[str, str] | None]:
    try:
        content = json.loads(body, parse_float=str, parse_int=str)
        if isinstance(content, dict):
            return _scalars(content)
        if isinstance(content, list):
            return _reports(content)
    except (ValueError, RecursionError) as exc:
        raise RejectedInput("invalid_json", f"the body is not JSON: {exc}") from exc
    raise RejectedInput("invalid_json", "the body must be a JSON object, or a list of such")


def _reports(content: list[Any]) -> list[dict[str, str] | None]:
    if not 0 < len(content) <= REPORTS_MAX:
        raise RejectedInput("invalid_body", f"a list may have 1 to {REPORTS_MAX} reports")
    return [_scalars(report) if isinstance(report, dict) else None for report in content]


def _scalars(report: dict[str, Any]) -> dict[str, str]:
    return {name: _scalar(value) for name, value in list(report.items())[:FIELDS_MAX] if value is not None}


def _scalar(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
