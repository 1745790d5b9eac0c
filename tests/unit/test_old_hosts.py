"""Old hosts without a network: cookies that cross over, what a body may take, what a look-up remembers and whom it spares."""

import asyncio

import pytest

from redirector import lookup
from redirector.lookup import Lookups, Question
from tracker.adapters.outbound import OutboundReply
from tracker.domain.addresses import came_by_https
from tracker.domain.cookie_bridge import (
    carried,
    cookie_in,
    for_everybody,
    old_id_in_cookies,
    old_id_in_url,
    platforms_own,
    without_parameters,
)  # fmt: skip
from tracker.domain.orphans import proposed_campaign
from tracker.domain.visitor_cookie import derive, read, set_cookie, with_click
from tracker.errors import OutboundFailed
from tracker.platforms.compiled import Source
from tracker.platforms.loader import Shelf
from tracker.platforms.profile import SourceSettings
from tracker.platforms.reader import read as read_url
from tracker.request_body import BodyTooLarge, BodyTooSlow, read_body
from tracker.settings import parse_networks

KEY = derive(b"secret")
SHELF = Shelf()
OURS, NEWER = "01k8zq3m5n7p9r1s3t5v7w9x1y", "01k8zq3m5n7p9r1s3t5v7w9x1z"


def test_the_first_cookie_of_a_name_counts_whatever_stands_around_it():
    header = b'xa=0; a=1;a=2 ; b="q"; c; =; d='
    assert [cookie_in(header, name) for name in ("a", "b", "c", "d", "e")] == [b"1", b"q", b"", b"", b""]
    assert cookie_in(b"x" * 20_000 + b"; a=1", "a") == b""


def test_the_old_platform_gets_its_own_cookies_whole_and_nobody_elses():
    webgains = SHELF.source("webgains").profile
    assert platforms_own(webgains, b"session=s; wg_cid=1; turnout_visitor=1.x.y;; _CK_WG_=2") == b"wg_cid=1; _CK_WG_=2"
    assert platforms_own(webgains, b"wg_cid=1; _CK_WG_=" + b"x" * 4096) == b"wg_cid=1"
    assert platforms_own(webgains, b"") == platforms_own(SHELF.source("voluum").profile, b"cid=1") == b""


def test_an_old_id_is_read_from_the_platforms_own_cookie():
    webgains = SHELF.source("webgains").profile
    assert old_id_in_cookies(webgains, b"_CK_WG_=second; wg_cid=a%2Db%20c") == "a-b c"
    for bad in (b"", b"other=1", b"wg_cid=" + b"x" * 121, b"wg_cid=%0d%0a", b"wg_cid={click_id}"):
        assert old_id_in_cookies(webgains, bad) == "", bad
    assert old_id_in_cookies(SHELF.source("voluum").profile, b"cid=1") == ""


@pytest.mark.parametrize(
    ("platform", "target", "found"),
    [
        ("tune", b"/aff_l?offer_id=7&transaction_id=t%2D1", "t-1"),  # its shape reads it
        ("webgains", b"/transaction.html?wgver=1.2&wgprogramid=39&wgu=a+b&wgu=c", "a b"),  # only the landing parameter says it
        ("webgains", b"/transaction.html?wgver=1.2&wgprogramid=39&wgu=", ""),
        ("webgains", b"/transaction.html", ""),
    ],
)
def test_an_old_id_is_read_from_the_url(platform, target, found):
    source = SHELF.source(platform)
    assert old_id_in_url(source, read_url(source, b"go.example", target), target) == found


def test_a_sources_own_names_of_parameters_count():
    source = Source(SHELF.source("webgains").profile, SourceSettings(parameters={"wgu": "klick"}))
    target = b"/transaction.html?wgver=1.2&wgprogramid=39&wgu=no&klick=yes"
    assert old_id_in_url(source, read_url(source, b"go.example", target), target) == "yes"


def test_platforms_without_pixels_and_cookies_bridge_nothing():
    assert [SHELF.source(name).has_cookies for name in ("tune", "trackdesk", "firstpromoter", "bitly")] == [True, True, True, False]


def test_old_ids_go_behind_what_is_ours_and_once():
    value = with_click("", KEY, OURS)
    both = carried(value, KEY, ["old-1", "", "old-1"], NEWER)
    assert read(both, KEY) == (NEWER, OURS, "old:old-1")
    assert carried(both, KEY, ["old-1"]) == ""
    assert carried("forged", KEY, [""]) == ""
    assert read(carried("forged", KEY, [], OURS), KEY) == (OURS,)
    full = carried("", KEY, [f"old-{number}" for number in range(6)])
    assert len(read(full, KEY)) == 5
    assert carried(full, KEY, ["late"]) == ""  # there is no place for it
    assert "Secure" in set_cookie("v", is_secure=True)


@pytest.mark.parametrize(
    ("found", "shared"),
    [
        (b"https://s.example/?tid=1", b"https://s.example/"),
        (b"https://s.example/?tid=a%2D1&clickref=a-1&x=2&e=#f", b"https://s.example/?x=2&e=#f"),  # the store's own name for it
        (b"https://s.example/?tid=&x=&y=2", b"https://s.example/?x=&y=2"),
        (b"https://s.example/?clickref=abc", None),  # it may be an id
        (b"https://s.example/?offer=7&p=", b"https://s.example/?offer=7&p="),  # all of it was asked for
        (b"https://s.example/go/longid1?tid=longid1", None),
        (b"https://s.example/#f", b"https://s.example/#f"),
        (b"", b""),
    ],
)
def test_what_is_shared_of_a_destination_has_nobodys_click_id(found, shared):
    assert for_everybody(found, {"tid"}, b"/c/7?a=b") == shared


def test_parameters_are_left_out_by_their_names():
    names = {"tid", "a b"}
    assert without_parameters(b"https://s.example/?tid=1&x=2&a%20b=3#tid=4", names) == b"https://s.example/?x=2#tid=4"
    assert without_parameters(b"https://s.example/?tid=1#f", names) == b"https://s.example/#f"
    assert without_parameters(b"https://s.example/?tid=1", ()) == b"https://s.example/?tid=1"
    assert without_parameters(b"https://s.example/tid=1", names) == b"https://s.example/tid=1"


def test_only_a_campaign_that_nobody_can_mistake_is_proposed():
    campaigns = [("home", "https://shop.example/"), ("boots", "https://shop.example/boots?c={click_id}"), ("hats", "https://hats.example")]
    campaigns += [("one", "https://two.example/x"), ("two", "https://two.example/x?a=1")]
    told = {"https://shop.example/boots/": "boots", "https://shop.example": "home", "https://shop.example/other": None}
    told |= {"https://HATS.example/all": "hats", "https://two.example/x": None, "https://else.example/": None, "": None}
    assert {url: proposed_campaign(url, campaigns) for url in told} == told


@pytest.mark.parametrize(
    ("scheme", "peer", "said", "is_https"),
    [
        ("http", "10.0.0.1", "https, http", True),
        ("https", "10.0.0.1", "HTTP", False),
        ("https", "10.0.0.1", "", True),
        ("http", "192.0.2.1", "https", False),
        ("http", None, "https", False),
        ("https", "junk", "http", True),
    ],
)
def test_https_is_what_a_trusted_proxy_says_else_the_connection(scheme, peer, said, is_https):
    assert came_by_https(scheme, peer, said, parse_networks("10.0.0.0/8")) is is_https


def receive(*messages):
    left = list(messages)

    async def next_one():
        return left.pop(0) if left else await asyncio.Event().wait()

    return next_one


async def test_a_body_is_read_whole_within_its_bounds():
    two = receive({"type": "http.request", "body": b"ab", "more_body": True}, {"type": "http.request", "body": b"c"})
    assert await read_body(two, [(b"content-length", b"3")], max_bytes=3) == b"abc"
    with pytest.raises(BodyTooLarge):
        await read_body(receive(), [(b"content-length", b"4")], max_bytes=3)
    with pytest.raises(BodyTooLarge):
        await read_body(receive({"type": "http.request", "body": b"abcd", "more_body": True}), [], max_bytes=3)
    with pytest.raises(BodyTooSlow):
        await read_body(receive({"type": "http.request", "body": b"a", "more_body": True}), [], max_bytes=3, within_s=0.01)
    with pytest.raises(BodyTooSlow):
        await read_body(receive({"type": "http.disconnect"}), [], max_bytes=3)


class Platform:
    """An old platform behind no network."""

    def __init__(self, location="https://shop.example/?tid=1"):
        self.location, self.asked, self.status = location, 0, None

    async def send(self, method, url, *, headers, timeout_s):
        self.asked += 1
        if self.status is not None:
            return OutboundReply(self.status, {}, b"")
        if self.location is None:
            raise OutboundFailed("it is away")
        return OutboundReply(302 if self.location else 404, {"location": self.location}, b"")

    async def close(self):
        pass


def question(number=0, **more):
    target = b"/c?n=%d" % number
    return Question("go.example", target, b"https://old.example" + target, 20.0, frozenset(("tid",)), **more)


@pytest.fixture
async def asking():
    platform, clock = Platform(), [1000.0]
    lookups = Lookups(lambda: platform, lambda _: False, monotonic=lambda: clock[0])
    yield platform, clock, lookups
    await lookups.close()


async def test_what_was_found_is_remembered_for_ten_minutes_and_nothing_for_one(asking):
    platform, clock, lookups = asking
    assert [await lookups.find(question()) for _ in range(2)] == [b"https://shop.example/?tid=1", b"https://shop.example/"]
    clock[0] += lookup.FOUND_S
    platform.location = ""
    assert [await lookups.find(question()) for _ in range(2)] == [b"", b""]
    assert platform.asked == 2
    clock[0] += lookup.NOTHING_S
    await lookups.find(question())
    assert platform.asked == 3


async def test_a_platform_that_failed_five_times_in_a_row_is_left_alone_for_half_a_minute(asking):
    platform, clock, lookups = asking
    platform.location = None
    assert [await lookups.find(question(number)) for number in range(7)] == [b""] * 7
    assert (platform.asked, lookups.outcomes["failed"], lookups.outcomes["open"]) == (5, 5, 2)
    clock[0] += lookup.PAUSE_S
    platform.location = "https://shop.example/"
    assert await lookups.find(question()) == b"https://shop.example/"


async def test_a_platform_that_has_had_enough_of_us_is_left_alone_too(asking):
    platform, _, lookups = asking
    platform.status = 429
    assert [await lookups.find(question()) for _ in range(6)] == [b""] * 6
    assert (platform.asked, lookups.outcomes["failed"], lookups.outcomes["open"]) == (5, 5, 1)


async def test_an_answer_holds_for_visitors_with_such_a_device_and_language(asking):
    platform, _, lookups = asking
    for more in ({"device": "mobile iOS"}, {"device": "mobile Android"}, {"device": "mobile iOS", "language": b"de"}):
        platform.location = f"https://{len(more)}{more['device'][7:8]}.example/"
        assert [await lookups.find(question(**more)) for _ in range(2)] == [platform.location.encode()] * 2
    assert platform.asked == 3


async def test_each_visitor_asks_where_nobody_can_tell_the_click_id(asking):
    platform, _, lookups = asking
    platform.location = "https://shop.example/?clickref=abc"
    assert await asyncio.gather(*(lookups.find(question()) for _ in range(3))) == [platform.location.encode()] * 3
    assert (await lookups.find(question()), platform.asked) == (platform.location.encode(), 4)
    many = await asyncio.gather(*(lookups.find(question()) for _ in range(lookup.AT_ONCE_MAX + 2)))
    assert (many.count(b""), lookups.outcomes["busy"]) == (2, 2)


async def test_the_oldest_are_forgotten_when_there_are_too_many():
    platform = Platform()
    lookups = Lookups(lambda: platform, lambda _: False, remembered_max=2)
    for number in (0, 1, 2, 2, 1):
        await lookups.find(question(number))
    assert platform.asked == 3
    await lookups.find(question(0))
    assert platform.asked == 4
    await lookups.close()
