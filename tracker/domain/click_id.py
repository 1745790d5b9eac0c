"""Click ids: UUIDv7, written as 26 characters of lower-case Crockford base32 (the 128-bit number, big-endian)."""

from base64 import b32hexdecode, b32hexencode
from datetime import UTC, datetime, timedelta
from uuid import UUID

TEXT_LENGTH = 26
RANDOM_BYTES = 10  # 74 of these 80 bits are kept
MAX_MS = (1 << 48) - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HEX = b"0123456789ABCDEFGHIJKLMNOPQRSTUV"
_CROCKFORD = b"0123456789abcdefghjkmnpqrstvwxyz"
_WRITE = bytes.maketrans(_HEX, _CROCKFORD)
# Read without regard to case; people mistake i and l for 1, o for 0 (Crockford's own rule).
_READ = bytes.maketrans(_CROCKFORD + _CROCKFORD.upper() + b"iIlLoO", _HEX + _HEX + b"111100")
_ALLOWED = frozenset(_CROCKFORD + _CROCKFORD.upper() + b"iIlLoO")
_ZERO_BITS = bytes(4)  # 20 bytes are exactly 32 characters: the 32 zero bits in front give the six that are cut off


def compose(unix_ms: int, random: bytes) -> bytes:
    """The 16 bytes of a UUIDv7 from milliseconds since 1970 (0 … 2^48-1) and 10 random bytes."""
    tail = int.from_bytes(random, "big")
    # 48 bits of time, version 7, 12 random bits, variant 10, 62 random bits
    value = (unix_ms << 80) | (0x7 << 76) | ((tail & 0xFFF) << 64) | (0b10 << 62) | (tail >> 12 & 0x3FFF_FFFF_FFFF_FFFF)
    return value.to_bytes(16, "big")


def to_text(raw: bytes) -> bytes:
    """The 26 characters of a 16-byte id, as ASCII bytes (they go straight into a header)."""
    return b32hexencode(_ZERO_BITS + raw)[6:].translate(_WRITE)


def from_text(text: str | bytes) -> bytes | None:
    """The 16 bytes that `text` stands for; None when it is no click id of ours (it may still be an old platform's)."""
    data = text.encode("ascii", "replace") if isinstance(text, str) else text
    if len(data) != TEXT_LENGTH or not _ALLOWED.issuperset(data):
        return None
    digits = data.translate(_READ)
    if digits[:1] > b"7":
        return None
    raw = b32hexdecode(b"000000" + digits)[4:]
    return raw if is_v7(raw) else None


def is_v7(raw: bytes) -> bool:
    """Whether 16 bytes carry version 7 and the RFC 9562 variant."""
    return raw[6] >> 4 == 7 and raw[8] >> 6 == 0b10


def from_any(text: str) -> bytes | None:
    """A click id in any form people send it: 26 characters, or a UUID with or without hyphens. None: not ours."""
    raw = from_text(text.strip())
    if raw is not None:
        return raw
    try:
        raw = UUID(text.strip()).bytes
    except ValueError:
        return None
    return raw if is_v7(raw) else None


def unix_ms(raw: bytes) -> int:
    """Milliseconds since 1970 at which the id was made, by its maker's clock."""
    return int.from_bytes(raw[:6], "big")


def moment(raw: bytes) -> datetime:
    """The same as an aware UTC instant."""
    return _EPOCH + timedelta(milliseconds=unix_ms(raw))


def floor(at: datetime) -> UUID:
    """The least id of an instant: every id made at `at` or later is not below it. For bounds of partitions and queries."""
    ms = (at - _EPOCH) // timedelta(milliseconds=1)
    return UUID(int=max(0, min(ms, MAX_MS)) << 80)
