"""Reading one stream as a member of the group `writers`, and trimming what all groups are done with."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from redis.exceptions import ResponseError

from tracker.adapters.redis_connection import RedisConnection
from tracker.wire import GROUP

BLOCK_MS = 1000  # below the answer timeout of the connection
CLAIM_EVERY_S = 1.0
SILENT_AFTER_MS = 3_000  # a consumer that has shown no sign of life for so long is taken for dead: see `beat`
STALE_AFTER_MS = 30_000  # an entry that its consumer has held for so long is taken from it, alive or not
ZERO_ID, BEYOND_ALL = b"0-0", b"18446744073709551615-0"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One stream entry in our hands, to be acked once what it says is stored."""

    id: bytes
    fields: dict[bytes, bytes]

    @property
    def size(self) -> int:
        return len(self.fields.get(b"b", b""))


class EntryStream:
    """One stream, read by one task of one consumer.

    At least once: whatever `read` gave out and `ack` did not confirm comes again, to us or to another consumer. Whoever does neither
    calls `beat` meanwhile. After StreamUnavailable call `close`; then our own unacked entries come first.
    """

    def __init__(
        self, url: str, key: str, consumer: str, *, stale_after_ms: int = STALE_AFTER_MS, silent_after_ms: int = SILENT_AFTER_MS
    ) -> None:
        self.key = key
        self._redis, self._consumer = RedisConnection(url), consumer
        self._stale_after_ms, self._silent_after_ms = stale_after_ms, silent_after_ms
        self._acks = RedisConnection(url)  # its own: an ack must not wait behind a blocked read
        self._own_after: bytes | None = b"0"  # where in our own pending list to read on; None: through
        self._has_group = False
        self._claim_at, self._claim_from = 0.0, ZERO_ID
        self.gone = 0  # delivered, never acked, and not in the stream any more: evidence of loss in Redis

    async def read(self, count: int, block_ms: int = BLOCK_MS) -> list[Delivery]:
        """At most `count` entries: our own unacked ones, then stale ones of others, then new ones, `block_ms` at most (0: no wait)."""
        try:
            await self._ensure_group()
            if self._own_after is not None and (own := await self._read_own(count)):
                return own
            if time.monotonic() >= self._claim_at and (others := await self._claim_silent(count) or await self._claim_stale(count)):
                return others
            return await self._read_new(count, block_ms)
        except ResponseError as exc:
            if not str(exc).startswith("NOGROUP"):
                raise
            self._has_group, self._own_after = False, b"0"  # FLUSHALL, a lost disk: the stream begins anew
            return []

    async def _ensure_group(self) -> None:
        if self._has_group:
            return
        try:
            # From 0, never from $: what lies in the stream before the group was made is clicks too.
            await self._redis.command("XGROUP", "CREATE", self.key, GROUP, "0", "MKSTREAM")
        except ResponseError as exc:
            if not str(exc).startswith("BUSYGROUP"):
                raise
        self._has_group = True

    async def _read_own(self, count: int) -> list[Delivery]:
        answer = await self._redis.command(
            "XREADGROUP", "GROUP", GROUP, self._consumer, "COUNT", count, "STREAMS", self.key, self._own_after
        )
        entries = answer[0][1] if answer else []
        self._own_after = entries[-1][0] if entries else None
        return await self._sorted_out(entries) if entries else []

    async def _claim_silent(self, count: int) -> list[Delivery]:
        """Entries of consumers that are dead or hang."""
        for consumer in _named(await self._redis.command("XINFO", "CONSUMERS", self.key, GROUP)):
            if consumer[b"name"] == self._consumer.encode() or not consumer[b"pending"] or consumer[b"idle"] < self._silent_after_ms:
                continue
            least = self._silent_after_ms
            pending = await self._redis.command("XPENDING", self.key, GROUP, "IDLE", least, "-", "+", count, consumer[b"name"])
            if pending and (found := await self._take([entry[0] for entry in pending], least)):
                return found
        return []

    async def _take(self, ids: list[bytes], least_ms: int) -> list[Delivery]:
        """Claim entries that nobody else has claimed in between."""
        entries = await self._redis.command("XCLAIM", self.key, GROUP, self._consumer, least_ms, *ids)
        for id_ in set(ids).difference(entry[0] for entry in entries if entry):
            self.gone += not await self._redis.command("XRANGE", self.key, id_, id_, "COUNT", 1)
        return await self._sorted_out(entries)

    async def _claim_stale(self, count: int) -> list[Delivery]:
        answer = await self._redis.command(
            "XAUTOCLAIM", self.key, GROUP, self._consumer, self._stale_after_ms, self._claim_from, "COUNT", count
        )
        self._claim_from = answer[0]
        if answer[0] == ZERO_ID:
            self._claim_at = time.monotonic() + CLAIM_EVERY_S
        if len(answer) > 2 and answer[2]:
            self.gone += len(answer[2])
        return await self._sorted_out(answer[1])

    async def _read_new(self, count: int, block_ms: int) -> list[Delivery]:
        block = ("BLOCK", block_ms) if block_ms else ()
        answer = await self._redis.command("XREADGROUP", "GROUP", GROUP, self._consumer, "COUNT", count, *block, "STREAMS", self.key, ">")
        return [_delivery(entry) for entry in answer[0][1]] if answer else []

    async def _sorted_out(self, entries: list[Any]) -> list[Delivery]:
        gone = [entry[0] for entry in entries if entry and entry[1] is None]
        if gone:
            self.gone += len(gone)
            await self.ack(gone)
        return [_delivery(entry) for entry in entries if entry and entry[1] is not None]

    async def ack(self, ids: Iterable[bytes]) -> None:
        """Confirm entries; those that are not pending any more are passed over."""
        await self._acks.command("XACK", self.key, GROUP, *ids)

    async def beat(self) -> None:
        """Show that we live: others leave us our entries. Once a second is often enough."""
        try:
            # Of all commands of a consumer, Redis 7.0 takes only this one for a sign of life when there is nothing to give.
            await self._acks.command("XREADGROUP", "GROUP", GROUP, self._consumer, "COUNT", 1, "STREAMS", self.key, BEYOND_ALL)
        except ResponseError as exc:
            if not str(exc).startswith("NOGROUP"):
                raise

    async def is_drained(self) -> bool:
        """Whether the group has nothing pending and nothing unread."""
        groups = await groups_of(self._redis, self.key)
        newest = await self._redis.command("XREVRANGE", self.key, "+", "-", "COUNT", 1)
        return all(not group[b"pending"] and (not newest or _id(newest[0][0]) <= _id(group[b"last-delivered-id"])) for group in groups)

    async def close(self) -> None:
        """Throw the connections away; the next read begins with our own unacked entries."""
        self._own_after, self._has_group = b"0", False
        await self._redis.drop()
        await self._acks.drop()


class Trimmer:
    """Removes what all groups have acked, from one stream. Idempotent; any number may run."""

    def __init__(self, url: str, key: str) -> None:
        self._redis, self._key = RedisConnection(url), key

    async def bound(self) -> bytes | None:
        """The least id that must be kept: nothing below it is unread or unacked in any group. None: nothing may be trimmed.

        Last-delivered is read before pending: the other way round, entries taken between the two reads would be trimmed unacked.
        """
        groups = await groups_of(self._redis, self._key)
        ids = [group[b"last-delivered-id"] for group in groups]
        for group in groups:
            pending = await self._pending(group[b"name"])
            if pending is None:
                return None
            if pending[0]:
                ids.append(pending[1])
        return min(ids, key=_id, default=None)

    async def _pending(self, group: bytes, *window: Any) -> Any:
        """What a group has not acked; None when it has gone since somebody told of it."""
        try:
            return await self._redis.command("XPENDING", self._key, group, *window)
        except ResponseError as exc:
            if not str(exc).startswith("NOGROUP"):
                raise
            return None

    async def trim(self) -> int:
        """Trim once; return how many entries went."""
        bound = await self.bound()
        return int(await self._redis.command("XTRIM", self._key, "MINID", "~", bound)) if bound and bound != ZERO_ID else 0

    async def oldest_age_s(self) -> float:
        """Age of the oldest entry that is unread or unacked, by the server's clock; 0 when there is none."""
        bound = await self.bound()
        seconds, _ = await self._redis.command("TIME", near=self._key)
        for id_, _ in await self._redis.command("XRANGE", self._key, bound or "-", "+", "COUNT", 2):
            if not await self._is_done(id_):
                return max(0.0, int(seconds) - _id(id_)[0] / 1000)
        return 0.0

    async def _is_done(self, id_: bytes) -> bool:
        for group in await groups_of(self._redis, self._key):
            if _id(id_) > _id(group[b"last-delivered-id"]) or await self._pending(group[b"name"], id_, id_, 1):
                return False
        return True

    async def close(self) -> None:
        """Throw the connection away; the next call connects anew."""
        await self._redis.drop()


async def groups_of(redis: RedisConnection, key: str) -> list[dict[bytes, Any]]:
    """The groups of a stream, as XINFO tells them; none when there is no stream."""
    try:
        groups = await redis.command("XINFO", "GROUPS", key)
    except ResponseError as exc:
        if "no such key" in str(exc):
            return []
        raise
    return _named(groups)


def _named(answers: list[Any]) -> list[dict[bytes, Any]]:
    """What XINFO says in flat lists of names and values."""
    return [dict(zip(answer[::2], answer[1::2], strict=True)) for answer in answers]


def _delivery(entry: Any) -> Delivery:
    return Delivery(entry[0], dict(zip(entry[1][::2], entry[1][1::2], strict=True)))


def _id(text: bytes) -> tuple[int, int]:
    milliseconds, _, sequence = text.partition(b"-")
    return int(milliseconds), int(sequence or 0)
