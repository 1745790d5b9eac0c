"""Access logs whose columns have names: JSON lines, W3C (IIS, CloudFront), CSV. Pure; see `access_logs`."""

import csv
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from msgspec import MsgspecError, Struct, json

from tracker.domain.urls import split_absolute

LINE_MAX_BYTES: Final = 65_536  # no server takes a longer request
# Names of columns without case and punctuation, in order of preference: the host that the visitor asked for comes first.
HOST: Final = (
    "xhostheader", "httphost", "host", "requesthost", "clientrequesthost", "vhost", "virtualhost", "servername", "cshost",
    "urldomain", "domain", "domainname",
)  # fmt: skip
METHOD: Final = ("method", "requestmethod", "httpmethod", "clientrequestmethod", "httprequestmethod", "csmethod", "verb")
REQUEST: Final = ("request", "requestline")
TARGET: Final = (
    "requesturi", "clientrequesturi", "urloriginal", "originalurl", "requesturl", "url", "link", "target", "uri", "requestpath",
    "clientrequestpath", "csuristem", "urlpath", "path",
)  # fmt: skip
QUERY: Final = ("query", "querystring", "args", "queryargs", "urlquery", "csuriquery")
STATUS: Final = (
    "status", "statuscode", "httpstatus", "responsestatus", "httpresponsestatuscode", "edgeresponsestatus", "downstreamstatus",
    "responsecode", "scstatus",
)  # fmt: skip
AGENT: Final = ("useragent", "httpuseragent", "requestuseragent", "clientrequestuseragent", "useragentoriginal", "csuseragent", "agent")
_CALLED: Final = {
    name: (role, rank)
    for role, names in (("host", HOST), ("method", METHOD), ("request", REQUEST), ("target", TARGET), ("query", QUERY),
                        ("status", STATUS), ("agent", AGENT))
    for rank, name in enumerate(names)
}  # fmt: skip
_INSIDE: Final = frozenset(("request", "httprequest", "headers"))  # objects in a JSON line that are read as the line itself
_DEPTH_MAX: Final = 2
DELIMITERS: Final = ",;\t"
ONE_COLUMN: Final = "\x1f"  # a list of URLs has no delimiter, but commas inside
_NOT_IN_NAMES = re.compile(r"[^0-9a-z]")
_REQUEST = re.compile(rb"([A-Za-z][A-Za-z_-]{1,31}) +(\S.*)", re.DOTALL)
_PROTOCOL = re.compile(rb"[ ]+HTTP/[0-9.]{1,5}", re.IGNORECASE)
_HEX_ESCAPE = re.compile(rb"\\x([0-9A-Fa-f]{2})")
_NO_ASCII = re.compile(rb"[\x80-\xff]")
_SCHEME = re.compile(rb"[A-Za-z]{1,20}://")


class LogLine(Struct, frozen=True, gc=False):
    """One request. `host` is empty where the log does not tell it; `target` is path and query as sent.

    `status` is what the old host answered, None if unknown. `user_agent` is empty where the client sent none, None where the log
    has no such column.
    """

    host: bytes
    method: bytes
    target: bytes
    status: int | None = None
    user_agent: bytes | None = None


NOTE: Final = LogLine(b"", b"", b"")  # a blank line, a comment, a heading; compare by identity


def request_of(request: bytes, host: bytes, *, status: bytes = b"", user_agent: bytes | None = None) -> LogLine | None:
    """The line of `GET /path HTTP/1.1` or `GET https://host/path HTTP/1.1`; None when that is no request."""
    match = _REQUEST.match(request)
    if match is None:
        return None
    target = match[2].rstrip(b" ")
    blank = target.rfind(b" ")
    if blank > 0 and _PROTOCOL.fullmatch(target, blank):
        target = target[:blank].rstrip(b" ")
    return line_of(match[1].upper(), host, target, status=status, user_agent=user_agent)


def line_of(method: bytes, host: bytes, target: bytes, *, status: bytes = b"", user_agent: bytes | None = None) -> LogLine | None:
    """The line of a target in any form; None for what is no path (`*` of OPTIONS, `host:port` of CONNECT, ALB's `http://h:80-`)."""
    if _SCHEME.match(target):
        host, target = split_absolute(host, target)
    if not target.startswith(b"/"):
        return None
    code = int(status) if len(status) == 3 and status.isdigit() else None
    return LogLine(host, method, target, code, user_agent)


class Columns:
    """Which places of a row tell what, by the names in its heading."""

    def __init__(self, names: Sequence[str]) -> None:
        ranked: dict[str, tuple[int, int]] = {}
        for place, name in enumerate(names):
            called = _CALLED.get(_plain_name(name))
            if called is not None and (called[0] not in ranked or called[1] < ranked[called[0]][0]):
                ranked[called[0]] = (called[1], place)
        self._places = {role: place for role, (_, place) in ranked.items()}

    @property
    def has_target(self) -> bool:
        """Whether a row says which URL was asked for."""
        return "target" in self._places or "request" in self._places

    def told(self, row: Sequence[bytes]) -> dict[str, bytes]:
        """What `row` tells; an empty value and `-` stand for none, a column that the row has not is left out."""
        return {role: b"" if row[place] == b"-" else row[place] for role, place in self._places.items() if place < len(row)}


class JsonLog:
    """A JSON object a line, with the names that nginx, Apache, Caddy, Traefik, Cloudflare, Google and others use: see `LogReader`."""

    def read(self, line: bytes) -> LogLine | None:
        """See `LogReader`."""
        if not line.strip():
            return NOTE
        found = json_object(line)
        if found is None:
            return None
        ranked: dict[str, tuple[int, bytes]] = {}
        _gather(found, ranked, 0)
        return _line_told({role: value for role, (_, value) in ranked.items()})


class W3cLog:
    """Extended W3C: IIS (blanks between) and CloudFront (tabs): see `LogReader`. Each `#Fields:` says what follows."""

    def __init__(self, sample: Sequence[bytes]) -> None:
        self._columns = Columns(())
        for line in sample:
            if line.startswith(b"#Fields:"):
                self.read(line)
                break

    def read(self, line: bytes) -> LogLine | None:
        """See `LogReader`."""
        if line.startswith(b"#Fields:"):
            self._columns = Columns(line.decode("latin-1").split()[1:])
        if line.startswith(b"#") or not line.strip():
            return NOTE
        told = self._columns.told(line.split(b"\t") if b"\t" in line else line.split())
        if told.get("agent"):
            told["agent"] = _agent(told["agent"])
        return _line_told(told)


class CsvLog:
    """Rows under a heading, between `,`, `;` or tabs: see `LogReader`. Without a column of methods every row is a GET."""

    def __init__(self, sample: Sequence[bytes]) -> None:
        self._heading = next((line for line in sample if line.strip()), b"")
        self._delimiter = max(DELIMITERS, key=lambda sign: self._heading.count(sign.encode()))
        if self._delimiter.encode() not in self._heading:
            self._delimiter = ONE_COLUMN
        self._columns = Columns([name.decode("latin-1") for name in self._row(self._heading) or ()])

    @property
    def is_one(self) -> bool:
        """Whether the first line is such a heading."""
        return self._columns.has_target

    def read(self, line: bytes) -> LogLine | None:
        """See `LogReader`."""
        if not line.strip() or line == self._heading:
            return NOTE
        row = self._row(line)
        return None if row is None else _line_told(self._columns.told(row))

    def _row(self, line: bytes) -> list[bytes] | None:
        try:
            row = next(csv.reader([line.decode("latin-1")], delimiter=self._delimiter, skipinitialspace=True), [])
        except csv.Error:
            return None
        return [value.strip().encode("latin-1") for value in row]


def json_object(line: bytes) -> Mapping[str, Any] | None:
    """The object in a line of JSON; bytes that are no UTF-8 and nginx's escapes of a log without `escape=json` stand as `%XX`."""
    if not line.lstrip().startswith(b"{"):
        return None
    try:
        found = _decoded(line)
        return _decoded(_mended(line)) if found is None else found
    except RecursionError:
        return None


def _decoded(line: bytes) -> Mapping[str, Any] | None:
    try:
        found = json.decode(line)
    except (MsgspecError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _mended(line: bytes) -> bytes:
    return _NO_ASCII.sub(lambda match: b"%%%02X" % match[0][0], _HEX_ESCAPE.sub(rb"%\1", line))


def _gather(found: Mapping[str, Any], ranked: dict[str, tuple[int, bytes]], depth: int) -> None:
    """Put what `found` tells into `ranked`; the outer object and the better name win."""
    inner = []
    for name, value in found.items():
        plain = _plain_name(name)
        if isinstance(value, dict) and plain in _INSIDE and depth < _DEPTH_MAX:
            inner.append(value)
            continue
        called, text = _CALLED.get(plain), _text(value)
        if called is not None and text is not None and called[1] < ranked.get(called[0], (len(_CALLED), b""))[0]:
            ranked[called[0]] = (called[1], text)
    for value in inner:
        _gather(value, ranked, depth + 1)


def _text(value: object) -> bytes | None:
    """A value as a log has it; a list (headers in Caddy's log) is its first. None: it tells nothing."""
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value).encode() if abs(value) < 1000 else b""
    if not isinstance(value, str):
        return None
    return b"" if value == "-" else value.encode("utf-8", "surrogatepass")


def _line_told(told: Mapping[str, bytes]) -> LogLine | None:
    """The line of what columns tell; a whole URL or request line, or host, path and query apart."""
    host, status, agent = told.get("host", b""), told.get("status", b""), told.get("agent")
    request, target, query = told.get("request", b""), told.get("target", b""), told.get("query", b"")
    line = request_of(request, host, status=status, user_agent=agent)
    if line is not None:
        return line
    target = _whole(target or request, host)
    if query and b"?" not in target:
        target += b"?" + query.removeprefix(b"?")
    return line_of(told.get("method", b"").upper() or b"GET", host, target, status=status, user_agent=agent)


def _whole(target: bytes, host: bytes) -> bytes:
    """A target as a request has it, of what people put into a list of links: `//host/path`, `host/path`, a path without its slash."""
    if target.startswith(b"//") and not host:
        return b"http:" + target
    if not target or target.startswith(b"/") or _SCHEME.match(target):
        return target
    if host:
        return b"/" + target
    return b"http://" + target if b"." in target.partition(b"/")[0] else target


def _agent(text: bytes) -> bytes:
    """A W3C agent in plain text: IIS writes `+` for blanks, CloudFront escapes, and once more what was escaped."""
    plain = unquote_to_bytes(unquote_to_bytes(text))
    return plain if b" " in plain else plain.replace(b"+", b" ")


@lru_cache(maxsize=1024)
def _plain_name(name: str) -> str:
    return _NOT_IN_NAMES.sub("", name[:100].lower())
