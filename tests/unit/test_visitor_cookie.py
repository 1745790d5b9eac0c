"""The visitor's cookie: what goes in comes out, newest first; what was touched is nothing."""

import hashlib
import hmac

import pytest

from tracker.domain import click_id
from tracker.domain.visitor_cookie import CLICKS_MAX, OLD_ID_MAX_BYTES, derive, old_visit, page_of, read, set_cookie, with_click

KEY = derive(b"00" * 32)


def click(number):
    return click_id.to_text(click_id.compose(1_790_000_000_000 + number, number.to_bytes(10, "big"))).decode()


def cookie(*numbers):
    value = ""
    for number in numbers:
        value = with_click(value, KEY, click(number))
    return value


def test_the_format_is_the_documented_one():
    key = hmac.new(b"secret", b"turnout visitor cookie", hashlib.sha256).digest()
    clicks = f"{click(2)}-{click(1)}"
    signature = hmac.new(key, f"1.{clicks}".encode(), hashlib.sha256).hexdigest()[:32]
    assert with_click(with_click("", derive(b"secret"), click(1)), key, click(2)) == f"1.{clicks}.{signature}"


def test_the_newest_click_comes_first_and_each_stands_there_once():
    assert read(cookie(1, 2, 3), KEY) == (click(3), click(2), click(1))
    assert read(cookie(1, 2, 1), KEY) == (click(1), click(2))


def test_five_clicks_are_kept():
    assert read(cookie(*range(9)), KEY) == tuple(click(number) for number in (8, 7, 6, 5, 4))
    assert len(cookie(*range(9))) == 2 + CLICKS_MAX * 27 + 32


@pytest.mark.parametrize(
    "change",
    [
        lambda good: "",
        lambda good: "1..",
        lambda good: good[:-1],
        lambda good: good + "0",
        lambda good: good + "\n",
        lambda good: good.upper(),
        lambda good: "2" + good[1:],
        lambda good: good.replace(click(1), click(7)),
        lambda good: good.replace(f"-{click(1)}", ""),
        lambda good: good[:-32] + "0" * 32,
        lambda good: good[:-32] + "é" * 32,
        lambda good: "1." + "-".join([click(1)] * 6) + "." + "0" * 32,
    ],
)
def test_what_was_touched_is_nothing_and_is_begun_anew(change):
    bad = change(cookie(1, 2))
    assert read(bad, KEY) == ()
    assert read(with_click(bad, KEY, click(3)), KEY) == (click(3),)


def test_a_cookie_of_another_installation_is_nothing():
    assert read(cookie(1), derive(b"another")) == ()
    assert read(cookie(1), b"00" * 32) == ()


@pytest.mark.parametrize(
    ("origin", "referer", "page"),
    [
        ("https://shop.example", "", "shop"),
        ("", "https://shop.example/", "shop"),
        ("", "http://www.shop.example:8080/boots?x=1#y", "shop"),
        ("", "https://shop.example/" + "x" * 4096, "shop"),
        ("", "https://SHOP.example", "shop"),
        ("", "https://xn--bcher-kva.example/", "shop"),
        ("", "", "no_page"),
        ("https://thief.example", "https://shop.example/", "other_page"),  # a page's own word goes before its address
        ("null", "https://shop.example/", "other_page"),
        ("", "https://thief.example/https://shop.example/", "other_page"),
        ("", "https://shop.example.thief.example/", "other_page"),
        ("", "https://thief-shop.example/", "other_page"),
        ("", "https://shop.example@thief.example/", "other_page"),
        ("", "ftp://shop.example/", "other_page"),
        ("", "shop.example", "other_page"),
    ],
)
def test_whose_page_asks_is_told_by_the_rule_of_deep_links(origin, referer, page):
    assert page_of(origin, referer, {"shop.example", "bücher.example"}) == page


def test_where_nobody_declares_domains_every_page_is_a_shops():
    assert [page_of("", referer, None) for referer in ("", "https://thief.example/")] == ["shop", "shop"]
    assert page_of("", "https://shop.example/", frozenset()) == "other_page"


def signed(clicks):
    return f"1.{clicks}.{hmac.new(KEY, f'1.{clicks}'.encode(), hashlib.sha256).hexdigest()[:32]}"


def test_visits_that_an_old_platform_numbered_stand_beside_ours():
    ids = ["10220766184662150818", "xgMQ4KWb:x-yIW_0 +/é=", "a" * OLD_ID_MAX_BYTES, "1"]
    value = with_click("", KEY, click(1))
    for old_id in ids:
        value = with_click(value, KEY, old_visit(old_id))
    assert read(value, KEY) == (*(f"old:{old_id}" for old_id in reversed(ids)), click(1))
    again = with_click(value, KEY, old_visit(ids[0]))
    assert read(again, KEY)[0] == f"old:{ids[0]}"
    assert len(read(again, KEY)) == CLICKS_MAX
    assert set(value) <= set("0123456789abcdefghijklmnopqrstuvwxyz.-")
    longest = ""
    for number in range(CLICKS_MAX):
        longest = with_click(longest, KEY, old_visit(str(number) * OLD_ID_MAX_BYTES))
    assert len(read(longest, KEY)) == CLICKS_MAX
    assert len(longest) < 1024


def test_an_old_id_that_is_empty_or_too_long_names_no_visit():
    assert old_visit("") == "" == old_visit("é" * 61)
    assert old_visit("é" * 60) == "old:" + "é" * 60
    assert read(with_click("", KEY, old_visit("\ud800")), KEY) == ("old:?",)


def test_an_old_visit_of_another_version_is_passed_over():
    for unreadable in ("xaaa", "x77", "x7777777777"):  # no base32; bytes that are no text
        assert read(signed(unreadable), KEY) == ()
        assert read(signed(f"{click(1)}-{unreadable}-xmfra"), KEY) == (click(1), "old:ab")
        assert read(with_click(signed(unreadable), KEY, click(2)), KEY) == (click(2),)
    assert read(signed("xa"), KEY) == ()
    assert read(signed("x" + "a" * 193), KEY) == ()


def test_a_cookie_crosses_sites_only_over_https():
    assert set_cookie("1.a.b", is_secure=True) == "turnout_visitor=1.a.b; Path=/; Max-Age=7776000; Secure; HttpOnly; SameSite=None"
    assert set_cookie("1.a.b", is_secure=False) == "turnout_visitor=1.a.b; Path=/; Max-Age=7776000; HttpOnly; SameSite=Lax"
