"""Processes that hang: SIGSTOP, so that connections stay and nothing answers."""

import asyncio

from loadtests.chaos.world import Episode, NotHappened, Work, World, fault


def _freeze_server(name: str) -> Work:
    async def work(world: World, episode: Episode) -> None:
        server = world.postgres if name == "postgres" else world.valkey
        episode.begin()
        is_frozen = server.freeze()
        try:
            await world.outage(2.0, 6.0)
            if not is_frozen or await server.answers():
                raise NotHappened(f"{name} was not stopped")
        finally:
            server.thaw()
        episode.heal()
        episode.evidence = f"SIGSTOP of {server.pid} for {episode.outage_s:.1f} s, it answered nothing"

    return work


def _freeze_part(name: str) -> Work:
    async def work(world: World, episode: Episode) -> None:
        episode.begin()
        is_frozen = world.turnout.freeze(name)
        try:
            await world.outage(1.5, 4.0)
        finally:
            world.turnout.thaw(name)
        episode.heal()
        if not is_frozen:
            raise NotHappened(f"{name} was not stopped")
        episode.evidence = f"SIGSTOP of {world.turnout.parts[name].pid} for {episode.outage_s:.1f} s"

    return work


@fault("freeze_click_writer_beyond_claim")
async def freeze_click_writer_beyond_claim(world: World, episode: Episode) -> None:
    """Its entries are claimed by a second writer after 3 s; then it wakes up and goes on with what it holds."""
    episode.begin()
    world.turnout.add("clicks", "clicks-2")
    await asyncio.sleep(2.0)
    is_frozen = world.turnout.freeze("clicks")
    try:
        await asyncio.sleep(34.0)
    finally:
        world.turnout.thaw("clicks")
    await asyncio.sleep(2.0)
    await world.turnout.remove("clicks-2")
    episode.heal()
    if not is_frozen:
        raise NotHappened("the writer was not stopped")
    episode.evidence = "SIGSTOP for 34 s beside a second writer"


for _name in ("valkey", "postgres"):
    fault(f"freeze_{_name}", cheap=_name == "valkey")(_freeze_server(_name))
for _part in ("redirector", "tracker", "clicks"):
    fault(f"freeze_{_part}", cheap=_part == "redirector")(_freeze_part(_part))
