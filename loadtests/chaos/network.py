"""The proxies in front of the servers, from the side of the harness."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from loadtests.chaos.processes import Workplace, module, plain_environment

ANSWER_S = 10.0


class Network:
    """Proxies by name, in one process."""

    def __init__(self, place: Workplace, routes: dict[str, tuple[int, int]]) -> None:
        """`routes`: name → (listening port, port of the server)."""
        self._place, self._routes = place, routes
        self._process: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        """Listen on all."""
        words = [f"{name}={listen}:{target}" for name, (listen, target) in self._routes.items()]
        self._process = await self._place.spawn(module("proxy", *words), "proxy", env=plain_environment(), talks=True)
        await self._answer()

    async def set(self, name: str, mode: str, *, seconds: float = 0.0, share: float = 1.0) -> dict[str, int]:
        """Change the mode of one; what happened since the last change: `open`, `held`, `cut`."""
        async with self._lock:
            assert self._process is not None
            assert self._process.stdin is not None
            asked = {"name": name, "mode": mode, "seconds": seconds, "share": share}
            self._process.stdin.write(json.dumps(asked).encode() + b"\n")
            answer = await self._answer()
        return {key: int(value) for key, value in answer.items()}

    @asynccontextmanager
    async def away(self, name: str) -> AsyncIterator[dict[str, int]]:
        """One of them resets every connection for the time of the block; what this yields tells afterwards how many were `cut`."""
        told: dict[str, int] = {}
        await self.set(name, "reset")
        try:
            yield told
        finally:
            told |= await self.set(name, "pass")

    async def heal(self) -> None:
        """All of them pass again."""
        for name in self._routes:
            with contextlib.suppress(TimeoutError):
                await self.set(name, "pass")

    async def _answer(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), ANSWER_S)
        if not line:
            raise RuntimeError("the proxy has ended, see its log")
        return dict(json.loads(line))
