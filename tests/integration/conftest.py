"""Real servers for integration tests: TEST_DATABASE_URL / TEST_REDIS_URL, else the embedded ones. A missing server fails the run."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx
import pytest
import redis

from tests.cluster import quick_servers
from tests.integration.api_client import ADMIN_KEY, Api, Shop, open_shop
from tests.integration.databases import Databases, database_url
from tracker.adapters import schema
from tracker.adapters.postgres_pool import database
from tracker.api.app import create
from tracker.local.postgres import DATABASE
from tracker.local.servers import LocalServers
from tracker.settings import Settings

REDIS_DATABASE = 9  # of a server given by TEST_REDIS_URL: away from what else lives there


@dataclass(frozen=True)
class Servers:
    """Where the servers are. `dsn` may create databases; `template` is one of them, with the schema and partitions.

    `local` are the embedded servers, to be killed and paused; None when they were given from outside.
    """

    dsn: str
    template: str
    redis_url: str
    local: LocalServers | None


async def _execute(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """PostgreSQL and Valkey/Redis, started once a run."""
    dsn, redis_url = os.environ.get("TEST_DATABASE_URL"), os.environ.get("TEST_REDIS_URL")
    with ExitStack() as stack:
        local = None
        if not (dsn and redis_url):
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="turnout-test-"))
            local = stack.enter_context(quick_servers(Path(directory)))
        dsn, redis_url = dsn or local.dsn, redis_url or local.redis_url
        template = f"turnout_template_{os.getpid()}"
        if local is not None and dsn == local.dsn:
            renamed = f"ALTER DATABASE {DATABASE} RENAME TO {template}"
            asyncio.run(_execute(database_url(dsn, "postgres"), renamed, f"CREATE DATABASE {DATABASE}"))
        else:
            asyncio.run(_execute(dsn, f"CREATE DATABASE {template}"))
            schema.upgrade(database_url(dsn, template))
        yield Servers(dsn, template, redis_url, local)
        asyncio.run(_execute(dsn, f"DROP DATABASE IF EXISTS {template} WITH (FORCE)"))


@pytest.fixture
def own_servers(tmp_path: Path) -> Iterator[LocalServers]:
    """Servers of this test's own, with the schema, to be killed, frozen or set back."""
    with quick_servers(tmp_path / "servers") as local:
        yield local


@pytest.fixture(scope="session")
def databases(servers: Servers) -> Iterator[Databases]:
    """Where the tests' databases come from and go to."""
    made = Databases(servers.dsn, servers.template, f"turnout_test_{os.getpid()}")
    yield made
    made.close()


@pytest.fixture
def dsn(databases: Databases) -> Iterator[str]:
    """A database of this test's own, with the schema and partitions from 35 days ago to 30 days ahead."""
    url = databases.take()
    yield url
    databases.give_back(url)


@pytest.fixture
def redis_url(servers: Servers) -> Iterator[str]:
    """An empty Redis database; everything in it is gone after the test."""
    url = servers.redis_url
    if servers.local is None:
        url += f"{'&' if '?' in url else '?'}db={REDIS_DATABASE}"
    client = redis.Redis.from_url(url)
    client.flushdb()
    yield url
    client.flushdb()
    client.close()


@pytest.fixture
async def api(dsn: str, tmp_path: Path) -> AsyncIterator[Api]:
    """The tracker's application on this test's database, called without a network."""
    settings = Settings(database_url=dsn, data_dir=str(tmp_path), admin_key=ADMIN_KEY, _env_file=None)
    app = create(settings)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://tracker") as client:
        yield Api(client)


@pytest.fixture
async def shop(api: Api, dsn: str) -> AsyncIterator[Shop]:
    """An advertiser with a campaign, a partner and a link."""
    async with database(dsn, name="test") as opened:
        yield await open_shop(api, opened)
