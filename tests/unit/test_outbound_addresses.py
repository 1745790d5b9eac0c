"""What our own requests may reach, and what a URL of theirs names."""

import socket
from ipaddress import ip_address, ip_network

import pytest

from tracker.domain.outbound_addresses import CLOSED, closed_of, destination, is_open, sendable

OPEN = (
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.1", "169.253.255.255",
    "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.1", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0",
    "223.255.255.255", "2001:200::1", "2606:4700::1111", "2a00:1450:4001:81b::200e", "2002:808:808::1", "64:ff9b::808:808",
    "::ffff:8.8.8.8",
)  # fmt: skip
SHUT = (
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.255", "169.254.169.254",
    "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.7",
    "203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:0:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::10.1.2.3",
    "64:ff9b:1::808:808", "100::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:db8::1", "2002:7f00:1::", "2002:a00:1::1",
    "3fff::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "febf::1", "fec0::1", "ff02::1", "4000::1", "5f00::1",
)  # fmt: skip


@pytest.mark.parametrize("text", OPEN)
def test_the_internet_may_be_reached(text):
    assert is_open(ip_address(text))


@pytest.mark.parametrize("text", SHUT)
def test_what_is_not_on_the_internet_may_not(text):
    assert not is_open(ip_address(text))


def test_every_closed_network_is_closed_from_its_first_to_its_last_address():
    for network in CLOSED:
        ends = (network[0], network[-1])
        wrapped = [end for end in ends if getattr(end, "ipv4_mapped", None) or str(end).startswith(("64:ff9b::", "2002:"))]
        assert not any(is_open(end) for end in ends if end not in wrapped), network


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("127.0.0.1", "127.0.0.0/8"),
        ("::ffff:127.0.0.1", "127.0.0.0/8"),
        ("64:ff9b::7f00:1", "127.0.0.1/32"),
        ("2002:7f00:1::", "2002::/16"),
        ("fd00:1::7", "fd00:1::/32"),
        ("fe80::1%eth0", "fe80::/10"),
    ],
)
def test_an_operator_opens_networks_again(text, network):
    assert is_open(ip_address(text), (ip_network(network),))
    assert not is_open(ip_address(text), (ip_network("192.168.7.0/24"), ip_network("fd00:2::/32")))


def test_one_closed_address_closes_the_whole_name():
    assert closed_of(["8.8.8.8", "2606:4700::1111"]) is None
    assert closed_of(["8.8.8.8", "10.0.0.1"]) == "10.0.0.1"
    assert closed_of(["::ffff:127.0.0.1", "8.8.8.8"]) == "::ffff:127.0.0.1"
    assert closed_of(["8.8.8.8", "10.0.0.1"], (ip_network("10.0.0.0/8"),)) is None


@pytest.mark.parametrize(
    ("url", "host", "port", "target"),
    [
        ("https://old.example", "old.example", 443, b"/"),
        ("HTTP://Old.Example:8080/x", "old.example", 8080, b"/x"),
        ("https://old.example./x", "old.example", 443, b"/x"),
        ("https://old.example?x=1", "old.example", 443, b"/?x=1"),
        ("https://b\u00fccher.example/", "xn--bcher-kva.example", 443, b"/"),
        ("http://127.0.0.1/", "127.0.0.1", 80, b"/"),
        ("http://[::FFFF:127.0.0.1]:81/", "::ffff:7f00:1", 81, b"/"),
        ("https://old.example//a/../b;c?x=%7e&y=+|'\"#f", "old.example", 443, b"//a/../b;c?x=%7e&y=+|'\"#f"),
        ("https://old.example/\u00fc \x00\t", "old.example", 443, b"/%C3%BC%20%00%09"),
        ("https://my_host.example/", "my_host.example", 443, b"/"),
        ("https://old.example/@127.0.0.1", "old.example", 443, b"/@127.0.0.1"),
    ],
)
def test_a_url_names_one_host_and_its_target_stays_as_it_is(url, host, port, target):
    found = destination(url)
    assert (found.host, found.port, found.target) == (host, port, target)


@pytest.mark.parametrize(
    "url",
    [
        "", "old.example", "//old.example/", "ftp://old.example/", "file:///etc/passwd", "https:/old.example", "https://", "https:///x",
        "https://user@old.example/", "https://old.example@127.0.0.1/", "https://user:secret@old.example/", "https://127.0.0.1\\@old.example/",
        "http://2130706433/", "http://0x7f000001/", "http://0x7f.1/", "http://0177.0.0.1/", "http://127.1/", "http://127.0.0.01/",
        "http://127.0.0.1.0x1/", "http://1.2.3.4.5/", "http://256.1.1.1/", "http://[127.0.0.1]/", "http://[fe80::1%25eth0]/", "http://[::1/",
        "http://::1/", "http://old.example:0/", "http://old.example:65536/", "http://old.example:/", "http://old.example:8a/",
        "http://old example/", "http://old%2eexample/", "http://old..example/", "http://.example/", "http://old.example../",
        f"http://{'a' * 64}.example/", f"http://{'a.' * 130}example/", "http://old.example\n/", "http://\u2488\u2488/", "http://x\x00y/",
    ],
)  # fmt: skip
def test_a_url_with_two_readings_or_none_names_nothing(url):
    with pytest.raises(ValueError, match=r"\w"):
        destination(url)


@pytest.mark.parametrize("spelling", ["2130706433", "0x7f000001", "017700000001", "127.1", "0x7f.0.0.1"])
def test_spellings_that_the_c_library_reads_as_addresses_are_refused_before_it_sees_them(spelling):
    assert socket.inet_aton(spelling) == b"\x7f\x00\x00\x01"
    with pytest.raises(ValueError, match="neither a name nor an address"):
        destination(f"http://{spelling}/")


def test_a_wide_digit_is_the_digit_that_idna_makes_of_it():
    assert destination("http://\uff11\uff12\uff17.0.0.1/").host == "127.0.0.1"


def test_what_can_be_sent_is_sent_as_it_is():
    every = bytes(range(256))
    assert sendable(every[0x21:0x7F]) == every[0x21:0x7F]
    assert sendable(b"\x7f\xff ") == b"%7F%FF%20"
