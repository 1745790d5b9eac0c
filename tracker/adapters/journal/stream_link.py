"""The shipper's connection to Redis/Valkey: one command at a time, short timeouts, no silent retries."""

import asyncio
import contextlib
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, TypeVar

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from tracker import wire
from tracker.errors import StreamUnavailable

T = TypeVar("T")
CONNECT_TIMEOUT_S = 1.0
COMMAND_TIMEOUT_S = 2.0


def stream_id_key(stream_id: bytes) -> tuple[int, int]:
    """Stream ids in their order."""
    ms, _, number = stream_id.partition(b"-")
    return int(ms), int(number or 0)


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """Where a stream stands: enough to tell that it lost something, and what of it is acked by the writers."""

    run_id: bytes
    last_id: bytes | None
    entries_added: int
    delivered: tuple[int, int] | None
    oldest_pending: tuple[int, int] | None

    def has_lost(self, before: "StreamPosition | None", last_sent: bytes | None) -> bool:
        """Whether this is not a later state of the stream seen `before`, or lacks what was sent last."""
        if last_sent is not None and (self.last_id is None or stream_id_key(self.last_id) < stream_id_key(last_sent)):
            return True
        return before is not None and (self.run_id != before.run_id or self.entries_added < before.entries_added)

    def has_acked(self, key: tuple[int, int]) -> bool:
        """Whether the writers' group was given this entry and has acked it (or it is older than all that are unacked)."""
        if self.delivered is None or key > self.delivered:
            return False
        return self.oldest_pending is None or key < self.oldest_pending


class StreamLink:
    """Raises StreamUnavailable for everything that goes wrong; `reset` then throws the connection away."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: Any = None  # redis-py types only half of its commands

    def _connected(self) -> Any:
        if self._client is None:
            self._client = redis.Redis.from_url(
                self._url,
                socket_timeout=COMMAND_TIMEOUT_S,
                socket_connect_timeout=CONNECT_TIMEOUT_S,
                retry=Retry(NoBackoff(), 0),
                single_connection_client=True,
            )
        return self._client

    async def reset(self) -> None:
        """Forget the connection; the next command makes a new one."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await client.aclose()

    async def _ask(self, command: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT_S + CONNECT_TIMEOUT_S):
                return await command
        except (RedisError, OSError, TimeoutError) as exc:
            raise StreamUnavailable(f"redis: {type(exc).__name__}: {exc}") from exc

    async def append(self, key: str, fields: dict[bytes, bytes]) -> bytes:
        """XADD; the id it was given. After StreamUnavailable it may or may not be there."""
        parts = [part for pair in fields.items() for part in pair]
        return await self._ask(self._connected().execute_command("XADD", key, "*", *parts))

    async def report(self, report: wire.NodeReport) -> None:
        """Say what this process holds of a boot, and that the boot was heard of."""
        client = self._connected()
        await self._ask(client.set(wire.REPORT_KEY.format(boot=report.boot), wire.report_encoder.encode(report), ex=wire.REPORT_TTL_S))
        await self._ask(client.zadd(wire.BOOTS_KEY, {f"{report.kind}:{report.boot}": report.at_ms / 1000}))
        await self._ask(client.expire(wire.BOOTS_KEY, wire.BOOTS_TTL_S))

    async def covered(self, boot: bytes) -> wire.CoveredState | None:
        """What a writer published of PostgreSQL's books for this boot; None: nothing of late."""
        data = await self._ask(self._connected().get(wire.COVERED_KEY.format(boot=boot.hex())))
        return wire.covered_decoder.decode(data) if data else None

    async def position(self, key: str) -> StreamPosition:
        """Where the stream stands now."""
        client = self._connected()
        info = await self._ask(client.info("server"))
        run_id = str(info["run_id"]).encode()
        try:
            # last-delivered before pending: an entry taken between the two is then not mistaken for an acked one
            groups = await self._raw_ask(client.execute_command("XINFO", "GROUPS", key))
            stream = await self._raw_ask(client.execute_command("XINFO", "STREAM", key))
        except ResponseError:  # no such key
            return StreamPosition(run_id, None, 0, None, None)
        delivered = _named(groups, wire.GROUP)
        pending = await self._raw_ask(client.execute_command("XPENDING", key, wire.GROUP)) if delivered else None
        added = int(_field(stream, "entries-added") or 0)
        return StreamPosition(run_id, _bytes(_field(stream, "last-generated-id")), added, _key(delivered), _key(_oldest(pending)))

    async def _raw_ask(self, command: Awaitable[Any]) -> Any:
        try:
            return await self._ask(command)
        except StreamUnavailable as exc:
            if isinstance(exc.__cause__, ResponseError) and str(exc.__cause__).startswith(("no such key", "NOGROUP")):
                raise exc.__cause__ from exc
            raise

    async def now_ms(self) -> int:
        """The server's clock."""
        seconds, micros = await self._ask(self._connected().time())
        return int(seconds) * 1000 + int(micros) // 1000


def _field(answer: Any, name: str) -> Any:
    """A field of an XINFO answer, whichever of its shapes the client gives (flat list or dict, bytes or text)."""
    pairs = answer.items() if isinstance(answer, dict) else zip(answer[::2], answer[1::2], strict=False)
    return next((value for key, value in pairs if key in (name, name.encode())), None)


def _named(groups: Any, name: str) -> bytes | None:
    """The last-delivered id of a group; None when there is no such group."""
    for group in groups:
        if _field(group, "name") in (name, name.encode()):
            return _bytes(_field(group, "last-delivered-id"))
    return None


def _oldest(pending: Any) -> bytes | None:
    return _bytes(pending.get("min") if isinstance(pending, dict) else (pending[1] if pending else None))


def _bytes(text: Any) -> bytes | None:
    return text if isinstance(text, bytes) or text is None else str(text).encode()


def _key(stream_id: bytes | None) -> tuple[int, int] | None:
    return None if stream_id is None else stream_id_key(stream_id)
