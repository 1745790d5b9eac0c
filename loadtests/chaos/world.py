"""What faults act upon, and what they leave behind of themselves."""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from loadtests.chaos.disk import Disk
from loadtests.chaos.ledger import Orders, Visits
from loadtests.chaos.load import Load
from loadtests.chaos.network import Network
from loadtests.chaos.processes import Workplace
from loadtests.chaos.servers import Postgres, Valkey
from loadtests.chaos.turnout import PARTS, Installation


class NotHappened(Exception):
    """The fault was tried and did not take effect: it must not be counted."""


class Skipped(Exception):
    """This machine cannot do it; the reason is shown."""


@dataclass(eq=False, slots=True)
class Episode:
    """One injection. Times are monotonic. `failures`: what the fault itself saw go wrong, besides what the oracle sees."""

    name: str
    started_at: float = 0.0
    healed_at: float = 0.0
    ended_at: float = 0.0
    evidence: str = ""
    missed: str = ""
    skipped: str = ""
    permits_loss: bool = False
    closes_port: bool = False
    recovery_s: float | None = None
    orders_recovery_s: float | None = None
    drift: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def has_happened(self) -> bool:
        """Whether it really took effect."""
        return bool(self.evidence) and not self.missed and not self.skipped

    @property
    def outage_s(self) -> float:
        """From the first blow until the fault is over and every part answers again."""
        return self.healed_at - self.started_at

    def begin(self) -> None:
        """The first blow falls now."""
        if not self.started_at:
            self.started_at = time.monotonic()

    def heal(self) -> None:
        """The fault is over now."""
        self.healed_at = time.monotonic()


class Scene(Protocol):
    """What a run is played on: Turnout in parts, or `turnout up`."""

    load: Load
    visits: Visits
    orders: Orders
    rng: random.Random

    async def connect(self) -> Any:
        """A connection of the oracle's."""

    async def audit(self) -> tuple[int, dict[str, Any]]:
        """Exit code and books; empty when it could not tell."""

    async def make_whole(self) -> None:
        """Whatever a fault left behind is undone."""

    async def pages(self) -> dict[str, str]:
        """Prometheus text of each part; empty for one that does not answer."""

    def surprises(self) -> list[str]:
        """What a supervisor would hide: parts that died of themselves, since the last look."""

    async def stop(self) -> list[str]:
        """Stop Turnout in order; what went wrong. The oracle's connections still work."""

    def facts(self) -> dict[str, Any]:
        """What the report says of it."""


@dataclass(eq=False, slots=True)
class World:
    """Turnout in parts, and everything around it."""

    place: Workplace
    postgres: Postgres
    valkey: Valkey
    network: Network
    turnout: Installation
    disk: Disk
    load: Load
    visits: Visits
    orders: Orders
    rng: random.Random

    async def connect(self) -> Any:
        """A connection of the oracle's."""
        return await self.postgres.connect()

    async def audit(self) -> tuple[int, dict[str, Any]]:
        """`turnout audit --json`."""
        return await self.turnout.audit()

    async def pages(self) -> dict[str, str]:
        """Prometheus text of each part."""
        return {name: await self.turnout.metrics(name) for name in list(self.turnout.parts)}

    def surprises(self) -> list[str]:
        """Parts that died of themselves."""
        return self.turnout.surprises()

    async def stop(self) -> list[str]:
        """SIGTERM to each part; those that did not end with 0."""
        codes = await self.turnout.stop_all()
        return [f"{name} ended with {code} on SIGTERM" for name, code in codes.items() if code]

    def facts(self) -> dict[str, Any]:
        """Restarts, and where the journals lay."""
        return {
            "journal disk": self.disk.kind or f"the data directory ({self.disk.reason})",
            "restarts": {name: part.starts - 1 for name, part in self.turnout.parts.items()},
        }

    async def make_whole(self) -> None:
        """Whatever a fault left behind is undone: the net below each fault."""
        await self.network.heal()
        self.disk.mount_again()
        self.turnout.power_on()
        for name in list(self.turnout.parts):
            if name in PARTS:
                self.turnout.thaw(name)
            else:
                await self.turnout.remove(name)
        for server in (self.valkey, self.postgres):
            if server.is_running:
                server.thaw()
            else:
                await server.start()
        if self.disk.kind:
            self.disk.empty()
        with contextlib.suppress(Exception):
            await self.valkey.ask("CONFIG", "SET", "maxmemory", "0")

    async def outage(self, least_s: float = 2.0, most_s: float = 5.0) -> None:
        """Let a fault last for a while."""
        await asyncio.sleep(self.rng.uniform(least_s, most_s))


Work = Callable[[Any, Episode], Awaitable[None]]  # of a World, or of an Up: each kind has its own faults


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault by name.

    `permits_loss`: one of the named exceptions, whose loss must be counted exactly. `closes_port`: nobody can listen meanwhile.
    """

    name: str
    work: Work
    is_cheap: bool = False
    permits_loss: bool = False
    closes_port: bool = False


FAULTS: dict[str, Fault] = {}
UP_FAULTS: dict[str, Fault] = {}


def fault(
    name: str, *, cheap: bool = False, permits_loss: bool = False, closes_port: bool = False, among: dict[str, Fault] = FAULTS
) -> Callable[[Work], Work]:
    """Register a fault: it calls `begin`, injects, sets `evidence` once it is seen to have happened, undoes it, calls `heal`."""

    def register(work: Work) -> Work:
        among[name] = Fault(name, work, cheap, permits_loss, closes_port)
        return work

    return register
