"""Two writers at once, one of which dies."""

import asyncio
import signal

from loadtests.chaos.world import Episode, NotHappened, World, fault


@fault("two_click_writers")
async def two_click_writers(world: World, episode: Episode) -> None:
    """A second one beside the first; the first is killed twice, then the second for good: its entries are claimed after 3 s."""
    episode.begin()
    second = world.turnout.add("clicks", "clicks-2")
    await asyncio.sleep(3.0)
    if not second.is_running or second.deaths:
        raise NotHappened("the second writer does not run")
    for _ in range(2):
        await world.turnout.kill("clicks")
        await asyncio.sleep(1.0)
    await world.turnout.remove("clicks-2", signal.SIGKILL)
    episode.heal()
    episode.evidence = f"writers {world.turnout.parts['clicks'].pid} and {second.pid}; the first was killed twice, the second for good"


@fault("two_conversion_writers")
async def two_conversion_writers(world: World, episode: Episode) -> None:
    """Postbacks are journaled while PostgreSQL is away; then two writers decide on them, and one is killed."""
    episode.begin()
    world.turnout.add("conversions", "conversions-2")
    async with world.network.away("postgres") as told:
        await asyncio.sleep(4.0)
    await asyncio.sleep(0.5)
    await world.turnout.kill("conversions")
    await asyncio.sleep(2.0)
    await world.turnout.remove("conversions-2", signal.SIGKILL)
    episode.heal()
    if not told["cut"]:
        raise NotHappened("no connection to PostgreSQL was cut")
    episode.evidence = f"PostgreSQL was away, {told['cut']} connections refused; then two writers, both killed"
