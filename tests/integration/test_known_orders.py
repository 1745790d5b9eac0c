"""Webhooks that take a sale back before it is known here: they wait for it, for a day, and cost nothing while they do."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from tests.integration.api_client import Api, Shop, click_text
from tests.integration.desk import AT, Desk, report_id
from tests.integration.signing import stripe, woocommerce
from tests.unit.test_webhooks import CHARGE, SESSION, WOOCOMMERCE
from tracker.adapters.postgres_parked import sweep_round
from tracker.domain.postback import read

pytestmark = pytest.mark.integration
SECRET = "the-shops-own-secret"
AT_ONCE = "UPDATE postbacks SET next_try_at = now() WHERE outcome = 'parked'"
AN_HOUR_LATER = """
    UPDATE postbacks SET received_at = received_at - interval '2 hours', parked_until = now(), next_try_at = now() WHERE outcome = 'parked'
"""
OVER = "UPDATE postbacks SET next_try_at = now(), parked_until = now() WHERE outcome = 'parked' AND source = 'webhook'"
REFUNDS = """
    INSERT INTO postbacks (postback_id, received_at, source, advertiser_id, txid, event_id, amount_micros, currency, amount_original,
        currency_original, status_original, status, outcome, tries, next_try_at, parked_until)
    SELECT uuidv7(), now() - interval '1 hour', 'webhook', a.id, 'R-' || n, 'pi-' || n, 0, 'EUR', '', '', 'reversed', 'reversed', 'parked',
        9, now() - interval '1 s', now() + interval '1 day'
    FROM advertisers a, generate_series(1, $1::int) n
"""
PUT_OFF = "SELECT count(*) FROM postbacks WHERE outcome = 'parked' AND tries = 10 AND next_try_at > now() + interval '20 s'"


@pytest.fixture
async def desk(api: Api, shop: Shop) -> Desk:
    for kind in ("woocommerce", "stripe"):
        await api.admin("POST", "/api/v1/advertisers/shop/signing-secrets", {"kind": kind, "secret": SECRET})
    return await Desk.opened(api, shop)


async def send(api: Api, which: str, sent: tuple[bytes, dict[str, str]]) -> httpx.Response:
    return await api.client.post(f"/webhooks/{which}/shop", content=sent[0], headers=sent[1])


async def refund(api: Api, number: str = "evt_9", **changes: Any) -> httpx.Response:
    return await send(api, "stripe", stripe(SECRET, "charge.refunded", CHARGE | changes, number=number))


async def paid(api: Api, **metadata: str) -> httpx.Response:
    return await send(api, "stripe", stripe(SECRET, "checkout.session.completed", SESSION | {"metadata": metadata}))


async def orders(shop: Shop) -> list[tuple[str, str]]:
    return [(row["txid"], row["status"]) for row in await shop.database.fetch("SELECT txid, status FROM conversions ORDER BY txid")]


async def outcomes(shop: Shop, source: str = "webhook") -> list[str]:
    return [row["outcome"] for row in await shop.database.fetch("SELECT outcome FROM postbacks WHERE source = $1 ORDER BY 1", source)]


@pytest.mark.parametrize("known_as", [{}, {"order_id": "O-1"}])
async def test_a_refund_that_comes_before_its_order_takes_it_back(api: Api, desk: Desk, known_as: dict[str, str]) -> None:
    first = await refund(api)
    assert (first.status_code, first.json()["status"]) == (202, "parked")
    again = await refund(api)
    assert again.json()["postback_id"] == first.json()["postback_id"]
    assert (await paid(api, click_id=desk.click, **known_as)).json()["status"] == "attributed"
    await desk.shop.execute(AT_ONCE)
    await desk.shop.sweep()
    txid = known_as.get("order_id", "pi_1")
    assert await orders(desk.shop) == [(txid, "reversed")]
    told = (await api.get("/postback/status", token=desk.shop.token, txid=txid)).json()
    assert sorted(report["outcome"] for report in told["postbacks"]) == ["attributed", "duplicate"]
    assert (await refund(api)).json()["duplicate"] is True


async def test_a_refund_finds_the_order_of_another_goal(api: Api, desk: Desk) -> None:
    assert (await refund(api)).status_code == 202
    await desk.says("pi_1", amount="10", goal="lead")
    await desk.shop.execute(AT_ONCE)
    await desk.shop.sweep()
    assert await orders(desk.shop) == [("pi_1", "reversed")]


async def test_a_refund_waits_as_long_as_an_order_that_only_a_cookie_brought(api: Api, desk: Desk) -> None:
    visit = desk.shop.new_click_id(AT - timedelta(hours=1))
    order = {"txid": "727", "amount": "18.00"}
    at = AT - timedelta(minutes=1)
    await desk.take(read(order, desk.advertiser, postback_id=report_id(0), received_at=at, visits=[click_text(visit)]))
    deleted = await send(api, "woocommerce", woocommerce(SECRET, {"id": 727}, topic="order.deleted"))
    assert (deleted.status_code, deleted.json()["status"]) == (202, "parked")
    await desk.shop.execute(OVER)
    await desk.shop.sweep()
    assert await outcomes(desk.shop) == ["parked"]
    await desk.shop.click(visit, clicked_at=AT - timedelta(hours=1))
    await desk.shop.execute(AT_ONCE)
    await desk.shop.sweep()
    assert (await orders(desk.shop), await outcomes(desk.shop)) == ([("727", "reversed")], ["duplicate"])


async def test_after_a_day_a_refund_of_nothing_is_ignored_and_no_orphan(api: Api, desk: Desk) -> None:
    assert (await refund(api)).status_code == 202
    assert await desk.shop.value("SELECT parked_until <= received_at + interval '1 day' FROM postbacks")
    await desk.shop.execute(OVER)
    await desk.shop.sweep()
    assert (await orders(desk.shop), await outcomes(desk.shop)) == ([], ["rejected"])
    assert (await refund(api)).json()["reason"] == "no order with this txid is known"
    status = (await api.get("/postback/status", token=desk.shop.token, txid="pi_1")).json()
    assert status["status"] == "rejected"


async def test_the_refund_of_an_order_that_nobody_brought_waits_for_an_hour_only(api: Api, desk: Desk) -> None:
    organic = WOOCOMMERCE | {"meta_data": [], "coupon_lines": [{"code": "NOBODYS"}], "date_created_gmt": None, "customer_id": 0}
    assert (await send(api, "woocommerce", woocommerce(SECRET, organic))).json()["status"] == "ignored"
    deleted = woocommerce(SECRET, {"id": 727}, topic="order.deleted")
    assert (await send(api, "woocommerce", deleted)).status_code == 202  # another tracker's journal may have who brought it
    assert await desk.shop.value("SELECT max(parked_until - received_at) <= interval '1 hour 1 minute' FROM postbacks")
    await desk.shop.execute(AN_HOUR_LATER)
    await desk.shop.sweep()
    assert (await send(api, "woocommerce", deleted)).json()["reason"] == "nobody brought this order"


async def test_refunds_of_orders_that_nobody_knows_are_put_off_together(desk: Desk) -> None:
    await desk.says("R-7", amount="10")
    await desk.says("O-8", amount="10", event_id="pi-8")
    await desk.shop.execute(REFUNDS, 300)
    found = await sweep_round(desk.shop.database)
    assert (found.looked_at, sorted(postback.txid for postback, _ in found.settled), found.failed) == (300, ["R-7", "R-8"], 0)
    assert await desk.shop.value(PUT_OFF) == 298
    assert await orders(desk.shop) == [("O-8", "reversed"), ("R-7", "reversed")]
