"""What a shop's own webhook says of an order, by our names: Shopify, WooCommerce, Stripe Checkout. Pure.

What stands in the payload counts, for that is what the shop signs; headers only say whether to look at all. Amounts are
what the goods cost after discounts, without tax and shipping.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal
from urllib.parse import parse_qsl

from tracker.domain.shop_payload import (
    amount,
    decimal_text,
    first_key,
    instant_text,
    key,
    mapping,
    moment_ms,
    objects,
    read_object,
    total,
    within,
    words,
)

Shop = Literal["shopify", "woocommerce", "stripe"]
SHOPS: Final[tuple[Shop, ...]] = ("shopify", "woocommerce", "stripe")
ITEMS_MAX: Final = 500
QUANTITY_MAX: Final = 10**9 - 1
LANDING_FIELDS_MAX: Final = 100
CLICK: Final = "click_id"
NAMES_OF_CLICK: Final = (CLICK, "turnout_click_id", "_click_id")
WHO: Final = (CLICK, "coupon", "customer")
TAKING_BACK: Final = frozenset(("rejected", "reversed"))

SHOPIFY_TOPICS: Final = frozenset(("orders/create", "orders/paid", "orders/updated", "orders/cancelled"))
SHOPIFY_STATUSES: Final = {
    "paid": "approved",
    "partially_paid": "approved",
    "partially_refunded": "approved",
    "pending": "pending",
    "authorized": "pending",
    "": "pending",
    "refunded": "reversed",
    "voided": "rejected",
    "expired": "rejected",
}
SHOPIFY_PAID: Final = frozenset(("paid", "partially_paid", "partially_refunded", "refunded"))
WOOCOMMERCE_TOPICS: Final = frozenset(("order.created", "order.updated", "order.deleted", "order.restored"))
WOOCOMMERCE_STATUSES: Final = {
    "processing": "approved",
    "completed": "approved",
    "pending": "pending",
    "on-hold": "pending",
    "checkout-draft": "pending",
    "cancelled": "rejected",
    "failed": "rejected",
    "trash": "rejected",
    "refunded": "reversed",
}
STRIPE_SESSIONS: Final = {
    "checkout.session.completed": "approved",
    "checkout.session.async_payment_succeeded": "approved",
    "checkout.session.async_payment_failed": "rejected",
    "checkout.session.expired": "rejected",
}
STRIPE_REFUND: Final = "charge.refunded"
STRIPE_ORDER: Final = (("metadata", "order_id"), ("payment_intent",), ("payment_intent", "id"))
# docs.stripe.com/currencies: zero- and three-decimal currencies; by its special cases ISK and UGX are sent with two decimals.
STRIPE_DIGITS: Final = {
    **dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "JOD", "KWD", "OMR", "TND"), 3),
}


@dataclass(frozen=True, slots=True)
class Order:
    """What a webhook says of an order of ours.

    `parameters`: as a postback has them, by our names, with the time of the sale (`ts`) and that of this message (`stated_at`).
    `happened_ms`: when the shop says this came about, 0 when it does not.
    `identity`: of what the shop signed, the same each time it sends this. `is_only_known`: it takes back a sale, and says
    nothing that would make one: it concerns an order that is known by its `txid`, or nobody.
    """

    parameters: dict[str, str]
    happened_ms: int
    identity: bytes
    is_only_known: bool = False


@dataclass(frozen=True, slots=True)
class Ignored:
    """Nothing of ours in it, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """What tells a webhook from others, and the order's time and its own, as they stand there."""

    identity: bytes
    created: str
    changed: str


@dataclass(frozen=True, slots=True)
class Price:
    """What the goods cost, and the field that says so; None when it does not."""

    field: str
    value: Decimal | None


def is_ping(shop: Shop, body: bytes) -> bool:
    """Whether this is what WooCommerce sends, unsigned, when a webhook is set up: a form with the webhook's number."""
    return shop == "woocommerce" and body.startswith(b"webhook_id=") and body.removeprefix(b"webhook_id=").isdigit()


def read(shop: Shop, topic: str, body: bytes) -> Order | Ignored:
    """The order in a webhook's body. `topic` is what the shop's header says of it; Stripe needs none.

    Raises:
        ValueError: the body is not what the shop sends; the text names the field.
    """
    payload = read_object(body)
    if shop == "stripe":
        return _stripe(payload)
    identity = hashlib.sha256(body).digest()  # both sign the body alone, and send it again as it was
    return _shopify(topic, payload, identity) if shop == "shopify" else _woocommerce(topic, payload, identity)


def _shopify(topic: str, order: Mapping[str, Any], identity: bytes) -> Order | Ignored:
    """An order as shopify.dev/docs/api/admin-rest/latest/resources/order has it; its `id` is the txid.

    The goods cost `current_subtotal_price` (after returns and edits), else `subtotal_price`, less their tax where prices include it.
    """
    if topic not in SHOPIFY_TOPICS:
        return Ignored(f"nothing is taken from the topic {_shown(topic)}")
    paid = key(order, "financial_status")
    if paid not in SHOPIFY_STATUSES:
        return Ignored(f"the financial_status {_shown(paid)} says nothing of a sale")
    status = SHOPIFY_STATUSES[paid]
    if within(order, "cancelled_at"):
        status = "reversed" if paid in SHOPIFY_PAID else "rejected"
    tax = _either(order, "current_total_tax", "total_tax")
    shipping = amount(order, "total_shipping_price_set", "shop_money", "amount")
    attributes = {key(item, "name"): item for item in objects(order, "note_attributes")}
    customer = mapping(order, "customer")
    return _order(
        Report(identity, created=key(order, "created_at"), changed=key(order, "updated_at")),
        Price("subtotal_price", _shopify_goods(order, tax)),
        {
            "shop_event": f"shopify {topic}",
            "txid": _txid(key(order, "id"), "the order has no id"),
            "status": status,
            "click_id": _named(attributes) or _landed(within(order, "landing_site")),
            "coupon": next((code for item in objects(order, "discount_codes") if (code := key(item, "code"))), ""),
            "customer": key(customer, "id"),
            "customer_type": _customer_type(key(customer, "orders_count")),
            "currency": key(order, "currency"),
            "discount": decimal_text(_either(order, "current_total_discounts", "total_discounts")),
            "shipping": decimal_text(total(objects(order, "shipping_lines"), "price") if shipping is None else shipping),
            "tax": decimal_text(tax),
            "items": _items(objects(order, "line_items")),
        },
    )


def _shopify_goods(order: Mapping[str, Any], tax: Decimal | None) -> Decimal | None:
    goods = _either(order, "current_subtotal_price", "subtotal_price")
    if goods is None or tax is None or within(order, "taxes_included") is not True:
        return goods
    of_shipping = sum((total(objects(line, "tax_lines"), "price") for line in objects(order, "shipping_lines")), Decimal(0))
    return _less([goods, max(tax - of_shipping, Decimal(0))])


def _customer_type(orders: str) -> str:
    """By how many orders the customer has made, this one included or not yet."""
    if not (orders.isascii() and orders.isdigit()):
        return ""
    return "new" if orders.lstrip("0") in ("", "1") else "returning"


def _woocommerce(topic: str, order: Mapping[str, Any], identity: bytes) -> Order | Ignored:
    """An order as woocommerce.github.io/woocommerce-rest-api-docs has it (v2, v3); its `id` is the txid.

    The goods cost `total` less `total_tax` less `shipping_total`. Of a deleted order only its id is sent.
    """
    if topic not in WOOCOMMERCE_TOPICS:
        return Ignored(f"nothing is taken from the topic {_shown(topic)}")
    is_deleted = topic == "order.deleted" and "status" not in order
    word = "trash" if is_deleted else key(order, "status")
    if word not in WOOCOMMERCE_STATUSES:
        return Ignored(f"the status {_shown(word)} says nothing of a sale")
    status = WOOCOMMERCE_STATUSES[word]
    sums = [amount(order, name) for name in ("total", "total_tax", "shipping_total")]
    customer = key(order, "customer_id")
    return _order(
        Report(identity, created=_utc(order, "date_created"), changed=_utc(order, "date_modified")),
        Price("total", _less(sums)),
        {
            "shop_event": f"woocommerce {topic}",
            "txid": _txid(key(order, "id"), "the order has no id"),
            "status": status,
            "click_id": _named({key(item, "key"): item for item in objects(order, "meta_data")}),
            "coupon": next((code for item in objects(order, "coupon_lines") if (code := key(item, "code"))), ""),
            "customer": "" if customer == "0" else customer,  # a guest
            "currency": key(order, "currency"),
            "discount": decimal_text(amount(order, "discount_total")),
            "shipping": decimal_text(sums[2]),
            "tax": decimal_text(sums[1]),
            "items": _items(objects(order, "line_items")),
        },
    )


def _utc(order: Mapping[str, Any], name: str) -> str:
    """The time in UTC, which is sent without a zone."""
    text = key(order, f"{name}_gmt")
    return f"{text}Z" if moment_ms(f"{text}Z") else ""


def _stripe(event: Mapping[str, Any]) -> Order | Ignored:
    """An event as docs.stripe.com/api/events has it, of a Checkout Session or of a charge."""
    kind, found = key(event, "type"), mapping(event, "data", "object")
    when = Report(key(event, "id").encode(), created=key(event, "created"), changed=key(event, "created"))
    if kind not in STRIPE_SESSIONS and kind != STRIPE_REFUND:
        return Ignored(f"nothing is taken from the event {_shown(kind)}")
    if not when.identity:
        raise ValueError("id: the event has none")
    said = {
        "shop_event": f"stripe {kind}",
        "click_id": _named({name: {"value": value} for name, value in mapping(found, "metadata").items()}),
        "coupon": key(found, "metadata", "coupon"),
        "customer": first_key(found, ("customer",), ("customer", "id")),
    }
    return _stripe_refund(when, found, said) if kind == STRIPE_REFUND else _stripe_session(when, kind, found, said)


def _stripe_refund(when: Report, charge: Mapping[str, Any], said: dict[str, str]) -> Order | Ignored:
    """A refund in full. A charge need not have the metadata of its session, so it concerns an order that is known."""
    if within(charge, "refunded") is not True:
        return Ignored("a partial refund does not take the sale back")
    txid = _txid(first_key(charge, *STRIPE_ORDER), "data.object has neither metadata.order_id nor payment_intent")
    known_by = {"txid": txid, "event_id": first_key(charge, *STRIPE_ORDER[1:]), "status": "reversed"}
    return _order(when, Price("", None), said | known_by, is_only_known=True)


def _stripe_session(when: Report, kind: str, session: Mapping[str, Any], said: dict[str, str]) -> Order | Ignored:
    """A Checkout Session. Its txid is `metadata.order_id`, else the payment intent, else its own id.

    The payment intent is the event id too: a refund names it, and nothing else of the session. The goods cost `amount_total` less
    tax and shipping of `total_details`. One that expired was never bought: it concerns an order that the shop told of otherwise.
    """
    if key(session, "mode") == "setup":
        return Ignored("a session in the mode setup sells nothing")
    unpaid = kind == "checkout.session.completed" and key(session, "payment_status") == "unpaid"
    currency, details = key(session, "currency").upper(), mapping(session, "total_details")
    one = Decimal(1).scaleb(-STRIPE_DIGITS.get(currency, 2))

    def units(found: Mapping[str, Any], name: str) -> Decimal | None:
        minor = amount(found, name)
        return None if minor is None else minor * one

    tax, shipping = units(details, "amount_tax"), units(details, "amount_shipping")
    parameters = {
        "event_id": first_key(session, *STRIPE_ORDER[1:]),
        "txid": _txid(first_key(session, *STRIPE_ORDER, ("id",)), "data.object has neither metadata.order_id nor payment_intent nor id"),
        "status": "pending" if unpaid else STRIPE_SESSIONS[kind],
        "click_id": said["click_id"] or key(session, "client_reference_id"),
        "currency": currency,
        "discount": decimal_text(units(details, "amount_discount")),
        "shipping": decimal_text(shipping),
        "tax": decimal_text(tax),
    }
    price = Price("data.object.amount_total", _less([units(session, "amount_total"), tax, shipping]))
    return _order(when, price, said | parameters, is_only_known=kind == "checkout.session.expired")


def _order(when: Report, price: Price, parameters: Mapping[str, str], *, is_only_known: bool = False) -> Order | Ignored:
    """What all shops have in common: whether anybody can be paid for it, what it costs, and when it came about."""
    said = {name: value for name, value in parameters.items() if value}
    names_somebody, is_sale = any(name in said for name in WHO), said["status"] not in TAKING_BACK
    if is_sale and not names_somebody:
        return Ignored("the order has no click id, coupon or customer")
    cost, created = decimal_text(price.value), moment_ms(when.created)
    if cost:
        said["amount"] = cost
    elif is_sale:  # what is taken back needs none: nobody looks at it
        raise ValueError(f"{price.field} must be an amount that is not negative")
    happened = moment_ms(when.changed) or created
    times = {"ts": instant_text(created), "stated_at": instant_text(happened)}
    said |= {name: at for name, at in times.items() if at}
    return Order(said, happened, when.identity, is_only_known or not names_somebody)


def _txid(text: str, missing: str) -> str:
    if not text:
        raise ValueError(f"id: {missing}")
    return text


def _less(sums: Iterable[Decimal | None]) -> Decimal | None:
    """The first less the others, not below 0: what a voucher paid may cover shipping too. What is not said of them is nothing."""
    whole, *others = sums
    if whole is None or whole < 0:
        return whole
    return max(whole - sum((other or Decimal(0) for other in others), Decimal(0)), Decimal(0))


def _either(order: Mapping[str, Any], now: str, first: str) -> Decimal | None:
    value = amount(order, now)
    return amount(order, first) if value is None else value


def _named(entries: Mapping[str, Any]) -> str:
    """The click id that our script left, by any of its names."""
    return next((text for name in NAMES_OF_CLICK if (text := key(entries, name, "value"))), "")


def _landed(url: Any) -> str:
    """The click id in the address of the visitor's first page."""
    query = url.partition("?")[2].partition("#")[0] if isinstance(url, str) else ""
    try:
        return key(dict(parse_qsl(query, max_num_fields=LANDING_FIELDS_MAX)), CLICK)
    except ValueError:
        return ""


def _items(lines: Iterable[Mapping[str, Any]]) -> str:
    """The first 500 items as our `items`, JSON text; `""` for none."""
    found = [
        {
            "sku": words(line, "sku"),
            "name": words(line, "name") or words(line, "title"),
            "quantity": decimal_text(amount(line, "quantity"), QUANTITY_MAX),
            "price": decimal_text(amount(line, "price")),
        }
        for line in lines
    ][:ITEMS_MAX]
    return json.dumps([{name: value for name, value in item.items() if value} for item in found]) if found else ""


def _shown(text: str) -> str:
    return repr(text[:60])
