"""How reports of stores are signed: our own scheme and those of shops. Pure: what time it is, is said by the caller.

Whatever is wrong with a signature, one and the same thing is said of it, so that a forger learns nothing.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Final, Literal
from uuid import UUID

from tracker.domain import click_id

SigningKind = Literal["hmac", "shopify", "woocommerce", "stripe"]
SIGNING_KINDS: Final[tuple[SigningKind, ...]] = ("hmac", "shopify", "woocommerce", "stripe")
SLOTS: Final = (1, 2)  # the secret in use, and the one the store moves to
TOLERANCE_S: Final = 300
SIGNED_MAX: Final = 8  # signatures of a Stripe-Signature header that are looked at: one a secret, and it sends one or two
_SIG: Final = b"sig="
_SECONDS: Final = re.compile(r"\d{1,12}", re.ASCII)
_SHA256_HEX: Final = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)


class BadSignature(ValueError):
    """A signature does not hold. The text is the same whatever is wrong."""

    def __init__(self) -> None:
        super().__init__("the signature is missing, wrong or too old")


def secret_name(kind: SigningKind, advertiser: str, slot: int) -> str:
    """What a signing secret is found by: the SHA-256 of this text is the `token_hash` of its row. No token ever looks so."""
    return f"signing-secret\n{kind}\n{advertiser}\n{slot}"


def split_query(raw: bytes) -> tuple[bytes, str]:
    """A raw query without its pair `sig=…`, wherever that stands, and the pair's value, `""` when there is none.

    Raises:
        BadSignature: there is more than one such pair.
    """
    pairs = raw.split(b"&")
    signed = [pair for pair in pairs if pair.startswith(_SIG)]
    if len(signed) > 1:
        raise BadSignature
    if not signed:
        return raw, ""
    message = b"&".join(pair for pair in pairs if not pair.startswith(_SIG))
    return message, signed[0][len(_SIG) :].decode("ascii", "replace")


def check_own(secrets: Sequence[str], *, ts: str, message: bytes, signature: str, now_s: float) -> bytes:
    """The digest of our own scheme: HMAC-SHA256, in hex, of `ts`, a point and `message`.

    `ts` is the time of signing in whole seconds since 1970, at most 300 s from `now_s`; `message` the raw query without its
    `sig` pair, or the raw body of a POST. Any of `secrets` may have signed.

    Raises:
        BadSignature
    """
    _check_time(ts, now_s)
    return _check_hex(secrets, ts.encode("ascii") + b"." + message, [signature])


def check_body(secrets: Sequence[str], *, signature: str, body: bytes) -> bytes:
    """The digest of Shopify and WooCommerce: HMAC-SHA256 of the raw body, in base64.

    `X-Shopify-Hmac-Sha256` (shopify.dev/docs/apps/build/webhooks/subscribe/https, "Validate the origin"), and
    `X-WC-Webhook-Signature` (`WC_Webhook::generate_signature` in woocommerce/includes/class-wc-webhook.php). Neither signs a time.

    Raises:
        BadSignature
    """
    given = signature.strip().encode("ascii", "replace")
    digests = [_digest(secret, body) for secret in secrets]
    return _first([digest for digest in digests if hmac.compare_digest(base64.b64encode(digest), given)])


def check_stripe(secrets: Sequence[str], *, header: str, body: bytes, now_s: float) -> bytes:
    """The digest of Stripe: HMAC-SHA256 of `t`, a point and the raw body, in hex; `t` at most 300 s from `now_s`.

    `Stripe-Signature: t=…,v1=…[,v1=…]`; other schemes are passed over (docs.stripe.com/webhooks, "Verify webhook signatures manually").

    Raises:
        BadSignature
    """
    pairs = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in pairs if name == "t"]
    given = [value for name, _, value in pairs if name == "v1"]
    if len(times) != 1:
        raise BadSignature
    _check_time(times[0], now_s)
    return _check_hex(secrets, times[0].encode("ascii") + b"." + body, given[:SIGNED_MAX])


def postback_id_of(signature_ts_ms: int, signature: bytes, item: int = 0) -> UUID:
    """The id of the report that a signature stands for: replayed, it is the same postback, and takes effect once.

    `item` tells the reports of one message apart.
    """
    return _uuid(signature_ts_ms, hashlib.sha256(signature + b"\n" + str(item).encode("ascii")))


def webhook_id_of(happened_ms: int, shop: str, advertiser: str, identity: bytes) -> UUID:
    """The id of the report that a shop's webhook stands for: sent again, it is the same postback.

    `identity` is of what the shop signed, an event's id or the body itself, never a header that anybody could change.
    """
    return _uuid(happened_ms, hashlib.sha256(f"webhook\n{shop}\n{advertiser}\n".encode() + identity))


def _uuid(unix_ms: int, digest: "hashlib._Hash") -> UUID:
    return UUID(bytes=click_id.compose(min(max(unix_ms, 0), click_id.MAX_MS), digest.digest()[: click_id.RANDOM_BYTES]))


def _check_time(ts: str, now_s: float) -> None:
    if not _SECONDS.fullmatch(ts) or abs(int(ts) - now_s) > TOLERANCE_S:
        raise BadSignature


def _check_hex(secrets: Sequence[str], message: bytes, signatures: Sequence[str]) -> bytes:
    given = [bytes.fromhex(signature) for signature in signatures if _SHA256_HEX.fullmatch(signature)]
    digests = [_digest(secret, message) for secret in secrets]
    return _first([digest for digest in digests for one in given if hmac.compare_digest(digest, one)])


def _digest(secret: str, message: bytes) -> bytes:
    return hmac.digest(secret.encode("utf-8", "surrogatepass"), message, "sha256")


def _first(digests: Sequence[bytes]) -> bytes:
    if not digests:
        raise BadSignature
    return digests[0]
