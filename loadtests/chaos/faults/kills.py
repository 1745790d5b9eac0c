"""Processes that die: killed at random, at a named step, all at once, or asked to go."""

import asyncio
import signal

from loadtests.chaos.processes import wait_until
from loadtests.chaos.turnout import PARTS
from loadtests.chaos.world import Episode, NotHappened, Work, World, fault

CRASH_S = 20.0
REDIRECTOR_POINTS = ("journal.before_write", "journal.after_write", "shipper.before_xadd", "shipper.after_xadd")
WRITER_STEPS = ("after_read", "before_copy", "before_commit", "after_commit", "before_ack", "after_ack")
TRACKER_POINTS = ("journal.before_write", "journal.after_write", "journal.after_sync", "shipper.before_xadd", "shipper.after_xadd")
CHEAP_KILLS = ("redirector", "tracker", "clicks", "conversions")


def _kill(name: str) -> Work:
    async def work(world: World, episode: Episode) -> None:
        times, pids = world.rng.randint(1, 3), []
        episode.begin()
        for _ in range(times):
            pids.append((await world.turnout.kill(name)).pid)
            await asyncio.sleep(world.rng.uniform(0.5, 2.0))
        episode.heal()
        episode.evidence = f"{times} x SIGKILL: {pids}"

    return work


def _server_kill(name: str, number: signal.Signals) -> Work:
    async def work(world: World, episode: Episode) -> None:
        server = world.postgres if name == "postgres" else world.valkey
        pid = server.pid
        episode.begin()
        await server.end(number)
        if server.is_running or await server.answers():
            raise NotHappened(f"{name} still answers")
        await world.outage(1.0, 5.0)
        await server.start()
        episode.heal()
        episode.evidence = f"{number.name} of {pid}, gone for {episode.outage_s:.1f} s"

    return work


def _deploy(name: str) -> Work:
    async def work(world: World, episode: Episode) -> None:
        episode.begin()
        death = await world.turnout.kill(name, signal.SIGTERM, within_s=40.0)
        episode.heal()
        episode.evidence = f"SIGTERM of {death.pid}, ended with {death.code} after {episode.outage_s:.1f} s"
        if death.code != 0:
            episode.failures.append(f"{name} ended with {death.code} on SIGTERM")

    return work


async def _crash(world: World, episode: Episode, part: str, point: str) -> None:
    """Restart `part` so that it kills itself at `point`, and wait until it did."""
    known = world.turnout.parts[part]
    nth = world.rng.randint(1, 6) if part in ("redirector", "clicks") else 1
    await world.turnout.restart(part, TURNOUT_INTERNAL_CRASH_AT=f"{point}:{nth}")
    pid, before = known.pid, len(known.deaths)
    known.doomed.add(pid)
    if not await wait_until(lambda: len(known.deaths) > before, CRASH_S):
        await world.turnout.kill(part)
        raise NotHappened(f"{point}:{nth} was not reached within {CRASH_S:.0f} s")
    death = known.deaths[before]
    if (death.pid, death.code) != (pid, -signal.SIGKILL):
        raise NotHappened(f"{part} ended with {death.code} before {point}")
    episode.evidence = f"{part} {pid} died at {point}:{nth}"


def _crash_point(part: str, point: str) -> Work:
    async def work(world: World, episode: Episode) -> None:
        episode.begin()
        await _crash(world, episode, part, point)
        episode.heal()

    return work


def _crash_point_without_postgres(part: str, point: str) -> Work:
    """These steps are only walked through while, or after, postbacks are journaled."""

    async def work(world: World, episode: Episode) -> None:
        episode.begin()
        told = await world.network.set("postgres", "reset")
        try:
            if part == "tracker":
                await _crash(world, episode, part, point)
            await asyncio.sleep(3.0)
            told = await world.network.set("postgres", "reset")
        finally:
            await world.network.set("postgres", "pass")
        if part != "tracker":
            await _crash(world, episode, part, point)
        if not told["cut"]:
            raise NotHappened("no connection to PostgreSQL was cut")
        episode.heal()
        episode.evidence += f"; PostgreSQL was away, {told['cut']} connections refused"

    return work


@fault("kill_all_parts", cheap=True)
async def kill_all_parts(world: World, episode: Episode) -> None:
    """Everything of Turnout's at once."""
    episode.begin()
    deaths = await asyncio.gather(*(world.turnout.kill(name) for name in PARTS))
    episode.heal()
    episode.evidence = f"SIGKILL of {[death.pid for death in deaths]}"


@fault("kill_everything")
async def kill_everything(world: World, episode: Episode) -> None:
    """All parts and both servers at once: a machine that loses power keeps no more than this does, but for unsynced bytes."""
    episode.begin()
    servers = (world.valkey, world.postgres)
    await asyncio.gather(*(world.turnout.kill(name) for name in PARTS), *(server.end(signal.SIGKILL) for server in servers))
    if any(server.is_running for server in servers):
        raise NotHappened("a server still runs")
    await world.outage(1.0, 3.0)
    await asyncio.gather(*(server.start() for server in servers))
    episode.heal()
    episode.evidence = "SIGKILL of 6 parts and 2 servers"


for _name in PARTS:
    fault(f"kill_{_name}", cheap=_name in CHEAP_KILLS)(_kill(_name))
    fault(f"deploy_{_name}")(_deploy(_name))
for _server in ("valkey", "postgres"):
    fault(f"kill_{_server}", cheap=True)(_server_kill(_server, signal.SIGKILL))
fault("restart_postgres")(_server_kill("postgres", signal.SIGINT))
fault("restart_valkey")(_server_kill("valkey", signal.SIGTERM))
for _point in REDIRECTOR_POINTS:
    fault(f"crash_redirector_{_point}", cheap=True)(_crash_point("redirector", _point))
for _step in WRITER_STEPS:
    fault(f"crash_click_writer.{_step}", cheap=True)(_crash_point("clicks", f"click_writer.{_step}"))
    fault(f"crash_conversion_writer.{_step}")(_crash_point_without_postgres("conversions", f"conversion_writer.{_step}"))
for _point in TRACKER_POINTS:
    fault(f"crash_tracker_{_point}")(_crash_point_without_postgres("tracker", _point))
