"""One connection, used by tasks that may be cancelled."""

import asyncio

import pytest

from tracker.adapters.redis_connection import RedisConnection

pytestmark = pytest.mark.integration


async def test_the_answer_to_a_cancelled_command_is_not_taken_for_the_next_one(redis_url):
    connection = RedisConnection(redis_url)
    await connection.command("SET", "turnout:test", "mine", "EX", 60)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await connection.command("XREAD", "BLOCK", 400, "STREAMS", "turnout:nothing", "$")
    assert await connection.command("GET", "turnout:test") == b"mine"
    await connection.drop()
