"""A request as the redirector looks at it: the raw bytes that matter, and nothing decoded that nobody asks for."""

from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

import msgspec

SUBS = tuple(f"sub{number}".encode() for number in range(1, 11))
_PREFETCH = (b"prefetch", b"prerender", b"preview")


class Request(msgspec.Struct, gc=False):
    """One request. `target` is the raw request target; `peer` the TCP peer, None on a unix socket."""

    method: bytes
    target: bytes
    peer: str | None
    host: bytes = b""
    user_agent: bytes = b""
    referrer: bytes = b""
    language: bytes = b""
    is_prefetch: bool = False
    forwarded_for: tuple[bytes, ...] = ()

    def read_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Take what is needed out of the headers (names in lower case). Of two Hosts the first counts."""
        for name, value in headers:
            if name == b"host":
                self.host = self.host or value
            elif name == b"user-agent":
                self.user_agent = value
            elif name == b"referer":
                self.referrer = value
            elif name == b"accept-language":
                self.language = value.partition(b",")[0].partition(b";")[0].strip()
            elif name == b"x-forwarded-for":
                self.forwarded_for = (*self.forwarded_for, value)
            elif name in (b"sec-purpose", b"purpose", b"x-moz", b"x-purpose") and value.lower().startswith(_PREFETCH):
                self.is_prefetch = True


class Labels(msgspec.Struct, gc=False, frozen=True):
    """What a partner put into the query: sub ids, the own click id, a deep link."""

    subs: tuple[bytes, ...] = ()
    ref: bytes = b""
    deep_link: bytes = b""


NO_LABELS = Labels()


def read_labels(target: bytes) -> Labels:
    """`sub1`…`sub10`, `ref` and `url` of a query, percent-decoded once, `+` as a space; of two of a name the first counts."""
    query = target.partition(b"?")[2].partition(b"#")[0]
    if not query:
        return NO_LABELS
    found: dict[bytes, bytes] = {}
    for pair in query.split(b"&"):
        name, _, value = pair.partition(b"=")
        if name not in found:
            found[name] = value
    subs = [_decoded(found.get(name, b"")) for name in SUBS]
    while subs and not subs[-1]:
        subs.pop()
    return Labels(tuple(subs), _decoded(found.get(b"ref", b"")), _decoded(found.get(b"url", b"")))


def _decoded(value: bytes) -> bytes:
    if b"+" in value:
        value = value.replace(b"+", b" ")
    return unquote_to_bytes(value) if b"%" in value else value
