"""The skeleton under which URLs that nothing resolves are put together."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.test_platforms_bounds import steps_of
from tracker.domain.url_shapes import LOOKED_AT_BYTES, SHAPE_MAX, shape_of

UUID = b"550e8400-e29b-41d4-a716-446655440000"


@pytest.mark.parametrize(
    ("target", "shape"),
    [
        (b"/aff_c?offer_id=1&aff_id=2", "/aff_c?aff_id&offer_id"),
        (b"/aff_c?aff_id=77&offer_id=x&aff_id=2", "/aff_c?aff_id&offer_id"),
        (b"/42/7/", "/{n}/{n}/"),
        (b"/click-100-200?sid=x", "/click-{n}-{n}?sid"),
        (b"/go/" + UUID, "/go/{uuid}"),
        (b"/go/" + UUID.upper() + b".html", "/go/{uuid}.html"),
        (b"/go/x" + UUID, "/go/{key}-e29b-41d4-a716-{n}"),
        (b"/deadbeef01", "/{hex}"),
        (b"/DEADBEEF01", "/{hex}"),
        (b"/deadBEEF01", "/{key}"),
        (b"/effaceable/sale", "/effaceable/sale"),
        (b"/1a2b", "/1a2b"),
        (b"/3xYz9Q", "/{key}"),
        (b"/click2/sub10.php", "/click2/sub10.php"),
        (b"/summer-2024/index.html", "/summer-{n}/index.html"),
        (b"/eyJhbGciOiJ-UzI1Ni_IsInR5cCI6", "/{key}"),
        (b"/a%5Fb/%41", "/a_b/A"),
        (b"/caf\xc3\xa9/\xff?n\xff=1", "/caf%C3%A9/%FF?n%FF"),
        (b"/{n}/{offer_id}/%7Bkey%7D", "/{n}/%7Boffer_id%7D/{key}"),
        (b"//a///b", "//a///b"),
        (b"/x?sub1=a&t202id=5&p[1]=2", "/x?p[1]&sub1&t202id"),
        (b"/x?3xYz9Q", "/x?{key}"),
        (b"/x?&&=1&", "/x"),
        (b"/x?", "/x"),
        (b"/x#y?z=1", "/x"),
        (b"http://u@go.old.example:80/x?y=1", "/x?y"),
        (b"http://go.old.example?y=1", "/?y"),
        (b"", "/"),
        (b"*", "/*"),
        (b"x", "/x"),
    ],
)  # fmt: skip
def test_shapes(target, shape):
    assert shape_of(target) == shape


def test_many_names_and_long_ones_end_in_dots():
    assert shape_of(b"/x?" + b"&".join(b"%c=1" % letter for letter in range(97, 123))) == "/x?a&b&c&d&e&f&g&h&i&j&k&l&..."
    assert shape_of(b"/x?" + b"&".join(b"%c=1" % letter for letter in range(97, 109))) == "/x?a&b&c&d&e&f&g&h&i&j&k&l"
    long = shape_of(b"/" + b"p" * 30 + b"?" + b"&".join(b"%c" % letter * 60 + b"=1" for letter in range(97, 103)))
    assert long == f"/{'p' * 30}?{'a' * 40}&{'b' * 40}&{'c' * 40}&{'d' * 40}&..."
    assert shape_of(b"/" + b"/".join([b"q" * 70] * 9) + b"?" + b"a" * 70 + b"=1&b=2").endswith(f"/{'q' * 37}?{'a' * 40}&b")


def test_what_is_cut_is_cut_between_characters():
    assert shape_of(b"/ab" + b"\xff" * 40) == "/ab" + "%FF" * 12
    assert shape_of(b"/" + b"abcdefgh-" * 4 + b"123456-x") == "/abcdefgh-abcdefgh-abcdefgh-abcdefgh-{n}-"[:41]
    assert shape_of(b"/" + b"abcdefgh-" * 4 + b"abc" + UUID).count("{") == shape_of(b"/" + b"abcdefgh-" * 4 + b"abc" + UUID).count("}")


parts = st.one_of(
    st.sampled_from(
        [b"aff_c", b"click-1-2", b"{n}", b"{x}", b"}", b"{", b"%7B", b"%", b"%4", UUID, b"a" * 39 + b"\xff", b"...", b"..", b"sub10"]
    ),
    st.binary(max_size=60),
    st.text("aB9-_.%{}/?&=n", max_size=60).map(str.encode),
)
targets = st.one_of(
    st.binary(max_size=300),
    st.tuples(st.lists(parts, max_size=8), st.lists(st.tuples(parts, st.sampled_from([b"", b"=", b"=1"])), max_size=20)).map(
        lambda both: b"/" + b"/".join(both[0]) + b"?" + b"&".join(name + value for name, value in both[1])
    ),
)


@given(targets)
@example(b"/" + b"a/" * 200)
@example(b"/" + b"\xff" * 100 + b"?" + b"\xff" * 100)
def test_any_bytes_have_a_short_printable_shape(target):
    shape = shape_of(target)
    assert re.fullmatch(r"/[!-~]*", shape)
    assert len(shape) <= SHAPE_MAX
    assert shape == shape_of(target)
    assert len(shape.partition("?")[2].split("&")) <= 13


@given(st.lists(parts, max_size=8))
@example([b"abcdefgh-" * 4 + b"123456"])
@example([b"a" * 39 + b"-1"])
def test_the_shape_of_a_path_is_its_own_shape(segments):
    shape = shape_of(b"/" + b"/".join(segments).replace(b"?", b"").replace(b"#", b""))
    assert shape_of(shape.encode()) == shape


@given(
    st.lists(st.tuples(st.sampled_from([b"aff_id", b"offer_id", b"t202id", b"p[1]"]), st.binary(max_size=9).map(bytes.hex)), max_size=9),
    st.randoms(),
)
def test_neither_values_nor_their_order_matter(pairs, random):
    def target(chosen, value):
        return b"/aff_c?" + b"&".join(name + b"=" + value(text) for name, text in chosen)

    shuffled = random.sample(pairs, len(pairs))
    assert shape_of(target(pairs, str.encode)) == shape_of(target(shuffled, lambda _: b"1"))


@pytest.mark.parametrize(
    "piece",
    [b"a", b"/", b"1", b"%", b"%25", b"\xff", b"{", b"}", b"{n}", b"-", b"a-", b"1-", b"aB3", b"a=1&", b"&", b"?", b"deadbeef-", b"%7B",
     b"a.", b"#", b"x://"],
)  # fmt: skip
@pytest.mark.parametrize("front", [b"/", b"/?"])
def test_work_is_linear_in_the_target_and_has_an_end(piece, front):
    def steps(size):
        target = (front + piece * size)[:size]
        return steps_of(lambda: shape_of(target))

    assert steps(8000) < 2.5 * steps(4000) + 2000
    assert steps(16 * LOOKED_AT_BYTES) <= steps(LOOKED_AT_BYTES) + 16 * LOOKED_AT_BYTES
