"""How a worker waits: a pause that a stop ends, a growing back-off, a task that is run again and again."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from tracker.errors import TransientError

log = logging.getLogger(__name__)
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 1.0  # no longer: what an outage held up is to be through sooner than the outage took


class Backoff:
    """Pauses of 0.1 s, doubled up to 1 s (or as told), until `reset`."""

    def __init__(self, first_s: float = FIRST_PAUSE_S, longest_s: float = LONGEST_PAUSE_S) -> None:
        self._first_s, self._longest_s, self._next_s = first_s, longest_s, first_s

    async def pause(self, stop: asyncio.Event | None = None) -> None:
        """Wait for the next pause, or until `stop`."""
        pause_s, self._next_s = self._next_s, min(self._longest_s, self._next_s * 2)
        await rest(pause_s, stop)

    def reset(self) -> None:
        """All is well again: the next pause is a short one."""
        self._next_s = self._first_s


async def rest(seconds: float, stop: asyncio.Event | None = None) -> None:
    """Wait, or until `stop` is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await (stop or asyncio.Event()).wait()


async def every(
    seconds: float,
    stop: asyncio.Event,
    work: Callable[[], Awaitable[object]],
    *,
    event: str,
    on_outage: Callable[[], Awaitable[None]] | None = None,
    backoff: Backoff | None = None,
) -> None:
    """Call `work` every `seconds` until `stop`. After an outage it backs off, and calls `on_outage`; all else ends the process."""
    backoff = backoff or Backoff()
    while not stop.is_set():
        try:
            await work()
        except TransientError as exc:
            log.warning(event, extra={"error": str(exc)})
            if on_outage:
                await on_outage()
            await backoff.pause(stop)
        else:
            backoff.reset()
            await rest(seconds, stop)
