"""A PostgreSQL that refuses, forgets, or is held up."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from loadtests.chaos.processes import wait_until
from loadtests.chaos.servers import OWNER
from loadtests.chaos.world import Episode, NotHappened, World, fault

TERMINATE = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = $1 AND NOT pid = ANY($2::int[])"
QUIET_S = 8.0  # the longest pause of a shop inside an order, and its answer


@asynccontextmanager
async def _by_admin(world: World, episode: Episode) -> AsyncIterator[Any]:
    """A superuser's connection, for the time of the episode."""
    admin = await world.postgres.connect()
    episode.begin()
    try:
        yield admin
    finally:
        await admin.close()
    episode.heal()


@fault("pg_connections")
async def pg_connections(world: World, episode: Episode) -> None:
    """All connections are taken, and Turnout's own are ended."""
    taken: list[Any] = []
    async with _by_admin(world, episode) as admin:
        try:
            said = await _take_all(world, taken)
            ended = await admin.fetchval(TERMINATE, OWNER, [connection.get_server_pid() for connection in taken])
            said = await _take_all(world, taken) or said
            for _ in range(8):
                await asyncio.sleep(0.5)
                await _take_all(world, taken)
        finally:
            for connection in taken:
                connection.terminate()
    if not said:
        raise NotHappened("there were connections left")
    episode.evidence = f"{len(taken)} connections taken, {ended} of Turnout's ended: {said}"


async def _take_all(world: World, taken: list[Any]) -> str:
    for _ in range(200):
        try:
            taken.append(await world.postgres.connect(user=OWNER))
        except asyncpg.TooManyConnectionsError as exc:
            return str(exc)
        except (OSError, TimeoutError, asyncpg.PostgresError):
            await asyncio.sleep(0.05)
    return ""


@fault("pg_read_only", cheap=True)
async def pg_read_only(world: World, episode: Episode) -> None:
    """Every transaction is read-only, as on a demoted primary."""
    admin = await world.postgres.connect()
    await admin.execute("SET default_transaction_read_only = off")
    episode.begin()
    try:
        await admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        await admin.execute("SELECT pg_reload_conf()")
        refused = await wait_until(lambda: _is_read_only(world), 5.0)
        await world.outage(3.0, 6.0)
    finally:
        await admin.execute("ALTER SYSTEM RESET default_transaction_read_only")
        await admin.execute("SELECT pg_reload_conf()")
        await admin.close()
    episode.heal()
    if not refused:
        raise NotHappened("writes were not refused")
    episode.evidence = "writes were answered 25006, read-only transaction"


async def _is_read_only(world: World) -> bool:
    connection = await world.postgres.connect(user=OWNER)
    try:
        await connection.execute("CREATE TEMP TABLE chaos_probe (n int); CREATE TABLE chaos_probe_too (n int); DROP TABLE chaos_probe_too")
    except asyncpg.ReadOnlySQLTransactionError:
        return True
    finally:
        await connection.close()
    return False


@fault("pg_terminate", cheap=True)
async def pg_terminate(world: World, episode: Episode) -> None:
    """Turnout's connections are ended again and again: some at their COMMIT."""
    ended = 0
    async with _by_admin(world, episode) as admin:
        for _ in range(world.rng.randint(15, 40)):
            ended += await admin.fetchval(TERMINATE, OWNER, [])
            await asyncio.sleep(world.rng.uniform(0.01, 0.2))
    if not ended:
        raise NotHappened("nothing was connected")
    episode.evidence = f"{ended} connections ended"


@fault("pg_locked")
async def pg_locked(world: World, episode: Episode) -> None:
    """Somebody holds the table of clicks for seconds."""
    async with _by_admin(world, episode) as admin, admin.transaction():
        await admin.execute("SET LOCAL lock_timeout = '10s'")
        await admin.execute("LOCK TABLE clicks IN ACCESS EXCLUSIVE MODE")
        await world.outage(3.0, 6.0)
        waiting = await admin.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")
    if not waiting:
        raise NotHappened("nobody waited for the lock")
    episode.evidence = f"ACCESS EXCLUSIVE on clicks, {waiting} waited"


@fault("pg_rewind")
async def pg_rewind(world: World, episode: Episode) -> None:
    """The data directory is set back to an earlier copy: a point-in-time recovery. The shops pause: what PostgreSQL alone has is gone."""
    await world.load.pause_stores()
    copy = world.place.root / f"rewind-{id(episode)}"
    try:
        await asyncio.sleep(QUIET_S)
        episode.begin()
        await world.postgres.end(signal.SIGINT)
        await world.postgres.snapshot(copy)
        await world.postgres.start()
        await asyncio.sleep(world.rng.uniform(3.0, 6.0))
        before = (await world.postgres.fetch("SELECT count(*) AS n FROM clicks"))[0]["n"]
        await world.postgres.end(signal.SIGINT)
        await world.postgres.restore(copy)
        with contextlib.suppress(FileNotFoundError):
            (world.postgres.data / "postmaster.pid").unlink()
        await world.postgres.start()
        after = (await world.postgres.fetch("SELECT count(*) AS n FROM clicks"))[0]["n"]
        episode.heal()
    finally:
        await world.load.resume_stores()
    if after >= before:
        raise NotHappened(f"{before} clicks before, {after} after")
    episode.evidence = f"set back from {before} to about {after} clicks"
