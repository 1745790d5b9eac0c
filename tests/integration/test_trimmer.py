"""Trimming keeps what any group still needs."""

import pytest
import redis

from tests.integration.click_source import KEY, Node, drain
from tracker.adapters.redis_streams import Trimmer
from tracker.wire import GROUP

pytestmark = pytest.mark.integration


async def test_entries_unread_or_unacked_in_any_group_stay_and_the_rest_goes(dsn, redis_url):
    node, trimmer = Node(redis_url), Trimmer(redis_url, KEY)
    assert await trimmer.trim() == 0
    node.accept(400, each=1)
    for seq in range(1, 401):
        node.ship(seq, seq)
    with redis.Redis.from_url(redis_url) as client:
        client.xgroup_create(KEY, GROUP, "0")
        assert await trimmer.trim() == 0
        taken = client.xreadgroup(GROUP, "slow:0", {KEY: ">"}, count=300)[0][1]
        client.xack(KEY, GROUP, *[id_ for id_, _ in taken[:250]])
        assert await trimmer.bound() == taken[250][0]
        assert await trimmer.trim() > 0
        assert client.xrange(KEY, taken[250][0], taken[250][0])
        client.xgroup_create(KEY, "auditor", "0")
        assert await trimmer.trim() == 0
        assert await trimmer.oldest_age_s() >= 0
        client.xgroup_destroy(KEY, "auditor")
        client.xack(KEY, GROUP, *[id_ for id_, _ in taken])
    await drain(dsn, redis_url)
    assert await trimmer.oldest_age_s() == 0
    await trimmer.close()


async def test_entries_taken_while_the_trimmer_looks_are_kept(redis_url):
    """Last-delivered must be read before pending: the other way round, entries taken in between were trimmed unacked."""
    node = Node(redis_url)
    node.accept(300, each=1)
    for seq in range(1, 301):
        node.ship(seq, seq)
    with redis.Redis.from_url(redis_url) as client:
        client.xgroup_create(KEY, GROUP, "0")

        class Racing(Trimmer):
            pass

        trimmer = Racing(redis_url, KEY)
        command = trimmer._redis.command

        async def between(*arguments, **options):
            if arguments[0] == "XPENDING":
                answer = await command(*arguments, **options)
                client.xreadgroup(GROUP, "quick:0", {KEY: ">"}, count=200)
                return answer
            return await command(*arguments, **options)

        trimmer._redis.command = between
        await trimmer.trim()
        assert client.xlen(KEY) == 300
    await trimmer.close()


async def test_a_stream_that_goes_while_the_trimmer_looks_is_no_error(redis_url):
    node = Node(redis_url)
    node.accept(3, each=1)
    for seq in range(1, 4):
        node.ship(seq, seq)
    with redis.Redis.from_url(redis_url) as client:
        client.xgroup_create(KEY, GROUP, "0")
        trimmer = Trimmer(redis_url, KEY)
        command = trimmer._redis.command

        async def after_its_end(*arguments, **options):
            if arguments[0] == "XPENDING":
                client.xgroup_destroy(KEY, GROUP)
            return await command(*arguments, **options)

        trimmer._redis.command = after_its_end
        assert await trimmer.trim() == 0
        client.xgroup_create(KEY, GROUP, "0")
        assert await trimmer.oldest_age_s() >= 0
        assert client.xlen(KEY) == 3
    await trimmer.close()
