"""A Valkey that forgets, refuses, or is not there yet."""

import asyncio
import signal

from loadtests.chaos.processes import wait_until
from loadtests.chaos.world import Episode, NotHappened, World, fault

CLICKS = "turnout:clicks:{0}"
PROBE = ("SET", "chaos:probe", "x", "EX", "5")
PAD_KEYS, LOAD_DELAY_US = 800, 6000


async def _with_backlog(world: World) -> int:
    """Stop the click writer until there is something in the stream to lose; how many entries."""
    world.turnout.freeze("clicks")
    await wait_until(lambda: _length(world, 3), 5.0)
    return int(await world.valkey.ask("XLEN", CLICKS))


async def _length(world: World, least: int) -> bool:
    return int(await world.valkey.ask("XLEN", CLICKS)) >= least


async def _forget(world: World, episode: Episode, *words: str) -> None:
    episode.begin()
    try:
        entries = await _with_backlog(world)
        answer = await world.valkey.ask(*words)
    finally:
        world.turnout.thaw("clicks")
    episode.heal()
    if not answer or not entries:
        raise NotHappened(f"{' '.join(words)}: {answer!r}, {entries} entries")
    episode.evidence = f"{' '.join(words)} with {entries} entries in the stream"


@fault("flushall", cheap=True)
async def flushall(world: World, episode: Episode) -> None:
    """Everything in Valkey is gone; its run_id stays."""
    await _forget(world, episode, "FLUSHALL")


@fault("xgroup_destroy", cheap=True)
async def xgroup_destroy(world: World, episode: Episode) -> None:
    """The consumer group is gone, with what was pending."""
    await _forget(world, episode, "XGROUP", "DESTROY", CLICKS, "writers")


@fault("delete_stream", cheap=True)
async def delete_stream(world: World, episode: Episode) -> None:
    """The stream is gone."""
    await _forget(world, episode, "DEL", CLICKS)


@fault("valkey_empty")
async def valkey_empty(world: World, episode: Episode) -> None:
    """Killed, its data directory removed, started again."""
    episode.begin()
    entries = await _with_backlog(world)
    await world.valkey.end(signal.SIGKILL)
    await world.valkey.wipe()
    world.turnout.thaw("clicks")
    await world.outage(1.0, 4.0)
    await world.valkey.start()
    episode.heal()
    episode.evidence = f"came back empty; {entries} entries were lost"


@fault("valkey_oom", cheap=True)
async def valkey_oom(world: World, episode: Episode) -> None:
    """maxmemory 1mb, noeviction."""
    episode.begin()
    await world.valkey.ask("CONFIG", "SET", "maxmemory", "1mb")
    try:
        said = await world.valkey.refusal(*PROBE)
        await world.outage(3.0, 6.0)
    finally:
        await world.valkey.ask("CONFIG", "SET", "maxmemory", "0")
    episode.heal()
    if "OOM" not in said and "maxmemory" not in said:
        raise NotHappened(f"a write was answered {said!r}")
    episode.evidence = f"writes were answered: {said[:60]}"


@fault("valkey_misconf")
async def valkey_misconf(world: World, episode: Episode) -> None:
    """A background save fails because the directory is not writable, so all writes are refused."""
    episode.begin()
    await world.valkey.ask("CONFIG", "SET", "save", "3600 1000000", "stop-writes-on-bgsave-error", "yes")
    world.valkey.data.chmod(0o500)
    try:
        await world.valkey.refusal("BGSAVE")
        refused = await wait_until(lambda: _says(world, "MISCONF"), 5.0)
        await world.outage(3.0, 5.0)
    finally:
        world.valkey.data.chmod(0o700)
        await world.valkey.ask("CONFIG", "SET", "save", "")
    episode.heal()
    if not refused:
        raise NotHappened("writes were not refused")
    if await world.valkey.refusal(*PROBE):
        episode.failures.append("Valkey did not recover from MISCONF")
    episode.evidence = "writes were answered MISCONF"


async def _says(world: World, word: str) -> bool:
    said = await world.valkey.refusal(*PROBE)
    return word in said or (word == "MISCONF" and "persist" in said) or (word == "LOADING" and "loading" in said.lower())


@fault("valkey_loading")
async def valkey_loading(world: World, episode: Episode) -> None:
    """It is there and loads its file for seconds: every command is answered LOADING."""
    client = world.valkey.client()
    async with client.pipeline(transaction=False) as batch:
        for number in range(PAD_KEYS):
            batch.set(f"chaos:pad:{number}", "x" * 64, ex=900)
        await batch.execute()
    await client.aclose()
    await world.valkey.ask("BGREWRITEAOF")
    await asyncio.sleep(1.0)
    episode.begin()
    await world.valkey.end(signal.SIGKILL)
    await world.valkey.start(
        "--key-load-delay", str(LOAD_DELAY_US), "--loading-process-events-interval-bytes", "1024", wait=False
    )  # fmt: skip
    loading = await wait_until(lambda: _says(world, "LOADING"), 5.0, every_s=0.02)
    started = asyncio.get_running_loop().time()
    if not await wait_until(world.valkey.answers, 60.0):
        raise TimeoutError("valkey never finished loading")
    lasted = asyncio.get_running_loop().time() - started
    episode.heal()
    await world.valkey.ask("CONFIG", "SET", "key-load-delay", "0")
    if not loading:
        raise NotHappened("it was never seen loading")
    episode.evidence = f"answered LOADING for {lasted:.1f} s"
