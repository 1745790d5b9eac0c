"""Plays the redirector and its shipper for tests of the click writer: makes records, packs them into entries, adds them to the stream."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
import redis

from tracker.adapters.audit import audit
from tracker.adapters.postgres_clicks import ClickSink
from tracker.adapters.redis_books import BookBoard
from tracker.adapters.redis_streams import EntryStream
from tracker.adapters.redis_uniques import Uniques
from tracker.domain import click_id
from tracker.wire import BOOTS_KEY, REPORT_KEY, Entry, NodeReport, Record, encode_frame, report_encoder, stream_key
from workers.click_loading import ClickLoader
from workers.metrics import ClickMetrics, CollectorRegistry, StreamMetrics
from workers.stream_writer import CLICKS, StreamWriter

KEY = stream_key("clicks", 0)
AGENT = b"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36"


def record(at_ms: int | None = None, **changes: object) -> Record:
    at_ms = int(time.time() * 1000) if at_ms is None else at_ms
    facts: dict[str, object] = {
        "click_id": click_id.compose(at_ms, os.urandom(10)), "received_at_us": at_ms * 1000, "kind": "link", "method": "GET",
        "host": b"go.example", "target": b"/c/one?sub1=a", "link_id": 1, "campaign_id": 2, "partner_id": 3, "advertiser_id": 4,
        "creative": "", "outcome": "ok", "verdict": "ok", "rule_version": 1, "counted": True, "destination": b"https://shop.example/",
        "ip": "192.0.2.0", "country": "DE", "network": "", "user_agent": AGENT, "referrer": b"https://blog.example/", "language": b"de",
        "subs": (b"a",), "visitor_key": os.urandom(8),
    }  # fmt: skip
    return Record(**(facts | changes))


@dataclass
class Node:
    """One boot of one redirector: gives out seqs, keeps its batches, ships any run of them as often as it is told."""

    redis_url: str
    name: str = "edge-1"
    boot: bytes = field(default_factory=lambda: os.urandom(16))
    batches: dict[int, list[Record]] = field(default_factory=dict)
    damaged: set[int] = field(default_factory=set)
    held: str = "{}"

    def accept(self, batches: int, each: int = 5, **changes: object) -> list[int]:
        """Make batches of records; return their seqs."""
        first = len(self.batches) + 1
        for seq in range(first, first + batches):
            self.batches[seq] = [record(**changes) for _ in range(each)]
        return list(range(first, first + batches))

    def put(self, records: list[Record]) -> int:
        self.batches[len(self.batches) + 1] = records
        return len(self.batches)

    def accepted(self, seq: int | None = None) -> int:
        return sum(len(records) for at, records in self.batches.items() if seq is None or at <= seq)

    def entry(self, first: int, last: int, **changes: object) -> Entry:
        frames = [encode_frame(seq, self.batches[seq]) for seq in range(first, last + 1)]
        frames = [frame[:-3] + b"???" if seq in self.damaged else frame for seq, frame in enumerate(frames, first)]
        facts: dict[str, object] = {
            "node": self.name, "boot": self.boot, "host_id": "host", "seq_from": first, "seq_to": last,
            "counts": tuple(len(self.batches[seq]) for seq in range(first, last + 1)), "accepted": self.accepted(last),
            "sent_at_ms": int(time.time() * 1000), "payload": b"".join(frames),
        }  # fmt: skip
        return Entry(**(facts | changes))

    def ship(self, first: int, last: int, **changes: object) -> None:
        self.add(self.entry(first, last, **changes).fields())

    def add(self, fields: dict[bytes, bytes]) -> None:
        with redis.Redis.from_url(self.redis_url) as client:
            client.xadd(KEY, fields)

    def close(self, unrecorded: int = 0) -> None:
        last = len(self.batches)
        self.add(self.entry(last + 1, last, counts=(), payload=b"", closed_seq=last, unrecorded=unrecorded).fields())

    def report(self, held: str = "{}", age_s: float = 0, unrecorded: int = 0) -> None:
        at = time.time() - age_s
        said = NodeReport(
            node=self.name, boot=self.boot.hex(), kind="clicks", host_id="host", pid=1, last_seq=len(self.batches),
            accepted=self.accepted(),
            unrecorded=unrecorded, held=held, held_bytes=0, kept_bytes=0, closed=False, at_ms=int(at * 1000),
        )  # fmt: skip
        with redis.Redis.from_url(self.redis_url) as client:
            client.zadd(BOOTS_KEY, {f"clicks:{self.boot.hex()}": at})
            client.set(REPORT_KEY.format(boot=self.boot.hex()), report_encoder.encode(said), ex=120)


def writer(dsn: str, redis_url: str, *, name: str = "w:0", slot: int = 0, stale_after_ms: int = 30_000) -> StreamWriter:
    stream = EntryStream(redis_url, KEY, name, stale_after_ms=stale_after_ms)
    registry, sink = CollectorRegistry(), ClickSink(dsn, slot=slot)
    metrics = ClickMetrics(registry, StreamMetrics(registry))
    return StreamWriter(CLICKS, stream, ClickLoader(Uniques(redis_url), sink.floor), sink, BookBoard(redis_url), metrics)


async def drain(dsn: str, redis_url: str, **options: object) -> None:
    """Run one writer until the stream is empty."""
    stop = asyncio.Event()
    stop.set()
    await asyncio.wait_for(writer(dsn, redis_url, **options).run(stop), 60)


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        connection.terminate()


async def one(dsn: str, query: str, *arguments: object) -> object:
    async with connected(dsn) as connection:
        return await connection.fetchval(query, *arguments)


async def execute(dsn: str, query: str, *arguments: object) -> None:
    async with connected(dsn) as connection:
        await connection.execute(query, *arguments)


async def assert_rollups_are_exact(dsn: str) -> None:
    async with connected(dsn) as connection:
        counted = await connection.fetchrow(
            "SELECT count(*), count(*) FILTER (WHERE counted), count(*) FILTER (WHERE counted AND is_unique) FROM clicks"
        )
        for table in ("click_stats", "daily_stats"):
            sums = await connection.fetchrow(
                f"SELECT coalesce(sum(total), 0), coalesce(sum(clicks), 0), coalesce(sum(unique_clicks), 0) FROM {table}"
            )
            assert tuple(map(int, sums)) == tuple(counted), table


async def books(dsn: str, redis_url: str) -> dict[str, object]:
    found = await audit(dsn, redis_url, 1)
    parts = ("stored", "duplicate", "rejected", "in_flight", "unrecorded", "unaccounted")
    for line in (found, *found["nodes"]):
        assert line["accepted"] == sum(line[part] for part in parts), line
    return found
