"""Destinations with macros."""

import pytest

from tracker.domain.macros import MACROS, Template, encode, unknown_macros, with_click_id

ID = b"01hzzzzzzzzzzzzzzzzzzzzzzz"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://s.example/", b"https://s.example/?click_id=ID"),
        ("https://s.example/?a=1", b"https://s.example/?a=1&click_id=ID"),
        ("https://s.example/?", b"https://s.example/?click_id=ID"),
        ("https://s.example/?a&", b"https://s.example/?a&click_id=ID"),
        ("https://s.example/a#top?x", b"https://s.example/a?click_id=ID#top?x"),
        ("https://s.example/?x={click_id}#f", b"https://s.example/?x=ID#f"),
        ("https://s.example/#{click_id}", b"https://s.example/#ID"),
        ("https://münchen.example/é b", b"https://xn--mnchen-3ya.example/%C3%A9%20b?click_id=ID"),
        ("https://s.example/{nope}/{Click_id}", b"https://s.example/%7Bnope%7D/%7BClick_id%7D?click_id=ID"),
    ],
)
def test_the_click_id_reaches_the_store(text, expected):
    assert Template.compile(text, "click_id").fill({"click_id": ID}) == expected.replace(b"ID", ID)


def test_the_parameter_of_the_campaign_is_used_and_a_fallback_gets_none():
    assert Template.compile("https://s.example/", "my id").fill({"click_id": ID}) == b"https://s.example/?my%20id=" + ID
    assert Template.compile("https://s.example/?a={sub1}").fill({"sub1": b"x"}) == b"https://s.example/?a=x"


def test_values_are_encoded_and_missing_ones_empty():
    template = Template.compile("https://s.example/{sub1}/{country}?c={click_id}&d={click_id}&{nope}", "click_id")
    assert template.fill({"sub1": b"\r\nX: \xc3\xa9/~", "click_id": ID}) == (
        b"https://s.example/%0D%0AX%3A%20%C3%A9%2F~/?c=" + ID + b"&d=" + ID + b"&%7Bnope%7D"
    )
    assert template.needs == {"sub1", "country", "click_id"}
    assert "sub1" in repr(template)


def test_every_macro_of_the_contract_is_known():
    names = [
        "click_id",
        "partner",
        "campaign",
        "link",
        "creative",
        "ref",
        "country",
        "device",
        "os",
        "browser",
        "language",
        "timestamp",
        "random",
        "old_click_id",
    ]
    names += [f"sub{n}" for n in range(1, 11)]
    assert set(names) == MACROS
    assert Template.compile("".join(f"{{{name}}}," for name in names)).fill(dict.fromkeys(names, b"v")) == b"v," * len(names)


def test_unknown_macros_are_named_once_in_order():
    assert unknown_macros("https://x/{sub11}{click_id}{b}{sub11}{}{not one}") == ["sub11", "b"]


def test_a_deep_link_gets_the_click_id_before_its_fragment():
    assert with_click_id(b"https://s.example/a?b=1#c", "click_id", ID) == b"https://s.example/a?b=1&click_id=" + ID + b"#c"


def test_plain_values_stay():
    assert (encode(b""), encode(b"aZ09"), encode(b"a-._~"), encode(b"\xff")) == (b"", b"aZ09", b"a-._~", b"%FF")
