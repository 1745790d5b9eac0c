"""Client addresses: whose request it is behind proxies, and what of the address is kept. Pure; text in, text out."""

import hmac
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

UNKNOWN = ""  # a unix socket without a proxy, junk
KEPT_BITS = {4: 24, 6: 48}  # the usual truncation: what is left names a network, not a person
FLOOD_BITS = {4: 24, 6: 64}  # one household or office has a /64; a /24 is what flood tools rent
_HOPS_MAX = 32  # nobody has more proxies; the rest of a forged header is not read
_HMAC_BYTES = 16


def client_address(peer: str | None, forwarded_for: Sequence[bytes], trusted: Sequence[Network]) -> str:
    """The address of the client: the right-most hop that is no proxy of ours.

    Args:
        peer: address of the TCP connection; None or `""` on a unix socket, which only our own proxy can reach.
        forwarded_for: the values of all `X-Forwarded-For` lines, in order of arrival.
        trusted: networks of our own proxies. With none, a TCP peer is the client and the header is not believed.

    Returns:
        The address in its shortest form, IPv4-mapped IPv6 unwrapped, without port or zone; `""` when nobody can tell.
        Junk in the header ends the walk: the last hop that could be read is the answer.
    """
    if not forwarded_for:
        return _peer(peer)
    return _walk(peer or None, tuple(forwarded_for), tuple(trusted))


def kept(address: str, mode: str, key: bytes, day: str) -> str:
    """What is stored of `address` (from `client_address`).

    Args:
        mode: `truncate` (/24, /48), `full`, `hmac-daily` (32 hex digits, the same for a day only) or `none` (`""`).
        key: secret of `hmac-daily`; not empty there.
        day: the UTC day, such as `2026-01-31`.

    Raises:
        ValueError: another mode. A bug in the caller.
    """
    if mode == "none" or not address:
        return ""
    if mode == "full":
        return address
    if mode == "truncate":
        return _truncated(address)
    if mode == "hmac-daily":
        return hmac.digest(key, f"{day}|{address}".encode(), "sha256")[:_HMAC_BYTES].hex()
    raise ValueError(f"no such IP mode: {mode!r}")


def came_by_https(scheme: str, peer: str | None, forwarded_proto: str, trusted: Iterable[Network]) -> bool:
    """Whether the client came by https: `X-Forwarded-Proto` counts where a trusted proxy of ours sent it, else the connection's scheme."""
    nearest = _read(peer) if peer and forwarded_proto else None
    said = forwarded_proto if nearest is not None and _is_trusted(nearest, trusted) else ""
    return (said.partition(",")[0].strip().lower() or scheme) == "https"


@lru_cache(maxsize=8192)
def kept_network(address: str, mode: str) -> str:
    """The /24 or /48 that a click is stored with: whoever reads it learns no more than `kept` tells; `""` where that hides the network."""
    return _prefix(address, KEPT_BITS) if mode in ("truncate", "full") else ""


@lru_cache(maxsize=8192)
def network(address: str) -> str:
    """The /24 or /64 of an address, the client that flood limits count; `address` itself when it is none."""
    return _prefix(address, FLOOD_BITS)


@lru_cache(maxsize=8192)
def _truncated(address: str) -> str:
    return _prefix(address, KEPT_BITS).partition("/")[0]


def _prefix(address: str, bits: dict[int, int]) -> str:
    parsed = _read(address)
    if parsed is None:
        return address if bits is FLOOD_BITS else ""
    return str(ip_network((parsed, bits[parsed.version]), strict=False))


@lru_cache(maxsize=8192)
def _peer(peer: str | None) -> str:
    parsed = _read(peer) if peer else None
    return UNKNOWN if parsed is None else str(parsed)


@lru_cache(maxsize=8192)
def _walk(peer: str | None, lines: tuple[bytes, ...], trusted: tuple[Network, ...]) -> str:
    nearest = _read(peer) if peer else None
    if peer and (nearest is None or not _is_trusted(nearest, trusted)):
        return _peer(peer)
    client = nearest
    hops = b",".join(lines).rsplit(b",", _HOPS_MAX)[-_HOPS_MAX:]
    for hop in reversed(hops):
        address = _read(hop.decode("latin-1"))
        if address is None:
            break
        client = address
        if not _is_trusted(address, trusted):
            break
    return UNKNOWN if client is None else str(client)


def _is_trusted(address: Address, trusted: Iterable[Network]) -> bool:
    return any(address in net for net in trusted)


def _read(text: str) -> Address | None:
    """An address as proxies write it: with or without port, brackets, quotes, zone. None: junk."""
    bare = text.strip(' \t"')
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        address = ip_address(bare.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
