"""Connections to the servers that are slow, dead, cut, half closed, or cut inside a reply."""

import asyncio

from loadtests.chaos.world import Episode, NotHappened, Work, World, fault

MODES = ("delay", "blackhole", "reset", "half_close", "truncate")
AGAIN_S = 1.0  # how often what is cut is cut again
CHEAP = ("redis_reset", "redis_truncate", "redis_delay", "postgres_reset", "postgres_truncate")


def _network(server: str, mode: str, share: float) -> Work:
    async def work(world: World, episode: Episode) -> None:
        seconds, touched = world.rng.choice((0.1, 0.4, 1.5)), 0
        rounds = world.rng.randint(3, 6)
        episode.begin()
        await world.network.set(server, mode, seconds=seconds, share=share)
        try:
            for number in range(rounds):
                await asyncio.sleep(AGAIN_S)
                if mode not in ("delay", "blackhole") and number < rounds - 1:
                    told = await world.network.set(server, mode, seconds=seconds, share=share)
                    touched += told["held"] + told["cut"]
        finally:
            told = await world.network.set(server, "pass")
            touched += told["held"] + told["cut"]
        episode.heal()
        if not touched:
            raise NotHappened("no connection was touched")
        how = f" by {seconds} s" if mode == "delay" else ""
        episode.evidence = f"{mode}{how} of {share:.0%} of the connections for {rounds} s, {touched} pieces or connections touched"

    return work


for _server in ("redis", "postgres"):
    for _mode in MODES:
        _name = f"{_server}_{_mode}"
        fault(_name, cheap=_name in CHEAP)(_network(_server, _mode, 1.0))
    fault(f"{_server}_half_of_connections")(_network(_server, "reset", 0.5))


@fault("partition_both")
async def partition_both(world: World, episode: Episode) -> None:
    """Both servers behind a black hole at once: the edge is alone."""
    episode.begin()
    for server in ("redis", "postgres"):
        await world.network.set(server, "blackhole")
    try:
        await world.outage(3.0, 7.0)
    finally:
        held = {server: (await world.network.set(server, "pass"))["held"] for server in ("redis", "postgres")}
    episode.heal()
    if not all(held.values()):
        raise NotHappened(f"held: {held}")
    episode.evidence = f"pieces held: {held}"
