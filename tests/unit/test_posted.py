"""A POST's body adds to its URL what it says, however it is written, and never more than can be read."""

import json

import pytest

from tracker.domain.posted import BODY_MAX_BYTES, DEPTH_MAX, FIELDS_MAX, NAME_MAX, WHOLE_MAX_BYTES, merged

FORM, JSON = b"application/x-www-form-urlencoded", b"application/json"
MULTIPART = b'multipart/form-data; charset=utf-8; boundary="xX y"'
PARTS = (
    b"preamble, for nobody\r\n"
    b'--xX y\r\nContent-Disposition: form-data; name="clickid"\r\n\r\na&b=\xc3\xa9\r\n'
    b'--xX y\r\ncontent-type: text/plain\r\ncontent-disposition: form-data;name="sum"\r\n\r\n4.50\r\n'
    b'--xX y\r\nContent-Disposition: form-data; name="file"; filename="x.txt"\r\n\r\nnot this\r\n'
    b"--xX y\r\nContent-Type: text/plain\r\n\r\nnor this\r\n"
    b'--xX y\r\nContent-Disposition: form-data; name="empty"\r\n\r\n\r\n'
    b"--xX y--\r\nepilogue"
)


@pytest.mark.parametrize(
    ("content_type", "body", "added"),
    [
        (FORM, b"a=1&b=%20x+y", b"a=1&b=%20x+y"),
        (b"Application/X-WWW-Form-Urlencoded; charset=UTF-8", b" a=1 \r\n", b"a=1"),
        (FORM, b"a=1&\r\nb=2#c", b"a=1&b=2%23c"),
        (FORM, b'{"a":1}', b'{"a":1}'),
        (b"", b"a=1", b"a=1"),
        (b"text/plain", b"a=1", b"a=1"),
        (b"text/plain", b'{"a":"1 2"}', b"a=1+2"),
        (b"", b' [{"a":1}]', b"a=1"),
        (JSON, b'{"cid":"x","amount":{"value":"100.50"}}', b"cid=x&amount.value=100.50"),
        (b"application/vnd.api+json;charset=utf-8", b'{"n":10.50,"big":12345678901234567890,"no":null,"t":true}',
         b"n=10.50&big=12345678901234567890&t=true"),
        (JSON, b'{"items":[{"price":1},{"price":2.0}],"a&b":"c=d"}', b"items.0.price=1&items.1.price=2.0&a%26b=c%3Dd"),
        (JSON, b'{"n":NaN,"s":"\\ud800","e":""}', b"n=NaN&s=%3F&e="),
        (JSON, b'[{"a":1}]', b"a=1"),
        (JSON, b'[{"a":1},{"a":2}]', b""),
        (JSON, b'"a"', b""),
        (JSON, b"a=1", b""),
        (JSON, b"\xff\xfe{", b""),
        (JSON, b"{}", b""),
        (JSON, b"[" * 200_000, b""),
        (MULTIPART, PARTS, b"clickid=a%26b%3D%C3%A9&sum=4.50&empty="),
        (b"multipart/form-data; boundary=z", b'--z\r\ncontent-disposition: form-data; name="a"\r\n\r\n1\r\n--z--', b"a=1"),
        (b"multipart/form-data", PARTS, b""),
        (b"image/png", b"a=1", b""),
        (b"application/octet-stream", b'{"a":1}', b"a=1"),
        (FORM, b" \r\n", b""),
    ],
)  # fmt: skip
def test_a_body_adds_its_fields_to_the_query(content_type, body, added):
    assert merged(b"/p", content_type, body) == (b"/p?" + added if added else b"/p")
    assert merged(b"/p?x=1", content_type, body) == (b"/p?x=1&" + added if added else b"/p?x=1")
    assert merged(b"/p#f?", content_type, body) == (b"/p?" + added + b"#f?" if added else b"/p#f?")


def test_fields_beyond_two_hundred_are_not_read():
    many = {f"f{number}": number for number in range(FIELDS_MAX + 50)}
    form = "&".join(f"{name}={value}" for name, value in many.items()).encode()
    parts = b"".join(b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n1\r\n' % name.encode() for name in many) + b"--b--"
    for content_type, body in ((FORM, form), (JSON, json.dumps(many).encode()), (b"multipart/form-data; boundary=b", parts)):
        found = merged(b"/p", content_type, body)
        assert found.count(b"=") == FIELDS_MAX, content_type
        assert found.startswith(b"/p?f0="), content_type
        assert b"f199=" in found, content_type


def test_deep_objects_are_read_to_the_sixth_level():
    def nested(levels):
        return b'{"a":' * levels + b"1" + b"}" * levels

    assert merged(b"/", JSON, nested(DEPTH_MAX)) == b"/?" + b".".join([b"a"] * DEPTH_MAX) + b"=1"
    assert merged(b"/", JSON, nested(DEPTH_MAX + 1)) == b"/"


def test_a_field_that_makes_the_whole_unreadable_is_passed_over_and_the_others_are_read():
    for content_type, body in (
        (JSON, json.dumps({"a": 1, "note": "x" * 100_000, "b": {"n" * 100_000: [1] * 500}, "c": "é" * 20_000, "click": "y"})),
        (FORM, "a=1&note=" + "x" * 100_000 + "&click=y"),
    ):
        assert merged(b"/p", content_type, body.encode()) == b"/p?a=1&click=y"
    assert merged(b"/", JSON, json.dumps({"n" * NAME_MAX: 1, "m" * (NAME_MAX + 1): 2}).encode()) == b"/?" + b"n" * NAME_MAX + b"=1"
    full = b"/" + b"x" * (WHOLE_MAX_BYTES - 5)
    assert merged(full, FORM, b"a=1") == full + b"?a=1"
    assert merged(full + b"y", FORM, b"a=1") == full + b"y"
    assert merged(full * 2, FORM, b"a=1") == full * 2


def test_the_worst_body_adds_no_more_than_can_be_read():
    keys = "k" * 200
    worst = json.dumps({keys: {keys: {"x": ["\x00" * 100] * 2000}}}).encode()[:BODY_MAX_BYTES]
    for content_type, body in (
        (JSON, worst),
        (FORM, b"&" * BODY_MAX_BYTES),
        (FORM, b"#" * BODY_MAX_BYTES),
        (MULTIPART, b"\r\n--xX y" * 30_000),
    ):
        assert len(merged(b"/p", content_type, body)) <= WHOLE_MAX_BYTES
