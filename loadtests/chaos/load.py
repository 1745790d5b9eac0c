"""The two load processes, from the side of the harness."""

import asyncio
import contextlib

from loadtests.chaos.processes import Workplace, module, plain_environment

END_S = 90.0


class Load:
    """Visitors and stores; each writes its own ledger."""

    def __init__(self, place: Workplace, *, clicks_per_s: float, orders_per_s: float, seed: int) -> None:
        self._place, self._rates, self._seed = place, (clicks_per_s, orders_per_s), seed
        self.visits_path, self.orders_path = place.root / "visits.log", place.root / "orders.log"
        self._visitors: asyncio.subprocess.Process | None = None
        self._stores: asyncio.subprocess.Process | None = None

    async def start(self, redirector_port: int, tracker_port: int, token: str) -> None:
        """Begin to send."""
        visitors = module("visitors", str(redirector_port), str(self.visits_path), str(self._rates[0]), str(self._seed))
        paths = (str(self.orders_path), str(self.visits_path))
        stores = module("stores", str(tracker_port), *paths, token, str(self._rates[1]), str(self._seed + 1))
        self._visitors = await self._place.spawn(visitors, "visitors", env=plain_environment(), talks=True)
        self._stores = await self._place.spawn(stores, "stores", env=plain_environment(), talks=True)

    async def pause_stores(self) -> None:
        """No new orders; those begun go on."""
        await _tell(self._stores, "rate 0")

    async def resume_stores(self) -> None:
        """Orders as before."""
        await _tell(self._stores, f"rate {self._rates[1]}")

    async def stop_stores(self) -> None:
        """No new orders; wait for those begun."""
        await _end(self._stores)

    async def stop_visitors(self) -> None:
        """No new visits; wait for the last answer."""
        await _end(self._visitors)

    def check(self) -> None:
        """RuntimeError when a load process has died: then a run proves nothing."""
        for name, process in (("visitors", self._visitors), ("stores", self._stores)):
            if process is not None and process.returncode is not None:
                raise RuntimeError(f"the {name} have ended with {process.returncode}, see their log")


async def _tell(process: asyncio.subprocess.Process | None, line: str) -> None:
    if process is not None and process.stdin is not None:
        process.stdin.write(line.encode() + b"\n")
        await process.stdin.drain()


async def _end(process: asyncio.subprocess.Process | None) -> None:
    if process is None or process.stdout is None:
        return
    with contextlib.suppress(ConnectionError):
        await _tell(process, "stop")
    line = await asyncio.wait_for(process.stdout.readline(), END_S)
    code: int = await asyncio.wait_for(process.wait(), 10)
    if code or not line.startswith(b"done"):
        raise RuntimeError("a load process did not end in order, see its log")
