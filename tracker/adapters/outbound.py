"""Requests of our own to other people's servers: to the internet only, and to the networks that the operator opens.

A name is resolved once, every address of it is checked, and the connection is made to one of those: nobody can answer the check with one
address and the connection with another. TLS and the Host header stay those of the name.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import certifi
import httpcore

from tracker.domain.addresses import Network
from tracker.domain.outbound_addresses import PORTS, Destination, closed_of, destination
from tracker.errors import OutboundFailed, OutboundRefused

BODY_MAX_BYTES: Final = 16 * 1024
CONNECTIONS_MAX: Final = 64
KEEPALIVE_S: Final = 10.0
ADDRESSES_MAX: Final = 4  # of a name are tried
NAMES_AT_ONCE_MAX: Final = 4
# Ours to say: they frame the message, or name whom it is for.
OWN_HEADERS: Final = frozenset(("connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"))
BODILESS: Final = frozenset(("GET", "HEAD", "DELETE", "OPTIONS"))

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]  # host and port → addresses, in the order to try


@dataclass(frozen=True, slots=True)
class OutboundReply:
    """An answer. Header names are lower-case, of repeated ones the first counts; the body is its first 16 KB."""

    status: int
    headers: dict[str, str]
    body: bytes


class Outbound:
    """HTTP/1.1 to servers that are not ours, over kept connections. Any number of calls at a time; one event loop.

    Redirects are answers, never followed. No proxy of the environment, no cookie jar, no compression.
    """

    def __init__(self, allow: Sequence[Network], *, resolve: Resolve | None = None, tls: ssl.SSLContext | None = None) -> None:
        """`allow`: networks that may be reached though they are not on the internet.

        `resolve` takes the place of the system's resolver, `tls` that of the usual certificate authorities (Mozilla's, and this machine's).
        """
        self._names = _Names()
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls or _usual_authorities(),
            max_connections=CONNECTIONS_MAX,
            keepalive_expiry=KEEPALIVE_S,
            network_backend=_CheckedNetwork(allow, resolve or self._names.addresses),
        )

    async def send(self, method: str, url: str, *, headers: Mapping[str, str], body: bytes = b"", timeout_s: float) -> OutboundReply:
        """Send one request and wait for its answer: `timeout_s` in all, the look-up of the name included.

        The path and query of `url` go out byte for byte, but for what no request line can carry; a `#` is not cut. `Host` and the
        headers that frame a message are ours: those in `headers` are left out.

        Raises:
            OutboundRefused: nothing was sent: `url` may not be reached, or cannot be sent.
            OutboundFailed: no answer; the request may have arrived all the same.
        """
        try:
            to = destination(url)
        except ValueError as exc:
            raise OutboundRefused(f"the URL {exc}") from None
        with _translated(to):
            async with asyncio.timeout(timeout_s):
                return await self._exchange(method, to, headers, body, timeout_s)

    async def _exchange(self, method: str, to: Destination, headers: Mapping[str, str], body: bytes, timeout_s: float) -> OutboundReply:
        content = body if body or method not in BODILESS else None
        asked = httpcore.URL(scheme=to.scheme, host=to.host, port=to.port, target=to.target)
        extensions = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), timeout_s)}
        async with self._pool.stream(method, asked, headers=_sent(headers, to), content=content, extensions=extensions) as answer:
            return OutboundReply(answer.status, _received(answer.headers), await _beginning(answer.aiter_stream()))

    async def close(self) -> None:
        """Close all connections; a look-up of a name that hangs is not waited for."""
        self._names.close()
        await self._pool.aclose()


class _CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Where every connection of the pool is made: what was checked is what is connected to."""

    def __init__(self, allow: Sequence[Network], resolve: Resolve) -> None:
        self._allow, self._resolve, self._network = tuple(allow), resolve, httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the pool's interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to the first address of `host` that takes it, each in its turn with an equal part of `timeout`."""
        addresses = await self._checked(host, port)
        each_s = timeout and timeout / len(addresses)
        for address in addresses[:-1]:
            with contextlib.suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return await self._network.connect_tcp(address, port, each_s, local_address, socket_options)
        return await self._network.connect_tcp(addresses[-1], port, each_s, local_address, socket_options)

    async def _checked(self, host: str, port: int) -> Sequence[str]:
        try:
            found = list(dict.fromkeys(await self._resolve(host, port)))
        except OSError as exc:
            raise OutboundFailed(f"the name {host} cannot be resolved: {exc.strerror or exc}") from exc
        if not found:
            raise OutboundFailed(f"the name {host} has no address")
        closed = closed_of(found, self._allow)
        if closed is not None:
            raise OutboundRefused(f"{host} is at {closed}, which is not on the internet; TURNOUT_OUTBOUND_ALLOW opens networks")
        return found[:ADDRESSES_MAX]


class _Names:
    """The system's resolver in threads of its own: where it hangs, nobody else's work stands behind it. One thread for one name."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(NAMES_AT_ONCE_MAX, thread_name_prefix="outbound-names")
        self._asked: dict[tuple[str, int], asyncio.Future[list[str]]] = {}

    async def addresses(self, host: str, port: int) -> list[str]:
        """As `Resolve`; OutboundFailed at once while all threads wait for other names."""
        key = (host, port)
        asked = self._asked.get(key)
        if asked is None:
            if len(self._asked) >= NAMES_AT_ONCE_MAX:
                raise OutboundFailed(f"the name {host} cannot be resolved: busy with {NAMES_AT_ONCE_MAX} other names")
            asked = asyncio.get_running_loop().run_in_executor(self._threads, _resolve, host, port)
            self._asked[key] = asked
            asked.add_done_callback(lambda _: self._asked.pop(key, None))
        return await asyncio.shield(asked)  # a request that is given up does not take away what others wait for

    def close(self) -> None:
        """Wait for nothing."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _resolve(host: str, port: int) -> list[str]:
    return [str(row[4][0]) for row in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)]


def _usual_authorities() -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certifi.where())
    context.load_default_certs()
    return context


def _sent(headers: Mapping[str, str], to: Destination) -> list[tuple[bytes, bytes]]:
    name = f"[{to.host}]" if ":" in to.host else to.host
    host = name if to.port == PORTS[to.scheme] else f"{name}:{to.port}"
    others = [(key, value) for key, value in headers.items() if key.lower() not in OWN_HEADERS]
    return [(key.encode("latin-1", "replace"), value.encode("latin-1", "replace")) for key, value in (("Host", host), *others)]


def _received(headers: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in headers:
        found.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
    return found


async def _beginning(stream: AsyncIterator[bytes]) -> bytes:
    kept = bytearray()
    async for chunk in stream:
        kept += chunk
        if len(kept) >= BODY_MAX_BYTES:  # the rest is not read: closing an answer that has not ended closes its connection
            break
    return bytes(kept[:BODY_MAX_BYTES])


@contextlib.contextmanager
def _translated(to: Destination) -> Iterator[None]:
    try:
        yield
    except httpcore.LocalProtocolError as exc:
        raise OutboundRefused(f"a request to {to.host} cannot be sent: {exc}") from exc
    except (TimeoutError, httpcore.TimeoutException) as exc:
        raise OutboundFailed(f"{to.host} did not answer in time") from exc
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as exc:
        raise OutboundFailed(f"{to.host}: {str(exc) or type(exc).__name__}") from exc
