"""A journal disk that is full or frozen. Without root it cannot be had, and says so."""

import asyncio
import errno
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from loadtests.chaos.world import Episode, NotHappened, Skipped, World, fault

FREEZE_S = 4.0


def _need(world: World, *kinds: str) -> None:
    if world.disk.kind not in kinds:
        raise Skipped(world.disk.reason)


def _refuses(world: World) -> bool:
    """Whether the disk takes nothing more."""
    probe = world.disk.path / "probe"
    try:
        descriptor = os.open(probe, os.O_CREAT | os.O_WRONLY)
        try:
            os.write(descriptor, b"x" * 8192)
        finally:
            os.close(descriptor)
    except OSError as exc:
        return exc.errno == errno.ENOSPC
    finally:
        probe.unlink(missing_ok=True)
    return False


async def _full(world: World, episode: Episode, seconds: float) -> None:
    """Keep the disk full for so long: what sealed segments give back is taken again."""
    if not _refuses(world):
        raise NotHappened("the disk took another file")
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        await asyncio.sleep(0.2)
        await asyncio.to_thread(world.disk.top_up)
    if not _refuses(world):
        raise NotHappened("the disk did not stay full")
    episode.evidence = f"ENOSPC on the journals' disk for {seconds:.1f} s"


@asynccontextmanager
async def _filled(world: World, episode: Episode) -> AsyncIterator[None]:
    """The disk is full for the time of the block; that is the episode."""
    _need(world, "ext4", "tmpfs")
    episode.begin()
    try:
        await asyncio.to_thread(world.disk.fill)
        yield
    finally:
        world.disk.empty()
    episode.heal()


@fault("disk_full")
async def disk_full(world: World, episode: Episode) -> None:
    """Full under traffic, then emptied."""
    async with _filled(world, episode):
        await _full(world, episode, world.rng.uniform(4.0, 8.0))


@fault("disk_full_restart")
async def disk_full_restart(world: World, episode: Episode) -> None:
    """Redirector and tracker are asked to go, and start again on a full disk. (Killed ones: `disk_full_killed`.)"""
    async with _filled(world, episode):
        await asyncio.sleep(1.0)
        pids = [(await world.turnout.kill(name, signal.SIGTERM, 40.0)).pid for name in ("redirector", "tracker")]
        await _full(world, episode, 4.0)
    episode.evidence += f"; {pids} were restarted on it"


@fault("disk_full_killed")
async def disk_full_killed(world: World, episode: Episode) -> None:
    """Redirector and tracker are killed on a full disk, while Redis has what the journal refused."""
    async with _filled(world, episode):
        await asyncio.sleep(2.0)
        pids = [(await world.turnout.kill(name)).pid for name in ("redirector", "tracker")]
        await _full(world, episode, 4.0)
    episode.evidence += f"; {pids} were killed on it"


@fault("disk_full_valkey_down")
async def disk_full_valkey_down(world: World, episode: Episode) -> None:
    """Journal and Redis both refuse, and nobody dies: what is in memory is kept."""
    async with _filled(world, episode):
        await world.valkey.end(signal.SIGKILL)
        await _full(world, episode, 4.0)
        await world.valkey.start()
        await _full(world, episode, 2.0)
    episode.evidence = f"ENOSPC on the journals' disk for {episode.outage_s:.1f} s, Valkey down for 4 of them"


@fault("disk_full_postgres_down")
async def disk_full_postgres_down(world: World, episode: Episode) -> None:
    """Orders have only Redis."""
    async with _filled(world, episode), world.network.away("postgres") as told:
        await _full(world, episode, 4.0)
    if not told["cut"]:
        raise NotHappened("no connection to PostgreSQL was cut")
    episode.evidence += f"; PostgreSQL was away, {told['cut']} connections refused"


@fault("disk_full_valkey_down_killed", permits_loss=True)
async def disk_full_valkey_down_killed(world: World, episode: Episode) -> None:
    """Journal and Redis both refuse and the redirector is killed: the named loss, which must be counted exactly."""
    async with _filled(world, episode):
        await world.valkey.end(signal.SIGKILL)
        await _full(world, episode, 3.0)
        pid = (await world.turnout.kill("redirector")).pid
        await asyncio.sleep(1.0)
        await world.valkey.start()
    episode.evidence += f", Valkey down, and redirector {pid} killed"


@fault("disk_frozen")
async def disk_frozen(world: World, episode: Episode) -> None:
    """fsfreeze for seconds: what backup agents and volume snapshots do."""
    _need(world, "ext4")
    episode.begin()
    freeze = await world.disk.freeze(FREEZE_S)
    await freeze.over()
    episode.heal()
    if not freeze.is_frozen:
        raise NotHappened("fsfreeze refused")
    episode.evidence = f"fsfreeze for {episode.outage_s:.1f} s"


@fault("disk_frozen_postgres_down")
async def disk_frozen_postgres_down(world: World, episode: Episode) -> None:
    """Orders have only Redis, and the journal does not even refuse."""
    _need(world, "ext4")
    episode.begin()
    async with world.network.away("postgres") as told:
        freeze = await world.disk.freeze(FREEZE_S)
        await freeze.over()
    episode.heal()
    if not (freeze.is_frozen and told["cut"]):
        raise NotHappened(f"frozen: {freeze.is_frozen}, cut: {told['cut']}")
    episode.evidence = f"fsfreeze for {episode.outage_s:.1f} s; PostgreSQL was away, {told['cut']} connections refused"


@fault("disk_frozen_killed", permits_loss=True)
async def disk_frozen_killed(world: World, episode: Episode) -> None:
    """The redirector is killed while its disk hangs past the deadline: the second named loss, which must be counted exactly."""
    _need(world, "ext4")
    episode.begin()
    freeze = await world.disk.freeze(FREEZE_S)
    await asyncio.sleep(1.5)
    death = await world.turnout.kill("redirector")  # it cannot go before the thaw: a write hangs in the kernel
    await freeze.over()
    episode.heal()
    if not freeze.is_frozen:
        raise NotHappened("fsfreeze refused")
    episode.evidence = f"fsfreeze for {episode.outage_s:.1f} s, {death.pid} killed in it"
