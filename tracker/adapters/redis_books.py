"""What nodes and writers tell one another of their books: reports one way, what is covered the other. Keys: `tracker.wire`."""

import contextlib
from dataclasses import replace

import msgspec

from tracker.adapters.redis_connection import RedisConnection
from tracker.errors import CorruptData
from tracker.wire import BOOTS_KEY, COVERED_KEY, COVERED_TTL_S, REPORT_KEY, CoveredState, Entry, NodeReport, report_decoder, report_encoder

PAGE = 200  # stream entries a look; at 64 KB each some 13 MB
# An older reading never replaces a newer one of the same PostgreSQL: a decrease would make a node ship again for nothing.
PUBLISH = """
local old = redis.call('GET', KEYS[1])
local known = old and cjson.decode(old)
local new = cjson.decode(ARGV[2])
if not known or known.system_id ~= new.system_id or known.timeline ~= new.timeline or known.at_ms <= new.at_ms then
    redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[1])
end
"""


class BookBoard:
    """The books in Redis, over one connection a server; for one task at a time. All methods raise StreamUnavailable on an outage."""

    def __init__(self, url: str) -> None:
        self._redis = RedisConnection(url)

    async def boots(self, heard_since_s: float) -> dict[str, list[bytes]]:
        """Boots heard of since that unix time, by kind."""
        members = await self._redis.command("ZRANGEBYSCORE", BOOTS_KEY, heard_since_s, "+inf")
        found: dict[str, list[bytes]] = {}
        for member in members:
            kind, _, boot = member.decode().partition(":")
            found.setdefault(kind, []).append(bytes.fromhex(boot))
        return found

    async def reports(self, boots: list[bytes]) -> dict[bytes, NodeReport]:
        """The reports there are of `boots`; damaged ones are passed over."""
        texts = await self._redis.each([("GET", REPORT_KEY.format(boot=boot.hex())) for boot in boots], what="read reports")
        found = {boot: _report(text) for boot, text in zip(boots, texts, strict=True) if text}
        return {boot: report for boot, report in found.items() if report}

    async def publish(self, states: dict[bytes, CoveredState]) -> None:
        """Make `states` known to the nodes."""
        # One key a call: in a cluster they lie on several servers.
        calls = [
            ("EVAL", PUBLISH, 1, COVERED_KEY.format(boot=boot.hex()), COVERED_TTL_S, report_encoder.encode(state))
            for boot, state in states.items()
        ]
        await self._redis.each(calls, what="publish covered")

    async def entries(self, key: str) -> list[Entry]:
        """Every entry of a stream, without its payload, page by page; damaged ones are passed over."""
        found, after = list[Entry](), "-"
        while page := await self._redis.command("XRANGE", key, after, "+", "COUNT", PAGE):
            for _, fields in page:
                with contextlib.suppress(CorruptData):
                    found.append(replace(Entry.read(dict(zip(fields[::2], fields[1::2], strict=True))), payload=b""))
            after = "(" + page[-1][0].decode()
        return found

    async def close(self) -> None:
        """Throw the connection away; the next call connects anew."""
        await self._redis.drop()


def _report(text: bytes) -> NodeReport | None:
    try:
        return report_decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
