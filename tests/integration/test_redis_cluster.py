"""A Redis Cluster: keys are asked of the masters that own them; masters die, come back, are replaced; nothing is lost or stored twice."""

import asyncio
import os
from datetime import UTC, datetime

import pytest

from tests.integration.pipeline import Pipeline, make_programme
from tests.integration.redis_servers import FAILOVER_AFTER_MS, GO_ON, PAUSE, Cluster
from tests.wait import wait_until, wait_until_sync
from tracker.adapters.journal.stream_link import StreamLink
from tracker.adapters.redis_books import BookBoard
from tracker.adapters.redis_streams import EntryStream, Trimmer
from tracker.adapters.redis_uniques import Uniques
from tracker.errors import StreamUnavailable
from tracker.wire import CoveredState, Entry, NodeReport, shard_of, stream_key

pytestmark = pytest.mark.integration
SHARDS = 4
KEYS = [stream_key("clicks", shard) for shard in range(SHARDS)]


@pytest.fixture
def cluster(tmp_path, request):
    built = Cluster(tmp_path / "redis", **getattr(request, "param", {}))
    try:
        yield built.start()
    finally:
        built.kill()


@pytest.fixture
def pipeline(tmp_path, dsn, cluster):
    asyncio.run(make_programme(dsn))
    built = Pipeline(tmp_path / "data", dsn, cluster.url, TURNOUT_STREAM_SHARDS=str(SHARDS))
    yield built
    built.close()


@pytest.fixture
async def closing():
    """Takes parts with connections, closes them after the test, however it ends."""
    parts = []
    yield lambda *given: parts.extend(given) or given
    for part in parts:
        await (part.reset if isinstance(part, StreamLink) else part.close)()


def entries(cluster):
    """All stream entries there are, by shard."""
    with cluster.client() as client:
        return {shard: [Entry.read(fields) for _, fields in client.xrange(key)] for shard, key in enumerate(KEYS)}


def shipped(cluster):
    return sum(entry.records for found in entries(cluster).values() for entry in found)


def own_boot(pipeline):
    """The boot that the redirector writes to now."""
    segments = (pipeline.directory / "journal/clicks").glob("slot-*/*.seg")
    return bytes.fromhex(max(segments, key=lambda path: path.stat().st_mtime).name[:32])


def start_without_writer(pipeline):
    pipeline.start("work routes")
    pipeline.start("serve redirector")
    wait_until_sync(lambda: pipeline.get("/-/readyz")[0] == 200, because="routes are published")
    wait_until_sync(lambda: pipeline.get("/c/l1", method="HEAD")[2], because="link l1 is live")


def assert_redirects_never_failed(pipeline):
    assert (pipeline.unknown, pipeline.refused) == (0, [])


@pytest.mark.timeout(120)
@pytest.mark.parametrize("cluster", [{"dead_after_ms": FAILOVER_AFTER_MS}], ids=[""], indirect=True)
def test_a_master_killed_and_brought_back_loses_nothing_and_each_boot_has_one_shard(cluster, pipeline):
    start_without_writer(pipeline)
    for _ in range(2):  # a boot each
        pipeline.click(40)
        pipeline.stop("serve redirector")
        pipeline.start("serve redirector")
    pipeline.click(40)
    wait_until_sync(lambda: shipped(cluster) >= 120, because="all is in the streams")
    shards = {}
    for shard, found in entries(cluster).items():
        for entry in found:
            shards.setdefault(entry.boot, set()).add(shard)
    assert len(shards) >= 3
    assert all(found == {shard_of(boot, SHARDS)} for boot, found in shards.items())

    pipeline.start("work clicks")
    victim = cluster.master_of(stream_key("clicks", shard_of(own_boot(pipeline), SHARDS)))
    survivor = next(node for node in cluster.masters if node is not victim)
    victim.kill()
    pipeline.click(80)
    wait_until_sync(lambda: cluster.state(survivor) == "fail", because="the cluster knows that a master is away")
    pipeline.click(80)
    victim.start()
    wait_until_sync(cluster.is_whole, because="the cluster is whole")
    pipeline.click(40)
    pipeline.settle()
    assert_redirects_never_failed(pipeline)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("cluster", [{"dead_after_ms": FAILOVER_AFTER_MS, "replicas": 3}], ids=[""], indirect=True)
def test_what_only_the_dead_master_had_is_shipped_again_to_its_replica(cluster, pipeline):
    """The worst failover: entries were acknowledged and never replicated. Another run id tells the node."""
    start_without_writer(pipeline)
    key = stream_key("clicks", shard_of(own_boot(pipeline), SHARDS))
    master = cluster.master_of(key)
    replica = cluster.replica_of(master)
    pipeline.click(40)
    wait_until_sync(lambda: shipped(cluster) >= 40, because="the first clicks are in the stream")
    replica.signal(PAUSE)
    master.ask("CLIENT", "KILL", "TYPE", "replica")
    pipeline.click(80)
    wait_until_sync(lambda: shipped(cluster) >= 120, because="the others are at the master")
    master.kill()
    replica.signal(GO_ON)
    pipeline.start("work clicks")
    pipeline.click(80)
    wait_until_sync(lambda: replica.role() == "master", because="the replica is promoted")
    pipeline.click(40)
    pipeline.settle()
    master.start()
    wait_until_sync(lambda: master.role() == "slave", because="the old master follows the new one")
    pipeline.click(40)
    pipeline.settle()
    assert_redirects_never_failed(pipeline)


@pytest.mark.parametrize("cluster", [{"replicas": 3}], ids=[""], indirect=True)
async def test_after_a_switch_of_roles_every_part_finds_the_new_master(cluster, closing):
    """An orderly switch: no connection breaks, the old master answers MOVED from now on."""
    boot = os.urandom(16)
    key = KEYS[shard_of(boot, SHARDS)]
    link, stream, trimmer = closing(StreamLink(cluster.url), EntryStream(cluster.url, key, "w:0"), Trimmer(cluster.url, key))
    first = await link.append(key, _entry(boot, 1).fields())
    before = await link.position(key)
    (delivery,) = await stream.read(10)
    master = cluster.master_of(key)
    replica = cluster.replica_of(master)
    await asyncio.to_thread(replica.ask, "CLUSTER", "FAILOVER")
    await wait_until(lambda: (master.role(), replica.role()) == ("slave", "master"), because="the roles are switched")

    async def again(work, drop):
        """As the loops of ours: what fails is dropped and done again."""
        for _ in range(100):
            try:
                return await work()
            except StreamUnavailable:
                await drop()
                await asyncio.sleep(0.1)
        return pytest.fail("the new master was not found")

    after = await again(lambda: link.position(key), link.reset)
    assert after.has_lost(before, first)
    assert after.run_id == replica.info("server")["run_id"].encode()
    await again(lambda: stream.ack([delivery.id]), stream.close)
    assert await again(stream.is_drained, stream.close)
    assert await again(trimmer.bound, trimmer.close) == first
    await link.append(key, _entry(boot, 2).fields())
    assert [found.fields[b"seq_from"] for found in await again(lambda: stream.read(10), stream.close)] == [b"2"]


async def test_keys_of_many_boots_are_read_and_written_at_the_masters_that_own_them(cluster, closing):
    boots = [os.urandom(16) for _ in range(60)]
    link, board = closing(StreamLink(cluster.url), BookBoard(cluster.url))
    for boot in boots:
        await link.report(_report(boot, await link.now_ms()))
    assert sorted((await board.boots(0))["clicks"]) == sorted(boots)
    assert (await board.reports(boots)).keys() == set(boots)
    await board.publish({boot: _covered(at_ms=2) for boot in boots})
    await board.publish({boot: _covered(at_ms=1, stored=7) for boot in boots})  # an older reading: refused
    assert [(await link.covered(boot)).stored for boot in boots] == [0] * 60
    holders = {node.port: len(node.ask("KEYS", "turnout:covered:*")) for node in cluster.masters}
    assert sum(holders.values()) == 60
    assert all(holders.values())


async def test_unique_clicks_of_days_at_different_masters(cluster, closing):
    (uniques,), today = closing(Uniques(cluster.url)), datetime.now(UTC).date()
    visits = [(bytes([n]) * 12, os.urandom(16)) for n in range(10)]
    for distance in (-1, 0, 1, 0):
        day = today.fromordinal(today.toordinal() + distance)
        assert await uniques.decide(day, visits, today) == [True] * 10
        assert await uniques.decide(day, [(visit, os.urandom(16)) for visit, _ in visits], today) == [False] * 10


async def test_a_slot_that_moves_to_another_master_is_followed(cluster, closing):
    boot = os.urandom(16)
    key = KEYS[shard_of(boot, SHARDS)]
    (link,) = closing(StreamLink(cluster.url))
    await link.append(key, _entry(boot, 1).fields())
    before = await link.position(key)
    old = cluster.master_of(key)
    new = next(node for node in cluster.masters if node is not old)
    await asyncio.to_thread(_move_slot, cluster, key, old, new)
    with pytest.raises(StreamUnavailable):
        await link.append(key, _entry(boot, 2).fields())
    await link.reset()
    await link.append(key, _entry(boot, 2).fields())
    after = await link.position(key)
    assert after.entries_added == 2
    assert after.has_lost(before, None)
    assert after.run_id == new.info("server")["run_id"].encode()


def _move_slot(cluster, key, old, new):
    """As `redis-cli --cluster reshard` does it."""
    slot, names = old.ask("CLUSTER", "KEYSLOT", key), {node: node.ask("CLUSTER", "MYID").decode() for node in (old, new)}
    new.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", names[old])
    old.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", names[new])
    old.ask("MIGRATE", "127.0.0.1", new.port, key, 0, 5000)
    for node in (new, old, *(node for node in cluster.masters if node not in (new, old))):
        node.ask("CLUSTER", "SETSLOT", slot, "NODE", names[new])


def _entry(boot, seq):
    return Entry("node", boot, "host", seq, seq, (1,), seq, 0, b"x")


def _report(boot, at_ms):
    return NodeReport("node", boot.hex(), "clicks", "host", 1, 0, 0, 0, "{}", 0, 0, False, at_ms)


def _covered(at_ms, stored=0):
    return CoveredState("1", 1, "{}", stored, stored, 0, 0, 0, None, at_ms)
