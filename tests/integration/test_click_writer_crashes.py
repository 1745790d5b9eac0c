"""kill -9 at every line that matters, outages, and a server that only freezes."""

import asyncio
import os
import signal
import time

import pytest
import redis

from tests import launcher
from tests.integration.click_source import KEY, Node, assert_rollups_are_exact, books, drain, one, writer
from tracker.wire import GROUP

pytestmark = pytest.mark.integration
POINTS = ("after_read", "before_copy", "before_commit", "after_commit", "before_ack", "after_ack")
PROGRAM = """
import asyncio, sys
from tests.integration.click_source import drain
asyncio.run(drain(sys.argv[1], sys.argv[2]))
"""


def run_writer(dsn: str, redis_url: str, crash_at: str = "") -> int:
    environment = os.environ | {"TURNOUT_INTERNAL_CRASH_AT": crash_at, "PYTHONPATH": "."}
    return launcher.run(["-c", PROGRAM, dsn, redis_url], env=environment, timeout=60, stdout=None, stderr=None).returncode


@pytest.mark.parametrize("point", POINTS)
def test_a_writer_killed_anywhere_stores_each_click_exactly_once(dsn, redis_url, point):
    node = Node(redis_url)
    node.accept(60, each=5)
    for first in range(1, 60, 3):
        node.ship(first, first + 2)
    node.close()
    assert run_writer(dsn, redis_url, f"click_writer.{point}") == -signal.SIGKILL
    node.ship(1, 10)
    assert run_writer(dsn, redis_url) == 0

    async def check() -> None:
        assert await one(dsn, "SELECT count(*) FROM clicks") == 300
        await assert_rollups_are_exact(dsn)
        found = await books(dsn, redis_url)
        assert (found["state"], found["stored"], found["duplicate"], found["rejected"]) == ("balanced", 300, 0, 0)

    asyncio.run(check())
    with redis.Redis.from_url(redis_url) as client:
        assert client.xpending(KEY, GROUP)["pending"] == 0


async def until(count: int, dsn: str) -> None:
    deadline = time.monotonic() + 40
    while await one(dsn, "SELECT count(*) FROM clicks") != count:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def test_a_restarted_redis_and_a_restarted_postgresql_are_waited_out(servers, dsn, redis_url):
    if servers.local is None:
        pytest.skip("the servers are not ours to kill")
    stop, node = asyncio.Event(), Node(redis_url)
    running = asyncio.create_task(writer(dsn, redis_url).run(stop))
    node.accept(3)
    node.ship(1, 3)
    await until(15, dsn)
    servers.local.valkey.kill()
    await asyncio.sleep(0.5)
    servers.local.valkey.start()  # not in a thread: it would die with that
    servers.local.postgres.kill()
    node.accept(3)
    node.ship(1, 6)
    await asyncio.sleep(0.5)
    servers.local.postgres.start()
    await until(30, dsn)
    stop.set()
    await asyncio.wait_for(running, 30)
    node.report()
    found = await books(dsn, redis_url)
    assert (found["state"], found["stored"], found["duplicate"]) == ("balanced", 30, 0)
    await assert_rollups_are_exact(dsn)


async def test_a_writer_stopped_amid_an_outage_lets_go_at_once(redis_url):
    node = Node(redis_url)
    node.accept(1)
    node.ship(1, 1)
    running = asyncio.create_task(writer("postgresql://nobody@127.0.0.1:1/none", redis_url).run(asyncio.Event()))
    await asyncio.sleep(0.5)
    assert not running.done()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 2)
    with redis.Redis.from_url(redis_url) as client:
        assert client.xpending(KEY, GROUP)["pending"] == 1


async def test_the_next_run_with_nothing_new_changes_nothing(dsn, redis_url):
    node = Node(redis_url)
    node.accept(2)
    node.ship(1, 2)
    await drain(dsn, redis_url)
    before = await one(dsn, "SELECT to_jsonb(b) - 'last_heard_at' FROM boots b")
    await drain(dsn, redis_url)
    assert await one(dsn, "SELECT to_jsonb(b) - 'last_heard_at' FROM boots b") == before
