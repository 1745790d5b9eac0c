"""A run: everything started, load, faults, and the verdict."""

import asyncio
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtests.chaos import report, verdict
from loadtests.chaos.build import Plan, build
from loadtests.chaos.calm import Lateness
from loadtests.chaos.episodes import play_all
from loadtests.chaos.metrics import Watch, gauge
from loadtests.chaos.processes import Workplace
from loadtests.chaos.up import build_up
from loadtests.chaos.world import Scene

Say = Callable[[str], None]


@dataclass(slots=True)
class Result:
    """What came out."""

    facts: dict[str, Any]
    table: list[report.Line]
    verdict: verdict.Verdict
    failures: list[str] = field(default_factory=list)
    is_up: bool = False

    @property
    def injected(self) -> int:
        """Faults that really happened."""
        return sum(line.times for line in self.table if line.fault != report.TOTAL)


async def run(plan: Plan, say: Say) -> Result:
    """The whole run; everything that was started has ended when it returns."""
    place, scene = Workplace(), None
    try:
        scene = await (build_up(plan, place) if plan.is_up else build(plan, place))
        return await _measure(plan, scene, say)
    finally:
        if plan.logs:
            place.keep_logs(plan.logs)
            for name in ("visits.log", "orders.log"):
                if (place.root / name).exists():
                    shutil.copy(place.root / name, plan.logs)
        place.close()


async def _measure(plan: Plan, scene: Scene, say: Say) -> Result:
    watch, lateness = Watch(scene), Lateness()
    watching = [asyncio.create_task(watch.run()), asyncio.create_task(lateness.run())]
    started = time.monotonic()
    episodes = await play_all(scene, plan.faults, plan.seconds, say, plan.least)
    await scene.load.stop_stores()
    await scene.load.stop_visitors()
    say("waiting until everything is stored and settled")
    still_open = await verdict.wait_until_quiet(scene, episodes)
    for task in watching:
        task.cancel()
    await watch.sample()
    journal_bytes = sum(gauge(text, "turnout_journal_bytes") for text in (await scene.pages()).values())
    found = await verdict.judge(scene, episodes)
    facts = _facts(plan, scene, started) | {
        "counters": {name: int(value) for name, value in watch.totals.items()},
        "journal bytes at the end": journal_bytes,
        "machine was late by (p99, ms)": round(lateness.p99_ms, 1),
    }
    failures = [*found.failures, *(f"{e.name}: {failure}" for e in episodes for failure in e.failures)]
    failures += [f"never became quiet: {still_open}"] if still_open else []
    failures += [f"DRIFT after {e.name}: {e.drift}" for e in episodes if e.drift]
    failures += [*scene.surprises(), *await _failures_of_the_stop(scene)]
    failures = [f"{failure} ({count} x)" if count > 1 else failure for failure, count in Counter(failures).items()]
    if not plan.faults:
        failures += healthy_failures(watch.totals, found, journal_bytes, is_busy=lateness.is_busy)
    return Result(facts, report.lines(episodes, scene.visits, scene.orders, found), found, failures, plan.is_up)


async def _failures_of_the_stop(scene: Scene) -> list[str]:
    """After an orderly stop every boot there was is closed and the books are balanced."""
    boots = [row["boot"] for row in await _asked(scene, verdict.BOOTS)]
    found = await scene.stop()
    still_open = [f"{row['kind']} {row['boot']}" for row in await _asked(scene, verdict.NOT_CLOSED, boots)]
    code, books = await scene.audit()
    states = (books.get("state"), books.get("conversions", {}).get("state"))
    found += [f"after the stop boots are not closed: {still_open}"] if still_open else []
    return found + ([] if states == ("balanced", "balanced") and code == 0 else [f"after the stop the audit says {states}, exit {code}"])


async def _asked(scene: Scene, statement: str, *arguments: Any) -> list[Any]:
    connection = await scene.connect()
    try:
        return list(await connection.fetch(statement, *arguments))
    finally:
        await connection.close()


def healthy_failures(totals: dict[str, float], found: verdict.Verdict, journal_bytes: float, *, is_busy: bool) -> list[str]:
    """Without faults no degraded path may be used; deadlines of milliseconds are only judged on a machine that has the time."""
    late = ("turnout_ack_deadline_total",) if is_busy else ()
    failures = [f"healthy run: {name} is {value:g}" for name, value in totals.items() if value and name not in late]
    for kind, page in (("clicks", found.books.clicks), ("conversions", found.books.conversions)):
        failures += [f"healthy run: {kind} {name} {page[name]}" for name in ("redelivered", "unrecorded") if page.get(name)]
    return failures + ([f"healthy run: {journal_bytes:g} bytes of journal are left"] if journal_bytes else [])


def _facts(plan: Plan, scene: Scene, started: float) -> dict[str, Any]:
    outcomes = [visit.outcome for visit in scene.visits.by_number.values()]
    return {
        "seed": plan.seed,
        "seconds": round(time.monotonic() - started, 1),
        "asked": " ".join(sys.argv[1:]),
        "commit": _commit(plan.tree),
        "machine": report.machine(),
        "visits": {name: outcomes.count(name) for name in sorted(set(outcomes))},
        "orders": len(scene.orders.by_txid),
        "postbacks": len(scene.orders.answers),
    } | scene.facts()


def _commit(tree: Path) -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=tree, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
