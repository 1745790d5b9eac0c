"""Power cuts: every process stops in its step, and the journals' disk keeps what fsync asked for and nothing else."""

import asyncio
import signal

from loadtests.chaos.processes import wait_until
from loadtests.chaos.world import Episode, NotHappened, Skipped, World, fault

READY_S = 30.0
CALM_S = 3.0  # until the boot before it, whose clicks waited for no fsync, is all in PostgreSQL
PROBE = b"x" * 8192


async def _with_ack(world: World, mode: str | None) -> None:
    """Restart the redirector with this acknowledgement mode, or with the usual one, and wait until it answers."""
    changed = {} if mode is None else {"TURNOUT_ACK": mode}
    await world.turnout.restart("redirector", keep=bool(mode), **changed)
    if not await wait_until(lambda: world.turnout.is_ready("redirector", "/-/readyz"), READY_S):
        raise NotHappened(f"the redirector did not become ready with {changed}")


@fault("power_cut")
async def power_cut(world: World, episode: Episode) -> None:
    """Redis comes back empty, PostgreSQL was away: of clicks and orders answered meanwhile there is nothing but what was synced."""
    if world.disk.kind != "ext4":
        raise Skipped(world.disk.reason or "no file system here that can be shut down")
    await _with_ack(world, "journal-sync")
    await asyncio.sleep(CALM_S)
    episode.begin()
    async with world.network.away("postgres") as told:
        await world.valkey.end(signal.SIGKILL)
        await world.outage(2.0, 4.0)
        probe = world.disk.path / "probe"
        probe.write_bytes(PROBE)  # no fsync ever asks for it: a cut that leaves it was none
        await world.turnout.power_off(world.disk.cut_power)
        await asyncio.to_thread(world.disk.mount_again)
        await world.valkey.wipe()
        await world.valkey.start()
    is_kept = probe.exists() and probe.read_bytes() == PROBE
    probe.unlink(missing_ok=True)
    world.turnout.power_on()
    if not await wait_until(lambda: world.turnout.is_ready("redirector", "/-/readyz"), READY_S):
        episode.failures.append("the redirector did not come back after the power cut")
    episode.heal()
    await _with_ack(world, None)
    if is_kept or not told["cut"]:
        raise NotHappened(f"unsynced bytes kept: {is_kept}, connections to PostgreSQL cut: {told['cut']}")
    episode.evidence = f"ext4 shut down without a flush, unsynced bytes were gone; Redis came back empty; {told['cut']} connections cut"
