"""The shipper's connection to Redis/Valkey: one command at a time, short timeouts, no silent retries."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, TypeVar

from redis.exceptions import ResponseError

from tracker import wire
from tracker.adapters.redis_connection import RedisConnection
from tracker.adapters.redis_topology import CONNECT_TIMEOUT_S
from tracker.errors import StreamUnavailable

T = TypeVar("T")
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
    """Raises StreamUnavailable for everything that goes wrong; `reset` then throws the connections away."""

    def __init__(self, url: str) -> None:
        self._redis = RedisConnection(url, answer_timeout_s=COMMAND_TIMEOUT_S)

    async def reset(self) -> None:
        """Forget the connections; the next command asks anew for the stream's server, and makes new ones."""
        await self._redis.drop()

    async def append(self, key: str, fields: dict[bytes, bytes]) -> bytes:
        """XADD; the id it was given. After StreamUnavailable it may or may not be there."""
        parts = [part for pair in fields.items() for part in pair]
        return bytes(await _in_time(self._redis.command("XADD", key, "*", *parts)))

    async def report(self, report: wire.NodeReport) -> None:
        """Say what this process holds of a boot, and that the boot was heard of."""
        text = wire.report_encoder.encode(report)
        calls: list[tuple[Any, ...]] = [
            ("SET", wire.REPORT_KEY.format(boot=report.boot), text, "EX", wire.REPORT_TTL_S),
            ("ZADD", wire.BOOTS_KEY, report.at_ms / 1000, f"{report.kind}:{report.boot}"),
            ("EXPIRE", wire.BOOTS_KEY, wire.BOOTS_TTL_S),
        ]
        await _in_time(self._redis.each(calls, what="report"))

    async def covered(self, boot: bytes) -> wire.CoveredState | None:
        """What a writer published of PostgreSQL's books for this boot; None: nothing of late."""
        text = await _in_time(self._redis.command("GET", wire.COVERED_KEY.format(boot=boot.hex())))
        return wire.covered_decoder.decode(text) if text else None

    async def position(self, key: str) -> StreamPosition:
        """Where the stream stands now, and on which server."""
        run_id = _run_id(await _in_time(self._redis.command("INFO", "server", near=key)))
        try:
            # last-delivered before pending: an entry taken between the two is then not mistaken for an acked one
            groups = await self._of_stream("XINFO", "GROUPS", key)
            stream = _named(await self._of_stream("XINFO", "STREAM", key))
            delivered = next((group[b"last-delivered-id"] for group in map(_named, groups) if group[b"name"] == wire.GROUP.encode()), None)
            pending = await self._of_stream("XPENDING", key, wire.GROUP) if delivered else None
        except _NoStream:
            return StreamPosition(run_id, None, 0, None, None)
        oldest = pending[1] if pending else None
        return StreamPosition(run_id, stream[b"last-generated-id"], int(stream.get(b"entries-added") or 0), _key(delivered), _key(oldest))

    async def _of_stream(self, *arguments: Any) -> Any:
        try:
            return await _in_time(self._redis.command(*arguments))
        except StreamUnavailable as exc:
            if isinstance(exc.__cause__, ResponseError) and str(exc.__cause__).startswith(("no such key", "NOGROUP")):
                raise _NoStream from exc
            raise

    async def now_ms(self) -> int:
        """The clock of the server that knows when a boot was heard of."""
        seconds, micros = await _in_time(self._redis.command("TIME", near=wire.BOOTS_KEY))
        return int(seconds) * 1000 + int(micros) // 1000


class _NoStream(Exception):
    """There is no such stream, or no such group."""


async def _in_time(command: Awaitable[T]) -> T:
    """The answer, or StreamUnavailable: to the shipper even a command that the server finds wrong is an outage, for visitors wait."""
    try:
        async with asyncio.timeout(COMMAND_TIMEOUT_S + CONNECT_TIMEOUT_S):
            return await command
    except (ResponseError, TimeoutError) as exc:
        raise StreamUnavailable(f"redis: {type(exc).__name__}: {exc}") from exc


def _run_id(info: bytes) -> bytes:
    return next((line.partition(b":")[2].strip() for line in info.splitlines() if line.startswith(b"run_id:")), b"")


def _named(flat: list[Any]) -> dict[bytes, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _key(stream_id: bytes | None) -> tuple[int, int] | None:
    return None if stream_id is None else stream_id_key(stream_id)
