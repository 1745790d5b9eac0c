"""Which click was the first of its visitor, link and UTC day: a hash a day in Redis that remembers the id of the first."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from redis.exceptions import ResponseError

from tracker.adapters.redis_connection import RedisConnection
from tracker.errors import StreamUnavailable

KEY = "turnout:unique:{day}"
KEPT_AFTER_S = 48 * 3600  # after its day
CHUNK = 1000  # visits a call: a millisecond of Redis' time
# All visits in one argument (length, visit, 16 bytes of click id): packing two arguments a click would cost more than all the rest.
DECIDE = """
local visits, at, answer = ARGV[2], 1, {}
while at <= #visits do
    local size = string.byte(visits, at)
    local visit, id = string.sub(visits, at + 1, at + size), string.sub(visits, at + size + 1, at + size + 16)
    local first = redis.call('HSETNX', KEYS[1], visit, id) == 1 or redis.call('HGET', KEYS[1], visit) == id
    answer[#answer + 1] = first and '1' or '0'
    at = at + size + 17
end
redis.call('EXPIREAT', KEYS[1], ARGV[1])
return table.concat(answer)
"""
DAY = timedelta(days=1)


class Uniques:
    """Decides unique clicks, over one connection; for one task at a time. Asking again for a click gives the same answer."""

    def __init__(self, url: str) -> None:
        self._redis = RedisConnection(url)
        self._sha: bytes | None = None

    async def decide(self, day: date, visits: Sequence[tuple[bytes, bytes]], today: date) -> list[bool | None]:
        """For each (visitor and link in at most 255 bytes, click id of 16), all of the UTC day `day`: whether that click is the first.

        None = unknown: Redis cannot be asked, or the day is neither `today`, nor the one before or after.
        """
        if abs(day - today) > DAY:
            return [None] * len(visits)
        key = KEY.format(day=day.isoformat())
        ends_at = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) + 86_400 + KEPT_AFTER_S
        answers = list[bool | None]()
        try:
            for start in range(0, len(visits), CHUNK):
                packed = b"".join([bytes((len(visit),)) + visit + id_ for visit, id_ in visits[start : start + CHUNK]])
                answers += [digit == ord("1") for digit in await self._call(key, ends_at, packed)]
        except StreamUnavailable:
            await self.close()
            return [None] * len(visits)
        return answers

    async def _call(self, key: str, ends_at: int, packed: bytes) -> bytes:
        for _ in range(2):
            if self._sha is None:
                self._sha = await self._redis.command("SCRIPT", "LOAD", DECIDE, near=key)
            try:
                return bytes(await self._redis.command("EVALSHA", self._sha, 1, key, ends_at, packed, what="unique clicks"))
            except ResponseError as exc:
                if "NOSCRIPT" not in str(exc) and not type(exc).__name__.startswith("NoScript"):
                    raise
                self._sha = None  # the server was restarted, or the key is another server's
        raise StreamUnavailable("redis: a script is gone as soon as it is loaded")

    async def close(self) -> None:
        """Throw the connection away; the next call connects anew."""
        self._sha = None
        await self._redis.drop()
