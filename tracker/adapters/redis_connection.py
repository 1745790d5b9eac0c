"""How workers talk to Redis or Valkey: one short-lived client, no silent retries, raw RESP2 answers, one error for every outage."""

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from tracker.errors import StreamUnavailable

CONNECT_TIMEOUT_S = 1.0
ANSWER_TIMEOUT_S = 5.0  # above the longest BLOCK; a server that is silent for longer is as good as gone
# Refusals that mean "not now": the same command may be sent again later. MOVED and ASK come from a cluster that is being changed.
REFUSALS = (
    "LOADING", "READONLY", "MISCONF", "OOM", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", "BUSY ", "MASTERDOWN", "NOREPLICAS", "UNBLOCKED",
    "NOAUTH", "WRONGPASS", "NOPERM",
)  # fmt: skip


@contextmanager
def outages(what: str) -> Iterator[None]:
    """Raise StreamUnavailable for whatever means that the server cannot be used now. A syntax error stays what it is: a bug."""
    try:
        yield
    except ResponseError as exc:
        if not str(exc).startswith(REFUSALS) and not isinstance(exc, _NAMED_REFUSALS):
            raise
        raise StreamUnavailable(f"redis: {what}: {exc}") from exc
    except (RedisError, OSError, TimeoutError) as exc:
        raise StreamUnavailable(f"redis: {what}: {type(exc).__name__} {exc}") from exc


def _named_refusals() -> tuple[type[Exception], ...]:
    from redis import exceptions

    names = (
        "ReadOnlyError",
        "OutOfMemoryError",
        "ClusterDownError",
        "TryAgainError",
        "MovedError",
        "AskError",
        "NoPermissionError",
        "MasterDownError",
    )
    return tuple(getattr(exceptions, name) for name in names if hasattr(exceptions, name))


_NAMED_REFUSALS = _named_refusals()


class RedisConnection:
    """One connection for one task. After StreamUnavailable call `drop`; the next command connects anew."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: Redis | None = None
        self._one_at_a_time = asyncio.Lock()

    async def command(self, *arguments: Any, what: str = "") -> Any:
        """The raw answer to one command: bytes, ints, lists. StreamUnavailable on an outage, when it may have taken effect or not."""
        with outages(what or str(arguments[0])):
            async with self._one_at_a_time:
                return await self._connected().execute_command(*arguments)  # type: ignore[no-untyped-call] # redis-py does not say

    def _connected(self) -> Redis:
        if self._client is None:
            self._client = Redis.from_url(
                self._url,
                protocol=2,
                retry=Retry(NoBackoff(), 0),
                socket_connect_timeout=CONNECT_TIMEOUT_S,
                socket_timeout=ANSWER_TIMEOUT_S,
                max_connections=1,
            )
            self._client.response_callbacks.clear()  # answers as they are: every parser of streams differs a little
        return self._client

    async def drop(self) -> None:
        """Close the connection, whatever state it is in. Never fails."""
        if self._client is not None:
            client, self._client = self._client, None
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                await client.aclose()
