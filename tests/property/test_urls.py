"""Laws of URLs, judged with the parser of a browser (Ada)."""

from urllib.parse import unquote_to_bytes

import can_ada
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tracker.domain.urls import alias_key, allowed_deep_link, host_key, percent_decoded, target_key

pieces = st.sampled_from(
    [
        "http",
        "https",
        "HTTPS",
        ":",
        "/",
        "//",
        "\\",
        "@",
        "?",
        "#",
        ".",
        "shop.example",
        "evil.example",
        "www.",
        "%2e",
        "%40",
        "%5c",
        "%00",
        "\t",
        "\n",
        "\r",
        " ",
        "\x00",
        "[::1]",
        "127.0.0.1",
        "0x7f.1",
        "\uff1a",
        "\u3002",
        "\uff0f",
        "\uff20",
        "\xdf",
        "\xe9",
        "\xad",
        "\u200d",
        "xn--",
        "xn--shop-",
        ":80",
        ":99999",
        "ftp:",
        "javascript:",
        "data:",
        "a",
        "-",
        "_",
        "1",
        "{click_id}",
        "?.shop.example",
        "#@shop.example",
        ".shop.example",
    ]
)
tricks = st.lists(pieces, max_size=12).map("".join)
near = st.tuples(
    st.sampled_from(["https://", "http://", "https:/", "//"]), tricks, st.sampled_from(["", "shop.example", ".shop.example", "/"]), tricks
)
urls = st.one_of(
    tricks.map(str.encode), near.map("".join).map(str.encode), st.binary(max_size=60), st.binary(max_size=40).map(lambda b: b"https://" + b)
)


def is_within(host: str) -> bool:
    return host == "shop.example" or host.endswith(".shop.example")


@settings(deadline=None)  # a busy machine is no failure
@given(urls)
@example(b"https://shop.example\\@evil.example/")
@example(b"https://evil.example%2f.shop.example/")
@example("https://evil.example／.shop.example/".encode())
def test_the_browser_sees_the_host_that_was_judged(url):
    emitted = allowed_deep_link(url, ["shop.example"])
    if emitted is None:
        return
    assert all(0x21 <= byte <= 0x7E for byte in emitted)
    assert len(emitted) <= 2048
    try:
        seen = can_ada.parse(emitted.decode("ascii"))
    except ValueError:
        return  # the browser goes nowhere
    assert is_within(seen.hostname)
    assert seen.protocol in ("http:", "https:")
    assert (seen.username, seen.password) == ("", "")
    assert allowed_deep_link(emitted, ["shop.example"]) == emitted


@settings(deadline=None)  # a busy machine is no failure
@given(st.one_of(urls, st.text(), tricks))
@example(b":80:80")
def test_a_key_is_total_ascii_and_its_own_key(url):
    host, key = alias_key(url)
    assert host.isascii()
    assert key.isascii()
    assert key.startswith("/")
    assert target_key(key.encode()) == key
    assert host_key(host.encode()) == host or not host


@settings(deadline=None)  # a busy machine is no failure
@given(st.binary(max_size=60))
def test_how_a_target_is_encoded_does_not_matter(raw):
    target = b"/" + raw.replace(b"#", b"").replace(b"%", b"")
    encoded = b"".join(b"%%%02x" % byte if byte >= 0x7F or byte <= 0x20 or chr(byte).isalnum() else bytes([byte]) for byte in target)
    assert target_key(target) == target_key(encoded)


@given(st.binary(max_size=60) | st.text("%0123456789abcdefABCDEFgx", max_size=40).map(str.encode))
def test_escapes_are_decoded_as_the_standard_library_does(data):
    assert percent_decoded(data) == unquote_to_bytes(data)
