"""URLs as bytes, without a parser that guesses: the key under which an old URL is found, and the judge of deep links.

Both work on the exact bytes: what was stored is what is compared, and what was judged is what is emitted.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

DEEP_LINK_MAX_BYTES = 2048  # longer ones break mail clients and proxies, and are how filters are dodged
HOST_MAX_BYTES = 253  # RFC 1035
PORT_MAX = 65535

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
# Kept as they are in a key. Not `[ ] '`: browsers send them raw or encoded, depending on where they stand.
_KEPT_IN_KEY = _UNRESERVED | frozenset(b":/?@!$&()*+,;=")
_KEPT_IN_URL = _UNRESERVED | frozenset(b":/?#[]@!$&'()*+,;=%")
_KEY_BYTES = [chr(byte) if byte in _KEPT_IN_KEY else f"%{byte:02X}" for byte in range(256)]
_URL_BYTES = [chr(byte) if byte in _KEPT_IN_URL else f"%{byte:02X}" for byte in range(256)]

_PLAIN_TARGET = re.compile(rb"/[A-Za-z0-9\-._~:/?@!$&()*+,;=]*")  # already its own key
_PLAIN_URL = re.compile(rb"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]*")
_NOT_UNIFORM = re.compile(rb"%[0-9A-Fa-f]{2}|[^A-Za-z0-9\-._~:/?@!$&()*+,;=]")
_SCHEME = re.compile(rb"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//")
_WEB_URL = re.compile(rb"(https?)://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_ESCAPED = re.compile(rb"%[0-9A-Fa-f]{2}")
_ANY_AUTHORITY = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")
_AUTHORITY = re.compile(rb"([^:@\[\]%]+)(?::([0-9]{0,5}))?")
_HOST = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_NUMERIC_END = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")  # browsers read such a host as an IPv4 address
_FORBIDDEN = re.compile(rb"[\x00-\x20\x7f\\]")


def alias_key(url: str | bytes) -> tuple[str, str]:
    """The host and the key under which an old URL is found: equal for any two spellings that reach the same thing.

    Args:
        url: `https://host/path?query`, `//host/…`, `host/…`, or a path alone (`/…`, then the host is `""`, any host).
            Text is taken as UTF-8; blanks around it and the fragment are dropped, as browsers do.

    Returns:
        `(host, key)`: see `host_key` and `target_key`. Both ASCII. Never raises; total over all input.
    """
    data = (url.encode("utf-8", "surrogatepass") if isinstance(url, str) else url).strip(b"\t\n\x0b\x0c\r \x00")
    scheme = _SCHEME.match(data)
    if scheme:
        data = data[scheme.end() :]
    elif data[:1] in (b"/", b"?", b"#", b""):
        return "", target_key(data)
    end = min(at for at in (data.find(b"/"), data.find(b"?"), data.find(b"#"), len(data)) if at >= 0)
    return host_key(data[:end].rpartition(b"@")[2]), target_key(data[end:])


def target_key(target: bytes) -> str:
    """The key of a raw request target (path and query): order kept, percent-encoding made uniform, fragment cut, ASCII.

    Unreserved characters are decoded, other escapes upper-case, bytes that no URL may carry raw (non-ASCII, blanks,
    quotes, brackets, braces) encoded; an empty path is `/`. Idempotent. O(len); plain targets cost one scan.
    """
    if _PLAIN_TARGET.fullmatch(target):
        return target.decode("ascii")
    raw = target.partition(b"#")[0]
    key = _NOT_UNIFORM.sub(_uniform, raw).decode("ascii")
    return key if key.startswith("/") else "/" + key


def percent_decoded(data: bytes) -> bytes:
    """`data` with every escape (`%2F`) as its byte; a `%` that begins none stays. As `urllib.parse.unquote_to_bytes`, and quicker."""
    return _ESCAPED.sub(_unescaped, data) if b"%" in data else data


def _unescaped(piece: "re.Match[bytes]") -> bytes:
    return _ESCAPES[piece[0]]


def _uniform(piece: "re.Match[bytes]") -> bytes:
    return _UNIFORM[piece[0]]


_DIGITS = "0123456789ABCDEFabcdef"
_ESCAPES = {f"%{high}{low}".encode(): bytes((int(high + low, 16),)) for high in _DIGITS for low in _DIGITS}
_UNIFORM = {bytes((byte,)): key.encode() for byte, key in enumerate(_KEY_BYTES)}
_UNIFORM |= {escape: byte if byte[0] in _UNRESERVED else escape.upper() for escape, byte in _ESCAPES.items()}


@lru_cache(maxsize=4096)
def host_key(host: bytes) -> str:
    """A Host header or a URL's authority as it is compared: lower-case ASCII, ports 80 and 443 and a final dot gone.

    International names become their IDNA form; what cannot be one is percent-encoded. Never raises. Cached.
    """
    name, colon, port = host.strip().rpartition(b":")
    if not colon or not (port == b"" or port.isdigit()):
        name, port = host.strip(), b""
    text = _ascii_host(name.removesuffix(b".")) or _junk_host(name)
    return text if port in (b"", b"80", b"443") else f"{text}:{port.decode('ascii')}"


def _junk_host(name: bytes) -> str:
    text = "".join(_URL_BYTES[byte] for byte in name).lower()
    is_bracketed = text.startswith("[") and text.endswith("]")
    return text if is_bracketed else text.replace(":", "%3a")  # else it would be read as a port the next time


def allowed_deep_link(url: bytes, domains: Iterable[str]) -> bytes | None:
    """The bytes to emit for a deep link inside `domains`; None when it is refused.

    Args:
        url: the destination asked for, already percent-decoded once (the value of `url=`).
        domains: hosts allowed, themselves and their subdomains; Unicode or IDNA, any case. Empty: nothing is allowed.

    Returns:
        ASCII without blanks, at most 2048 bytes: scheme and host in lower-case IDNA form, the rest as given with
        every byte that no URL may carry percent-encoded. Refused: anything but http(s), user names and passwords,
        backslashes, control characters, blanks, `//host`, IPv6 and percent-encoded hosts, ports above 65535.
    """
    match = _WEB_URL.fullmatch(url)
    if match is None or len(url) > DEEP_LINK_MAX_BYTES or _FORBIDDEN.search(url):
        return None
    scheme, authority, rest = match.groups()
    parts = _AUTHORITY.fullmatch(authority)
    host = _ascii_host(parts[1]) if parts else None
    if parts is None or host is None or int(parts[2] or 0) > PORT_MAX or not _is_within(host, domains):
        return None
    place = f"{scheme.lower().decode('ascii')}://{host}{':' + parts[2].decode('ascii') if parts[2] else ''}"
    emitted = place.encode("ascii") + printable(rest)
    return emitted if len(emitted) <= DEEP_LINK_MAX_BYTES else None


def host_of(url: bytes) -> str:
    """The `host_key` of an absolute URL's authority; empty when it has none."""
    match = _ANY_AUTHORITY.match(url)
    return host_key(match[1].rpartition(b"@")[2]) if match else ""


def split_absolute(host: bytes, target: bytes) -> tuple[bytes, bytes]:
    """Host and path of a target in absolute form; of any other form (`*`, junk) `host` and the target behind a `/`."""
    scheme, colon, rest = target.partition(b"://")
    if not colon or not scheme.isalpha():
        return host, b"/" + target
    end = min(at for at in (rest.find(b"/"), rest.find(b"?"), rest.find(b"#"), len(rest)) if at >= 0)
    path = rest[end:]
    return rest[:end].rpartition(b"@")[2], path if path.startswith(b"/") else b"/" + path


def printable(text: bytes) -> bytes:
    """`text` with every byte that no URL may carry percent-encoded; escapes stay. ASCII 0x21–0x7e only."""
    if _PLAIN_URL.fullmatch(text):
        return text
    return "".join([_URL_BYTES[byte] for byte in text]).encode("ascii")


def printable_url(text: str) -> bytes:
    """A configured destination as it goes into a header: the host in IDNA form, the rest as `printable` has it."""
    data = text.strip().encode("utf-8", "surrogatepass")
    match = _WEB_URL.fullmatch(data)
    if match is None or data.isascii():
        return printable(data)
    scheme, authority, rest = match.groups()
    user, at, place = authority.rpartition(b"@")
    host, colon, port = place.partition(b":")
    name = _ascii_host(host)
    return printable(scheme + b"://" + user + at + (name.encode() if name else host) + colon + port + rest)


def _is_within(host: str, domains: Iterable[str]) -> bool:
    exact_only = _NUMERIC_END.fullmatch(host) is not None
    for domain in domains:
        allowed = _canonical_domain(domain)
        if allowed and (host == allowed or (not exact_only and host.endswith("." + allowed))):
            return True
    return False


@lru_cache(maxsize=4096)
def _canonical_domain(domain: str) -> str | None:
    return _ascii_host(domain.strip().removeprefix("*").strip(".").encode("utf-8", "surrogatepass"))


def _ascii_host(host: bytes) -> str | None:
    """The lower-case IDNA form; None when `host` is no host name."""
    try:
        text = host.decode("utf-8").lower()
        name = text if text.isascii() else text.encode("idna").decode("ascii").lower()
    except UnicodeError:
        return None
    return name if len(name) <= HOST_MAX_BYTES and _HOST.fullmatch(name) else None
