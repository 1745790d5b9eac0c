"""A part whose clock is two hours off: `time.time` and `time.time_ns` of that process are shifted by a sitecustomize."""

import asyncio
import time
from pathlib import Path

from loadtests.chaos.click_ids import moment_of
from loadtests.chaos.world import Episode, NotHappened, Work, World, fault

HOURS = {"ahead": 2, "behind": -2}
TOLERANCE_S = 120
SITE = """
import time
_ns, _s = time.time_ns, time.time
time.time_ns = lambda: _ns() + {seconds} * 10**9
time.time = lambda: _s() + {seconds}
"""


def _folder(world: World, hours: int) -> Path:
    folder = world.place.root / f"clock{hours:+d}"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(SITE.format(seconds=hours * 3600))
    return folder


def _shifted(part: str, hours: int) -> Work:
    async def work(world: World, episode: Episode) -> None:
        folder = _folder(world, hours)
        episode.begin()
        try:
            await world.turnout.restart(part, keep=True, PYTHONPATH=f"{folder}:{world.turnout.tree}")
            pid = world.turnout.parts[part].pid
            await asyncio.sleep(world.rng.uniform(5.0, 8.0))
            if part == "redirector" and not _is_seen(world, episode, hours):
                raise NotHappened("no click id of that time was seen")
            if str(folder).encode() not in Path(f"/proc/{pid}/environ").read_bytes() or world.turnout.parts[part].pid != pid:
                raise NotHappened(f"{part} did not run with the other clock")
        finally:
            await world.turnout.restart(part)
        episode.heal()
        episode.evidence = f"{part} {pid} ran {hours:+d} h off for {episode.outage_s:.1f} s"

    return work


def _is_seen(world: World, episode: Episode, hours: int) -> bool:
    world.visits.refresh()
    seen = [visit for visit in world.visits.between(episode.started_at, time.monotonic()) if visit.outcome == "ok"]
    return any(abs(moment_of(visit.click_id) - time.time() - hours * 3600) < TOLERANCE_S for visit in seen)


for _part in ("redirector", "clicks", "tracker"):
    for _word, _hours in HOURS.items():
        fault(f"clock_{_word}_{_part}", cheap=_part == "redirector" and _word == "behind")(_shifted(_part, _hours))
