"""Real PostgreSQL, real LMDB: every change reaches the readers, whatever happens in between."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from tests.wait import wait_until
from tracker.adapters.lmdb_environment import alive_path
from tracker.adapters.lmdb_route_store import Position, RouteStore
from tracker.adapters.lmdb_routes import RouteTable
from tracker.adapters.postgres_routes import RouteSource
from tracker.domain.resolve import resolve
from tracker.domain.routes import Kind
from tracker.errors import StoreUnavailable
from workers.route_publisher import Policy, publish

pytestmark = pytest.mark.integration

SEED = """
    INSERT INTO advertisers (slug, currency, domains) VALUES ('shop', 'EUR', '{shop.example}');
    INSERT INTO campaigns (slug, advertiser_id, destination_url, fallback_url)
        SELECT 'spring', id, 'https://shop.example/spring', NULL FROM advertisers;
    INSERT INTO partners (slug) VALUES ('anna');
"""
ADD_LINKS = """
    INSERT INTO links (slug, partner_id, campaign_id, advertiser_id)
    SELECT $1 || n, p.id, c.id, c.advertiser_id FROM generate_series($2::int, $3::int) n, partners p, campaigns c
    WHERE p.slug = 'anna' AND c.slug = 'spring'
"""


class Host:
    """A publisher at work, and a reader of its table."""

    def __init__(self, dsn: str, path: Path) -> None:
        self.dsn, self.path = dsn, path
        self.table = RouteTable(path, fallback="https://setting.example/")
        self.stop = asyncio.Event()

    def outcome(self, slug: str, host: bytes = b"t.example") -> str:
        self.table.refresh()
        return resolve(self.table, host, b"/c/" + slug.encode(), time.time_ns() // 1_000_000).outcome

    async def until(self, seen: Callable[[], bool]) -> None:
        """Return as soon as `seen()`."""
        await wait_until(seen, every_s=0.01)


@asynccontextmanager
async def publishing(dsn: str, path: Path, policy: Policy | None = None) -> AsyncIterator[Host]:
    host = Host(dsn, path)
    alive_path(path).unlink(missing_ok=True)
    task = asyncio.create_task(publish(dsn, path, host.stop, fallback="https://fallback.example/", policy=policy))
    try:
        await host.until(alive_path(path).exists)
        yield host
    finally:
        host.stop.set()
        await asyncio.wait_for(task, 10)
        host.table.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "routes" / "routes.mdb"


@pytest.fixture
async def pg(dsn: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(dsn)
    await connection.execute(SEED)
    yield connection
    await connection.close()


async def add_links(pg, prefix: str, count: int, first: int = 1) -> None:
    await pg.execute(ADD_LINKS, prefix, first, first + count - 1)


async def test_a_single_change_is_live_within_two_seconds_and_a_renamed_slug_takes_its_old_one_along(dsn, pg, path):
    async with publishing(dsn, path) as host:
        await add_links(pg, "one", 1)
        await host.until(lambda: host.outcome("one1") == "ok")
        await pg.execute("UPDATE links SET slug = 'two' WHERE slug = 'one1'")
        await host.until(lambda: host.outcome("two") == "ok")
        assert host.outcome("one1") == "unknown"
        await pg.execute("UPDATE advertisers SET status = 'paused'")
        await host.until(lambda: host.outcome("two") == "paused")
        await pg.execute("UPDATE advertisers SET status = 'active'")
        await host.until(lambda: host.outcome("two") == "ok")
        await pg.execute("DELETE FROM links WHERE slug = 'two'")
        await host.until(lambda: host.outcome("two") == "unknown")


async def test_a_hundred_thousand_imported_links_go_live(dsn, pg, path):
    async with publishing(dsn, path) as host:
        await add_links(pg, "bulk", 100_000)
        await host.until(lambda: all(host.outcome(f"bulk{n}") == "ok" for n in (1, 50_000, 99_999, 100_000)))
        assert host.table.count() >= 100_000


async def test_a_slow_transaction_with_lower_feed_ids_is_not_passed_over(dsn, pg, path):
    """An import that began first and commits last."""
    slow = await asyncpg.connect(dsn)
    async with publishing(dsn, path) as host:
        transaction = slow.transaction()
        await transaction.start()
        await add_links(slow, "slow", 100)
        quick = asyncio.create_task(add_links(pg, "quick", 1))  # waits for the lock of the feed, drawn after it
        await asyncio.sleep(0.8)
        await transaction.commit()
        await quick
        await host.until(lambda: host.outcome("quick1") == "ok" and host.outcome("slow100") == "ok")
    await slow.close()


async def test_hosts_aliases_tokens_and_the_installation_are_published(dsn, pg, path):
    await add_links(pg, "x", 1)
    await pg.execute("INSERT INTO tracking_hosts (host, platform, fallback_url) VALUES ('go.old.example', 'tune', 'https://h.example')")
    await pg.execute(
        "INSERT INTO aliases (url, host, match_key, link_id, advertiser_id) "
        "SELECT 'u', 'go.old.example', '/aff_c?o=1', id, advertiser_id FROM links"
    )
    await pg.execute("INSERT INTO postback_tokens (advertiser_id, kind, token_hash) SELECT id, 'token', 'h' FROM advertisers")
    async with publishing(dsn, path) as host:
        host.table.refresh()
        found = resolve(host.table, b"GO.old.example", b"/aff_c?o=1", 0)
        assert (found.outcome, found.link_slug, found.platform) == ("ok", "x1", "tune")
        assert host.outcome("x1", b"go.old.example") == "unknown"
        token = host.table.token(b"h")
        assert token is not None
        assert (token.currency, token.kind) == ("EUR", "token")
        secret = host.table.installation().visitor_secret
        assert len(bytes.fromhex(secret)) == 32
        assert host.table.installation().fallback == "https://fallback.example/"
        await pg.execute("UPDATE postback_tokens SET revoked_at = now()")
        await host.until(lambda: host.table.token(b"h") is None)
    async with publishing(dsn, path) as again:
        again.table.refresh()
        assert again.table.installation().visitor_secret == secret


async def test_a_table_of_another_database_is_rebuilt_and_what_is_not_there_goes(dsn, pg, path):
    await add_links(pg, "real", 25)
    async with publishing(dsn, path) as host:
        await host.until(lambda: host.outcome("real25") == "ok")
        stranger = host.table.link(b"real1")
    store = RouteStore(path)
    import msgspec

    stray = msgspec.structs.replace(stranger, link_id=stranger.link_id + 10_000, slug="stray")
    taken = msgspec.structs.replace(stranger, link_id=stranger.link_id + 10_001, slug="real7")
    store.apply([stray, taken], [], Position("elsewhere", 10**9))
    store.close()
    async with publishing(dsn, path, Policy(page_rows=7)) as host:
        await host.until(lambda: host.outcome("stray") == "unknown" and host.outcome("real7") == "ok")
        assert all(host.outcome(f"real{n}") == "ok" for n in range(1, 26))
        assert host.table.link(b"real7").link_id != taken.link_id


async def test_a_feed_that_went_back_means_rebuild(dsn, pg, path):
    await add_links(pg, "a", 1)
    async with publishing(dsn, path) as host:
        await host.until(lambda: host.outcome("a1") == "ok")
    store = RouteStore(path)
    store.apply([], [(Kind.LINK, 1)], Position(store.position().database, 10**9))
    store.close()
    async with publishing(dsn, path) as host:
        await host.until(lambda: host.outcome("a1") == "ok")


async def test_a_difference_is_found_by_the_checksum_and_repaired(dsn, pg, path):
    await add_links(pg, "a", 30)
    async with publishing(dsn, path) as host:
        await host.until(lambda: host.outcome("a30") == "ok")
    store = RouteStore(path)
    ids = [row["id"] for row in await pg.fetch("SELECT id FROM links WHERE slug IN ('a3', 'a4')")]
    store.apply([], [(Kind.LINK, row_id) for row_id in ids], None)
    store.close()
    async with publishing(dsn, path, Policy(verify_s=0.2)) as host:
        await host.until(lambda: host.outcome("a3") == "ok" and host.outcome("a4") == "ok")


async def test_sums_of_table_and_database_agree(dsn, pg, path):
    await add_links(pg, "a", 1000)
    async with publishing(dsn, path) as host:
        await host.until(lambda: host.outcome("a1000") == "ok")
    store = RouteStore(path)
    async with RouteSource.connect(dsn, lambda: None) as source, source.snapshot() as newest:
        sums = await source.sums()
    assert newest == store.position().last_id
    assert {kind: found for kind, found in store.sums().items() if kind != Kind.INSTALLATION} == sums
    store.close()


async def test_the_table_is_served_on_while_postgres_is_away_and_the_publisher_comes_back(dsn, pg, path):
    await add_links(pg, "a", 1)
    async with publishing(dsn, path) as host:
        await host.until(lambda: host.outcome("a1") == "ok")
        for _ in range(3):
            await pg.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
            )
            assert host.outcome("a1") == "ok"
            await asyncio.sleep(0.1)
        await add_links(pg, "b", 1)
        await host.until(lambda: host.outcome("b1") == "ok")


async def test_without_any_postgres_nothing_ends_and_everything_falls_back(path):
    stop = asyncio.Event()
    task = asyncio.create_task(publish("postgresql://nobody@127.0.0.1:1/none", path, stop))
    table = RouteTable(path, fallback="https://setting.example/")
    await asyncio.sleep(0.5)
    table.refresh()
    assert table.installation().fallback == "https://setting.example/"
    assert table.get_link(b"x") is None
    assert table.age_s() == float("inf")
    stop.set()
    await asyncio.wait_for(task, 5)
    table.close()


async def test_an_outage_is_a_store_that_is_unavailable():
    with pytest.raises(StoreUnavailable):
        async with RouteSource.connect("postgresql://nobody@127.0.0.1:1/none", lambda: None):
            pass


async def test_a_publisher_that_is_cancelled_at_any_point_leaves_a_table_that_goes_on(dsn, pg, path):
    await add_links(pg, "a", 2000)
    for pause_s in (0.0, 0.02, 0.05, 0.1, 0.2):
        task = asyncio.create_task(publish(dsn, path, asyncio.Event(), policy=Policy(page_rows=100, round_changes=50)))
        await asyncio.sleep(pause_s)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with publishing(dsn, path) as host:
        await host.until(lambda: host.outcome("a1") == "ok" and host.outcome("a2000") == "ok")


async def test_a_table_that_is_thrown_away_is_made_anew_and_taken_up_by_open_readers(dsn, pg, path):
    await add_links(pg, "a", 1)
    async with publishing(dsn, path) as host:
        await host.until(lambda: host.outcome("a1") == "ok")
    shutil.rmtree(path.parent)
    reader = RouteTable(path)
    reader.refresh()
    async with publishing(dsn, path) as host:
        await host.until(lambda: host.outcome("a1") == "ok")
        await asyncio.sleep(1.1)
        reader.refresh()
        assert reader.get_link(b"a1") is not None
    reader.close()
