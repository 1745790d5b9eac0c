"""Published rows: their bytes and their keys."""

import pytest
from msgspec import msgpack

from tracker.domain.routes import (
    AliasRoute,
    CampaignRoute,
    HostRoute,
    Installation,
    LinkRoute,
    PartnerRoute,
    TokenRoute,
    decode,
    encode,
    route_key,
)  # fmt: skip
from tracker.errors import CorruptData

ALL = [
    LinkRoute(link_id=1, slug="s", campaign_id=2, partner_id=3, advertiser_id=4, rules={"cap": 5}, revision=9),
    AliasRoute(alias_id=1, host="h", match_key="/x", link_id=2, advertiser_id=3),
    CampaignRoute(campaign_id=1, slug="c", advertiser_id=2, destination="https://s.example", domains=("s.example",)),
    PartnerRoute(partner_id=1, slug="p"),
    HostRoute(host_id=1, host="h"),
    TokenRoute(token_id=1, advertiser_id=2, kind="token", token_hash=b"\x00\xff", currency="EUR"),
    Installation(fallback="https://f.example", visitor_secret="00" * 32),
]


@pytest.mark.parametrize("route", ALL, ids=lambda route: type(route).__name__)
def test_a_route_comes_back_and_its_version_is_the_first_field(route):
    assert decode(type(route), encode(route)) == route
    assert msgpack.decode(encode(route))[0] == 1
    assert route.key()[:1] == route.KIND
    assert route.row_id == (0 if isinstance(route, Installation) else 1)


def test_keys_differ():
    assert len({route.key() for route in ALL}) == len(ALL)


def test_fields_appended_later_are_passed_over_and_missing_ones_filled():
    assert decode(PartnerRoute, msgpack.encode([1, 7, "p", "paused", 3, "later"])).status == "paused"
    assert decode(PartnerRoute, msgpack.encode([1, 7, "p"])).status == "active"


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x93", msgpack.encode([2, 7, "p"]), msgpack.encode([1, "x", "p"]), msgpack.encode({}), b"\x93\x01\x07\xa1\xff"]
)
def test_other_bytes_are_corrupt_data(data):
    with pytest.raises(CorruptData):
        decode(PartnerRoute, data)


def test_long_keys_become_digests_that_keep_their_kind():
    short, long, other = (route_key(b"a", b"k" * length, b"h") for length in (397, 398, 399))
    assert (len(short), len(long), long[:1]) == (400, 34, b"a")
    assert long != other
    assert route_key(b"a", b"k") != route_key(b"a", b"k", b"h")
