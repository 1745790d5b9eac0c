"""How a worker waits: a pause that a stop ends, a growing back-off, a task that is run again and again."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from tracker.errors import TransientError

log = logging.getLogger(__name__)
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0


class Backoff:
    """Pauses of 0.1 s, doubled up to 5 s, until `reset`."""

    def __init__(self) -> None:
        self._next_s = FIRST_PAUSE_S

    async def pause(self, stop: asyncio.Event | None = None) -> None:
        """Wait for the next pause, or until `stop`."""
        pause_s, self._next_s = self._next_s, min(LONGEST_PAUSE_S, self._next_s * 2)
        await rest(pause_s, stop)

    def reset(self) -> None:
        """All is well again: the next pause is a short one."""
        self._next_s = FIRST_PAUSE_S


async def rest(seconds: float, stop: asyncio.Event | None = None) -> None:
    """Wait, or until `stop` is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await (stop or asyncio.Event()).wait()


async def every(
    seconds: float, stop: asyncio.Event, work: Callable[[], Awaitable[object]], *, on_outage: Callable[[], Awaitable[None]], event: str
) -> None:
    """Call `work` every `seconds` until `stop`. An outage calls `on_outage` and backs off; anything else ends the process."""
    backoff = Backoff()
    while not stop.is_set():
        try:
            await work()
        except TransientError as exc:
            log.warning(event, extra={"error": str(exc)})
            await on_outage()
            await backoff.pause(stop)
        else:
            backoff.reset()
            await rest(seconds, stop)
