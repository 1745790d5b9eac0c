"""Orders to a load process: `rate N` or `stop` a line on stdin; the end of stdin means stop."""

import asyncio
import sys
from collections.abc import Awaitable, Callable


class Pace:
    """When the next one is due, at a rate that may change; 0 is a pause. What could not be sent in time stays due when it was."""

    def __init__(self, rate: float) -> None:
        self._rate, self._stopped = rate, False
        self._changed = asyncio.Event()
        self._due_at = asyncio.get_running_loop().time()

    def set(self, rate: float) -> None:
        """A new rate from now on."""
        self._rate = rate
        self._due_at = asyncio.get_running_loop().time()
        self._changed.set()

    def stop(self) -> None:
        """Nothing is due any more."""
        self._stopped = True
        self._changed.set()

    async def next(self) -> float | None:
        """Wait until the next one is due; its time, or None at the end."""
        while self._rate <= 0 and not self._stopped:
            self._changed.clear()
            await self._changed.wait()
        if self._stopped:
            return None
        self._due_at += 1 / self._rate
        pause = self._due_at - asyncio.get_running_loop().time()
        await asyncio.sleep(max(pause, 0))
        return self._due_at


async def conduct(rate: float, run: Callable[[Pace], Awaitable[int]]) -> None:
    """Have `run` send at the rates told on stdin until told to stop; prints `done N` when it has ended."""
    pace = Pace(rate)
    sending = asyncio.ensure_future(run(pace))
    following = asyncio.create_task(_follow(pace))
    await asyncio.wait([sending, following], return_when=asyncio.FIRST_COMPLETED)
    pace.stop()
    sys.stdout.write(f"done {await sending}\n")
    sys.stdout.flush()


async def _follow(pace: Pace) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while (line := (await reader.readline()).split()) and line[0] == b"rate":
        pace.set(float(line[1]))
