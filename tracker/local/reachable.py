"""Checks, before anything is started, that the servers named in the settings answer. No message shows a password."""

import asyncio

import asyncpg
import redis.asyncio
from redis.exceptions import RedisError

from tracker.errors import BadConfiguration

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
    """PING once. BadConfiguration as in `check_postgres`."""
    try:
        client = redis.asyncio.Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
    except ValueError as exc:
        raise BadConfiguration("TURNOUT_REDIS_URL is not a URL such as redis://:password@host:6379/0, rediss://… or unix:///path") from exc
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await client.ping()
    except TimeoutError as exc:
        raise _unreachable("REDIS_URL", "Redis", f"no answer within {TIMEOUT_S:.0f} s") from exc
    except (OSError, RedisError) as exc:
        raise _unreachable("REDIS_URL", "Redis", str(exc)) from exc
    finally:
        await client.aclose()


def _unreachable(setting: str, server: str, reason: str) -> BadConfiguration:
    return BadConfiguration(
        f"TURNOUT_{setting}: {server} cannot be reached ({' '.join(reason.split())}); correct it, or leave it empty "
        "to use the embedded server"
    )
