"""How late the machine itself is: without that, a slow answer on a busy machine looks like a fault of Turnout's."""

import asyncio

from loadtests.chaos.report import percentile

STEP_S = 0.005
BUSY_MS = 5.0  # a fifth of the default acknowledgement deadline: two threads and a write must fit into the rest


class Lateness:
    """How much later than asked a sleep ends, sampled until cancelled."""

    def __init__(self) -> None:
        self._late_s: list[float] = []

    async def run(self) -> None:
        """Sample."""
        loop = asyncio.get_running_loop()
        while True:
            asked = loop.time() + STEP_S
            await asyncio.sleep(STEP_S)
            self._late_s.append(max(loop.time() - asked, 0.0))
            await asyncio.sleep(0.05)

    @property
    def p99_ms(self) -> float:
        """99 % of the sleeps were no later than this."""
        return (percentile(self._late_s, 0.99) or 0.0) * 1000

    @property
    def is_busy(self) -> bool:
        """Whether the machine was too busy to judge deadlines of milliseconds."""
        return self.p99_ms > BUSY_MS
