"""Laws of what shops send: anything at all is read, ignored or refused as a ValueError; what is read is acceptable as a postback."""

import json
from datetime import UTC, datetime

from hypothesis import assume, given
from hypothesis import strategies as st

from tests.unit.test_webhooks import CHARGE, SESSION, SHOPIFY, WOOCOMMERCE
from tracker.domain import signatures, webhooks
from tracker.domain.postback import Advertiser, InvalidPostback
from tracker.domain.postback import read as read_postback

SHOP = Advertiser(1, "shop", "EUR")
AT = datetime(2030, 1, 1, tzinfo=UTC)
TOPICS = st.sampled_from(["orders/paid", "orders/cancelled", "order.updated", "order.deleted", "", "x"])
shops = st.sampled_from(webhooks.SHOPS)
scalars = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=True) | st.text(max_size=20)
numbers = st.decimals(allow_nan=False, allow_infinity=False, places=3).map(str) | st.sampled_from(["1e400", "9" * 16, "-0", "0.1"])
anything = st.recursive(
    scalars | numbers, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A real payload in which some fields, at some depth, are anything."""
    session, charge = ({"id": "evt_1", "created": 1_769_860_805, "data": {"object": found}} for found in (SESSION, CHARGE))
    kinds = [*webhooks.STRIPE_SESSIONS, webhooks.STRIPE_REFUND]
    base = draw(st.sampled_from([SHOPIFY, WOOCOMMERCE, session | {"type": kinds[0]}, charge | {"type": kinds[-1]}]))
    payload = json.loads(json.dumps(base))
    for _ in range(draw(st.integers(1, 4))):
        spot = payload
        while True:
            name = draw(st.sampled_from(sorted(spot) if isinstance(spot, dict) else range(len(spot))))
            if not (isinstance(spot[name], dict | list) and spot[name] and draw(st.booleans())):
                break
            spot = spot[name]
        spot[name] = draw(anything)
    return json.dumps(payload).encode()


@given(shops, TOPICS, st.binary(max_size=200) | anything.map(lambda value: json.dumps(value).encode()) | damaged())
def test_nothing_but_a_value_error_comes_of_any_body(shop: webhooks.Shop, topic: str, body: bytes) -> None:
    try:
        found = webhooks.read(shop, topic, body)
    except ValueError:
        return
    if isinstance(found, webhooks.Ignored):
        assert found.reason
        return
    assert all(isinstance(value, str) and value for value in found.parameters.values())
    made = signatures.webhook_id_of(found.happened_ms, shop, "shop", found.identity)
    assert made == signatures.webhook_id_of(found.happened_ms, shop, "shop", found.identity)
    acceptable(found, made)


def acceptable(found: webhooks.Order, made) -> None:
    """What was read is refused as a postback for its currency or its time alone: those are the shop's own words."""
    if found.is_only_known:
        return
    refused = ""
    try:
        read_postback(found.parameters, SHOP, postback_id=made, received_at=AT, source="webhook")
    except InvalidPostback as exc:
        refused = exc.field
    assert refused in ("", "currency", "ts")


@given(st.binary(max_size=60), st.binary(max_size=60), st.text("0123456789abcdef", min_size=64, max_size=64))
def test_a_signature_is_found_wherever_it_stands(before: bytes, after: bytes, signature: str) -> None:
    assume(b"sig=" not in before + b"&" + after)
    pairs = [part for part in (before, after) if part]
    for at in range(len(pairs) + 1):
        raw = b"&".join([*pairs[:at], b"sig=" + signature.encode(), *pairs[at:]])
        assert signatures.split_query(raw) == (b"&".join(pairs), signature)
