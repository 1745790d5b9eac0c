"""The keeper, and what publishes the books."""

import time
from datetime import UTC, datetime, timedelta

import pytest
import redis
from prometheus_client import CollectorRegistry

from tests.integration.click_source import Node, connected, drain, execute, one, record
from tracker.adapters import partitions
from tracker.wire import COVERED_KEY, covered_decoder
from workers.covered_publisher import CoveredPublisher
from workers.keeper import Keeper
from workers.metrics import StorageMetrics

pytestmark = pytest.mark.integration


async def test_the_keeper_makes_days_drops_old_ones_and_raises_the_alarm(dsn, redis_url):
    node = Node(redis_url)
    node.put([record(int((time.time() + 50 * 86400) * 1000)), record()])
    node.ship(1, 1)
    await drain(dsn, redis_url)
    await execute(
        dsn, "INSERT INTO route_changes (entity, entity_id, at) VALUES ('links', 1, now() - interval '8 days'), ('links', 2, now())"
    )
    registry = CollectorRegistry()
    keeper = Keeper(dsn, 3, StorageMetrics(registry))
    await keeper.once()
    await keeper.close()
    assert registry.get_sample_value("turnout_clicks_edge_rows") == 1
    assert registry.get_sample_value("turnout_partition_days_ahead") == 30
    assert await one(dsn, "SELECT count(*) FROM route_changes") == 1
    async with connected(dsn) as connection:
        assert min((await partitions.layout(connection)).days) == datetime.now(UTC).date() - timedelta(days=3)


async def test_covered_is_published_for_every_boot_heard_of_and_zeros_for_unknown_ones(dsn, redis_url):
    known, unknown = Node(redis_url), Node(redis_url)
    known.accept(3)
    known.ship(1, 3)
    unknown.accept(2)
    await drain(dsn, redis_url)
    known.report()
    unknown.report(held="{[1,3)}")
    await execute(dsn, "UPDATE boots SET last_heard_at = now() - interval '1 hour'")
    publisher = CoveredPublisher(dsn, redis_url)
    await publisher.once()
    with redis.Redis.from_url(redis_url) as client:
        read = [covered_decoder.decode(client.get(COVERED_KEY.format(boot=node.boot.hex()))) for node in (known, unknown)]
        await execute(dsn, "UPDATE boots SET covered = '{[1,2)}'")  # a PostgreSQL that went back in time
        await publisher.once()
        again = covered_decoder.decode(client.get(COVERED_KEY.format(boot=known.boot.hex())))
    await publisher.close()
    assert [(state.covered, state.stored) for state in read] == [("{[1,4)}", 15), ("{}", 0)]
    assert (again.covered, again.system_id) == ("{[1,2)}", read[0].system_id)
    assert await one(dsn, "SELECT now() - last_heard_at < interval '10 seconds' FROM boots")
