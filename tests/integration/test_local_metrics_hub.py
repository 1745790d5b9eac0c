"""The one metrics endpoint of all workers, on real sockets."""

import asyncio
import contextlib
from ipaddress import ip_network

import pytest

from tracker.local.http_probe import fetch
from tracker.local.listening import endpoint_of, listen
from tracker.local.metrics_hub import MetricsHub, merge

pytestmark = pytest.mark.integration

LOOPBACK = (ip_network("127.0.0.0/8"),)
CLICKS = """# HELP turnout_rows_total Rows written.
# TYPE turnout_rows_total counter
turnout_rows_total{kind="click"} 5.0
# HELP turnout_wait_seconds Wait.
# TYPE turnout_wait_seconds histogram
turnout_wait_seconds_bucket{le="0.1"} 1.0
turnout_wait_seconds_bucket{le="+Inf"} 2.0
turnout_wait_seconds_count 2.0
turnout_wait_seconds_sum 0.5
"""
ROUTES = """# HELP turnout_rows_total Rows written.
# TYPE turnout_rows_total counter
turnout_rows_total{kind="route",worker="its own"} 7.0
"""


@contextlib.asynccontextmanager
async def worker(path, text, *, hangs=False):
    released, ended = asyncio.Event(), asyncio.Event()

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        if hangs:
            await released.wait()
        with contextlib.suppress(ConnectionError):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n" + text.encode())
            await writer.drain()
        writer.close()
        ended.set()

    server = await asyncio.start_unix_server(answer, str(path))
    async with server:
        yield path
        released.set()
        if hangs:
            await ended.wait()


@contextlib.asynccontextmanager
async def serving(workers, allowed=LOOPBACK):
    listener = listen("127.0.0.1", 0, "TURNOUT_WORKER_METRICS_PORT")
    hub, endpoint = MetricsHub(workers, allowed), endpoint_of(listener)
    await hub.start(listener)
    try:
        yield endpoint
    finally:
        await hub.stop()


def test_families_appear_once_and_samples_name_their_worker():
    text = merge({"clicks": CLICKS, "routes": ROUTES}).decode()
    assert text.count("# TYPE turnout_rows_total counter") == 1
    assert 'turnout_rows_total{kind="click",worker="clicks"} 5.0' in text
    assert 'turnout_rows_total{exported_worker="its own",kind="route",worker="routes"} 7.0' in text
    assert 'turnout_wait_seconds_bucket{le="+Inf",worker="clicks"} 2.0' in text


async def test_all_workers_are_scraped_and_a_dead_or_broken_one_does_not_fail_the_rest(tmp_path):
    async with worker(tmp_path / "a", CLICKS), worker(tmp_path / "b", "no metrics {"):
        workers = {"clicks": tmp_path / "a", "broken": tmp_path / "b", "dead": tmp_path / "none"}
        async with serving(workers) as endpoint:
            status, body = await fetch(endpoint, "/metrics")
    assert status == 200
    text = body.decode()
    assert 'turnout_rows_total{kind="click",worker="clicks"} 5.0' in text
    for name, state in {"clicks": 1, "broken": 0, "dead": 0}.items():
        assert f'turnout_worker_up{{worker="{name}"}} {state}.0' in text


async def test_a_worker_that_hangs_costs_two_seconds_and_no_more(tmp_path):
    async with (
        worker(tmp_path / "a", CLICKS) as clicks,
        worker(tmp_path / "b", CLICKS, hangs=True) as slow,
        serving({"clicks": clicks, "slow": slow}) as endpoint,
    ):
        _, body = await fetch(endpoint, "/metrics", timeout_s=2.8)
    assert b'turnout_worker_up{worker="slow"} 0.0' in body


async def test_others_than_the_allowed_get_404(tmp_path):
    async with serving({}, (ip_network("10.0.0.0/8"),)) as endpoint:
        assert (await fetch(endpoint, "/metrics"))[0] == 404
    async with serving({}) as endpoint:
        assert (await fetch(endpoint, "/other"))[0] == 404
        assert (await fetch(endpoint, "/metrics?x=1"))[0] == 200
