"""What is passed on to the old platform: where it goes, when it is tried again, whether the answers agree, and what is shown of it."""

from datetime import UTC, datetime, timedelta

import pytest

from tracker.domain import tee
from tracker.platforms.compiled import Source
from tracker.platforms.loader import Shelf
from tracker.platforms.profile import SourceSettings
from tracker.platforms.reading import Reading
from tracker.platforms.replies import GIF, Answer, answer_to

SHELF = Shelf()
START = datetime(2026, 11, 1, tzinfo=UTC)
OTHER_GIF = b"GIF89a\x01\x00\x01\x00\x00\x00\x00;"


def agrees(platform, kind, status, body):
    profile = SHELF.source(platform).profile if platform else None
    ours = answer_to(profile, Reading(kind=kind)) if profile else Answer(200, "", b"")
    return tee.agrees(profile, kind, ours, Answer(status, "", body))


@pytest.mark.parametrize(
    ("platform", "kind", "status", "body", "expected"),
    [
        ("cake", "postback", 200, b"SUCCESS", True),
        ("cake", "postback", 200, b"FAILURE: no such offer", False),
        ("cake", "postback", 200, b"something else", True),
        ("cake", "postback", 404, b"SUCCESS", False),
        ("cake", "pixel", 200, GIF, True),
        ("cake", "pixel", 200, OTHER_GIF, True),
        ("cake", "pixel", 403, b"", False),
        ("affise", "postback", 200, b'{"status":1,"message":"Postback received"}', True),
        ("affise", "postback", 200, b'{ "status": 2,\n "error": "click not found" }', False),
        ("scaleo", "postback", 400, b'{"status":"error","code":400,"message":"x"}', False),
        ("affiliatewp", "postback", 201, b'{"id":7}', True),
        ("tune", "postback", 200, b"success=true;", True),
        ("tune", "postback", 302, b"", False),
        ("tune", "postback", 500, b"", False),
        (None, "postback", 204, b"", True),
        (None, "postback", 401, b"", False),
    ],
)
def test_two_answers_agree_when_both_accept_or_both_refuse(platform, kind, status, body, expected):
    assert agrees(platform, kind, status, body) is expected


def test_both_may_refuse():
    profile = SHELF.source("cake").profile
    ours = answer_to(profile, Reading(kind="postback"), outcome="refused", values={"error": "unknown"})
    assert tee.agrees(profile, "postback", ours, Answer(200, "", b"FAILURE: other words"))
    assert tee.agrees(profile, "postback", ours, Answer(403, "", b""))
    assert not tee.agrees(profile, "postback", ours, Answer(200, "", b"SUCCESS"))


def test_every_accepted_reply_of_every_profile_agrees_with_itself():
    for path in sorted(p.stem for p in (__import__("pathlib").Path("tracker/platforms")).glob("*.toml")):
        profile = SHELF.source(path).profile
        for reply in profile.reply:
            if reply.outcome == "accepted" and reply.to in ("postback", "pixel"):
                assert tee.agrees(profile, reply.to, answer_to(profile, Reading(kind=reply.to)), answer_to(profile, Reading(kind=reply.to)))


def test_a_report_is_tried_again_after_longer_and_longer_pauses_for_72_hours():
    waits = [tee.next_try(tries, START, START) for tries in range(1, 9)]
    assert [wait.total_seconds() for wait in waits] == [1, 5, 30, 120, 600, 3600, 3600, 3600]
    assert tee.next_try(60, START, START + timedelta(hours=72) - timedelta(seconds=1)) == timedelta(hours=1)
    assert tee.next_try(60, START, START + timedelta(hours=72)) is None


@pytest.mark.parametrize(
    ("status", "expected"), [(200, True), (302, True), (404, True), (408, False), (425, False), (429, False), (500, False), (503, False)]
)
def test_a_server_that_is_broken_or_busy_has_not_answered(status, expected):
    assert tee.is_final(status) is expected


@pytest.mark.parametrize(
    ("address", "target", "origin", "url"),
    [
        ("https://old.example", b"/p?x=%7e&y=a+b", "https://old.example:443", "https://old.example/p?x=%7e&y=a+b"),
        ("https://old.example/", b"//p", "https://old.example:443", "https://old.example//p"),
        ("http://old.example:8080/folder/", b"/p", "http://old.example:8080", "http://old.example:8080/folder/p"),
        ("http://[2001:200::1]", b"/p", "http://[2001:200::1]:80", "http://[2001:200::1]/p"),
        ("https://old.example", b"https://go.example/p?x", "https://old.example:443", "https://old.example/p?x"),
        ("https://old.example", b"/\xff |\x00", "https://old.example:443", "https://old.example/%FF%20|%00"),
    ],
)
def test_a_report_goes_to_the_old_address_with_its_target_behind_it(address, target, origin, url):
    to = tee.passed_on_to(address, b"go.example", target)
    assert (to.origin, tee.url_of(address, to.target), to.error) == (origin, url, "")


@pytest.mark.parametrize("address", ["https://go.example", "http://GO.example:80/folder", "https://go.example."])
def test_a_host_is_never_passed_on_to_itself(address):
    assert "itself" in tee.passed_on_to(address, b"Go.Example", b"/p").error


@pytest.mark.parametrize("address", ["", "old.example", "ftp://old.example", "https://user@old.example"])
def test_an_address_that_is_none_is_an_error_and_no_exception(address):
    assert "forward_to" in tee.passed_on_to(address, b"go.example", b"/p").error


def shown(target, source=None):
    return tee.masked(target, tee.secret_of(source, b"go.example", target))


def test_the_stores_token_is_shown_to_nobody():
    tune = SHELF.source("tune")
    assert shown(b"/aff_lsr?offer_id=9f&security_token=9f&x=9f1", tune) == "/aff_lsr?offer_id=***&security_token=***&x=9f1"
    renamed = Source(tune.profile, SourceSettings(parameters={"security_token": "k"}))
    assert shown(b"/aff_lsr?transaction_id=t&k=s%63ret", renamed) == "/aff_lsr?transaction_id=t&k=***"
    assert shown(b"/25123a/postback?subid=1&status=sale", SHELF.source("keitaro")) == "/***/postback?subid=1&status=sale"
    assert shown(b"/p?Api_Key=abc&amount=1&token=&s=2#f") == "/p?Api_Key=***&amount=1&token=&s=2#f"
    assert shown(b"/p?x=\xff y") == "/p?x=%FF%20y"


def test_another_value_of_the_tokens_parameter_is_as_secret():
    affise = SHELF.source("affise")
    target = b"/postback?clickid=5f1a2b3c4d5e6f708192a300&secure=first-one&Secure=second-one&sum=4"
    assert shown(target, affise) == "/postback?clickid=5f1a2b3c4d5e6f708192a300&secure=***&Secure=***&sum=4"
    secret = tee.secret_of(affise, b"go.example", target)
    assert tee.masked_body(b'{"secure": "third-one", "sum": "4"}', secret) == '{"secure": "***", "sum": "4"}'
    read = {"click_id": "c", "conversion": {"token": "first-one"}, "sub_ids": {"custom_field1": "second-one", "x": "1"}}
    assert tee.masked_reading(read, target, secret) == {
        "click_id": "c",
        "conversion": {"token": "***"},
        "sub_ids": {"custom_field1": "***", "x": "1"},
    }


def test_what_is_masked_in_a_target_is_masked_in_its_reading():
    read = {
        "sub_ids": {"my_secret": "hunter22", "note": "hunter22", "n": ""},
        "destination": "https://x.example/?api_key=k1&a=b",
        "others": ("n",),
    }
    assert tee.masked_reading(read, b"/p?my_secret=hunter%322&x=1", None) == {
        "sub_ids": {"my_secret": "***", "note": "***", "n": ""},
        "destination": "https://x.example/?api_key=***&a=b",
        "others": ("n",),
    }


def test_nor_is_it_shown_in_a_body():
    assert tee.masked_body(b"a=1&security_token=9f&b=9f", tee.Secret(b"9f")) == "a=1&security_token=***&b=***"
    assert tee.masked_body(b'{"id": "1", "api_token" : "abc", "x": "secret-1 \xff\x00"}', tee.Secret(b"secret-1")) == (
        '{"id": "1", "api_token" : "***", "x": "*** \ufffd\ufffd"}'
    )
