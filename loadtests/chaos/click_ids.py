"""The click id as the contract has it: 128 bits, big-endian, in 26 characters of lower-case Crockford base32; a UUIDv7."""

from uuid import UUID

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
VALUES = {character: value for value, character in enumerate(ALPHABET)}
LENGTH = 26


def to_text(identity: UUID) -> str:
    """As it stands in `X-Click-Id`."""
    return "".join(ALPHABET[(identity.int >> shift) & 31] for shift in range(5 * (LENGTH - 1), -1, -5))


def to_uuid(text: str) -> UUID:
    """The reverse; ValueError when it is none."""
    number = 0
    for character in text.lower():
        if character not in VALUES:
            raise ValueError(f"{text!r} is no click id")
        number = number << 5 | VALUES[character]
    return UUID(int=number)


def moment_of(text: str) -> float:
    """Its time, in seconds since 1970."""
    return (to_uuid(text).int >> 80) / 1000
