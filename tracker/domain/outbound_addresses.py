"""Which addresses our own requests may reach, and what a URL of such a request names. Pure.

The networks are listed here, not asked of `ipaddress.is_private`: what that knows depends on the version of Python.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from tracker.domain.addresses import Address, Network
from tracker.domain.urls import HOST_MAX_BYTES, PORT_MAX

CLOSED: Final[tuple[Network, ...]] = (
    *map(IPv4Network, (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
        "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )),
    # All but 2000::/3, so ::1, fc00::/7, fe80::/10, ff00::/8 and what is not assigned; of that what is no place on the internet.
    *map(IPv6Network, ("::/3", "4000::/2", "8000::/1", "2001::/23", "2001:db8::/32", "3fff::/20")),
)  # fmt: skip
# IPv4 inside of IPv6: the network, and how far to the left of the last bit the address ends. 64:ff9b:1::/48 stays closed as a whole:
# where in it an address stands is a secret of the network.
_WRAPPED: Final = (
    (IPv6Network("::ffff:0:0/96"), 0),
    (IPv6Network("::ffff:0:0:0/96"), 0),
    (IPv6Network("64:ff9b::/96"), 0),
    (IPv6Network("2002::/16"), 80),
)
PORTS: Final = {"http": 80, "https": 443}
LABEL_MAX: Final = 63
_URL = re.compile(r"(https?)://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(?::([0-9]{1,5}))?", re.ASCII)
_NAME = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*", re.ASCII)
_NUMERIC_END = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)", re.ASCII)  # the C library reads such a name as an IPv4 address
_NOT_SENDABLE = re.compile(rb"[^\x21-\x7e]")


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a request goes: `host` is a lower-case ASCII name or an address without brackets, `target` what its first line names."""

    scheme: str
    host: str
    port: int
    target: bytes


def destination(url: str) -> Destination:
    """What `url` names. The target stays as it is, but for bytes that no request line can carry (controls, blanks, non-ASCII).

    Raises:
        ValueError: not http(s), with a user name, or without a host that has one reading only. The text is safe to show.
    """
    match = _URL.fullmatch(url)
    if not match:
        raise ValueError("is no http:// or https:// URL")
    scheme, authority, target = match[1].lower(), match[2], match[3]
    parts = _AUTHORITY.fullmatch(authority)
    if "@" in authority or not parts:
        raise ValueError("names no host, or a user name beside it")
    port = int(parts[2]) if parts[2] else PORTS[scheme]
    if not 0 < port <= PORT_MAX:
        raise ValueError("has a port that is not within 1 to 65535")
    raw = (target if target.startswith("/") else f"/{target}").encode("utf-8", "replace")
    return Destination(scheme, _host_of(parts[1]), port, sendable(raw))


def sendable(target: bytes) -> bytes:
    """`target` with those bytes as `%XX` that no request line can carry; all else as it is."""
    return _NOT_SENDABLE.sub(lambda byte: b"%%%02X" % byte[0][0], target)


def _host_of(text: str) -> str:
    try:
        found = str(IPv6Address(text[1:-1])) if text.startswith("[") else _name_of(text)
    except ValueError:  # of the addresses' and of the codec
        found = ""
    if not found:
        raise ValueError("has a host that is neither a name nor an address in its usual form")
    return found


def _name_of(text: str) -> str:
    name = text.removesuffix(".").encode("idna").decode("ascii").lower()
    if _NUMERIC_END.fullmatch(name):
        return str(IPv4Address(name))
    is_name = _NAME.fullmatch(name) and len(name) <= HOST_MAX_BYTES and max(map(len, name.split("."))) <= LABEL_MAX
    return name if is_name else ""


def is_open(address: Address, allow: Sequence[Network] = ()) -> bool:
    """Whether a request of ours may go to `address`: it is on the internet, or within `allow`. IPv4 inside of IPv6 is unwrapped."""
    inner = _unwrapped(address)
    if any(_is_within(found, network) for found in (address, inner) for network in allow):
        return True
    return not any(_is_within(inner, network) for network in CLOSED)


def closed_of(addresses: Sequence[str], allow: Sequence[Network] = ()) -> str | None:
    """The first of `addresses` that is not open, None when all are. A name of which one address is closed is closed as a whole."""
    return next((text for text in addresses if not is_open(ip_address(text), allow)), None)


def _is_within(address: Address, network: Network) -> bool:
    return address.version == network.version and address in network


def _unwrapped(address: Address) -> Address:
    if isinstance(address, IPv4Address):
        return address
    for network, shift in _WRAPPED:
        if address in network:
            return IPv4Address(int(address) >> shift & 0xFFFFFFFF)
    return address
