"""Who is asking: the real client behind trusted proxies, and its address as it may be kept."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from fastapi import Request

from tracker.domain.addresses import came_by_https
from tracker.settings import IpMode, Network

Address = IPv4Address | IPv6Address


def client_address(request: Request, trusted: Iterable[Network]) -> Address | None:
    """The nearest address that is no trusted proxy of ours; None when it cannot be told (a unix socket)."""
    peer = _address(request.client.host) if request.client else None
    hops = [part.strip() for line in request.headers.getlist("x-forwarded-for") for part in line.split(",")]
    while peer is not None and hops and is_within(peer, trusted):
        before = _address(hops.pop())
        if before is None:
            break
        peer = before
    return peer


def is_https(request: Request, trusted: Iterable[Network]) -> bool:
    """Whether the client came by https; `X-Forwarded-Proto` is believed of a trusted proxy of ours alone."""
    peer = request.client.host if request.client else None
    return came_by_https(request.url.scheme, peer, request.headers.get("x-forwarded-proto", ""), trusted)


def is_within(address: Address | None, networks: Iterable[Network]) -> bool:
    """Whether `address` lies in one of `networks`."""
    return address is not None and any(address in network for network in networks if network.version == address.version)


def kept_address(address: Address | None, mode: IpMode) -> str:
    """The address as `postbacks` keep it: whole only in mode `full`, /24 or /48 in `truncate`, else nothing."""
    if address is None or mode in ("none", "hmac-daily"):
        return ""
    if mode == "full":
        return str(address)
    return str(ip_network((address, 24 if address.version == 4 else 48), strict=False).network_address)


def _address(text: str) -> Address | None:
    try:
        address = ip_address(text.strip("[]"))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
