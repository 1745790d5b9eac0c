"""A drill: synthetic traffic through the real front door, a fault in its middle third, and what became of every click and order."""

import asyncio
import contextlib
import os
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

from tracker.adapters.postgres_drill import Drills
from tracker.domain import click_id
from tracker.drill.faults import Drill, Machine
from tracker.drill.traffic import Ledger, Target, Traffic
from tracker.errors import StoreUnavailable
from tracker.local.door import Door
from tracker.local.listening import WILDCARDS
from tracker.settings import Settings

LIVE_S = 2.5  # a new link and a new token are known everywhere within two seconds
SETTLE_S = 90.0  # how long what was answered may take to be in PostgreSQL
POLL_S = 0.25


@dataclass(slots=True)
class Outcome:
    """The record of one drill. Ids of what was lost are named; `recovered_s`: from the end of the fault
    until the clicks of before were stored; None: they never were."""

    drill: str
    does: str
    tag: str
    began_at: str
    seconds: float
    rate: int
    pids: list[int] = field(default_factory=list)
    asked: int = 0
    redirected: int = 0
    cut: int = 0
    refused: list[int] = field(default_factory=list)
    slowest_ms: float = 0.0
    stored: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: int = 0
    orders: int = 0
    orders_lost: list[str] = field(default_factory=list)
    orders_doubled: int = 0
    orders_given_up: list[str] = field(default_factory=list)
    recovered_s: float | None = None

    @property
    def is_good(self) -> bool:
        """Nothing lost, nothing doubled, no answer but a redirect; cut connections are what a kill of the redirector means."""
        wrong = (self.lost, self.doubled, self.orders_lost, self.orders_doubled, self.orders_given_up, self.refused)
        return not any(wrong) and self.redirected > 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"good": self.is_good}


async def drill(settings: Settings, drills: Drills, chosen: Drill, *, seconds: float, rate: int) -> Outcome:
    """Run `chosen`: a third of `seconds` before the fault, a third with it, a third after; then wait until all is accounted for.

    Raises:
        RejectedInput: the processes it needs do not run here; nothing was touched.
        StoreUnavailable: PostgreSQL is away before the drill begins.
    """
    machine = Machine(settings.directory)
    machine.victims(chosen)
    began_at = datetime.now(UTC)
    tag = f"drill-{began_at:%Y%m%dT%H%M%S}-{os.getpid()}"
    slug, token = await drills.programme()
    host = WILDCARDS.get(settings.host, settings.host)
    target = Target(Door(host, settings.redirector_port), Door(host, settings.tracker_port), slug, token, tag)
    await asyncio.sleep(LIVE_S)
    outcome = Outcome(chosen.name, chosen.does, tag, began_at.isoformat(timespec="seconds"), seconds, rate)
    traffic = Traffic(target, rate)
    traffic.start()
    try:
        await asyncio.sleep(seconds / 3)
        with machine.during(chosen) as outcome.pids:
            await asyncio.sleep(seconds / 3)
        mended, before = time.monotonic(), _numbers(traffic.ledger)
        if not (await _awaited(drills, before, set(), outcome.tag, began_at))[0]:
            outcome.recovered_s = round(time.monotonic() - mended, 1)
        await asyncio.sleep(max(0.0, mended + seconds / 3 - time.monotonic()))
    finally:
        ledger = await asyncio.to_thread(traffic.stop)
    await _settle(drills, ledger, outcome, since=began_at)
    await drills.remember(outcome.as_dict())
    return outcome


async def _settle(drills: Drills, ledger: Ledger, outcome: Outcome, *, since: datetime) -> None:
    """Wait for all that was answered, and fill in what became of it."""
    outcome.asked, outcome.cut, outcome.refused = ledger.asked, ledger.cut, ledger.refused
    outcome.redirected, outcome.orders = len(ledger.redirected), len(ledger.orders)
    outcome.slowest_ms, outcome.orders_given_up = round(ledger.slowest_s * 1000, 1), ledger.given_up
    lost, orders_lost = await _awaited(drills, _numbers(ledger), set(ledger.orders), outcome.tag, since)
    clicks, orders = await drills.stored(outcome.tag, since)
    outcome.lost, outcome.orders_lost = sorted(map(str, lost)), sorted(orders_lost)
    outcome.stored = len(clicks)
    outcome.doubled = len(clicks) - len(set(clicks.values()))
    outcome.orders_doubled = sum(count - 1 for count in orders.values())


def _numbers(ledger: Ledger) -> set[UUID]:
    return {UUID(bytes=click_id.from_text(text)) for text in list(ledger.redirected.values())}


async def _awaited(drills: Drills, clicks: set[UUID], orders: set[str], tag: str, since: datetime) -> tuple[set[UUID], set[str]]:
    """What of `clicks` and `orders` is not stored: nothing as soon as all is, else what is missing after SETTLE_S."""
    until = time.monotonic() + SETTLE_S
    lost, orders_lost = clicks, orders
    while (lost or orders_lost) and time.monotonic() < until:
        with contextlib.suppress(StoreUnavailable):  # the fault may be its own
            stored, made = await drills.stored(tag, since)
            lost, orders_lost = clicks - set(stored), orders - set(made)
        if lost or orders_lost:
            await asyncio.sleep(POLL_S)
    return lost, orders_lost


def keep(outcome: Outcome, folder: Path) -> Path:
    """Write the dated record below `folder`; returns where."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{outcome.tag}-{outcome.drill}.json"
    path.write_bytes(orjson.dumps(outcome.as_dict(), option=orjson.OPT_INDENT_2))
    return path
