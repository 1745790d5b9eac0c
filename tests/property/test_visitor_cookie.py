"""Laws of the visitor's cookie: a round trip, and no value that the tracker did not make says anything."""

from hypothesis import given
from hypothesis import strategies as st

from tracker.domain import click_id
from tracker.domain.urls import allowed_deep_link
from tracker.domain.visitor_cookie import CLICKS_MAX, derive, page_of, read, with_click

CLICKS = st.builds(click_id.compose, st.integers(0, click_id.MAX_MS), st.binary(min_size=10, max_size=10)).map(
    lambda raw: click_id.to_text(raw).decode()
)
KEY = derive(b"a secret")


def made_of(clicks, key=KEY):
    value = ""
    for click in clicks:
        value = with_click(value, key, click)
    return value


@given(st.lists(CLICKS, max_size=8))
def test_the_newest_five_come_back_newest_first(clicks):
    newest = list(dict.fromkeys(reversed(clicks)))[:CLICKS_MAX]
    assert list(read(made_of(clicks), KEY)) == newest


@given(st.lists(CLICKS, min_size=1, max_size=5), st.data())
def test_one_other_character_makes_it_nothing(clicks, data):
    value = made_of(clicks)
    at = data.draw(st.integers(0, len(value) - 1))
    other = data.draw(st.characters(codec="utf-8").filter(lambda character: character != value[at]))
    assert read(value[:at] + other + value[at + 1 :], KEY) == ()


@given(st.lists(CLICKS, min_size=1, max_size=5), st.binary(max_size=40))
def test_another_key_makes_it_nothing(clicks, secret):
    assert (read(made_of(clicks), derive(secret)) == ()) == (derive(secret) != KEY)


@given(st.text())
def test_any_text_can_be_read(value):
    assert read(value, KEY) == ()


HEADERS = st.text() | st.sampled_from(["null", "https://shop.example", "https://a.shop.example/x", "https://shop.example.evil.example/"])


@given(HEADERS, HEADERS)
def test_only_what_a_deep_link_may_lead_to_is_a_page_of_a_shop(origin, referer):
    page = page_of(origin, referer, {"shop.example"})
    site = "/".join((origin or referer).split("/")[:3])
    assert (page == "shop") == (allowed_deep_link(site.encode("utf-8", "surrogatepass"), {"shop.example"}) is not None)
    assert (page == "no_page") == (not origin and not referer)
