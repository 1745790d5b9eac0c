"""How stores and shops sign, written apart from the tracker's own code."""

import base64
import functools
import hashlib
import hmac
import json
import os
import time
from typing import Any
from urllib.parse import urlencode


def hexed(secret: str, message: bytes, ts: int) -> str:
    """Our own scheme, and Stripe's."""
    return hmac.new(secret.encode(), f"{ts}.".encode() + message, hashlib.sha256).hexdigest()


def based(secret: str, body: bytes) -> str:
    """Shopify's and WooCommerce's."""
    return base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()


def signed_path(secret: str, *, late_s: int = 0, advertiser: str = "shop", **parameters: str) -> str:
    """`/postback?…` with its signature."""
    ts = int(time.time()) - late_s
    query = urlencode(parameters | {"advertiser": advertiser, "ts": str(ts)})
    return f"/postback?{query}&sig={hexed(secret, query.encode(), ts)}"


def signed_headers(secret: str, body: bytes, *, advertiser: str = "shop") -> dict[str, str]:
    """Of a POST."""
    ts = int(time.time())
    return {"X-Turnout-Advertiser": advertiser, "X-Turnout-Timestamp": str(ts), "X-Turnout-Signature": hexed(secret, body, ts)}


def shopify(secret: str, order: Any, *, topic: str = "orders/paid") -> tuple[bytes, dict[str, str]]:
    """Body and headers."""
    body = json.dumps(order).encode()
    return body, {"X-Shopify-Topic": topic, "X-Shopify-Hmac-Sha256": based(secret, body), "Content-Type": "application/json"}


def woocommerce(secret: str, order: Any, *, topic: str = "order.updated") -> tuple[bytes, dict[str, str]]:
    """Body and headers."""
    body = json.dumps(order).encode()
    return body, {"X-WC-Webhook-Topic": topic, "X-WC-Webhook-Signature": based(secret, body), "Content-Type": "application/json"}


@functools.cache
def _created(test: str, number: str) -> int:
    """When an event happened: the same each time a test sends it, however long that takes."""
    return int(time.time())


def stripe(secret: str, kind: str, found: Any, *, number: str = "evt_1", late_s: int = 0) -> tuple[bytes, dict[str, str]]:
    """Body and headers."""
    ts = int(time.time()) - late_s
    created = _created(os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0], number)
    body = json.dumps({"id": number, "created": created, "type": kind, "data": {"object": found}}).encode()
    return body, {"Stripe-Signature": f"t={ts},v1={hexed('other', body, ts)},v1={hexed(secret, body, ts)}"}
