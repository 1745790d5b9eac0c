"""Clicks through every other form of Redis: sentinels, TLS, a password, several streams; and what is said of a URL of the wrong form."""

import asyncio
import contextlib
import json
import os

import pytest
from redis.exceptions import ResponseError

from tests.integration.pipeline import Pipeline, make_programme
from tests.integration.redis_servers import GO_ON, PAUSE, Certificates, Cluster, RedisServer, Sentinels
from tests.wait import wait_until, wait_until_sync
from tracker.adapters.health import examine
from tracker.adapters.journal.stream_link import StreamLink
from tracker.errors import BadConfiguration, StreamUnavailable
from tracker.local.reachable import check_redis
from tracker.wire import stream_key

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
PASSWORD, IN_A_URL = "p@ss/w:rd#1", "p%40ss%2Fw%3Ard%231"


@pytest.fixture
def running():
    """Starts servers, and kills them after the test."""
    started = []

    def start(server):
        started.append(server)
        return server.start()

    yield start
    for server in reversed(started):
        server.kill()


@pytest.fixture
def make_pipeline(tmp_path, dsn):
    asyncio.run(make_programme(dsn))
    made = []

    def make(url, **settings):
        made.append(Pipeline(tmp_path / "data", dsn, url, **settings))
        return made[-1]

    yield make
    for pipeline in made:
        pipeline.close()


@pytest.fixture
async def linked():
    """Makes links to streams, and closes them after the test, however it ends."""
    links = []
    yield lambda url: links.append(StreamLink(url)) or links[-1]
    for link in links:
        await link.reset()


def test_sentinel_failover_loses_nothing_not_even_what_was_never_replicated(running, make_pipeline, tmp_path):
    servers = running(Sentinels(tmp_path / "redis", "sesame", "thyme"))
    pipeline = make_pipeline(servers.url)
    pipeline.start("work routes")
    pipeline.start("serve redirector")
    wait_until_sync(lambda: pipeline.get("/c/l1", method="HEAD")[2], because="link l1 is live")
    pipeline.click(40)
    servers.replica.signal(PAUSE)
    servers.master.ask("CLIENT", "KILL", "TYPE", "replica")
    pipeline.click(40)
    records = lambda: sum(int(fields[b"n"]) for _, fields in servers.master.ask("XRANGE", stream_key("clicks", 0), "-", "+"))  # noqa: E731
    wait_until_sync(lambda: records() >= 80, because="all is at the master")
    servers.master.kill()
    servers.replica.signal(GO_ON)
    pipeline.start("work clicks")
    pipeline.click(80)
    wait_until_sync(lambda: servers.replica.role() == "master", within_s=40, because="the replica is promoted")
    pipeline.click(40)
    pipeline.settle()
    servers.master.start()
    wait_until_sync(lambda: servers.master.role() == "slave", within_s=40, because="the old master follows the new one")
    pipeline.click(40)
    pipeline.settle()
    assert (pipeline.unknown, pipeline.refused) == (0, [])
    checks = doctor(servers.url, tmp_path)
    wanted = {f"Redis {name} at {server.host}" for name in ("version", "maxmemory-policy") for server in (servers.master, servers.replica)}
    assert {checks[name] for name in wanted} == {"ok"}


def doctor(url, tmp_path):
    """Results of `turnout doctor`, by name, without those of a database."""
    found = asyncio.run(examine("postgresql://nobody@127.0.0.1:1/none", url, tmp_path))
    return {check.name: check.result for check in found}


def test_the_doctor_looks_at_every_server_of_a_cluster(running, tmp_path):
    cluster = running(Cluster(tmp_path / "redis", replicas=1, maxmemory_policy="allkeys-lru"))
    cluster.masters[1].ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    checks = doctor(cluster.url, tmp_path)
    for node in cluster.nodes:
        assert checks[f"Redis version at {node.host}"] == checks[f"Redis appendonly at {node.host}"] == "ok"
        expected = "ok" if node is cluster.masters[1] else "fail"
        assert checks[f"Redis maxmemory-policy at {node.host}"] == expected
    cluster.masters[2].kill()
    assert doctor(cluster.url, tmp_path)[f"Redis at {cluster.masters[2].host}"] == "fail"


def test_a_password_and_several_streams_on_one_server(running, make_pipeline, tmp_path):
    server = running(RedisServer(tmp_path / "redis", requirepass=PASSWORD, client={"password": PASSWORD}))
    pipeline = make_pipeline(f"redis://:{IN_A_URL}@{server.host}/2", TURNOUT_STREAM_SHARDS="4")
    pipeline.start_all()
    for _ in range(2):  # a boot each
        pipeline.click(40)
        pipeline.kill("serve redirector")
        pipeline.start("serve redirector")
    server.kill()
    pipeline.click(40)
    server.start()
    pipeline.settle()
    server.ask("CONFIG", "SET", "requirepass", "changed")
    with pytest.raises(BadConfiguration, match="TURNOUT_REDIS_URL: Redis cannot be reached") as caught:
        asyncio.run(check_redis(f"redis://:{IN_A_URL}@{server.host}"))
    assert PASSWORD not in str(caught.value)
    assert IN_A_URL not in str(caught.value)


def test_tls_with_an_authority_and_a_client_certificate_of_the_operators_own(running, make_pipeline, tmp_path):
    certificates = Certificates(tmp_path / "tls")
    server = running(RedisServer(tmp_path / "redis", **certificates.server_options()))
    url = f"rediss://{server.host}/0?{certificates.url_options()}"
    pipeline = make_pipeline(url)
    pipeline.start_all()
    pipeline.click(100)
    pipeline.settle()
    checks = json.loads(pipeline.turnout("doctor", "--json")[1])["checks"]
    assert {check["name"]: check["result"] for check in checks}["Redis appendonly"] == "ok"
    asyncio.run(check_redis(url))
    for other in (
        f"rediss://{server.host}",
        f"rediss://{server.host}?ssl_ca_certs={certificates.path('ca.crt')}",
        f"redis://{server.host}",
    ):
        with pytest.raises(BadConfiguration, match="TURNOUT_REDIS_URL: Redis cannot be reached"):
            asyncio.run(check_redis(other))


async def test_a_cluster_with_tls(running, linked, tmp_path):
    certificates = Certificates(tmp_path / "tls")
    cluster = await asyncio.to_thread(running, Cluster(tmp_path / "redis", masters=1, **certificates.server_options()))
    link = linked(f"rediss+cluster://{cluster.masters[0].host}?{certificates.url_options()}")
    await link.append(stream_key("clicks", 0), {b"v": b"1"})
    assert (await link.position(stream_key("clicks", 0))).entries_added == 1
    with pytest.raises(StreamUnavailable):
        await linked(f"rediss+cluster://{cluster.masters[0].host}").now_ms()


async def test_a_user_of_its_own_over_a_socket(running, linked, tmp_path):
    path = tmp_path / "redis.sock"
    server = await asyncio.to_thread(
        running, RedisServer(tmp_path / "redis", unixsocket=str(path), user=("turnout", "on", f">{PASSWORD}", "~*", "+@all"))
    )
    await check_redis(f"unix://turnout:{IN_A_URL}@{path}?db=1")
    link = linked(f"unix://turnout:{IN_A_URL}@{path}?db=1")
    await link.append("one", {b"v": b"1"})
    assert await asyncio.to_thread(server.ask, "EXISTS", "one", db=1) == 1
    with pytest.raises(BadConfiguration, match="cannot be reached"):
        await check_redis(f"unix://turnout:{os.urandom(4).hex()}@{path}")


def test_a_url_of_the_wrong_form_says_which_is_the_right_one(running, tmp_path):
    plain = running(RedisServer(tmp_path / "plain"))
    cluster = running(Cluster(tmp_path / "cluster", masters=1))
    servers = running(Sentinels(tmp_path / "sentinel", "sesame", "thyme"))
    for url, says in (
        (f"redis://{cluster.masters[0].host}", "redis+cluster://"),
        (f"redis://:thyme@{servers.sentinel.host}", "redis+sentinel://"),
        (f"redis+cluster://{plain.host}", "cluster support disabled"),
        (f"redis+sentinel://{plain.host}/mymaster", "unknown command"),
        (servers.url.replace("mymaster", "other"), "knows no master 'other'"),
        (servers.url.replace(":sesame", ":wrong"), "cannot be reached"),
        (servers.url.replace("thyme", "wrong"), "cannot be reached"),
        ("redis+sentinel://127.0.0.1/", "must name the master"),
    ):
        with pytest.raises(BadConfiguration, match="TURNOUT_REDIS_URL") as caught:
            asyncio.run(check_redis(url))
        assert says.lower() in str(caught.value).lower()
        assert not any(secret in str(caught.value) for secret in ("sesame", "thyme"))
    for url in (servers.url, cluster.url, f"redis://{plain.host}/{0}"):
        asyncio.run(check_redis(url))


async def test_the_sentinels_are_asked_again_at_every_connect(running, linked, tmp_path):
    servers = await asyncio.to_thread(running, Sentinels(tmp_path / "redis", "sesame", "thyme"))
    link = linked(servers.url)
    key = stream_key("clicks", 0)
    await link.append(key, {b"v": b"1"})
    before = await link.position(key)
    await asyncio.to_thread(_switch, servers)

    async def found():  # as the shipper: what fails is dropped, and done again
        try:
            return (await link.position(key)).has_lost(before, None)
        except StreamUnavailable:
            return await link.reset()

    await wait_until(found, because="the new master is asked")
    assert (await link.position(key)).run_id == servers.replica.info("server")["run_id"].encode()
    assert await link.now_ms()


def _switch(servers):
    wait_until_sync(lambda: _accepts(servers.sentinel, "SENTINEL FAILOVER", "mymaster"), because="the replica is found fit")
    wait_until_sync(lambda: servers.replica.role() == "master", because="the replica is promoted")
    known = lambda: int(servers.sentinel.ask("SENTINEL GET-MASTER-ADDR-BY-NAME", "mymaster")[1])  # noqa: E731
    wait_until_sync(lambda: known() == servers.replica.port, because="the sentinel says so")


def _accepts(server, *command):
    with contextlib.suppress(ResponseError):
        return server.ask(*command)
    return False
