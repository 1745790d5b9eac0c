"""Checks, before anything is started, that the servers named in the settings answer. No message shows a password."""

import asyncio

import asyncpg

from tracker.adapters.redis_connection import RedisConnection
from tracker.errors import BadConfiguration, StreamUnavailable
from tracker.wire import BOOTS_KEY

TIMEOUT_S = 5.0


async def check_postgres(url: str) -> None:
    """Log in once. BadConfiguration names the setting and what the server or the network said, within 5 s."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            connection = await asyncpg.connect(url, timeout=TIMEOUT_S)
            await connection.close(timeout=1)
    except TimeoutError as exc:
        raise _unreachable("DATABASE_URL", "PostgreSQL", f"no answer within {TIMEOUT_S:.0f} s") from exc
    except (asyncpg.InterfaceError, ValueError) as exc:  # about the URL itself, and may quote it: not repeated
        raise BadConfiguration("TURNOUT_DATABASE_URL is not a libpq URL such as postgresql://user:password@host:5432/database") from exc
    except (OSError, asyncpg.PostgresError) as exc:
        raise _unreachable("DATABASE_URL", "PostgreSQL", str(exc)) from exc


async def check_redis(url: str) -> None:
    """Ask once what kind of server it is. BadConfiguration as in `check_postgres`, and when the URL is of another form than the server."""
    try:
        connection = RedisConnection(url)
    except ValueError as exc:
        raise BadConfiguration(f"TURNOUT_REDIS_URL {exc}") from exc
    try:
        async with asyncio.timeout(TIMEOUT_S):
            info: bytes = await connection.command("INFO", "server", near=BOOTS_KEY)
    except TimeoutError as exc:
        raise _unreachable("REDIS_URL", "Redis", f"no answer within {TIMEOUT_S:.0f} s") from exc
    except StreamUnavailable as exc:
        raise _unreachable("REDIS_URL", "Redis", str(exc)) from exc
    finally:
        await connection.drop()
    _check_form(url, info.decode(errors="replace"))


def _check_form(url: str, info: str) -> None:
    modes = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith(("redis_mode:", "server_mode:"))]
    for mode in ("cluster", "sentinel"):
        if mode in modes and f"+{mode}://" not in url:
            raise BadConfiguration(f"TURNOUT_REDIS_URL names a server that runs as {mode}: write redis+{mode}://… or rediss+{mode}://…")


def _unreachable(setting: str, server: str, reason: str) -> BadConfiguration:
    return BadConfiguration(
        f"TURNOUT_{setting}: {server} cannot be reached ({' '.join(reason.split())}); correct it, or leave it empty "
        "to use the embedded server"
    )
