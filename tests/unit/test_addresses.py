"""Who the client is behind proxies, and what is kept of it."""

from ipaddress import ip_network

import pytest

from tracker.domain import addresses
from tracker.domain.addresses import client_address, kept, network

OURS = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "lines", "expected"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", [b"1.2.3.4"], "203.0.113.9"),  # nobody we trust
        ("10.0.0.1", [b"1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", [b"6.6.6.6, 1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", [b"6.6.6.6", b"1.2.3.4, 10.0.0.2"], "1.2.3.4"),
        ("10.0.0.1", [b"10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", [b"1.2.3.4:5678"], "1.2.3.4"),
        ("10.0.0.1", [b"[2001:DB8::1]:5678"], "2001:db8::1"),
        ("10.0.0.1", [b'"[2001:db8::1]"'], "2001:db8::1"),
        ("10.0.0.1", [b"2001:db8::1"], "2001:db8::1"),
        ("10.0.0.1", [b"::ffff:1.2.3.4"], "1.2.3.4"),
        ("::ffff:10.0.0.1", [b"1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", [b"1.2.3.4, unknown"], "10.0.0.1"),
        ("10.0.0.1", [b"1.2.3.4, \xff\x00, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [b""], "10.0.0.1"),
        (None, [], ""),
        ("", [], ""),
        (None, [b"1.2.3.4"], "1.2.3.4"),
        (None, [b"junk"], ""),
        ("testclient", [b"1.2.3.4"], ""),
        ("fe80::1%eth0", [], "fe80::1"),
        ("10.0.0.1", [b",".join([b"6.6.6.6"] + [b"10.0.0.2"] * 40)], "10.0.0.2"),
    ],
)
def test_the_client_is_the_right_most_hop_that_is_not_ours(peer, lines, expected):
    assert client_address(peer, lines, OURS) == expected


@pytest.mark.parametrize(
    ("address", "mode", "expected"),
    [
        ("203.0.113.77", "truncate", "203.0.113.0"),
        ("2001:db8:1:2:3::4", "truncate", "2001:db8:1::"),
        ("junk", "truncate", ""),
        ("203.0.113.77", "full", "203.0.113.77"),
        ("203.0.113.77", "none", ""),
        ("", "hmac-daily", ""),
    ],
)
def test_what_is_kept(address, mode, expected):
    assert kept(address, mode, b"k", "2026-01-31") == expected


def test_the_daily_hash_is_the_same_for_a_day_and_a_key_only():
    hashes = {kept("1.2.3.4", "hmac-daily", key, day) for key in (b"a", b"b") for day in ("2026-01-31", "2026-02-01")}
    assert len(hashes) == 4
    assert all(len(text) == 32 for text in hashes)


def test_another_mode_is_a_bug():
    with pytest.raises(ValueError, match="IP mode"):
        kept("1.2.3.4", "nope", b"", "")


def test_the_network_that_floods_are_counted_by():
    assert network("203.0.113.77") == "203.0.113.0/24"
    assert network("2001:db8:1:2:3::4") == "2001:db8:1:2::/64"
    assert network("") == ""


@pytest.mark.parametrize(
    ("address", "mode", "kept"),
    [
        ("203.0.113.77", "truncate", "203.0.113.0/24"),
        ("203.0.113.77", "full", "203.0.113.0/24"),
        ("2001:db8:1:2::3", "truncate", "2001:db8:1::/48"),
        ("203.0.113.77", "hmac-daily", ""),
        ("203.0.113.77", "none", ""),
        ("", "full", ""),
    ],
)
def test_the_network_kept_tells_no_more_than_the_address_kept(address, mode, kept):
    assert addresses.kept_network(address, mode) == kept
