"""Webhooks of shops over HTTP on real PostgreSQL: each shop's signature, its orders' way, and what is none of ours."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.integration.api_client import Api, Shop, click_text
from tests.integration.signing import shopify, signed_path, stripe, woocommerce
from tests.unit.test_webhooks import CHARGE, SESSION, SHOPIFY, WOOCOMMERCE
from tests.wait import wait_until

pytestmark = pytest.mark.integration
SECRET = "the-shops-own-secret"
Sent = tuple[bytes, dict[str, str]]


async def send(api: Api, which: str, sent: Sent, advertiser: str = "shop") -> httpx.Response:
    return await api.client.post(f"/webhooks/{which}/{advertiser}", content=sent[0], headers=sent[1])


@pytest.fixture
async def click(api: Api, shop: Shop) -> str:
    for kind in ("shopify", "woocommerce", "stripe"):
        made = await api.admin("POST", "/api/v1/advertisers/shop/signing-secrets", {"kind": kind, "secret": SECRET})
        assert made.status_code == 201, made.text
        assert SECRET not in made.text
        assert "signing_secret" not in made.json()
    return click_text(await shop.click())


def of_shopify(click: str, **changes: Any) -> dict[str, Any]:
    return SHOPIFY | {"note_attributes": [{"name": "click_id", "value": click}], "discount_codes": [], "created_at": None} | changes


def of_woocommerce(click: str, **changes: Any) -> dict[str, Any]:
    return WOOCOMMERCE | {"meta_data": [{"key": "click_id", "value": click}], "coupon_lines": [], "date_created_gmt": None} | changes


def session(click: str, **changes: Any) -> dict[str, Any]:
    return SESSION | {"metadata": {"click_id": click}} | changes


async def orders(shop: Shop) -> list[tuple[str, str, int]]:
    rows = await shop.database.fetch("SELECT txid, status, amount_micros FROM conversions ORDER BY txid")
    return [(row["txid"], row["status"], row["amount_micros"]) for row in rows]


async def test_a_shopify_order_is_paid_for_and_taken_back(api: Api, shop: Shop, click: str) -> None:
    pending = shopify(SECRET, of_shopify(click, financial_status="pending"), topic="orders/create")
    assert (await send(api, "shopify", pending)).json()["status"] == "attributed"
    paid = shopify(SECRET, of_shopify(click))
    assert (await send(api, "shopify", paid)).status_code == 200
    assert await orders(shop) == [("820982911946154508", "approved", 80_000_000)]
    again = [await send(api, "shopify", paid) for _ in range(3)]
    assert len({answer.json()["postback_id"] for answer in again}) == 1
    cancelled = shopify(SECRET, of_shopify(click, cancelled_at="2026-02-01T00:00:00Z"), topic="orders/cancelled")
    assert (await send(api, "shopify", cancelled)).status_code == 200
    assert await orders(shop) == [("820982911946154508", "reversed", 80_000_000)]
    assert await shop.value("SELECT count(*) FROM postbacks WHERE source = 'webhook'") == 3


async def test_a_woocommerce_order_and_its_deletion(api: Api, shop: Shop, click: str) -> None:
    assert (await send(api, "woocommerce", (b"webhook_id=7", {}))).json()["status"] == "ignored"
    assert (await send(api, "woocommerce", woocommerce(SECRET, of_woocommerce(click)))).json()["status"] == "attributed"
    assert await orders(shop) == [("727", "approved", 18_000_000)]
    other = await send(api, "woocommerce", woocommerce(SECRET, {"id": 728}, topic="order.deleted"))
    assert (other.status_code, other.json()["reason"]) == (202, "no order with this txid is known yet")
    assert (await send(api, "woocommerce", woocommerce(SECRET, {"id": 727}, topic="order.deleted"))).status_code == 200
    assert await orders(shop) == [("727", "reversed", 18_000_000)]


async def test_a_stripe_session_and_its_refund_which_names_no_click(api: Api, shop: Shop, click: str) -> None:
    unpaid = stripe(SECRET, "checkout.session.completed", session(click, payment_status="unpaid"))
    assert (await send(api, "stripe", unpaid)).json()["status"] == "attributed"
    later = stripe(SECRET, "checkout.session.async_payment_succeeded", session(click), number="evt_2")
    assert (await send(api, "stripe", later)).status_code == 200
    assert await orders(shop) == [("pi_1", "approved", 22_000_000)]
    partial = await send(api, "stripe", stripe(SECRET, "charge.refunded", CHARGE | {"refunded": False}, number="evt_3"))
    assert partial.json()["status"] == "ignored"
    refund = await send(api, "stripe", stripe(SECRET, "charge.refunded", CHARGE, number="evt_4"))
    assert refund.status_code == 200, refund.text
    assert await orders(shop) == [("pi_1", "reversed", 22_000_000)]
    strange = await send(api, "stripe", stripe(SECRET, "charge.refunded", CHARGE | {"payment_intent": "pi_9"}, number="evt_5"))
    assert strange.json()["status"] == "parked"


async def test_a_session_that_expired_makes_no_order(api: Api, shop: Shop, click: str) -> None:
    answer = await send(api, "stripe", stripe(SECRET, "checkout.session.expired", session(click)))
    assert answer.json()["status"] == "parked"
    await shop.execute("UPDATE postbacks SET next_try_at = now(), parked_until = now()")
    await shop.sweep()
    assert await shop.value("SELECT outcome FROM postbacks") == "rejected"
    assert await orders(shop) == []


async def test_an_event_that_stripe_signs_anew_is_the_same_postback(api: Api, shop: Shop, click: str) -> None:
    answers = [await send(api, "stripe", stripe(SECRET, "checkout.session.completed", session(click, pending_webhooks=n))) for n in (1, 2)]
    assert len({answer.json()["postback_id"][:8] for answer in answers}) == 1
    assert len(await orders(shop)) == 1


async def test_a_coupon_order_is_found_by_its_refund(api: Api, shop: Shop, click: str) -> None:
    await api.admin("POST", "/api/v1/coupons", {"code": "TEN", "partner": "ada", "campaign": "shoes"})
    paid = stripe(SECRET, "checkout.session.completed", SESSION | {"metadata": {"coupon": "TEN", "order_id": "O-1"}})
    assert (await send(api, "stripe", paid)).json()["status"] == "attributed"
    refund = stripe(SECRET, "charge.refunded", CHARGE | {"metadata": {"order_id": "O-1"}}, number="evt_2")
    assert (await send(api, "stripe", refund)).status_code == 200
    assert await orders(shop) == [("O-1", "reversed", 22_000_000)]


async def test_what_is_signed_wrongly_is_refused_before_it_is_read(api: Api, shop: Shop, click: str) -> None:
    wrong = "another-secret-than-that"
    answers = [
        await send(api, "shopify", shopify(wrong, of_shopify(click))),
        await send(api, "shopify", (b"not JSON", {})),
        await send(api, "shopify", (shopify(SECRET, of_shopify(click))[0] + b" ", shopify(SECRET, of_shopify(click))[1])),
        await send(api, "woocommerce", woocommerce(wrong, of_woocommerce(click))),
        await send(api, "woocommerce", (b"webhook_id=7&x=1", {})),
        await send(api, "stripe", stripe(wrong, "checkout.session.completed", session(click))),
        await send(api, "stripe", stripe(SECRET, "checkout.session.completed", session(click), late_s=301)),
        await send(api, "stripe", stripe(SECRET, "checkout.session.completed", session(click), late_s=-310)),
    ]
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(401, "bad_signature")}
    assert len({answer.text for answer in answers}) == 1
    assert await shop.value("SELECT count(*) FROM postbacks") == 0


async def test_unknown_shops_and_advertisers(api: Api, shop: Shop, click: str) -> None:
    body = shopify(SECRET, of_shopify(click))
    assert [(await send(api, *where)).json()["code"] for where in (("magento", body), ("shopify", body, "nobody"))] == [
        "unknown_shop",
        "unknown_webhook",
    ]
    await api.admin("POST", "/api/v1/advertisers", {"slug": "rival", "currency": "EUR"})
    assert (await send(api, "shopify", body, "rival")).status_code == 404
    assert (await send(api, "shopify", body, "x" * 200)).status_code == 404


async def test_a_payload_that_cannot_be_read_says_so_and_is_counted(api: Api, shop: Shop, click: str) -> None:
    for sent in (
        shopify(SECRET, []),
        shopify(SECRET, of_shopify(click, id=None)),
        woocommerce(SECRET, of_woocommerce(click, total="much")),
    ):
        answer = await send(api, "shopify" if "X-Shopify-Topic" in sent[1] else "woocommerce", sent)
        assert (answer.status_code, answer.json()["code"]) == (422, "bad_payload"), answer.text
    big = shopify(SECRET, of_shopify(click, note="x" * 1024**2))
    assert (await send(api, "shopify", big)).status_code == 413
    metrics = (await api.get("/metrics")).text
    assert 'turnout_postback_refusals_total{reason="bad_payload"} 3.0' in metrics
    assert 'turnout_postbacks_total{outcome="rejected"} 4.0' in metrics


async def test_words_of_the_advertisers_own_postbacks_do_not_touch_its_webhooks(api: Api, shop: Shop, click: str) -> None:
    settings = {"postbacks": {"amount_format": "comma", "statuses": {"approved": "rejected"}, "parameters": {"shop_event": "goal"}}}
    assert (await api.admin("PATCH", "/api/v1/advertisers/shop", {"settings": settings})).status_code == 200
    assert (await send(api, "stripe", stripe(SECRET, "checkout.session.completed", session(click, amount_total=2951)))).status_code == 200
    assert await orders(shop) == [("pi_1", "approved", 22_010_000)]


async def test_webhooks_are_taken_from_allowed_addresses_only(api: Api, shop: Shop, click: str) -> None:
    await api.admin("PATCH", "/api/v1/advertisers/shop", {"settings": {"postbacks": {"allow_ips": ["192.0.2.0/24"]}}})
    answer = await send(api, "stripe", stripe(SECRET, "checkout.session.completed", session(click)))
    assert (answer.status_code, answer.json()["code"]) == (403, "ip_not_allowed")


async def test_a_shops_secret_is_rotated(api: Api, shop: Shop, click: str) -> None:
    path, new = "/api/v1/advertisers/shop/signing-secrets", "the-secret-after-it"
    assert (await api.admin("POST", path, {"kind": "shopify", "secret": new})).json()["slot"] == 2
    old_and_new = [shopify(which, of_shopify(click, id=number)) for number, which in enumerate((SECRET, new), 1)]
    assert [(await send(api, "shopify", sent)).status_code for sent in old_and_new] == [200, 200]
    await api.admin("POST", f"{path}/revoke", {"kind": "shopify", "slot": 1})
    await asyncio.sleep(1.1)
    assert [(await send(api, "shopify", sent)).status_code for sent in old_and_new] == [401, 200]


async def test_details_of_the_order_are_kept(api: Api, shop: Shop, click: str) -> None:
    await send(api, "shopify", shopify(SECRET, of_shopify(click)))
    details = json.loads(await shop.value("SELECT details::text FROM conversions"))
    assert details["customer_type"] == "new"
    assert [item["name"] for item in details["items"]] == ["Shoes red", "Socks"]


async def test_a_refund_finds_the_order_of_its_payment(api: Api, shop: Shop, click: str) -> None:
    paid = stripe(SECRET, "checkout.session.completed", SESSION | {"metadata": {"click_id": click, "order_id": "O-1"}})
    assert (await send(api, "stripe", paid)).json()["status"] == "attributed"
    refund = await send(api, "stripe", stripe(SECRET, "charge.refunded", CHARGE, number="evt_2"))  # it has no order_id
    assert refund.json()["duplicate"] is True, refund.text
    assert await orders(shop) == [("O-1", "reversed", 22_000_000)]


@pytest.mark.parametrize("policy", ["increment", "always_new", "new_or_repeated"])
async def test_a_webhook_tells_of_one_order_whatever_the_policy(api: Api, shop: Shop, click: str, policy: str) -> None:
    made = await api.admin("POST", "/api/v1/goals", {"slug": "sale", "campaign": "shoes", "duplicate_policy": policy})
    assert made.status_code == 201
    for number, state in enumerate(("pending", "paid", "paid")):
        said = of_shopify(click, financial_status=state, updated_at=f"2026-02-0{number + 1}T00:00:00Z")
        assert (await send(api, "shopify", shopify(SECRET, said, topic="orders/updated"))).status_code == 200
    assert await orders(shop) == [("820982911946154508", "approved", 80_000_000)]


@pytest.mark.parametrize("arrival", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
async def test_what_a_shop_sends_late_is_not_its_last_word(api: Api, shop: Shop, click: str, arrival: tuple[int, ...]) -> None:
    made = await api.admin("POST", "/api/v1/goals", {"slug": "sale", "campaign": "shoes", "duplicate_policy": "amend"})
    assert made.status_code == 201
    now = datetime.now(UTC).replace(microsecond=0)
    told = [
        {"created_at": now.isoformat(), "updated_at": (now + timedelta(seconds=after)).isoformat(), "current_subtotal_price": price}
        for after, price in ((1, "80.00"), (2, "70.00"), (3, "60.00"))
    ]
    for number in arrival:
        await send(api, "shopify", shopify(SECRET, of_shopify(click, **told[number]), topic="orders/updated"))
    row = await shop.database.fetchrow("SELECT amount_micros, payout_micros, converted_at FROM conversions")
    assert tuple(row.values()) == (60_000_000, 6_000_000, now)


async def test_an_order_that_nobody_brought_is_ignored_and_makes_no_orphan(api: Api, shop: Shop, click: str) -> None:
    organic = SHOPIFY | {"note_attributes": [], "discount_codes": [{"code": "NOBODYS"}], "landing_site": "/", "created_at": None}
    told = [(await send(api, "shopify", shopify(SECRET, organic))).json() for _ in range(2)]
    assert [answer["status"] for answer in told] == ["ignored", "ignored"]
    assert told[0]["reason"] == "nobody brought this order; no valid coupon has this code"
    assert await orders(shop) == []
    assert await shop.value("SELECT outcome FROM postbacks") == "rejected"
    stranger = shopify(SECRET, of_shopify("not-ours"))
    assert (await send(api, "shopify", stranger)).json()["status"] == "parked"


async def test_a_refused_message_is_read_again_when_the_settings_are_mended(api: Api, shop: Shop, click: str) -> None:
    secret = (await api.admin("POST", "/api/v1/advertisers/shop/signing-secrets", {"kind": "hmac"})).json()["signing_secret"]
    path = signed_path(secret, click_id=click, txid="A", amount="1,5")
    assert (await api.client.get(path)).status_code == 422
    await api.admin("PATCH", "/api/v1/advertisers/shop", {"settings": {"postbacks": {"amount_format": "comma"}}})

    async def is_taken() -> bool:
        return (await api.client.get(path)).json()["status"] == "attributed"

    await wait_until(is_taken)
