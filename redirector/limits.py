"""The flood limit: clicks a second per client network and link. Above it a click is labelled, far above it only counted."""

from enum import IntEnum

HARD_FACTOR = 10
MAX_KEYS = 100_000  # a second's worth of (network, link) pairs; a wider flood than this is counted under one key


class Flood(IntEnum):
    """How much is too much."""

    CALM = 0
    LABELLED = 1  # verdict rate_limited
    COUNTED_ONLY = 2  # no click id, no record


class FloodLimiter:
    """Fixed windows of one second; memory is bounded by MAX_KEYS and given back each second."""

    def __init__(self, limit: int) -> None:
        """`limit` clicks a second are calm; 0 switches it off."""
        self._limit = limit
        self._second = 0
        self._seen: dict[tuple[str, int], int] = {}

    def judge(self, network: str, link_id: int, second: int) -> Flood:
        """Count one click of `network` on `link_id` (0: no link) in `second`, and say what to do with it."""
        if not self._limit:
            return Flood.CALM
        if second != self._second:
            self._second = second
            self._seen.clear()
        key = (network, link_id) if len(self._seen) < MAX_KEYS else ("", 0)
        count = self._seen.get(key, 0) + 1
        self._seen[key] = count
        if count <= self._limit:
            return Flood.CALM
        return Flood.LABELLED if count <= self._limit * HARD_FACTOR else Flood.COUNTED_ONLY
