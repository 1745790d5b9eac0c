"""Daily partitions and their edges."""

import asyncio
from datetime import UTC, date, datetime, timedelta

import asyncpg
import pytest

from tests.integration.click_source import Node, connected, drain, one, record
from tests.wait import wait_until
from tracker.adapters import partitions
from tracker.errors import StoreUnavailable

pytestmark = pytest.mark.integration
TODAY = datetime.now(UTC).date()
DAY = timedelta(days=1)


async def test_all_days_and_both_edges_are_there_and_asking_again_changes_nothing(dsn):
    async with connected(dsn) as connection:
        before = await partitions.layout(connection)
        await partitions.ensure(connection, TODAY)
        assert await partitions.layout(connection) == before
        assert (min(before.days), max(before.days), len(before.days)) == (TODAY - 35 * DAY, TODAY + 30 * DAY, 66)
        assert (before.low, before.high) == (partitions.floor_of(TODAY - 35 * DAY), partitions.floor_of(TODAY + 31 * DAY))


async def test_two_keepers_may_add_days_at_once(dsn):
    async with connected(dsn) as one_keeper, connected(dsn) as other:
        await asyncio.gather(partitions.ensure(one_keeper, TODAY + 3 * DAY), partitions.ensure(other, TODAY + 3 * DAY))
        assert max((await partitions.layout(other)).days) == TODAY + 33 * DAY


async def test_a_click_of_the_far_future_moves_into_its_day_when_that_is_made(dsn, redis_url):
    node = Node(redis_url)
    future = datetime.now(UTC) + 40 * DAY
    node.put([record(int(future.timestamp() * 1000)), record(int((future - 200 * DAY).timestamp() * 1000)), record()])
    node.ship(1, 1)
    await drain(dsn, redis_url)
    async with connected(dsn) as connection:
        assert await partitions.edge_rows(connection) == 2
        await partitions.ensure(connection, TODAY + 15 * DAY)
        assert await partitions.edge_rows(connection) == 1
        assert await connection.fetchval(f"SELECT count(*) FROM {partitions.name_of(future.date())}") == 1
        assert await connection.fetchval("SELECT count(*) FROM clicks") == 3
        await partitions.ensure(connection, TODAY, behind=170)
        assert await partitions.edge_rows(connection) == 0
        assert await connection.fetchval("SELECT count(*) FROM clicks") == 3


async def test_an_open_report_delays_a_new_day_for_seconds_and_others_hardly(dsn, redis_url):
    async with connected(dsn) as report, connected(dsn) as keeper:
        reading = report.transaction()
        await reading.start()
        await report.fetchval("SELECT count(*) FROM clicks")
        adding = asyncio.create_task(partitions.ensure(keeper, TODAY + DAY))
        node = Node(redis_url)
        node.accept(2)
        node.ship(1, 2)
        await asyncio.wait_for(drain(dsn, redis_url), 8)
        await reading.rollback()
        await asyncio.wait_for(adding, 10)
        assert max((await partitions.layout(keeper)).days) == TODAY + 31 * DAY
    assert await one(dsn, "SELECT count(*) FROM clicks") == 10


async def test_a_report_that_never_ends_makes_the_keeper_give_up_for_now(dsn):
    async with connected(dsn) as report, connected(dsn) as keeper:
        reading = report.transaction()
        await reading.start()
        await report.fetchval("SELECT count(*) FROM clicks")
        with pytest.raises(StoreUnavailable):
            await asyncio.wait_for(partitions.ensure(keeper, TODAY + DAY), 30)
        assert max((await partitions.layout(report)).days) == TODAY + 30 * DAY


async def test_retention_drops_days_for_ever_and_leaves_no_hole(dsn, redis_url):
    node = Node(redis_url)
    node.put([record(int((datetime.now(UTC) - 20 * DAY).timestamp() * 1000)), record()])
    node.ship(1, 1)
    await drain(dsn, redis_url)
    floor = TODAY - 7 * DAY
    async with connected(dsn) as connection:
        dropped = await partitions.drop_before(connection, floor)
        assert len(dropped) == 28
        assert await partitions.drop_before(connection, floor) == []
        await partitions.ensure(connection, TODAY)
        found = await partitions.layout(connection)
        assert (min(found.days), found.low, await partitions.retention_floor(connection)) == (floor, partitions.floor_of(floor), floor)
        assert await connection.fetchval("SELECT count(*) FROM clicks") == 1


async def test_a_drop_that_was_cut_short_is_finished_by_the_next(dsn):
    first = TODAY - 35 * DAY
    async with connected(dsn) as report, connected(dsn) as keeper, connected(dsn) as onlooker:
        reading = report.transaction()
        await reading.start()
        await report.fetchval("SELECT count(*) FROM clicks")
        detaching = asyncio.create_task(keeper.execute(f"ALTER TABLE clicks DETACH PARTITION {partitions.name_of(first)} CONCURRENTLY"))
        wanted = (partitions.name_of(first),)
        await wait_until(lambda: is_pending(onlooker, wanted), because="the report holds up the second half")
        await onlooker.execute("SELECT pg_cancel_backend($1)", keeper.get_server_pid())
        with pytest.raises(asyncpg.QueryCanceledError):
            await detaching
        await reading.rollback()
    async with connected(dsn) as keeper:
        assert (await partitions.layout(keeper)).pending == wanted
        assert await partitions.drop_before(keeper, first + 2 * DAY) == [partitions.name_of(first), partitions.name_of(first + DAY)]


async def is_pending(connection, names):
    return (await partitions.layout(connection)).pending == names


async def test_dates_before_every_partition_have_names(dsn):
    assert partitions.name_of(date(2026, 11, 22)) == "clicks_20261122"
    assert partitions.floor_of(date(1970, 1, 1)).int == 0
