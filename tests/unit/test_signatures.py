"""Signatures: what holds, what does not, and that one thing is said of all that does not."""

import base64
import hashlib
import hmac
from uuid import UUID

import pytest

from tracker.domain import click_id, signatures
from tracker.domain.signatures import BadSignature, check_body, check_own, check_stripe, postback_id_of, split_query, webhook_id_of

NOW = 1_800_000_000.0
TS = "1800000000"
OLD, NEW = "hs_" + "a" * 40, "hs_" + "b" * 40
QUERY = b"advertiser=shop&txid=A%2D1&click_id=c&ts=1800000000"


def signed(secret: str, message: bytes, ts: str = TS) -> str:
    return hmac.new(secret.encode(), ts.encode() + b"." + message, hashlib.sha256).hexdigest()


def own(signature: str, *, secrets: tuple[str, ...] = (OLD, NEW), ts: str = TS, message: bytes = QUERY, now_s: float = NOW) -> bytes:
    return check_own(secrets, ts=ts, message=message, signature=signature, now_s=now_s)


@pytest.mark.parametrize("secret", [OLD, NEW])
@pytest.mark.parametrize("write", [str.lower, str.upper])
def test_either_secret_may_have_signed_in_either_case(secret: str, write) -> None:
    assert own(write(signed(secret, QUERY))).hex() == signed(secret, QUERY)


@pytest.mark.parametrize("off_s", [-300, -299.5, 0, 300])
def test_five_minutes_either_way_are_allowed(off_s: float) -> None:
    assert own(signed(OLD, QUERY), now_s=NOW + off_s)


WRONG = [
    {"signature": signed("other", QUERY)},
    {"signature": signed(OLD, QUERY + b"&amount=1")},
    {"signature": signed(OLD, QUERY)[:-1]},
    {"signature": signed(OLD, QUERY) + "0"},
    {"signature": " " + signed(OLD, QUERY)},
    {"signature": ""},
    {"signature": "é" * 64},
    {"signature": signed(OLD, QUERY, "1800000001")},
    {"signature": signed(OLD, QUERY), "secrets": ()},
    {"signature": signed(OLD, QUERY), "now_s": NOW + 300.5},
    {"signature": signed(OLD, QUERY), "now_s": NOW - 301},
    *({"signature": signed(OLD, QUERY, ts), "ts": ts} for ts in ("", "x", "1800000000.0", "-1800000000", "1" * 40)),
    {"signature": signed(OLD, QUERY), "ts": "١٨٠٠٠٠٠٠٠٠"},
]


@pytest.mark.parametrize("case", WRONG)
def test_whatever_is_wrong_the_same_is_said(case) -> None:
    with pytest.raises(BadSignature) as caught:
        own(**case)
    assert str(caught.value) == str(BadSignature())


@pytest.mark.parametrize("raw", [b"sig=ab&a=1&b=%20", b"a=1&sig=ab&b=%20", b"a=1&b=%20&sig=ab"])
def test_the_signature_may_stand_anywhere_in_the_query(raw: bytes) -> None:
    assert split_query(raw) == (b"a=1&b=%20", "ab")


@pytest.mark.parametrize("raw", [b"", b"a=1&&b=2", b"signature=1&xsig=2", b"sig", b"%73ig=ab"])
def test_a_query_without_a_signature_is_left_as_it_is(raw: bytes) -> None:
    assert split_query(raw) == (raw, "")


def test_only_the_pair_and_its_separator_are_taken_out() -> None:
    assert split_query(b"a=1&&sig=\xff&&b=2") == (b"a=1&&&b=2", "\ufffd")
    assert split_query(b"sig=ab") == (b"", "ab")


def test_two_signatures_are_none() -> None:
    with pytest.raises(BadSignature):
        split_query(b"sig=a&x=1&sig=b")


def test_the_published_vector_of_shopifys_scheme() -> None:
    """From the documentation of SQLPage's `hmac` function, which shows it with a Shopify webhook."""
    body = b'{"id":1234567890,"email":"customer@example.com","total_price":"123.45"}'
    header = "QNyObTlKbMx2qDlPF/ZOZcBqg5OgPg+2oky3zldc0Gw="
    assert check_body(["test-webhook-secret"], signature=header, body=body).hex() == (
        "40dc8e6d394a6ccc76a8394f17f64e65c06a8393a03e0fb6a24cb7ce575cd06c"
    )


def test_the_published_vector_of_hmac_sha256() -> None:
    """RFC 4231, test case 2, told through WooCommerce's header."""
    digest = bytes.fromhex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
    body = b"what do ya want for nothing?"
    assert check_body(["other", "Jefe"], signature=base64.b64encode(digest).decode(), body=body) == digest


@pytest.mark.parametrize("header", ["", "é", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843", "A" * 44])
def test_other_headers_of_shops_do_not_hold(header: str) -> None:
    with pytest.raises(BadSignature):
        check_body(["Jefe"], signature=header, body=b"what do ya want for nothing?")


def stripe(header: str, *, now_s: float = NOW) -> bytes:
    return check_stripe(["whsec_old", "whsec_new"], header=header, body=b"{}", now_s=now_s)


GOOD = signed("whsec_new", b"{}")


@pytest.mark.parametrize("header", [f"t={TS},v1={GOOD}", f"v1={'0' * 64}, v1={GOOD} ,v0=x,t={TS}", f"t={TS},,odd,v1=short,v1={GOOD}"])
def test_one_of_stripes_signatures_is_enough(header: str) -> None:
    assert stripe(header).hex() == GOOD


@pytest.mark.parametrize(
    "header",
    [
        "",
        f"v1={GOOD}",
        f"t={TS}",
        f"t={TS},v0={GOOD}",
        f"t={TS},t={TS},v1={GOOD}",
        f"t=1800000001,v1={GOOD}",
        f"t={TS}," + f"v1={'0' * 64}," * signatures.SIGNED_MAX + f"v1={GOOD}",
    ],
)
def test_other_headers_of_stripe_do_not_hold(header: str) -> None:
    with pytest.raises(BadSignature):
        stripe(header)


def test_stripes_signature_ends_after_five_minutes() -> None:
    with pytest.raises(BadSignature):
        stripe(f"t={TS},v1={GOOD}", now_s=NOW + 301)


def test_a_signatures_postback_is_the_same_each_time_and_no_others() -> None:
    ids = {postback_id_of(ms, digest, item) for ms in (1, 2) for digest in (b"a", b"b", b"a\n1") for item in (0, 1)}
    assert len(ids) == 12
    assert postback_id_of(1, b"a") == postback_id_of(1, b"a", 0) in ids


def test_the_ids_carry_their_time_and_are_ours_in_form() -> None:
    for made in (postback_id_of(1_800_000_000_000, b"x"), webhook_id_of(1_800_000_000_000, "stripe", "shop", b"evt")):
        assert click_id.is_v7(made.bytes)
        assert click_id.unix_ms(made.bytes) == 1_800_000_000_000
    assert click_id.unix_ms(webhook_id_of(-5, "stripe", "shop", b"").bytes) == 0
    assert click_id.unix_ms(webhook_id_of(1 << 60, "stripe", "shop", b"").bytes) == click_id.MAX_MS


def test_a_webhooks_postback_is_told_by_shop_advertiser_and_what_was_signed() -> None:
    ids: set[UUID] = {webhook_id_of(0, shop, slug, what) for shop in ("shopify", "stripe") for slug in ("a", "b") for what in (b"1", b"2")}
    assert len(ids) == 8


def test_secrets_have_names_of_their_own() -> None:
    names = {
        signatures.secret_name(kind, slug, slot) for kind in signatures.SIGNING_KINDS for slug in ("a", "b") for slot in signatures.SLOTS
    }
    assert len(names) == 16
