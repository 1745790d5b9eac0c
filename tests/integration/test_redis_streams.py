"""Reading a stream as one consumer of several: whose entries are taken over, and when."""

import asyncio
from contextlib import asynccontextmanager

import pytest
import redis

from tests.wait import wait_until
from tracker.adapters.redis_streams import EntryStream

KEY = "turnout:clicks:{0}"
SILENT_AFTER_MS = 400


@pytest.fixture
def client(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        client.delete(KEY)
        yield client
        client.delete(KEY)


@asynccontextmanager
async def consumer(redis_url, name):
    stream = EntryStream(redis_url, KEY, name, silent_after_ms=SILENT_AFTER_MS)
    try:
        yield stream
    finally:
        await stream.close()


async def test_entries_of_a_silent_consumer_are_taken_over_and_those_of_a_living_one_are_not(redis_url, client):
    async with consumer(redis_url, "living") as living, consumer(redis_url, "dead") as dead, consumer(redis_url, "third") as third:
        client.xadd(KEY, {"v": "1"}, id="1-1")
        assert [delivery.id for delivery in await living.read(1, 0)] == [b"1-1"]
        client.xadd(KEY, {"v": "1"}, id="2-1")
        client.xadd(KEY, {"v": "1"}, id="3-1")
        assert [delivery.id for delivery in await dead.read(2, 0)] == [b"2-1", b"3-1"]
        found = []

        async def is_taken():
            await living.beat()
            found.extend(delivery.id for delivery in await third.read(10, 0))
            return len(found) >= 2

        await wait_until(is_taken)
        await asyncio.sleep(2 * SILENT_AFTER_MS / 1000)
        await living.beat()
        third._claim_at = 0.0
        assert (found, await third.read(10, 0)) == ([b"2-1", b"3-1"], [])
        assert client.xpending_range(KEY, "writers", "-", "+", 10, "living")[0]["message_id"] == b"1-1"


async def test_what_a_dead_consumer_held_and_redis_lost_is_counted_as_gone(redis_url, client):
    async with consumer(redis_url, "dead") as dead, consumer(redis_url, "heir") as heir:
        for number in range(1, 4):
            client.xadd(KEY, {"v": "1"}, id=f"{number}-1")
        assert len(await dead.read(10, 0)) == 3
        client.xdel(KEY, "2-1")
        found = []

        async def is_taken():
            found.extend(delivery.id for delivery in await heir.read(10, 0))
            return len(found) >= 2

        await wait_until(is_taken)
        assert (found, heir.gone) == ([b"1-1", b"3-1"], 1)


async def test_a_sign_of_life_without_a_group_is_no_error(redis_url, client):
    async with consumer(redis_url, "early") as early:
        await early.beat()
        assert not client.exists(KEY)
