"""The revision of stores' reports comes to a database that is in use: nobody waits for it, and it can be interrupted anywhere."""

import asyncio
import os
from contextlib import asynccontextmanager
from itertools import count

import asyncpg
import pytest
from alembic import command
from sqlalchemy.exc import SQLAlchemyError

from migrations import sql
from tests.integration.conftest import _execute, database_url
from tests.wait import wait_until
from tracker.adapters import schema
from tracker.errors import StoreUnavailable

pytestmark = pytest.mark.integration
_numbers = count(1)
REVISION = "0005"
SHOP = "INSERT INTO advertisers (slug, currency) VALUES ('shop', 'EUR')"
POSTBACK = """
    INSERT INTO postbacks (postback_id, received_at, source, txid, outcome)
    SELECT uuidv7(), now(), 'postback', 'T', 'parked' FROM generate_series(1, $1::int)
"""
CONVERSION = """
    INSERT INTO conversions (id, advertiser_id, goal, txid, postback_id, status, converted_at, received_at, amount_micros, currency,
        payout_currency, attribution)
    SELECT uuidv7(), a.id, 'sale', uuidv7()::text, uuidv7(), 'orphan', now(), now(), 1, 'EUR', 'EUR', 'none'
    FROM advertisers a, generate_series(1, $1::int)
"""
ALTERED = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'conversions' AND column_name = 'is_repeat'"
BEGUN = "SELECT count(*) FROM pg_stat_progress_create_index WHERE datname = current_database() AND phase LIKE 'waiting%'"
WAITS = "SELECT count(*) FROM pg_locks WHERE relation = 'conversions'::regclass AND mode = 'AccessExclusiveLock' AND NOT granted"
BROKEN = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
UNCHECKED = "SELECT count(*) FROM pg_constraint WHERE NOT convalidated"
BUILDER = "SELECT pg_terminate_backend(pid) FROM pg_stat_progress_create_index WHERE datname = current_database()"
MADE = """
    SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE i.indrelid IN ('postbacks'::regclass, 'conversions'::regclass) AND i.indisvalid
"""
NAMED = {"conversions_customer", "conversions_event_id", "conversions_postback", "postbacks_parked_click"}


@pytest.fixture(scope="module")
def before(servers):
    """A database of the revision before, with some rows; others are made of it."""
    name = f"turnout_0004_{os.getpid()}"
    url = database_url(servers.dsn, name)
    asyncio.run(_execute(servers.dsn, f"CREATE DATABASE {name}"))
    upgrade_to(url, "0004")
    asyncio.run(_execute(url, SHOP, POSTBACK.replace("$1", "200"), CONVERSION.replace("$1", "200")))
    yield name
    asyncio.run(_execute(servers.dsn, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
async def old(servers, before):
    """The address of such a database."""
    name = f"turnout_old_{os.getpid()}_{next(_numbers)}"
    await _execute(servers.dsn, f"CREATE DATABASE {name} TEMPLATE {before}")
    yield database_url(servers.dsn, name)
    await _execute(servers.dsn, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def writer(old):
    """A process that writes all the time, and has lost when it waits for ten seconds."""
    async with opened(old) as connection:
        await connection.execute("SET lock_timeout = '10s'")
        yield connection


def upgrade_to(dsn, revision=REVISION):
    command.upgrade(schema._config(dsn), revision)


@asynccontextmanager
async def opened(dsn):
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def writes(connection):
    await connection.execute(POSTBACK, 1)
    await connection.execute(CONVERSION, 1)


async def upgraded(dsn, connection):
    await asyncio.to_thread(upgrade_to, dsn)
    assert await connection.fetchval("SELECT version_num FROM alembic_version") == REVISION
    assert {row["relname"] for row in await connection.fetch(MADE)} >= NAMED
    assert await connection.fetchval(BROKEN) == await connection.fetchval(UNCHECKED) == 0
    with pytest.raises(asyncpg.CheckViolationError):
        await connection.execute("UPDATE postbacks SET source = 'nowhere'")


@asynccontextmanager
async def building(dsn, connection):
    """While the upgrade makes an index, which waits for a snapshot that somebody holds."""
    async with opened(dsn) as reader:
        await reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM advertisers")
        upgrade = asyncio.create_task(asyncio.to_thread(upgrade_to, dsn))
        await wait_until(lambda: _is(connection, BEGUN))
        yield upgrade
        await reader.execute("COMMIT")


async def _is(connection, question):
    return await connection.fetchval(question) > 0


async def test_orders_are_written_while_the_indexes_are_made(old, writer):
    async with building(old, writer) as upgrade:
        await writes(writer)
        await writer.execute("UPDATE postbacks SET outcome = 'orphan'")
        assert not upgrade.done()
    await upgrade
    assert await writer.fetchval("SELECT count(*) FROM conversions") == 201
    await upgraded(old, writer)


async def test_orders_are_written_while_the_upgrade_waits_for_a_long_look_at_a_table(old, writer):
    async with opened(old) as reader:
        await reader.execute("BEGIN; SELECT count(*) FROM conversions")
        upgrade = asyncio.create_task(asyncio.to_thread(upgrade_to, old))
        await wait_until(lambda: _is(writer, WAITS), every_s=0.01)
        await writes(writer)
        assert await writer.fetchval(ALTERED) == 0
        await reader.execute("COMMIT")
    await upgrade
    await upgraded(old, writer)


async def test_an_upgrade_that_was_killed_while_it_made_an_index_is_run_again(old, writer):
    async with building(old, writer) as upgrade:
        await writer.execute(BUILDER)
        with pytest.raises(SQLAlchemyError):
            await upgrade
    assert await writer.fetchval(BROKEN) == 1
    await upgraded(old, writer)


async def test_what_is_done_twice_is_there_once(old, writer):
    await upgraded(old, writer)
    checks = "SELECT count(*) FROM pg_constraint WHERE contype = 'c'"
    once = await writer.fetchval(checks)
    await writer.execute("UPDATE alembic_version SET version_num = '0004'")
    await asyncio.to_thread(upgrade_to, old)
    assert await writer.fetchval(checks) == once


async def test_a_table_that_is_never_let_go_of_is_told_in_one_sentence(old, writer, monkeypatch):
    monkeypatch.setattr(sql, "LOCK_TRIES", 2)
    monkeypatch.setattr(sql, "LOCK_WAIT_MS", 20)
    async with opened(old) as reader:
        await reader.execute("BEGIN; SELECT count(*) FROM conversions")
        with pytest.raises(StoreUnavailable, match=r"long transactions.*ALTER TABLE conversions.*turnout db upgrade"):
            await asyncio.to_thread(upgrade_to, old)
        await reader.execute("COMMIT")
    monkeypatch.undo()
    await upgraded(old, writer)
