"""A request as the redirector looks at it: the raw bytes that matter, and nothing decoded that nobody asks for."""

from collections.abc import Sequence

import msgspec

from tracker.old_hosts import PURPOSES, is_loaded_ahead

# What is kept of a header, in bytes: nobody's browser sends more, and what is parsed and cached must be bounded.
HOST_MAX, AGENT_MAX, REFERRER_MAX, LANGUAGE_MAX, HOPS_MAX = 300, 512, 1024, 64, 1024


class Request(msgspec.Struct, gc=False):
    """One request. `target` is the raw request target; `peer` the TCP peer, None on a unix socket.

    `body` is that of a POST to an old host, else empty: it is not read. `headers` are all of them, as they came.
    """

    method: bytes
    target: bytes
    peer: str | None
    host: bytes = b""
    user_agent: bytes = b""
    referrer: bytes = b""
    language: bytes = b""
    is_prefetch: bool = False
    forwarded_for: tuple[bytes, ...] = ()
    scheme: str = "http"
    body: bytes = b""
    headers: Sequence[tuple[bytes, bytes]] = ()

    def read_headers(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Take what every request needs out of the headers (names in lower case). Of two Hosts the first counts."""
        self.headers = headers
        for name, value in headers:
            if name == b"host":
                self.host = self.host or value[:HOST_MAX]
            elif name == b"user-agent":
                self.user_agent = value[:AGENT_MAX]
            elif name == b"referer":
                self.referrer = value[:REFERRER_MAX]
            elif name == b"accept-language":
                self.language = value[:LANGUAGE_MAX].partition(b",")[0].partition(b";")[0].strip()
            elif name == b"x-forwarded-for":
                self.forwarded_for = (*self.forwarded_for[-7:], value[-HOPS_MAX:])  # the nearest hops are the last
            elif name in PURPOSES and is_loaded_ahead(value):
                self.is_prefetch = True

    def header(self, name: bytes) -> bytes:
        """The first header of that name, whole; empty when there is none. For what few requests need."""
        return next((value for found, value in self.headers if found == name), b"")

    def cookies(self) -> bytes:
        """The Cookie header; proxies may have made several of it."""
        return b"; ".join(value for name, value in self.headers if name == b"cookie")
