"""What the redirector makes of a request: the answer, and the record that goes with it."""

from ipaddress import ip_network
from urllib.parse import parse_qs, urlsplit

import pytest

from redirector.handler import Handler
from redirector.limits import Flood, FloodLimiter
from redirector.mint import Mint
from redirector.request import Request
from tracker.adapters.countries import CountryLookup
from tracker.adapters.lmdb_route_store import RouteStore
from tracker.adapters.lmdb_routes import RouteTable
from tracker.domain import click_id, routes
from tracker.domain.destination import read_labels

CHROME = b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
ROUTES = [
    routes.PartnerRoute(partner_id=1, slug="blog"),
    routes.CampaignRoute(campaign_id=1, slug="spring", advertiser_id=1, destination="https://shop.example/", domains=("shop.example",)),
    routes.CampaignRoute(campaign_id=2, slug="closed", advertiser_id=1, destination="https://shop.example/", status="paused"),
    routes.LinkRoute(link_id=1, slug="plain", campaign_id=1, partner_id=1, advertiser_id=1),
    routes.LinkRoute(
        link_id=2,
        slug="macros",
        campaign_id=1,
        partner_id=1,
        advertiser_id=1,
        creative="b1",
        destination="https://shop.example/?c={click_id}&p={partner}&k={campaign}&l={link}&cr={creative}&r={ref}&s={sub2}&d={device}&o={os}&b={browser}&la={language}",
    ),
    routes.LinkRoute(
        link_id=3, slug="old", campaign_id=1, partner_id=1, advertiser_id=1, expires_at_ms=1, fallback="https://shop.example/over"
    ),
    routes.LinkRoute(link_id=4, slug="shut", campaign_id=2, partner_id=1, advertiser_id=1),
]


@pytest.fixture
def table(tmp_path):
    store = RouteStore(tmp_path / "routes" / "routes.mdb")
    store.apply(ROUTES, [], None)
    store.close()
    table = RouteTable(tmp_path / "routes" / "routes.mdb")
    table.refresh()
    yield table
    table.close()


@pytest.fixture
def handler(table):
    return Handler(table, CountryLookup(), FloodLimiter(0), ip_mode="truncate", trusted=[ip_network("10.0.0.0/8")])


def ask(handler, target, *, method=b"GET", peer="203.0.113.77", **headers):
    request = Request(method, target, peer)
    found = {"host": b"go.example", "user-agent": CHROME} | {name.replace("_", "-"): value for name, value in headers.items()}
    request.read_headers([(name.encode(), value) for name, value in found.items()])
    return handler.handle(request)


def test_a_link_leads_to_its_shop_with_the_click_id_and_a_record_that_says_so(handler):
    answer = ask(handler, b"/c/plain?sub1=a%20b&sub3=c+d&ref=r1", referer=b"https://blog.example/", accept_language=b"de-DE,de;q=0.9")
    assert (answer.status, answer.outcome) == (302, "ok")
    assert answer.location == b"https://shop.example/?click_id=" + answer.click_id
    record = answer.record
    assert click_id.to_text(record.click_id) == answer.click_id
    assert (record.link_id, record.campaign_id, record.partner_id, record.advertiser_id) == (1, 1, 1, 1)
    assert (record.verdict, record.counted, record.method) == ("valid", True, "GET")
    assert record.subs == (b"a b", b"", b"c d")
    assert (record.ref, record.referrer, record.language) == (b"r1", b"https://blog.example/", b"de-DE")
    assert record.ip == "203.0.113.0"
    assert record.target == b"/c/plain?sub1=a%20b&sub3=c+d&ref=r1"
    assert record.destination == answer.location
    assert len(record.visitor_key) == 16


def test_every_macro_is_filled_percent_encoded(handler):
    answer = ask(handler, b"/c/macros?sub2=a%26b%0d%0aX&ref=%C3%A9", accept_language=b"en-GB")
    query = parse_qs(urlsplit(answer.location.decode()).query, keep_blank_values=True)
    assert query == {
        "c": [answer.click_id.decode()], "p": ["blog"], "k": ["spring"], "l": ["macros"], "cr": ["b1"], "r": ["é"], "s": ["a&b\r\nX"],
        "d": ["desktop"], "o": ["Linux"], "b": ["Chrome"], "la": ["en-GB"],
    }  # fmt: skip
    assert b"\r" not in answer.location
    assert b"\n" not in answer.location


@pytest.mark.parametrize(
    ("target", "outcome", "location"),
    [
        (b"/c/old", "expired", b"https://shop.example/over"),
        (b"/c/shut", "paused", b""),
        (b"/c/none", "unknown", b""),
        (b"/", "unknown", b""),
    ],
)
def test_what_leads_nowhere_takes_the_fallback_or_404_and_is_recorded(handler, target, outcome, location):
    answer = ask(handler, target)
    assert (answer.status, answer.outcome, answer.location) == (302 if location else 404, outcome, location)
    assert answer.record.outcome == outcome
    assert answer.record.counted


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"method": b"HEAD"}, "head"),
        ({"sec_purpose": b"prefetch;prerender"}, "prefetch"),
        ({"purpose": b"prefetch"}, "prefetch"),
        ({"user_agent": b"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"}, "bot"),
        ({"user_agent": b""}, "bot"),
    ],
)
def test_what_is_no_human_click_gets_the_same_answer_and_is_not_counted(handler, changes, verdict):
    answer = ask(handler, b"/c/plain", **changes)
    assert answer.status == 302
    assert (answer.record.verdict, answer.record.counted) == (verdict, False)


def test_a_deep_link_is_followed_inside_the_advertisers_domains_only(handler):
    inside = ask(handler, b"/c/plain?url=https%3A%2F%2Fwww.shop.example%2Fp%3Fa%3D1%23x")
    assert inside.location == b"https://www.shop.example/p?a=1&click_id=" + inside.click_id + b"#x"
    for elsewhere in (
        b"https://evil.example/",
        b"https://shop.example.evil.example/",
        b"javascript:alert(1)",
        b"//evil.example",
        b"https://shop.example@evil.example",
    ):
        answer = ask(handler, b"/c/plain?url=" + elsewhere)
        assert answer.location == b"https://shop.example/?click_id=" + answer.click_id


def test_a_deep_link_that_carries_a_click_id_already_gets_ours_in_its_place(handler):
    answer = ask(handler, b"/c/plain?url=https%3A%2F%2Fshop.example%2F%3Fa%3D1%26click_id%3Dspoof%26b%3D2")
    assert answer.location == b"https://shop.example/?a=1&b=2&click_id=" + answer.click_id


def test_headers_are_cut_before_anything_looks_at_them(handler):
    answer = ask(handler, b"/c/macros", user_agent=b"android" * 29_000 + b"mobile", referer=b"r" * 100_000, accept_language=b"x" * 100_000)
    assert answer.status == 302
    assert (len(answer.record.user_agent), len(answer.record.referrer), len(answer.record.language)) == (512, 1024, 64)


def test_the_client_behind_a_trusted_proxy_is_the_client_and_a_forged_header_is_not_believed(handler):
    behind = ask(handler, b"/c/plain", peer="10.1.2.3", x_forwarded_for=b"198.51.100.9, 192.0.2.55")
    assert behind.record.ip == "192.0.2.0"
    forged = ask(handler, b"/c/plain", peer="203.0.113.77", x_forwarded_for=b"198.51.100.9")
    assert forged.record.ip == "203.0.113.0"


class OneSecond(FloodLimiter):
    """All clicks fall into one second, however slow the machine is."""

    def judge(self, network: str, link_id: int, second: int) -> Flood:
        return super().judge(network, link_id, 1)


def test_above_the_flood_limit_clicks_are_labelled_and_far_above_only_counted(table):
    handler = Handler(table, CountryLookup(), OneSecond(3), ip_mode="full", trusted=())
    verdicts = []
    for _ in range(40):
        answer = ask(handler, b"/c/plain")
        assert answer.status == 302
        verdicts.append((answer.record.verdict, bool(answer.click_id)) if answer.record else None)
    by_kind = {verdict: verdicts.count(verdict) for verdict in verdicts}
    assert by_kind == {("valid", True): 3, ("rate_limited", True): 27, None: 10}


def test_the_limiter_counts_each_network_and_link_apart_and_forgets_each_second():
    limiter = FloodLimiter(2)
    assert [limiter.judge("a", 1, 1) for _ in range(3)] == [Flood.CALM, Flood.CALM, Flood.LABELLED]
    assert limiter.judge("a", 2, 1) is Flood.CALM
    assert limiter.judge("b", 1, 1) is Flood.CALM
    assert limiter.judge("a", 1, 2) is Flood.CALM
    assert [limiter.judge("c", 1, 2) for _ in range(21)][-1] is Flood.COUNTED_ONLY
    assert all(FloodLimiter(0).judge("a", 1, 1) is Flood.CALM for _ in range(100))


def test_another_method_is_no_click(handler):
    answer = ask(handler, b"/c/plain", method=b"DELETE")
    assert (answer.status, answer.record) == (405, None)


def test_visitor_keys_tell_visitors_apart(handler):
    same = {ask(handler, b"/c/plain").record.visitor_key for _ in range(3)}
    assert len(same) == 1
    assert ask(handler, b"/c/plain", peer="203.0.113.78").record.visitor_key not in same
    assert ask(handler, b"/c/plain", user_agent=CHROME + b"x").record.visitor_key not in same


def test_labels_are_read_once_and_the_first_counts():
    labels = read_labels(b"/c/x?sub1=1&sub1=2&sub10=%zz&ref=a%2Bb&url=x#sub2=no")
    assert labels.subs == (b"1", *(b"",) * 8, b"%zz")
    assert (labels.ref, labels.deep_link) == (b"a+b", b"x")
    assert read_labels(b"/c/x").subs == ()


def test_minted_ids_are_version_seven_and_never_the_same():
    mint = Mint()
    ids = [mint()[0] for _ in range(5000)]
    assert len(set(ids)) == 5000
    assert all(click_id.is_v7(raw) for raw in ids)
    mint.forget_pool()
    assert mint()[0] not in ids
