r"""Access logs of the servers and services that old links were answered by: a line in, the request it tells of out. Pure.

Formats by their names here: `common`, `combined` (nginx, Apache), `vhost_combined` (the host in front), `combined_host` (the host
somewhere behind, or any other column of it), `alb` (AWS), `cloudfront` (AWS standard logs), `w3c` (IIS), `json`, `csv`.

Nothing here raises for any bytes, and every line is read in time linear in its length; callers pass over those of more than
`LINE_MAX_BYTES`.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from msgspec import Struct

from tracker.domain.access_log_columns import LINE_MAX_BYTES, NOTE, CsvLog, JsonLog, LogLine, W3cLog, json_object
from tracker.domain.access_log_columns import request_of as _request_of

__all__ = ["FORMATS", "LINE_MAX_BYTES", "NOTE", "LogLine", "LogReader", "format_of", "reader_of"]

SHARE_MIN: Final = 0.2  # of the sample that must be readable: the beginning of a log may be a scan of the whole port
HOST_SHARE_MIN: Final = 0.5  # of the lines that must have a host name in a column for it to be the column of the host
_ALB_REQUEST, _ALB_STATUS = 12, 8  # places in a line of AWS ALB
_TOKEN = re.compile(rb'"((?:[^"\\]++|\\.)*+)"|\[[^\[\]]*+\]|\S++', re.DOTALL)
_REQUEST = re.compile(rb"[A-Za-z][A-Za-z_-]{1,31} +\S")
_ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|(.))", re.DOTALL)
_NAMED_ESCAPES: Final = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"b": b"\b", b"v": b"\v", b"f": b"\f"}
_ALB_LINE = re.compile(rb"(?:https?|h2|grpcs|wss?) [0-9]{4}-[0-9]{2}-[0-9]{2}T")
_HOST_NAME = re.compile(rb"(?:localhost|(?:[A-Za-z0-9_-]+\.)+[A-Za-z][A-Za-z0-9-]*)\.?(?::[0-9]{1,5})?")
_ADDRESS = re.compile(rb"[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]{1,45}")
_HOST_NAME_MAX_BYTES: Final = 259  # 253 of the name, and a port


class LogReader(Protocol):
    """Reads the lines of one file, from its first."""

    def read(self, line: bytes) -> LogLine | None:
        """The request that `line`, without its end, tells of; `NOTE` for a blank line, a comment, a heading; None: no such line."""


class Token(Struct, frozen=True, gc=False):
    """A word of a line: its text without quotes (escapes as they are), and whether it was quoted."""

    text: bytes
    is_quoted: bool


class Column(Struct, frozen=True, gc=False):
    """Where the host stands: `place` words from the beginning, or `place` words behind the request."""

    is_behind: bool
    place: int


FRONT: Final = Column(is_behind=False, place=0)


class TextLog:
    """nginx's and Apache's own formats, whatever stands around the request: see `LogReader`.

    The request is the first quoted word that reads as one; status and agent follow it. `host` None: the log does not tell it.
    """

    def __init__(self, host: Column | None) -> None:
        self._host = host

    def read(self, line: bytes) -> LogLine | None:
        """See `LogReader`."""
        if not line.strip():
            return NOTE
        tokens = tokens_of(line)
        at = _request_at(tokens)
        if at is None:
            return None
        behind = tokens[at + 1 :]
        host = _at(tokens[:at], behind, self._host) if self._host else b""
        status = behind[0].text if behind else b""
        return _request_of(unescaped(tokens[at].text), host, status=status, user_agent=_agent(behind))


class AlbLog:
    """AWS Application Load Balancer: see `LogReader`. The request has the whole URL."""

    def read(self, line: bytes) -> LogLine | None:
        """See `LogReader`."""
        if not line.strip():
            return NOTE
        tokens = tokens_of(line)
        if len(tokens) <= _ALB_REQUEST + 1 or not tokens[_ALB_REQUEST].is_quoted:
            return None
        agent = unescaped(tokens[_ALB_REQUEST + 1].text)
        return _request_of(
            unescaped(tokens[_ALB_REQUEST].text), b"", status=tokens[_ALB_STATUS].text, user_agent=b"" if agent == b"-" else agent
        )


def format_of(sample: Sequence[bytes]) -> str:
    """The name of the format of a file that begins with the lines `sample`; `""` when it is none of them.

    Fifty lines are plenty; some of them may be damaged. Never raises.
    """
    lines = [line for line in sample if line.strip() and len(line) <= LINE_MAX_BYTES]
    heading = next((line for line in lines if line.startswith(b"#Fields:")), None)
    if heading is not None:
        return "cloudfront" if b"x-edge-location" in heading else "w3c"
    if not lines:
        return ""
    if _is_enough(sum(json_object(line) is not None for line in lines), lines):
        return "json"
    if CsvLog(lines).is_one:
        return "csv"
    if _is_enough(sum(_ALB_LINE.match(line) is not None for line in lines), lines):
        return "alb"
    return _text_format(lines)


def reader_of(name: str, sample: Sequence[bytes]) -> LogReader:
    """The reader of a file in the format `name` (of `FORMATS`) that begins with `sample`. KeyError: there is no such format."""
    return FORMATS[name]([line for line in sample if len(line) <= LINE_MAX_BYTES])


FORMATS: Final[dict[str, Callable[[Sequence[bytes]], LogReader]]] = {
    "common": lambda _: TextLog(None),
    "combined": lambda _: TextLog(None),
    "vhost_combined": lambda _: TextLog(FRONT),
    "combined_host": lambda sample: TextLog(host_column(sample)),
    "json": lambda _: JsonLog(),
    "alb": lambda _: AlbLog(),
    "cloudfront": W3cLog,
    "w3c": W3cLog,
    "csv": CsvLog,
}


def _text_format(lines: Sequence[bytes]) -> str:
    reader = TextLog(None)
    read = [found for found in map(reader.read, lines) if found is not None and found is not NOTE]
    if not read or not _is_enough(len(read), lines):
        return ""
    column = host_column(lines)
    if column is not None:
        return "vhost_combined" if column == FRONT else "combined_host"
    return "common" if all(found.user_agent is None for found in read) else "combined"


def _is_enough(count: int, lines: Sequence[bytes]) -> bool:
    return count >= SHARE_MIN * len(lines)


def host_column(sample: Sequence[bytes]) -> Column | None:
    """Where the host stands in a text log: where most lines have the name of one, first in front, then at the very end."""
    found: Counter[tuple[bool, int]] = Counter()
    read = 0
    for line in sample:
        tokens = tokens_of(line)
        at = _request_at(tokens)
        if at is not None:
            read += 1
            found.update(_host_places(tokens, at))
    likely = [place for place, count in found.items() if count >= HOST_SHARE_MIN * read]
    if not likely:
        return None
    return Column(*min(likely, key=lambda place: (place[0], -place[1] if place[0] else place[1])))


def _host_places(tokens: Sequence[Token], at: int) -> list[tuple[bool, int]]:
    """The columns of one line that hold a host name. A lone name in front of `- -` is a client that was looked up, no host."""
    head, behind = tokens[:at], tokens[at + 1 :]
    has_client = len(head) > 4 or any(_ADDRESS.fullmatch(word.text) for word in head)
    first = [(False, place) for place, word in enumerate(head) if _is_host_name(word) and (place or has_client)]
    texts = {id(word) for word in _texts(behind)}
    return first + [(True, place) for place, word in enumerate(behind) if id(word) not in texts and _is_host_name(word)]


def _is_host_name(word: Token) -> bool:
    return len(word.text) <= _HOST_NAME_MAX_BYTES and _HOST_NAME.fullmatch(word.text) is not None


def tokens_of(line: bytes) -> list[Token]:
    """The words of a line: quoted ones, a time in brackets, and what stands between blanks."""
    return [
        Token(match[0], is_quoted=False) if match.lastindex is None else Token(match[1], is_quoted=True) for match in _TOKEN.finditer(line)
    ]


def unescaped(text: bytes) -> bytes:
    r"""Bytes as they were before nginx (`\xHH`) or Apache (`\"`, `\n`, `\xHH`) wrote them into its log."""
    return _ESCAPE.sub(_unescape, text) if b"\\" in text else text


def _unescape(match: re.Match[bytes]) -> bytes:
    return bytes.fromhex(match[1].decode("ascii")) if match[1] else _NAMED_ESCAPES.get(match[2], match[2])


def _request_at(tokens: Sequence[Token]) -> int | None:
    return next((at for at, word in enumerate(tokens) if word.is_quoted and _REQUEST.match(word.text)), None)


def _at(head: Sequence[Token], behind: Sequence[Token], column: Column) -> bytes:
    words = behind if column.is_behind else head
    text = words[column.place].text if column.place < len(words) else b""
    return b"" if text == b"-" else text


def _texts(behind: Sequence[Token]) -> list[Token]:
    """Referrer and agent: the first two quoted words behind the request, which stand side by side."""
    quoted = [place for place, word in enumerate(behind) if word.is_quoted][:2]
    is_pair = len(quoted) == 2 and quoted[1] == quoted[0] + 1
    return [behind[place] for place in quoted] if is_pair else []


def _agent(behind: Sequence[Token]) -> bytes | None:
    """The agent; empty when the client sent none, None when the log has no such column."""
    texts = _texts(behind)
    if not texts:
        return None
    agent = unescaped(texts[1].text)
    return b"" if agent == b"-" else agent
