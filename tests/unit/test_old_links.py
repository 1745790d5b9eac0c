"""Old links of other platforms, through the redirector's handler and a real route table: who is meant, where it leads, what is recorded."""

import dataclasses
import json
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from redirector.handler import Handler
from redirector.limits import FloodLimiter
from redirector.request import Request
from tracker.adapters.countries import CountryLookup
from tracker.adapters.lmdb_route_store import RouteStore
from tracker.adapters.lmdb_routes import RouteTable
from tracker.domain import routes
from tracker.domain.destination import labels_of
from tracker.domain.explanation import explanation
from tracker.domain.identify import made_id, pair_id
from tracker.domain.orphans import READY, OrphanUrls, heaps
from tracker.domain.resolve import resolve, with_anchor
from tracker.errors import RejectedInput
from tracker.platforms.loader import Shelf
from tracker.platforms.replies import GIF

CHROME = b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
SHOP = "https://shop.example/"


def host(number, name, platform, **more):
    return routes.HostRoute(host_id=number, host=name, platform=platform, advertiser_id=1, **more)


def old_id(number, source, kind, source_id, **to):
    return routes.OldIdRoute(old_id=number, source=source, kind=kind, source_id=source_id, **to)


ROUTES = [
    routes.PartnerRoute(partner_id=1, slug="blog"),
    routes.PartnerRoute(partner_id=2, slug="gone", status="paused"),
    routes.CampaignRoute(campaign_id=1, slug="spring", advertiser_id=1, destination=SHOP, domains=("shop.example", "brand.example")),
    routes.CampaignRoute(campaign_id=2, slug="autumn", advertiser_id=1, destination=SHOP + "?o={old_click_id}", fallback=SHOP + "over"),
    routes.LinkRoute(link_id=1, slug="mapped", campaign_id=1, partner_id=1, advertiser_id=1, destination=SHOP + "mapped"),
    host(1, "go.brand.example", "tune", source="brand", fallback="https://brand.example/"),
    host(2, "www.acmetrk.example", "everflow"),
    host(3, "trk.cake.example", "cake"),
    host(4, "go.shadow.example", "tune", source="brand", state="shadow", forward_to="https://brand.go2cloud.example/"),
    host(5, "aff.pap.example", "postaffiliatepro", settings={"reading": {"parameters": {"a_aid": "partner"}}}),
    host(6, "sho.rt", "bitly"),
    host(7, "other.example", "none-such"),
    host(8, "go.empty.example", None),
    routes.AliasRoute(alias_id=1, host="go.brand.example", match_key="/summer?aff_sub=a", link_id=1, advertiser_id=1),
    old_id(1, "brand", "partner", "42", partner_id=1),
    old_id(2, "brand", "offer", "7", campaign_id=1),
    old_id(3, "brand", "offer", "8", campaign_id=2),
    old_id(4, "brand", "pair", pair_id("42", "9"), link_id=1),
    old_id(5, "brand", "creative", "b1", creative="Banner 1"),
    old_id(6, "brand", "partner", "66", partner_id=2),
    old_id(7, "everflow", "partner", "ABC123", partner_id=1),
    old_id(8, "everflow", "offer", "XYZ456", campaign_id=1),
    old_id(9, "everflow", "partner", "11", partner_id=1),
    old_id(10, "everflow", "offer", "12", campaign_id=1),
    old_id(11, "cake", "partner", "42", partner_id=1),
    old_id(12, "cake", "creative", "700", campaign_id=1, creative="Leader"),
    old_id(13, "postaffiliatepro", "partner", "ann", partner_id=1),
    old_id(14, "postaffiliatepro", "offer", "", campaign_id=1),
    old_id(15, "bitly", "link", "3xYz", link_id=1),
    old_id(16, "brand", "pair", pair_id("5/5", "9"), link_id=99),
    old_id(17, "turnout", "made", made_id(1, 2), link_id=2),
    old_id(18, "turnout", "made", made_id(2, 1), link_id=2),  # of another partner: nobody would make it so
    routes.LinkRoute(link_id=2, slug="made", campaign_id=2, partner_id=1, advertiser_id=1),
    host(10, "go.round.example", "tune", source="brand", state="shadow", forward_to="https://go.round.example"),
]


@pytest.fixture
def table(tmp_path):
    store = RouteStore(tmp_path / "routes" / "routes.mdb")
    store.apply(ROUTES, [], None)
    store.close()
    table = RouteTable(tmp_path / "routes" / "routes.mdb", fallback="https://all.example/", platforms=Shelf())
    table.refresh()
    yield table
    table.close()


@pytest.fixture
def ask(table):
    handler = Handler(table, CountryLookup(), FloodLimiter(0), ip_mode="truncate", trusted=[])

    def of(url, method=b"GET", agent=CHROME):
        name, _, target = url.removeprefix("https://").partition("/")
        request = Request(method, b"/" + target.encode(), "203.0.113.7")
        request.read_headers([(b"host", name.encode()), (b"user-agent", agent)])
        return handler.handle(request)

    return of


def ids(record):
    return record.link_id, record.campaign_id, record.partner_id, record.advertiser_id


def test_a_tune_link_leads_to_the_shop_and_is_the_partners(ask):
    answer = ask("https://go.brand.example/aff_c?offer_id=7&aff_id=42&aff_sub=a%20b&aff_sub3=c&source=news&aff_click_id=R1&file_id=b1")
    assert (answer.status, answer.outcome, answer.resolved) == (302, "ok", ("tune", "ok"))
    assert answer.location == SHOP.encode() + b"?click_id=" + answer.click_id
    record = answer.record
    assert ids(record) == (None, 1, 1, 1)
    assert (record.creative, record.platform, record.old_partner, record.old_offer, record.old_creative) == (
        "Banner 1", "tune", b"42", b"7", b"b1",
    )  # fmt: skip
    assert (record.subs, record.ref) == ((b"a b", b"", b"c", b"", b"", b"news"), b"R1")
    assert record.extra == {"aff_sub": b"a b", "aff_sub3": b"c", "source": b"news", "aff_click_id": b"R1"}


@pytest.mark.parametrize(
    ("url", "link"),
    [
        ("https://go.brand.example/aff_c?offer_id=9&aff_id=42", 1),  # a mapped pair
        ("https://go.brand.example/aff_c?offer_id=9&aff_id=42&file_id=none", 1),
        ("https://go.brand.example/summer?aff_sub=a", 1),  # an alias comes first
        ("https://sho.rt/3xYz", 1),
        ("https://www.acmetrk.example/ABC123/XYZ456/?sub1=s", None),
        ("https://www.acmetrk.example/abc123/xyz456?sub1=s", None),  # a mail client lowered it
        ("https://trk.cake.example/?a=42&c=700&s1=s", None),
        ("https://go.brand.example/aff_c?offer_id=007&aff_id=042", None),  # numbers, with zeros in front
        ("https://aff.pap.example/scripts/click.php?partner=ann", None),  # no offer in the link, a renamed parameter
    ],
)
def test_links_of_every_kind_are_somebodys(ask, url, link):
    answer = ask(url)
    assert (answer.outcome, answer.record.link_id, answer.record.partner_id, answer.record.campaign_id) == ("ok", link, 1, 1)
    assert answer.location.startswith(SHOP.encode())


def test_an_alias_on_an_old_host_comes_before_its_platform(ask):
    record = ask("https://go.brand.example/summer?aff_sub=a").record
    assert (record.link_id, record.platform, record.target) == (1, "tune", b"/summer?aff_sub=a")


@pytest.mark.parametrize(
    ("url", "location", "missing"),
    [
        ("https://go.brand.example/aff_c?offer_id=77&aff_id=42", "https://brand.example/", "offer"),
        ("https://go.brand.example/aff_c?offer_id=77&aff_id=43", "https://brand.example/", "partner and offer"),
        ("https://go.brand.example/aff_c?offer_id=7&aff_id=43", "https://brand.example/", "partner"),
        ("https://go.brand.example/aff_c?offer_id=8&aff_id=43", SHOP + "over", "partner"),  # the campaign's fallback comes first
        ("https://go.brand.example/nothing", "https://brand.example/", "shape"),
        ("https://go.brand.example/c/mapped", "https://brand.example/", "shape"),
        ("https://go.brand.example/aff_c?offer_id=9&aff_id=5/5", "https://brand.example/", "link"),  # its link is not published
        ("https://sho.rt/none", "https://all.example/", "link"),
        ("https://other.example/aff_c?offer_id=7&aff_id=42", "https://all.example/", "platform"),
        ("https://go.empty.example/aff_c?offer_id=7&aff_id=42", "https://all.example/", "platform"),
        ("https://nobody.example/aff_c?offer_id=7&aff_id=42", "https://all.example/", "host"),
        ("https://nobody.example/c/none", "https://all.example/", "link"),
    ],
)
def test_who_is_not_known_is_an_orphan_with_a_reason_and_the_visitor_still_lands(ask, table, url, location, missing):
    answer = ask(url)
    assert (answer.status, answer.outcome, answer.location) == (302, "unknown", location.encode())
    assert answer.record.partner_id is None
    assert explanation(table, url, 0).missing == missing


def test_a_shop_is_better_than_an_error_page(table, ask):
    """Only the partner is unknown, and nobody has a fallback."""
    bare = resolve(table, b"www.acmetrk.example", b"/ZZZ999/XYZ456", 0)
    assert (bare.outcome, bare.missing, bare.campaign_id) == ("unknown", "partner", 1)
    assert bare.template.text == "https://all.example/"
    table._default = routes.Installation()
    table._installation = None
    answer = ask("https://www.acmetrk.example/ZZZ999/XYZ456")
    assert answer.location == SHOP.encode() + b"?click_id=" + answer.click_id


def test_a_link_that_was_made_is_taken_for_the_partner_and_campaign_that_it_is_of(ask):
    made = ask("https://go.brand.example/aff_c?offer_id=8&aff_id=42&file_id=b1").record
    assert (made.link_id, made.partner_id, made.campaign_id, made.creative) == (2, 1, 2, "Banner 1")
    assert ask("https://go.brand.example/aff_c?offer_id=7&aff_id=66").record.link_id is None


def test_a_host_is_never_forwarded_to_itself(ask):
    assert ask("https://go.round.example/aff_c?offer_id=7&aff_id=42").location.startswith(SHOP.encode())


def test_what_is_no_click_is_no_row_of_clicks_and_an_old_orphan_of_it_shows_no_token(ask, table):
    answer = ask("https://go.brand.example/aff_lsr?transaction_id=x&security_token=secret")
    assert (answer.status, answer.record, answer.click_id, answer.outcome) == (200, None, b"", "postback")
    assert explanation(table, "https://go.brand.example/aff_lsr?transaction_id=x", 0).missing == "kind"
    (heap,) = heaps(table, urls(("go.brand.example", "/aff_lsr?transaction_id=x&security_token=secret", 0, 1)), 0)
    assert (heap.missing, heap.example) == ("kind", "")


def test_parameters_that_nobody_knows_are_not_kept_unless_the_source_says_so(tmp_path):
    hosts = [host(1, "trk.example", "voluum"), host(2, "keep.example", "voluum", settings={"reading": {"keep_unknown": True}})]
    store = RouteStore(tmp_path / "routes" / "routes.mdb")
    store.apply(hosts, [], None)
    store.close()
    table = RouteTable(tmp_path / "routes" / "routes.mdb", platforms=Shelf())
    table.refresh()
    handler = Handler(table, CountryLookup(), FloodLimiter(0), ip_mode="truncate", trusted=[])
    kept = {}
    for one in hosts:
        request = Request(b"GET", b"/0d3a2c1e-1111-4222-8333-444455556666?email=a%40b.example", "203.0.113.7")
        request.read_headers([(b"host", one.host.encode()), (b"user-agent", CHROME)])
        kept[one.host] = handler.handle(request).record.extra
    table.close()
    assert kept == {"trk.example": {}, "keep.example": {"email": b"a@b.example"}}


def test_long_hosts_and_ids_are_answered_and_not_remembered(ask, table):
    for number in range(5):
        ask(f"https://go.brand.example/aff_c?offer_id=7&aff_id={'9' * 3000}{number}")
        assert ask(f"https://{'x' * 3000}{number}.example/aff_c?offer_id=7").outcome == "unknown"
    assert not table._old_links
    assert all(len(name) < 600 for name in table._hosts)


def test_a_paused_partner_of_an_old_link_is_paused(ask):
    answer = ask("https://go.brand.example/aff_c?offer_id=7&aff_id=66")
    assert (answer.outcome, answer.location, answer.record.partner_id) == ("paused", b"https://brand.example/", 2)


@pytest.mark.parametrize(
    ("destination", "location"),
    [
        ("https%3A%2F%2Fshop.example%2Fshoes%3Fa%3D1", "https://shop.example/shoes?a=1&click_id="),
        ("https%3A%2F%2Fwww.shop.example%2F", "https://www.shop.example/?click_id="),
        ("https%3A%2F%2Fevil.example%2F", SHOP + "?click_id="),
        ("https%3A%2F%2Fshop.example.evil.example%2F", SHOP + "?click_id="),
        ("javascript%3Aalert(1)", SHOP + "?click_id="),
        ("https%3A%2F%2Fu%3Ap%40shop.example%2F", SHOP + "?click_id="),
        ("https%3A%2F%2Fshop.example%5C%40evil.example%2F", SHOP + "?click_id="),
        ("https%3A%2F%2Fshop.example%2F%0d%0aX%3A1", SHOP + "?click_id="),
        ("https%3A%2F%2Fgo.brand.example%2Faff_c%3Foffer_id%3D7", SHOP + "?click_id="),  # back to itself: a loop
    ],
)
def test_deep_links_stay_within_the_shops_domains(ask, destination, location):
    answer = ask(f"https://go.brand.example/aff_c?offer_id=7&aff_id=42&url={destination}")
    assert answer.location == location.encode() + answer.click_id


@pytest.mark.parametrize("target", ["/aff_c?offer_id=7&aff_id=42&x=%7e+%20", "/aff_c?offer_id=77&aff_id=1", "/unknown/%E2%9C%93?a=b=c"])
def test_a_shadowed_host_sends_its_visitors_on_as_they_came_and_counts_them(ask, target):
    answer = ask("https://go.shadow.example" + target)
    assert answer.location == b"https://brand.go2cloud.example" + target.encode()
    assert answer.record.target == target.encode()
    assert answer.record.partner_id == (1 if "offer_id=7&" in target else None)


def test_an_old_click_id_is_kept_and_can_be_handed_on(ask):
    answer = ask("https://go.brand.example/aff_c?offer_id=8&aff_id=42")
    assert answer.location.startswith(SHOP.encode() + b"?o=&click_id=")
    landing = ask("https://www.acmetrk.example/?_ef_transaction_id=4b0f8c1d2e3a4f5b8c9d0e1f2a3b4c00&affid=11&oid=12")
    assert (landing.outcome, landing.record.old_click_id) == ("ok", b"4b0f8c1d2e3a4f5b8c9d0e1f2a3b4c00")


def test_a_server_that_reports_a_click_gets_the_click_id_in_the_words_it_knows(ask):
    answer = ask("https://www.acmetrk.example/clk?affid=11&oid=12")
    assert (answer.status, answer.location, answer.content_type) == (200, b"", "application/json")
    assert json.loads(answer.body) == {"transaction_id": answer.click_id.decode()}
    assert (answer.record.partner_id, answer.record.campaign_id) == (1, 1)
    assert ask("https://www.acmetrk.example/clk?affid=11&oid=99").status == 302
    assert ask("https://www.acmetrk.example/clk?affid=11&oid=12", agent=b"python-requests/2").record.verdict == "valid"
    assert ask("https://www.acmetrk.example/ABC123/XYZ456/", agent=b"python-requests/2").record.verdict == "bot"
    assert GIF.startswith(b"GIF89a")


def test_what_stands_behind_the_hash_is_asked_of_the_browser(ask, table):
    first = ask("https://aff.pap.example/page.html?x=1")
    assert (first.status, first.outcome, first.record, first.is_flooded) == (200, "anchor", None, False)
    assert b"l.replace((l.search?l.search+'&':'?')+'turnout_anchor='" in first.body  # no path: one with // in front names another host
    assert b"pathname" not in first.body
    second = ask("https://aff.pap.example/page.html?x=1&turnout_anchor=partner%3Dann")
    assert (second.outcome, second.record.partner_id, second.record.old_partner) == ("ok", 1, b"ann")
    nobody = ask("https://aff.pap.example/page.html?turnout_anchor=")
    assert (nobody.status, nobody.outcome, nobody.location) == (302, "unknown", b"https://all.example/")
    assert "a page asks the browser" in " ".join(explanation(table, "https://aff.pap.example/page.html", 0).steps)


@pytest.mark.parametrize(
    ("target", "whole"),
    [
        (b"/a?turnout_anchor=x%3D1", b"/a#x=1"), (b"/a?b=1&turnout_anchor=x", b"/a?b=1#x"), (b"/a?turnout_anchor=", b"/a#"),
        (b"/a?my_turnout_anchor=x", b"/a?my_turnout_anchor=x"), (b"/a", b"/a"),
    ],
)  # fmt: skip
def test_the_anchor_comes_back_behind_its_hash(target, whole):
    assert with_anchor(target) == whole


def test_explaining_an_old_link_names_what_was_read_and_what_is_missing(table):
    found = explanation(table, "https://go.brand.example/aff_c?offer_id=7&aff_id=42&aff_sub=x", 0)
    assert (found.partner, found.campaign, found.link, found.missing) == ("blog", "spring", None, None)
    assert found.reading["partner_id"] == "42"
    assert "TUNE (HasOffers) reads a click (click): partner 42, offer 7, aff_sub=x" in found.steps
    assert "Partner and campaign are known, so the link is made on the fly" in found.steps
    unknown = explanation(table, "https://go.brand.example/aff_c?offer_id=7&aff_id=43", 0)
    assert any("Not known under source brand: partner" in step for step in unknown.steps)
    mapped = explanation(table, "https://go.brand.example/aff_c?offer_id=9&aff_id=42", 0)
    assert (mapped.link, mapped.missing) == ("mapped", None)
    assert not any("on the fly" in step for step in mapped.steps)
    shadow = explanation(table, "https://go.shadow.example/aff_c?offer_id=7&aff_id=42", 0)
    assert shadow.steps[-1].startswith("The switch-over state is shadow")
    assert shadow.destination == "https://brand.go2cloud.example/aff_c?offer_id=7&aff_id=42"
    assert any("no profile of a platform 'none-such'" in step for step in explanation(table, "https://other.example/", 0).steps)


def test_settings_that_nobody_can_read_leave_the_platform_as_it_is_shipped(table):
    broken = host(9, "x.example", "tune", settings={"reading": {"parameters": 3}})
    assert table.source_of(broken).settings.parameters == {}
    assert table.source_of(replace(broken, revision=1, settings={"reading": {"base_path": "/t"}})).settings.base_path == "/t"
    assert table.source_of(replace(broken, revision=2, platform="none-such")) is None


def test_where_sub_ids_go_can_be_said(table):
    told = host(9, "y.example", "tune", settings={"reading": {"sub_ids": {"source": "sub1", "aff_sub": "ref"}}})
    source = table.source_of(told)
    assert (source.labels["source"], source.labels["aff_sub"], source.labels["aff_sub2"]) == (1, 0, 2)
    assert len({place for place in source.labels.values() if place}) == sum(1 for place in source.labels.values() if place)
    found = resolve(table, b"go.brand.example", b"/aff_c?offer_id=7&aff_id=42&aff_sub=x", 0)
    assert labels_of(found, b"").subs == (b"x",)


def urls(*rows):
    """Orphans of (host, url, clicks, total), an hour apart."""
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        OrphanUrls(name, url, clicks, total, begin + timedelta(hours=number), begin + timedelta(hours=number, minutes=5))
        for number, (name, url, clicks, total) in enumerate(rows)
    ]


def test_where_the_old_platform_sent_orphans_is_proposed_without_the_click_id_of_one_of_them(table):
    (orphan,) = urls(("go.brand.example", "/aff_c?offer_id=77&aff_id=42", 1, 1))
    (unread,) = urls(("nobody.example", "/x/1", 1, 1))
    named = "https://shop.example/boots?transaction_id=102f&x=1"
    told = [heap.proposed_destination for one in (orphan, unread) for heap in heaps(table, [dataclasses.replace(one, named=named)], 0)]
    assert told == ["https://shop.example/boots?x=1", named]


def test_orphans_fall_into_heaps_that_one_step_mends(table):
    found = heaps(
        table,
        urls(
            ("go.brand.example", "/aff_c?offer_id=77&aff_id=42", 5, 6),
            ("go.brand.example", "/aff_c?offer_id=77&aff_id=66&aff_sub=x", 2, 2),
            ("go.brand.example", "/aff_c?offer_id=7&aff_id=43", 4, 4),
            ("go.shadow.example", "/aff_c?offer_id=8&aff_id=43", 4, 4),  # the same source
            ("www.acmetrk.example", "/ZZZ999/XYZ456", 1, 1),
            ("nobody.example", "/x/1", 1, 9),
            ("nobody.example", "/x/2", 1, 1),
            ("go.brand.example", "/summer?aff_sub=a", 1, 1),
        ),
        0,
    )
    told = [(heap.missing, heap.source, heap.partner, heap.offer, heap.clicks, heap.all_clicks, len(heap.old_partners)) for heap in found]
    assert told == [
        ("partner", "brand", "43", None, 8, 8, 1), ("offer", "brand", None, "77", 7, 8, 2), ("host", None, None, None, 2, 10, 0),
        (READY, "brand", None, None, 1, 1, 0), ("partner", "everflow", "ZZZ999", None, 1, 1, 1),
    ]  # fmt: skip
    offer = found[1]
    assert (offer.first_seen.hour, offer.last_seen.hour, offer.example) == (0, 1, "/aff_c?offer_id=77&aff_id=42")
    assert found[2].shape == "/x/{n}"


ON_PAGE = {  # platform: a landing page of the shop with a partner in it
    "refersion": "https://shop.example/p?rfsn=123.abc&subid=x",
    "tapfiliate": "https://shop.example/p?ref=ann",
    "affiliatewp": "https://shop.example/p?ref=7",
    "firstpromoter": "https://shop.example/p?fpr=ann",
    "rewardful": "https://shop.example/p?via=ann",
    "postaffiliatepro": "https://shop.example/p#a_aid=ann",
}


@pytest.mark.parametrize("platform", ON_PAGE)
def test_a_landing_page_of_a_shop_is_understood_when_its_platform_is_named(table, platform):
    found = explanation(table, ON_PAGE[platform], 0, platform=platform, source="postaffiliatepro")
    partner = {"refersion": "123.abc", "affiliatewp": "7"}.get(platform, "ann")
    assert (found.platform, found.reading["kind"], found.reading["partner_id"]) == (platform, "click", partner)
    assert (found.partner, found.campaign) == (("blog", "spring") if partner == "ann" else (None, "spring"))
    assert found.destination.startswith(("https://shop.example/", "https://all.example/"))
    assert "nobody registered it" in found.steps[0]
    assert explanation(table, ON_PAGE[platform], 0).missing == "host"


def test_a_platform_that_nobody_describes_is_refused(table):
    with pytest.raises(RejectedInput, match="there is no platform 'nope'"):
        explanation(table, "https://shop.example/", 0, platform="nope")
