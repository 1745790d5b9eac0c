"""A redirector inside the test's process, with old hosts, and what it records of their reports."""

import asyncio
import re
from collections.abc import Sequence

import httpx
import redis

from redirector.app import RedirectorApp
from tests.integration.pipeline import BROWSER
from tests.integration.visitors import SECRET
from tests.wait import wait_until
from tracker import wire
from tracker.adapters.lmdb_route_store import Position, RouteStore
from tracker.data_dir import DataDir
from tracker.domain import routes
from tracker.domain.old_reports import OldReport
from tracker.domain.visitor_cookie import NAME, derive
from tracker.settings import Settings

KEY = derive(SECRET.encode())
SHOP = "https://shop.example/"
PLATFORMS = ("tune", "voluum", "everflow", "affise", "firstpromoter", "idevaffiliate", "webgains", "cj", "awin", "cake")
PROGRAMME = (
    routes.Installation(visitor_secret=SECRET),
    routes.PartnerRoute(partner_id=1, slug="blog"),
    routes.CampaignRoute(campaign_id=1, slug="spring", advertiser_id=1, destination=SHOP, domains=("shop.example",)),
    routes.LinkRoute(link_id=1, slug="plain", campaign_id=1, partner_id=1, advertiser_id=1),
    routes.OldIdRoute(old_id=1, source="tune", kind="partner", source_id="42", partner_id=1),
    routes.OldIdRoute(old_id=2, source="tune", kind="offer", source_id="7", campaign_id=1),
)


def old_host(number: int, name: str, platform: str | None = "tune", **more: object) -> routes.HostRoute:
    """A registered old host."""
    return routes.HostRoute(host_id=number, host=name, platform=platform, advertiser_id=1, **more)


HOSTS = tuple(old_host(number, f"{name}.example", name) for number, name in enumerate(PLATFORMS, 1))


def publish(directory, hosts: Sequence[routes.HostRoute] = HOSTS) -> None:
    """The route table of the programme with these hosts."""
    path = DataDir.at(str(directory)).routes
    path.parent.mkdir(parents=True, exist_ok=True)
    store = RouteStore(path)
    store.apply([*PROGRAMME, *hosts], [], Position("tests", 1))
    store.close()


class Edge:
    """`async with` it; requests go to `tune.example` unless they name another host."""

    def __init__(self, directory, redis_url, **settings):
        self.directory, self.redis_url = directory, redis_url
        self.settings = Settings(data_dir=str(directory), redis_url=redis_url, _env_file=None, node="n", **settings)
        self.app = RedirectorApp(self.settings)
        self._inbox, self._outbox = asyncio.Queue(), asyncio.Queue()
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), headers={"User-Agent": BROWSER})

    async def __aenter__(self):
        self._life = asyncio.create_task(self.app({"type": "lifespan"}, self._inbox.get, self._outbox.put))
        await self._inbox.put({"type": "lifespan.startup"})
        assert (await self._outbox.get())["type"] == "lifespan.startup.complete"
        return self

    async def __aexit__(self, *_):
        await self.client.aclose()
        await self._inbox.put({"type": "lifespan.shutdown"})
        assert (await self._outbox.get())["type"] == "lifespan.shutdown.complete"
        await self._life

    async def ask(self, target, *, method="GET", host="tune.example", cookie="", **more):
        """One request; `cookie` is the whole header."""
        headers = {"Host": host, **({"Cookie": cookie} if cookie else {}), **more.pop("headers", {})}
        return await self.client.request(method, f"http://{host}{target}", headers=headers, **more)

    async def metric(self, name):
        """The value of a sample, 0 where there is none."""
        text = (await self.client.get("http://edge/-/metrics")).text
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def shipped(self, kind="conversions"):
        """What the stream has: reports, or the records of clicks."""
        return shipped(self.redis_url, kind)

    async def reports(self, count) -> list[OldReport]:
        """The first `count` reports, as soon as the stream has so many."""
        return await wait_until(lambda: len(found := self.shipped()) >= count and found, because=f"{count} reports are shipped")

    async def clicks(self, count):
        """The same of clicks."""
        return await wait_until(lambda: len(found := self.shipped("clicks")) >= count and found, because=f"{count} clicks are shipped")


def shipped(redis_url, kind="conversions"):
    """What a stream has: reports, or the records of clicks."""
    of = wire.Receipt if kind == "conversions" else wire.Record
    with redis.Redis.from_url(redis_url) as client:
        entries = [wire.Entry.read(fields) for _, fields in client.xrange(wire.stream_key(kind, 0))]
    found = [item for entry in entries for frame in wire.scan(entry.payload) for item in _decoded(entry.payload, frame, of)]
    return [item.old for item in found] if of is wire.Receipt else found


def _decoded(payload, frame, of):
    return wire.decode_frame(payload[frame.start : frame.stop], of)[0]


def cookie_header(value: str) -> str:
    """A browser's Cookie header with ours."""
    return f"a=b; {NAME}={value}"
