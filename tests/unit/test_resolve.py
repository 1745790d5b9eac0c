"""Which link a request names, and where its visitor goes."""

import pytest
from msgspec.structs import replace

from tracker.domain.resolve import JoinedRoute, OldLink, join, old_address, registered_host, resolve
from tracker.domain.routes import CampaignRoute, HostRoute, Installation, LinkRoute, PartnerRoute
from tracker.platforms.loader import Shelf

PROFILES = Shelf()

LINK = LinkRoute(link_id=1, slug="summer", campaign_id=2, partner_id=3, advertiser_id=4, creative="b1")
CAMPAIGN = CampaignRoute(campaign_id=2, slug="spring", advertiser_id=4, destination="https://s.example/", domains=("s.example",))
PARTNER = PartnerRoute(partner_id=3, slug="anna")
OLD = HostRoute(host_id=1, host="go.old.example", platform="tune", fallback="https://host.example/", advertiser_id=4)


class Table:
    def __init__(self, *joined: JoinedRoute, aliases=None, hosts=(), fallback="https://all.example/"):
        self.links = {found.ready.link_slug.encode(): found for found in joined}
        self.aliases, self.hosts, self.fallback = aliases or {}, {host.host: host for host in hosts}, fallback

    def get_link(self, slug):
        return self.links.get(slug)

    def alias(self, host, key):
        return self.aliases.get((host, key))

    def host(self, name):
        return self.hosts.get(name)

    def source_of(self, host):
        return PROFILES.source(host.platform) if host.platform else None

    def old_link(self, host, source, reading):
        return OldLink(None, None, "partner and offer")

    def installation(self):
        return Installation(fallback=self.fallback)


def landing(found):
    return found.template.text if found.template else None


def test_a_new_link_works_on_any_host_that_is_no_old_one():
    table = Table(join(LINK, CAMPAIGN, PARTNER), hosts=[OLD, replace(OLD, host="t.example", kind="tracking", platform=None)])
    found = resolve(table, b"whatever:8080", b"/c/summer?sub1=x", 0)
    assert (found.outcome, found.link_id, found.campaign_id, found.partner_id, found.advertiser_id) == ("ok", 1, 2, 3, 4)
    assert (found.link_slug, found.campaign_slug, found.partner_slug, found.creative) == ("summer", "spring", "anna", "b1")
    assert (found.domains, landing(found), found.host, found.platform) == (("s.example",), "https://s.example/", None, None)
    assert resolve(table, b"", b"/c/summer", 0).outcome == "ok"
    assert resolve(table, b"T.example", b"/c/summer", 0).host.host == "t.example"
    old = resolve(table, b"go.old.example", b"/c/summer", 0)
    assert (old.outcome, old.platform, old.advertiser_id, landing(old)) == ("unknown", "tune", 4, "https://host.example/")
    assert resolve(table, b"go.old.example:8080", b"/c/summer", 0).outcome == "unknown"


@pytest.mark.parametrize(
    ("target", "outcome"),
    [
        (b"/c/summer", "ok"), (b"/c/%73ummer", "ok"), (b"/c/summer#x", "ok"), (b"http://any.example/c/summer", "ok"),
        (b"/c/Summer", "unknown"), (b"/c/summer/", "unknown"), (b"/c/summer/x", "unknown"), (b"/c/", "unknown"),
        (b"/c/%2573ummer", "unknown"), (b"/c", "unknown"), (b"/", "unknown"), (b"*", "unknown"), (b"", "unknown"),
        (b"/c/\xff", "unknown"), (b"http://u@any.example?x", "unknown"), (b"1x://c/summer", "unknown"), (b"/c/nope", "unknown"),
    ],
)  # fmt: skip
def test_slugs_match_exactly(target, outcome):
    assert resolve(Table(join(LINK, CAMPAIGN, PARTNER)), b"t.example", target, 0).outcome == outcome


def test_absolute_targets_beat_the_host_header():
    table = Table(join(LINK, CAMPAIGN, PARTNER), hosts=[OLD])
    assert resolve(table, b"t.example", b"http://u@GO.old.example/c/summer", 0).outcome == "unknown"


def test_an_alias_of_the_host_comes_before_one_of_any_host():
    own, other = join(LINK, CAMPAIGN, PARTNER), join(replace(LINK, slug="other"), CAMPAIGN, PARTNER)
    aliases = {("go.old.example", "/a?x=~1"): own, ("", "/a?x=~1"): other, ("dev.example:81", "/b"): own, ("dev.example", "/c"): own}
    table = Table(aliases=aliases, hosts=[OLD])
    found = resolve(table, b"GO.old.example:80", b"/a?x=%7e1", 0)
    assert (found.outcome, found.link_slug, found.platform, found.host) == ("ok", "summer", "tune", OLD)
    assert resolve(table, b"else.example", b"/a?x=~1", 0).link_slug == "other"
    assert resolve(table, b"", b"/a?x=~1", 0).link_slug == "other"
    assert resolve(table, b"dev.example:81", b"/b", 0).link_slug == "summer"
    assert resolve(table, b"dev.example:81", b"/c", 0).link_slug == "summer"


@pytest.mark.parametrize(
    "joined",
    [
        join(replace(LINK, status="paused"), CAMPAIGN, PARTNER),
        join(LINK, replace(CAMPAIGN, status="archived"), PARTNER),
        join(LINK, CAMPAIGN, replace(PARTNER, status="paused")),
        join(LINK, replace(CAMPAIGN, advertiser_status="paused", expires_at_ms=0), PARTNER),
        join(LINK, CAMPAIGN, PARTNER, is_alias_active=False),
    ],
)
def test_whatever_is_paused_leads_to_the_fallback_and_is_still_named(joined):
    found = resolve(Table(joined), b"t.example", b"/c/summer", 0)
    assert (found.outcome, found.link_id, landing(found)) == ("paused", 1, "https://all.example/")
    assert found.template.fill({"click_id": b"x"}) == b"https://all.example/"


def test_times_are_inclusive_at_the_start_and_exclusive_at_the_end():
    table = Table(join(replace(LINK, expires_at_ms=200), replace(CAMPAIGN, starts_at_ms=100, expires_at_ms=300), PARTNER))
    outcomes = [resolve(table, b"", b"/c/summer", now_ms).outcome for now_ms in (99, 100, 199, 200)]
    assert outcomes == ["not_started", "ok", "ok", "expired"]


def test_fallbacks_are_asked_from_link_to_installation():
    host = replace(OLD, kind="tracking", advertiser_id=None)
    paused = replace(LINK, status="paused")

    def where(link_fallback, campaign_fallback, host_fallback, fallback):
        joined = join(replace(paused, fallback=link_fallback), replace(CAMPAIGN, fallback=campaign_fallback), PARTNER)
        table = Table(joined, hosts=[replace(host, fallback=host_fallback)], fallback=fallback)
        return landing(resolve(table, b"go.old.example", b"/c/summer", 0))

    assert where("l", "c", "h", "i") == "l"
    assert where(None, "c", "h", "i") == "c"
    assert where(None, None, "h", "i") == "h"
    assert where(None, None, None, "i") == "i"
    assert where(None, None, None, None) is None


def test_the_links_own_destination_comes_first():
    assert (
        landing(resolve(Table(join(replace(LINK, destination="https://d.example"), CAMPAIGN, PARTNER)), b"", b"/c/summer", 0))
        == "https://d.example"
    )


def test_a_host_is_known_by_its_port_first_and_says_where_the_old_platform_is():
    port = replace(OLD, host_id=2, host="go.old.example:8443")
    table = Table(hosts=[OLD, port])
    assert [registered_host(table, name) for name in (b"GO.old.example", b"go.old.example:8443", b"go.old.example:1", b"x")] == [
        OLD,
        port,
        OLD,
        None,
    ]
    assert old_address(OLD, b"/a?b") == b""
    assert old_address(replace(OLD, forward_to="https://brand.tune.example/"), b"/a?b") == b"https://brand.tune.example/a?b"
    assert old_address(replace(OLD, forward_to="https://go.old.example"), b"/a?b") == b""
