"""What shops' webhooks say of an order: whose it is, what the goods cost, what its status means here; and what is none of ours."""

import json
from typing import Any

import pytest

from tracker.domain import attribution
from tracker.domain.shop_payload import decimal_text, instant_text, moment_ms
from tracker.domain.webhooks import SHOPS, Ignored, Order, is_ping, read

CLICK = "01kg9yvqm8fe5b7h6ajt0pcw3x"
SHOPIFY: dict[str, Any] = {
    "id": 820982911946154508,
    "created_at": "2026-01-31T13:00:00+01:00",
    "updated_at": "2026-01-31T13:00:05+01:00",
    "financial_status": "paid",
    "currency": "EUR",
    "subtotal_price": "90.00",
    "current_subtotal_price": "80.00",
    "total_discounts": "10.00",
    "total_tax": "15.00",
    "taxes_included": False,
    "total_shipping_price_set": {"shop_money": {"amount": "4.90", "currency_code": "EUR"}},
    "note_attributes": [{"name": "gift", "value": "yes"}, {"name": "click_id", "value": CLICK}],
    "discount_codes": [{"code": "SPRING10", "amount": "10.00"}],
    "customer": {"id": 115310627314723954, "email": "john@example.com", "orders_count": 1},
    "line_items": [{"sku": "A-1", "name": "Shoes\tred", "quantity": 2, "price": "45.00"}, {"title": "Socks"}],
}
WOOCOMMERCE: dict[str, Any] = {
    "id": 727,
    "status": "processing",
    "currency": "EUR",
    "date_created_gmt": "2026-01-31T12:00:00",
    "date_modified_gmt": "2026-01-31T12:00:05",
    "total": "29.35",
    "total_tax": "1.35",
    "shipping_total": "10.00",
    "discount_total": "2.00",
    "customer_id": 26,
    "meta_data": [{"id": 1, "key": "_click_id", "value": CLICK}],
    "coupon_lines": [{"code": "spring10"}],
    "line_items": [{"sku": "B", "name": "Hat", "quantity": 3, "price": 6.666666666666667}],
}
SESSION: dict[str, Any] = {
    "id": "cs_test_1",
    "mode": "payment",
    "payment_status": "paid",
    "payment_intent": "pi_1",
    "amount_total": 2950,
    "currency": "eur",
    "customer": None,
    "client_reference_id": None,
    "metadata": {"click_id": CLICK},
    "total_details": {"amount_discount": 100, "amount_shipping": 500, "amount_tax": 250},
}
CHARGE: dict[str, Any] = {"id": "ch_1", "payment_intent": "pi_1", "refunded": True, "amount": 2950, "currency": "eur", "metadata": {}}


def shopify(topic: str = "orders/paid", **changes: Any) -> Order | Ignored:
    return read("shopify", topic, json.dumps(SHOPIFY | changes).encode())


def woocommerce(topic: str = "order.updated", **changes: Any) -> Order | Ignored:
    return read("woocommerce", topic, json.dumps(WOOCOMMERCE | changes).encode())


def stripe(kind: str = "checkout.session.completed", found: dict[str, Any] = SESSION, **changes: Any) -> Order | Ignored:
    event = {"id": "evt_1", "created": 1_769_860_805, "type": kind, "data": {"object": found | changes}}
    return read("stripe", "", json.dumps(event).encode())


def said(found: Order | Ignored) -> dict[str, str]:
    assert isinstance(found, Order), found
    return found.parameters


def test_a_shopify_order() -> None:
    found = shopify()
    parameters = said(found)
    assert json.loads(parameters.pop("items")) == [
        {"sku": "A-1", "name": "Shoes red", "quantity": "2", "price": "45"},
        {"name": "Socks"},
    ]
    assert parameters == {
        "shop_event": "shopify orders/paid",
        "txid": "820982911946154508",
        "status": "approved",
        "click_id": CLICK,
        "coupon": "SPRING10",
        "customer": "115310627314723954",
        "customer_type": "new",
        "amount": "80",
        "currency": "EUR",
        "discount": "10",
        "shipping": "4.9",
        "tax": "15",
        "ts": "2026-01-31T12:00:00Z",
        "stated_at": "2026-01-31T12:00:05Z",
    }
    assert (found.happened_ms, found.is_only_known) == (1_769_860_805_000, False)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changes", "amount"),
    [
        ({"current_subtotal_price": None}, "90"),
        ({"taxes_included": True}, "65"),
        ({"taxes_included": True, "current_total_tax": "5.00"}, "75"),
        ({"taxes_included": True, "shipping_lines": [{"price": "4.90", "tax_lines": [{"price": "0.78"}]}, "x"]}, "65.78"),
        ({"taxes_included": True, "shipping_lines": [{"tax_lines": [{"price": "99"}]}]}, "80"),
        ({"taxes_included": True, "total_tax": "500"}, "0"),
        ({"taxes_included": True, "total_tax": None}, "80"),
        ({"taxes_included": True, "current_subtotal_price": None, "subtotal_price": "0.00", "total_tax": None}, "0"),
    ],
)
def test_shopifys_goods_cost_what_is_left_of_them_without_tax(changes: dict[str, Any], amount: str) -> None:
    assert said(shopify(**changes))["amount"] == amount


@pytest.mark.parametrize(
    ("paid", "status", "cancelled"),
    [
        ("paid", "approved", "reversed"),
        ("partially_paid", "approved", "reversed"),
        ("partially_refunded", "approved", "reversed"),
        ("refunded", "reversed", "reversed"),
        ("pending", "pending", "rejected"),
        ("authorized", "pending", "rejected"),
        (None, "pending", "rejected"),
        ("voided", "rejected", "rejected"),
        ("expired", "rejected", "rejected"),
    ],
)
def test_shopifys_statuses(paid: str | None, status: str, cancelled: str) -> None:
    assert said(shopify(financial_status=paid))["status"] == status
    assert said(shopify("orders/cancelled", financial_status=paid, cancelled_at="2026-02-01T00:00:00Z"))["status"] == cancelled


def test_a_header_that_nobody_signed_takes_no_sale_back() -> None:
    assert said(shopify("orders/cancelled"))["status"] == "approved"


@pytest.mark.parametrize(
    ("changes", "click"),
    [
        ({"note_attributes": [{"name": "turnout_click_id", "value": "t"}, {"name": "click_id", "value": "c"}]}, "c"),
        ({"note_attributes": [{"name": "turnout_click_id", "value": "t"}]}, "t"),
        ({"note_attributes": [{"name": "click_id", "value": "x" * 256}], "landing_site": "/p?a=1&click_id=l#f?click_id=no"}, "l"),
        ({"note_attributes": {}, "landing_site": "https://shop.example/?click_id=a%20b"}, "a b"),
        ({"note_attributes": None, "landing_site": "/?" + "a&" * 200 + "click_id=l"}, None),
        ({"note_attributes": None, "landing_site": "/?click_id=a%00b"}, None),
        ({"note_attributes": None, "landing_site": 5}, None),
    ],
)
def test_where_a_click_id_stands_in_shopifys_orders(changes: dict[str, Any], click: str | None) -> None:
    assert said(shopify(**changes)).get("click_id") == click


@pytest.mark.parametrize(("orders", "kind"), [(0, "new"), (1, "new"), (2, "returning"), (None, None), ("²", None)])
def test_shopify_says_whether_a_customer_is_new(orders: Any, kind: str | None) -> None:
    assert said(shopify(customer={"id": 7, "orders_count": orders})).get("customer_type") == kind


def test_shipping_is_summed_where_shopify_gives_no_sum() -> None:
    lines = [{"price": "4.90"}, {"price": "1.10"}, {"price": None}]
    assert said(shopify(total_shipping_price_set=None, shipping_lines=lines))["shipping"] == "6"


def test_a_woocommerce_order() -> None:
    found = woocommerce()
    parameters = said(found)
    assert json.loads(parameters.pop("items")) == [{"sku": "B", "name": "Hat", "quantity": "3", "price": "6.666667"}]
    assert parameters == {
        "shop_event": "woocommerce order.updated",
        "txid": "727",
        "status": "approved",
        "click_id": CLICK,
        "coupon": "spring10",
        "customer": "26",
        "amount": "18",
        "currency": "EUR",
        "discount": "2",
        "shipping": "10",
        "tax": "1.35",
        "ts": "2026-01-31T12:00:00Z",
        "stated_at": "2026-01-31T12:00:05Z",
    }
    assert found.happened_ms == 1_769_860_805_000  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("word", "status"),
    [
        *((word, "approved") for word in ("processing", "completed")),
        *((word, "pending") for word in ("pending", "on-hold", "checkout-draft")),
        *((word, "rejected") for word in ("cancelled", "failed", "trash")),
        ("refunded", "reversed"),
    ],
)
def test_woocommerces_statuses(word: str, status: str) -> None:
    assert said(woocommerce(status=word))["status"] == status


@pytest.mark.parametrize(("changes", "amount"), [({"total": "0.00"}, "0"), ({"total_tax": None}, "19.35"), ({"shipping_total": "x"}, "28")])
def test_woocommerces_goods_never_cost_less_than_nothing(changes: dict[str, Any], amount: str) -> None:
    assert said(woocommerce(**changes))["amount"] == amount


def test_a_guest_is_no_customer_and_times_without_a_zone_are_utc() -> None:
    parameters = said(woocommerce(customer_id=0, date_created_gmt=None))
    assert "customer" not in parameters
    assert ("ts" in parameters, parameters["stated_at"]) == (False, "2026-01-31T12:00:05Z")


def test_a_deleted_order_is_one_that_must_be_known() -> None:
    found = read("woocommerce", "order.deleted", b'{"id":727}')
    assert isinstance(found, Order)
    assert (found.parameters["txid"], found.parameters["status"], found.is_only_known) == ("727", "rejected", True)
    assert isinstance(read("woocommerce", "order.updated", b'{"id":727}'), Ignored)


def test_a_stripe_session() -> None:
    found = stripe()
    assert said(found) == {
        "shop_event": "stripe checkout.session.completed",
        "txid": "pi_1",
        "event_id": "pi_1",
        "status": "approved",
        "click_id": CLICK,
        "amount": "22",
        "currency": "EUR",
        "discount": "1",
        "shipping": "5",
        "tax": "2.5",
        "ts": "2026-01-31T12:00:05Z",
        "stated_at": "2026-01-31T12:00:05Z",
    }
    assert (found.identity, found.happened_ms, found.is_only_known) == (b"evt_1", 1_769_860_805_000, False)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changes", "txid"),
    [
        ({"metadata": {"click_id": CLICK, "order_id": "O-1"}}, "O-1"),
        ({"payment_intent": {"id": "pi_2"}}, "pi_2"),
        ({"payment_intent": None}, "cs_test_1"),
    ],
)
def test_what_a_stripe_order_is_called(changes: dict[str, Any], txid: str) -> None:
    assert said(stripe(**changes))["txid"] == txid


@pytest.mark.parametrize(
    ("kind", "paid", "status", "only_known"),
    [
        ("checkout.session.completed", "unpaid", "pending", False),
        ("checkout.session.completed", "no_payment_required", "approved", False),
        ("checkout.session.async_payment_succeeded", "paid", "approved", False),
        ("checkout.session.async_payment_failed", "unpaid", "rejected", False),
        ("checkout.session.expired", "unpaid", "rejected", True),
    ],
)
def test_stripes_events(kind: str, paid: str, status: str, only_known: bool) -> None:
    found = stripe(kind, payment_status=paid)
    assert said(found)["status"] == status
    assert found.is_only_known is only_known  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("currency", "amount"), [("jpy", "2950"), ("kwd", "2.95"), ("eur", "29.5"), ("isk", "29.5"), ("ugx", "29.5"), ("", "29.5")]
)
def test_stripes_amounts_are_in_its_own_minor_units(currency: str, amount: str) -> None:
    assert said(stripe(currency=currency, total_details=None))["amount"] == amount


def test_stripes_reference_is_a_click_id_where_the_metadata_has_none() -> None:
    found = said(stripe(metadata={"coupon": "TEN"}, client_reference_id="ref", customer={"id": "cus_1"}))
    assert (found["click_id"], found["coupon"], found["customer"]) == ("ref", "TEN", "cus_1")


def test_a_full_refund_finds_its_order_without_a_click() -> None:
    found = stripe("charge.refunded", CHARGE)
    assert said(found) == {
        "shop_event": "stripe charge.refunded",
        "txid": "pi_1",
        "event_id": "pi_1",
        "status": "reversed",
        "ts": "2026-01-31T12:00:05Z",
        "stated_at": "2026-01-31T12:00:05Z",
    }
    assert found.is_only_known  # type: ignore[union-attr]
    assert said(stripe("charge.refunded", CHARGE, metadata={"order_id": "O-1", "click_id": CLICK}))["txid"] == "O-1"


IGNORED = {
    "'orders/edited'": shopify("orders/edited"),
    "'strange'": shopify(financial_status="strange"),
    "no click id": shopify(note_attributes=[], discount_codes="x", customer=None),
    "'product.created'": woocommerce("product.created"),
    "'auto-draft'": woocommerce(status="auto-draft"),
    "no click id, ": woocommerce(meta_data=[], coupon_lines=[], customer_id=0, total=None),
    "'invoice.paid'": stripe("invoice.paid"),
    "mode setup": stripe(mode="setup"),
    "partial refund": stripe("charge.refunded", CHARGE, refunded=False, amount_refunded=5),
    "no click id, coupon": stripe(metadata=None),
}


@pytest.mark.parametrize("reason", IGNORED)
def test_what_is_none_of_ours_says_why(reason: str) -> None:
    found = IGNORED[reason]
    assert isinstance(found, Ignored)
    assert reason in found.reason


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: shopify(id=None), "id"),
        (lambda: shopify(current_subtotal_price="-1", taxes_included=True), "subtotal_price"),
        (lambda: shopify(current_subtotal_price="", subtotal_price="1e3"), "subtotal_price"),
        (lambda: woocommerce(id={}), "id"),
        (lambda: woocommerce(total="-1"), "total"),
        (lambda: woocommerce(total="200000000000"), "total"),
        (lambda: stripe(id=None, payment_intent=None), "id"),
        (lambda: stripe("charge.refunded", CHARGE, payment_intent=None), "id"),
        (lambda: stripe(amount_total=[]), "data.object.amount_total"),
        (lambda: read("stripe", "", json.dumps({"type": "checkout.session.completed"}).encode()), "id"),
        *((lambda body=body: read("shopify", "orders/paid", body), "the body") for body in (b"", b"[]", b"null", b"\xff", b"[" * 100_000)),
    ],
)
def test_what_cannot_be_read_names_its_field(make, field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}"):
        make()


def test_what_is_taken_back_needs_no_amount() -> None:
    assert "amount" not in said(shopify(financial_status="refunded", current_subtotal_price=None, subtotal_price=None))


def test_the_same_body_is_the_same_and_another_is_another() -> None:
    found = {shopify(topic).identity for topic in ("orders/paid", "orders/updated")}  # type: ignore[union-attr]
    assert len(found) == 1
    assert shopify(note="changed").identity not in found  # type: ignore[union-attr]


def test_every_status_is_one_of_ours() -> None:
    known = {status for pair in attribution.LIFECYCLE.values() for status in pair}
    assert {said(found)["status"] for found in (shopify(), woocommerce(), stripe())} <= known


def test_only_what_woocommerce_sends_at_set_up_is_a_ping() -> None:
    assert is_ping("woocommerce", b"webhook_id=12")
    assert not is_ping("shopify", b"webhook_id=12")
    for body in (b"webhook_id=", b"webhook_id=1&x=1", b"{}", b""):
        assert not any(is_ping(shop, body) for shop in SHOPS)


def test_items_are_at_most_as_many_as_are_kept_and_none_spoils_the_order() -> None:
    odd = {"sku": "s\ud800" * 300, "name": 5, "quantity": "9" * 12, "price": "-1"}
    items = json.loads(said(shopify(line_items=[odd] * 600))["items"])
    assert len(items) == 500
    assert items[0] == {"sku": ("s " * 300)[:255], "name": "5"}


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-01-31T12:00:00Z", 1_769_860_800_000),
        ("2026-01-31T12:00:00.5", 1_769_860_800_500),
        ("1769860800", 1_769_860_800_000),
        ("0001-01-01T00:00:00+23:59", -62_135_683_140_000),
        ("", 0),
        ("soon", 0),
        ("9" * 12, 0),
    ],
)
def test_moments(text: str, ms: int) -> None:
    assert moment_ms(text) == ms


def test_a_time_before_2000_is_none() -> None:
    assert [instant_text(ms) for ms in (0, -62_135_683_140_000 // 2, 946_684_800_000)] == ["", "", "2000-01-01T00:00:00Z"]


def test_whole_thousands_keep_their_noughts() -> None:
    from decimal import Decimal

    assert [decimal_text(Decimal(text)) for text in ("1000", "100.10", "0", "0.0000004")] == ["1000", "100.1", "0", "0"]
