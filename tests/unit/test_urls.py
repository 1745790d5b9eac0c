"""Old URLs are found by any spelling; deep links go nowhere but where they may."""

import pytest

from tracker.domain.urls import alias_key, allowed_deep_link, host_key, printable, printable_url, target_key

SHOP = ["shop.example"]


@pytest.mark.parametrize(
    ("url", "host", "key"),
    [
        ("https://GO.Old.example:443/aff_c?offer_id=1&aff_id=%7e2#x", "go.old.example", "/aff_c?offer_id=1&aff_id=~2"),
        ("http://go.old.example:80", "go.old.example", "/"),
        ("//go.old.example?x=1", "go.old.example", "/?x=1"),
        ("go.old.example/a", "go.old.example", "/a"),
        ("go.old.example:8080/a", "go.old.example:8080", "/a"),
        ("go.old.example:/a", "go.old.example", "/a"),
        ("http://user:secret@go.old.example./a", "go.old.example", "/a"),
        ("http://go.old.example#only", "go.old.example", "/"),
        ("http://[::1]:8080/a", "[::1]:8080", "/a"),
        ("http://[::1]/a", "[::1]", "/a"),
        ("http://münchen.example/é?q=ü", "xn--mnchen-3ya.example", "/%C3%A9?q=%C3%BC"),
        (b"/caf\xe9?sub1=\xe9", "", "/caf%E9?sub1=%E9"),
        ("  /a b\n", "", "/a%20b"),
        ("?x=1", "", "/?x=1"),
        ("#x", "", "/"),
        ("", "", "/"),
        ("/a?b=2&a=1&b=2", "", "/a?b=2&a=1&b=2"),
        ("/%zz%2f%4a'[]%", "", "/%25zz%2FJ%27%5B%5D%25"),
        ("/a%5b%5D", "", "/a%5B%5D"),
    ],
)
def test_an_old_url_has_one_key(url, host, key):
    assert alias_key(url) == (host, key)


def test_the_redirector_makes_the_same_key_of_host_and_target():
    stored = alias_key("http://Go.old.example:80/caf%e9?x=[1]&y=a b")
    assert (host_key(b"GO.OLD.EXAMPLE"), target_key(b"/caf\xe9?x=%5B1%5D&y=a%20b")) == stored


def test_a_host_that_is_none_is_still_ascii():
    assert host_key(b"\xff\xfe:80").isascii()
    assert host_key("a..ü".encode()) == "a..%c3%bc"
    assert host_key(b"x" * 300) == "x" * 300


@pytest.mark.parametrize(
    ("url", "emitted"),
    [
        (b"https://shop.example", b"https://shop.example"),
        (b"HTTPS://WWW.Shop.Example:8443/a?b#c", b"https://www.shop.example:8443/a?b#c"),
        (b"http://shop.example:/x", b"http://shop.example/x"),
        ("https://shop.example/é".encode(), b"https://shop.example/%C3%A9"),
        (b'https://shop.example/?a="<>{click_id}|', b"https://shop.example/?a=%22%3C%3E%7Bclick_id%7D%7C"),
        (b"https://shop.example//evil.example", b"https://shop.example//evil.example"),
        (b"https://shop.example?u=https://evil.example", b"https://shop.example?u=https://evil.example"),
        (b"https://shop.example/" + b"a" * 2027, b"https://shop.example/" + b"a" * 2027),
    ],
)
def test_a_deep_link_inside_the_domains_is_emitted(url, emitted):
    assert allowed_deep_link(url, SHOP) == emitted


@pytest.mark.parametrize(
    "url",
    [
        b"", b"/path", b"//shop.example/", b"https:/shop.example", b"https:shop.example", b"https:///shop.example",
        b"ftp://shop.example/", b"javascript://shop.example/%0aalert(1)", b"https://evil.example/",
        b"https://shop.example.evil.example/", b"https://evilshop.example/", b"https://shop.example@evil.example/",
        b"https://shop.example:x@evil.example/", b"https://evil.example\\.shop.example/", b"https://shop.example\\@evil/",
        b"https://shop.example /", b" https://shop.example/", b"https://shop.example/\r\nX: 1", b"https://shop.example/\x00",
        b"https://shop.example/\x7f", b"https://shop.example/\t", b"https://evil.example#.shop.example",
        b"https://evil.example?.shop.example", b"https://[::1]/", b"https://shop.example:70000/", b"https://shop.example:8a/",
        b"https://%65vil.shop.example/", b"https://shop.example./", b"https://.shop.example/", b"https://a..shop.example/",
        b"https://shop.example/" + b"a" * 2028, b"https://shop.example/" + "é".encode() * 1000,
        b"https://\xff.shop.example/", b"https://" + b"a" * 250 + b".shop.example/", b"https://sh\xc2\xadop.example:/@\\",
    ],
)  # fmt: skip
def test_a_deep_link_that_is_a_trick_is_refused(url):
    assert allowed_deep_link(url, SHOP) is None


def test_domains_may_be_written_as_people_write_them():
    assert allowed_deep_link(b"https://a.xn--mnchen-3ya.example/", ["*.MÜNCHEN.example"]) is not None
    assert allowed_deep_link("https://münchen.example/".encode(), [".xn--mnchen-3ya.example."]) == b"https://xn--mnchen-3ya.example/"
    assert allowed_deep_link(b"https://shop.example/", ["", "no host", "shop.example"]) is not None
    assert allowed_deep_link(b"https://shop.example/", []) is None


def test_an_address_is_only_ever_itself():
    assert allowed_deep_link(b"http://127.0.0.1:9000/x", ["127.0.0.1"]) == b"http://127.0.0.1:9000/x"
    assert allowed_deep_link(b"http://10.127.0.1/", ["127.0.1"]) is None
    assert allowed_deep_link(b"http://1.0x7f/", ["0x7f"]) is None


def test_printable_keeps_what_a_url_may_carry():
    assert printable(b"/a?b=%20[1]") == b"/a?b=%20[1]"
    assert printable(b"/\xff\n") == b"/%FF%0A"


def test_a_configured_destination_may_be_international():
    assert printable_url(" https://user@münchen.example:81/é ") == b"https://user@xn--mnchen-3ya.example:81/%C3%A9"
    assert printable_url("https://a b/é") == b"https://a%20b/%C3%A9"
    assert printable_url("no url é") == b"no%20url%20%C3%A9"
