"""The visitor's cookie: what goes in comes out, newest first; what was touched is nothing."""

import hashlib
import hmac

import pytest

from tracker.domain import click_id
from tracker.domain.visitor_cookie import CLICKS_MAX, derive, page_of, read, with_click

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
