"""Minting click ids: the clock and the randomness that the domain does not have."""

import os
import time

from tracker.domain import click_id

_POOL_IDS = 512


class Mint:
    """Makes click ids from a pool of random bytes: drawing from the kernel for each id costs ten times as much."""

    __slots__ = ("_at", "_pool")

    def __init__(self) -> None:
        self.forget_pool()

    def forget_pool(self) -> None:
        """Never use a pooled byte again: after a fork two processes would make the same ids."""
        self._pool, self._at = b"", 0

    def __call__(self) -> tuple[bytes, int]:
        """A new click id (16 bytes) and its time in microseconds since 1970."""
        if self._at >= len(self._pool):
            self._pool, self._at = os.urandom(_POOL_IDS * click_id.RANDOM_BYTES), 0
        random = self._pool[self._at : self._at + click_id.RANDOM_BYTES]
        self._at += click_id.RANDOM_BYTES
        now_us = time.time_ns() // 1000
        return click_id.compose(now_us // 1000, random), now_us


mint = Mint()
os.register_at_fork(after_in_child=mint.forget_pool)
