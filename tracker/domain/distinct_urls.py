"""Counting different URLs in bounded memory. Pure."""

from hashlib import blake2b
from typing import Any, Final

URLS_MAX: Final = 1 << 19  # that are counted exactly; some 60 MB


class DistinctUrls:
    """How many different URLs there are, and how many of them resolve: exactly up to `URLS_MAX`, then from a fair sample of them.

    The sample is of those whose digest ends in `_halvings` zero bits; a table that is full drops half of it.
    """

    def __init__(self, most: int = URLS_MAX) -> None:
        self._most, self._halvings = most, 0
        self._resolved: dict[int, bool] = {}

    def add(self, host: str, target: bytes, *, is_resolved: bool) -> None:
        """Count a URL that may have been counted before."""
        digest = int.from_bytes(blake2b(host.encode() + b"\0" + target, digest_size=8).digest(), "big")
        if digest & ((1 << self._halvings) - 1):
            return
        self._resolved[digest] = is_resolved
        while len(self._resolved) > self._most:
            self._halvings += 1
            mask = (1 << self._halvings) - 1
            self._resolved = {digest: found for digest, found in self._resolved.items() if not digest & mask}

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        seen, resolved = len(self._resolved) << self._halvings, sum(self._resolved.values()) << self._halvings
        return {"seen": seen, "resolved": resolved, "resolved_percent": percent(resolved, seen), "is_estimate": self._halvings > 0}


def percent(part: int, whole: int) -> float:
    """`part` of `whole` in percent with two places, rounded down, so that 100 means all; 0 of nothing."""
    return part * 10_000 // whole / 100 if whole else 0.0
