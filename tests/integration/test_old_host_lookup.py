"""The learning look-up: an old URL that nobody knows is asked of the old platform, once, and its visitors are sent where that says."""

import asyncio

import pytest

from tests.integration.old_edge import HOSTS, SHOP, Edge, old_host, publish
from tests.integration.pipeline import BROWSER

pytestmark = pytest.mark.integration
LOOKING = {"reports": {"lookup": True, "lookup_ms": 15_000}}
QUICKLY = {"reports": {"lookup": True, "lookup_ms": 50}}
LOST = f"{SHOP}lost"
UNKNOWN = "/aff_c?offer_id=88&aff_id=42"


class OldPlatform:
    """A server that redirects each path as it was told, and remembers what it was asked."""

    def __init__(self):
        self.answers, self.asked, self.waits = {}, [], asyncio.Event()
        self.waits.set()

    async def start(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.origin = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def _serve(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        target = head.split(" ", 2)[1]
        self.asked.append(head)
        await self.waits.wait()
        status, location = self.answers.get(target, (404, ""))
        writer.write(f"HTTP/1.1 {status} X\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    async def stop(self):
        self.waits.set()
        self._server.close()


@pytest.fixture
async def platform():
    started = await OldPlatform().start()
    yield started
    await started.stop()


@pytest.fixture
async def edge(tmp_path, redis_url, platform):
    hosts = [
        old_host(20, "asks.example", forward_to=platform.origin, settings=LOOKING, fallback=LOST),
        old_host(21, "quick.example", forward_to=platform.origin, settings=QUICKLY, fallback=LOST),
        old_host(22, "quiet.example", forward_to=platform.origin, fallback=LOST),
        old_host(23, "shadow.example", forward_to=platform.origin, settings=LOOKING, state="shadow"),
        old_host(24, "away.example", forward_to="http://127.0.0.1:1", settings=LOOKING, fallback=LOST),
        old_host(25, "inside.example", forward_to="http://10.255.255.1", settings=LOOKING, fallback=LOST),
    ]
    publish(tmp_path, [*HOSTS, *hosts])
    async with Edge(tmp_path, redis_url, outbound_allow="127.0.0.0/8") as opened:
        yield opened


async def outcomes(edge, *names):
    return [await edge.metric(f'turnout_lookups_total{{outcome="{name}"}}') for name in names]


async def test_a_visitor_is_sent_where_the_old_platform_says_and_it_is_asked_once(edge, platform):
    platform.answers[UNKNOWN] = (302, "https://shop.example/boots?transaction_id=mine&c=1#top")
    first = await edge.ask(UNKNOWN, host="asks.example", cookie="a=b", headers={"Accept-Language": "de-DE,de"})
    assert (first.status_code, first.headers["location"]) == (302, "https://shop.example/boots?transaction_id=mine&c=1#top")
    assert first.headers["x-click-id"]
    second = await edge.ask(UNKNOWN, host="asks.example", headers={"Accept-Language": "de-DE"})
    assert second.headers["location"] == "https://shop.example/boots?c=1#top"  # not somebody else's click id
    (asked,) = platform.asked
    assert f"User-Agent: {BROWSER}" in asked
    assert "Accept-Language: de-DE" in asked
    assert not any(name in asked.lower() for name in ("cookie", "forwarded", "127.0.0.1:0"))
    assert await outcomes(edge, "found", "remembered") == [1, 1]
    clicks = await edge.clicks(2)
    assert [(click.outcome, click.extra["looked_up"]) for click in clicks] == [("unknown", b"1")] * 2
    assert clicks[0].destination == first.headers["location"].encode()


async def test_visitors_who_come_at_once_wait_for_one_question(edge, platform):
    platform.answers[UNKNOWN] = (307, "https://shop.example/?transaction_id=mine")
    answers = await asyncio.gather(*(edge.ask(UNKNOWN, host="asks.example") for _ in range(5)))
    assert len(platform.asked) == 1
    assert sorted(answer.headers["location"] for answer in answers) == ["https://shop.example/"] * 4 + [
        "https://shop.example/?transaction_id=mine"
    ]


@pytest.mark.parametrize(
    "answer",
    [
        (404, ""),
        (200, "https://shop.example/"),
        (302, "/relative"),
        (302, "javascript:alert(1)"),
        (302, "http://tune.example/back"),
        (302, "https://asks.example:8443/"),
        (302, "https://shop.example/" + "x" * 2048),
    ],
)
async def test_anything_else_is_the_usual_fallback_and_not_asked_again_at_once(edge, platform, answer):
    platform.answers[UNKNOWN] = answer
    for _ in range(2):
        assert (await edge.ask(UNKNOWN, host="asks.example")).headers["location"] == LOST
    assert (len(platform.asked), await outcomes(edge, "nothing", "remembered")) == (1, [1, 1])
    assert "looked_up" not in (await edge.clicks(1))[0].extra


async def test_who_is_known_who_only_looks_and_hosts_that_are_not_set_so_ask_nobody(edge, platform):
    await edge.ask("/aff_c?offer_id=7&aff_id=42", host="asks.example")
    await edge.ask(UNKNOWN, host="asks.example", method="HEAD")
    await edge.ask(UNKNOWN, host="asks.example", method="POST")
    await edge.ask(UNKNOWN, host="asks.example", headers={"Purpose": "prefetch"})
    await edge.ask("/aff_lsr?transaction_id=1", host="asks.example")
    await edge.ask(UNKNOWN, host="asks.example", headers={"User-Agent": "Googlebot/2.1 (+http://www.google.com/bot.html)"})
    await edge.ask(UNKNOWN + "&x=" + "y" * 2048, host="asks.example")
    await edge.ask(UNKNOWN, host="quiet.example")
    await edge.ask(UNKNOWN, host="shadow.example")
    assert platform.asked == []


async def test_a_platform_that_is_slow_away_or_not_to_be_reached_keeps_nobody(edge, platform):
    platform.waits.clear()
    assert (await edge.ask(UNKNOWN, host="quick.example")).headers["location"] == LOST
    for number in range(6):
        assert (await edge.ask(f"{UNKNOWN}&n={number}", host="away.example")).headers["location"] == LOST
    assert (await edge.ask(UNKNOWN, host="inside.example")).headers["location"] == LOST
    assert await outcomes(edge, "timeout", "failed", "open", "refused") == [1, 5, 1, 1]


async def test_at_most_eight_are_asked_at_a_time(edge, platform):
    platform.waits.clear()
    asking = [asyncio.create_task(edge.ask(f"{UNKNOWN}&n={number}", host="asks.example")) for number in range(9)]
    done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED, timeout=20)
    assert len(done) == 1
    assert await outcomes(edge, "busy") == [1]
    platform.waits.set()
    await asyncio.gather(*asking)
