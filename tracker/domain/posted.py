"""What the body of a POST adds to its URL, so that a report is read the same however it was sent. Pure and total."""

import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final
from urllib.parse import quote_plus

BODY_MAX_BYTES: Final = 256 * 1024
FIELDS_MAX: Final = 200
DEPTH_MAX: Final = 6
NAME_MAX: Final = 255  # a deep one is written out for each of its fields
WHOLE_MAX_BYTES: Final = 65_536  # nothing longer is read
_FORM: Final = "application/x-www-form-urlencoded"
_MULTIPART: Final = "multipart/form-data"
_BOUNDARY: Final = re.compile(r';\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_NAME: Final = re.compile(rb'^content-disposition:[^\r\n]*[;\s]name="([^"\r\n]*)"', re.IGNORECASE | re.MULTILINE)
_FILE: Final = re.compile(rb"^content-disposition:[^\r\n]*[;\s]filename\*?=", re.IGNORECASE | re.MULTILINE)


def merged(target: bytes, content_type: bytes, body: bytes) -> bytes:
    """`target` with the fields of `body` in its query, after those that it has: of two the reader takes the first that is not empty.

    A form as it came; multipart its text fields; a JSON object its scalars, deeper ones as `amount.value` and `items.0.price`. A list
    of one object is that object. What is none of these adds nothing. At most 200 fields; one whose name has more than 255 characters, or
    with which the whole would have more than 64 KB, is passed over.
    """
    fields = _pairs(content_type.partition(b";")[0].strip().lower().decode("latin-1"), content_type, body)
    added = _fitting(fields, WHOLE_MAX_BYTES - len(target) - 1)
    if not added:
        return target
    before, mark, fragment = target.partition(b"#")
    return before + (b"&" if b"?" in before else b"?") + added + mark + fragment


def _fitting(pairs: Iterable[bytes], room: int) -> bytes:
    found = []
    for pair in pairs:
        if len(pair) <= room:
            found.append(pair)
            room -= len(pair) + 1
    return b"&".join(found)


def _pairs(kind: str, content_type: bytes, body: bytes) -> Iterable[bytes]:
    stripped = body.strip()
    if not stripped:
        return ()
    if kind == _MULTIPART:
        return _encoded(_of_multipart(content_type.decode("latin-1"), body))
    if kind.endswith("json") or (kind != _FORM and stripped[:1] in (b"{", b"[")):
        return _encoded(_of_json(stripped))
    if kind in ("", _FORM, "text/plain"):
        return stripped.translate(None, b"\r\n").replace(b"#", b"%23").split(b"&", FIELDS_MAX)[:FIELDS_MAX]
    return ()


def _encoded(fields: Iterable[tuple[str, str]]) -> Iterator[bytes]:
    for name, value in islice(fields, FIELDS_MAX):
        if len(name) <= NAME_MAX and len(value) <= WHOLE_MAX_BYTES:
            yield f"{quote_plus(name, errors='replace')}={quote_plus(value, errors='replace')}".encode("ascii")


def _of_json(body: bytes) -> Iterator[tuple[str, str]]:
    try:
        found = json.loads(body, parse_float=str, parse_int=str, parse_constant=str)
    except (ValueError, RecursionError):
        return iter(())
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    return _leaves("", found, DEPTH_MAX) if isinstance(found, dict) else iter(())


def _leaves(name: str, value: Any, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in inner if depth and len(name) <= NAME_MAX else ():
            yield from _leaves(f"{name}.{key}" if name else str(key), item, depth - 1)
    elif value is not None:
        yield name, value if isinstance(value, str) else json.dumps(value)


def _of_multipart(content_type: str, body: bytes) -> Iterator[tuple[str, str]]:
    match = _BOUNDARY.search(content_type)
    if not match:
        return
    mark = b"\r\n--" + (match[1] or match[2]).encode("latin-1", "replace")
    for part in (b"\r\n" + body).split(mark, FIELDS_MAX + 2)[1:-1]:
        head, _, value = part.partition(b"\r\n\r\n")
        name = _NAME.search(head)
        if name and not _FILE.search(head):
            yield name[1].decode("utf-8", "replace"), value.decode("utf-8", "replace")
