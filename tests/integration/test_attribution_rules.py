"""Who earns an order when several may: coupons, cookies, customers, windows of goals, and clicks that are not there yet."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.integration.api_client import click_text
from tracker.adapters.postgres_attribution import GRACE_TRIES
from tracker.adapters.postgres_conversions import receive, settle
from tracker.adapters.postgres_deals import new_id
from tracker.domain.postback import Advertiser, from_row, read

pytestmark = pytest.mark.integration


class Desk:
    """Partner ada has clicks, partner bob the coupon BOB; both in the campaign shoes."""

    def __init__(self, shop, advertiser):
        self.shop, self.advertiser = shop, advertiser

    async def campaign(self, **values):
        for column, value in values.items():
            await self.shop.execute(f"UPDATE campaigns SET {column} = $1 WHERE slug = 'shoes'", value)

    async def click(self, **ago):
        return click_text(await self.shop.click(clicked_at=datetime.now(UTC) - timedelta(**ago)))

    async def says(self, txid, *, visits=(), at=None, **parameters):
        received_at = at or datetime.now(UTC)
        said = {"txid": txid, "amount": "10"} | parameters
        postback = read(said, self.advertiser, postback_id=new_id(), received_at=received_at, visits=visits)
        return await receive(self.shop.database, postback, timeout_s=20)

    async def found(self, txid):
        """How the order was attributed, to whom, and why."""
        row = await self.shop.database.fetchrow(
            "SELECT c.attribution, p.slug, c.trace, c.click_id FROM conversions c LEFT JOIN partners p ON p.id = c.partner WHERE txid = $1",
            txid,
        )
        return row["attribution"], row["slug"], row["trace"]


@pytest.fixture
async def desk(api, shop):
    for path, body in {
        "partners": {"slug": "bob"},
        "coupons": {"code": "BOB", "partner": "bob", "campaign": "shoes"},
        "goals": {"slug": "lead", "campaign": "shoes", "attribution_window_days": 2},
    }.items():
        assert (await api.admin("POST", f"/api/v1/{path}", body)).status_code == 201
    number = await shop.value("SELECT id FROM advertisers WHERE slug = 'shop'")
    return Desk(shop, Advertiser(number, "shop", "EUR"))


async def test_a_click_goes_before_a_coupon_unless_the_campaign_says_otherwise(desk):
    click = await desk.click(days=1)
    await desk.says("A", click_id=click, coupon="bob")
    await desk.campaign(coupon_first=True)
    await desk.says("B", click_id=click, coupon="bob")
    assert await desk.found("A") == (
        "click", "ada", ["the click, inside its window of 30 days, the last of those who may earn", "coupon bob: the click goes before it"],
    )  # fmt: skip
    assert await desk.found("B") == ("coupon", "bob", ["coupon bob, which goes before clicks", "the click: coupon bob goes before it"])


async def test_a_goal_has_a_window_of_its_own(desk):
    click = await desk.click(days=3)
    assert (await desk.says("A", click_id=click)).status == "attributed"
    verdict = await desk.says("B", click_id=click, goal="lead")
    assert (verdict.status, verdict.reason) == ("orphan", "the click: outside its window of 2 days")


async def test_a_conversion_that_comes_too_soon_or_too_late_earns_nobody(desk):
    await desk.campaign(min_conversion_seconds=60, max_conversion_seconds=7200)
    assert (await desk.says("A", click_id=await desk.click(seconds=5))).status == "orphan"
    assert (await desk.says("B", click_id=await desk.click(minutes=5))).status == "attributed"
    assert (await desk.says("C", click_id=await desk.click(hours=3))).status == "orphan"


@pytest.mark.parametrize(("model", "wins"), [("last", 0), ("first", 1)])
async def test_the_clicks_of_a_cookie_are_told_apart_by_the_model(desk, model, wins):
    await desk.campaign(attribution_model=model)
    clicks = [await desk.click(hours=1), await desk.click(hours=9), await desk.click(hours=5)]
    await desk.says("A", visits=clicks)
    row = await desk.shop.value("SELECT click_id FROM conversions WHERE txid = 'A'")
    assert (click_text(row), (await desk.found("A"))[0]) == (clicks[wins], "cookie")


async def test_a_returning_customer_is_the_partners_who_brought_them_where_the_campaign_pays_for_it(desk):
    await desk.says("A", click_id=await desk.click(days=1), customer="c-1")
    assert (await desk.says("B", customer="c-1")).status == "orphan"
    await desk.campaign(customer_window_days=30)
    assert (await desk.says("C", customer="c-1")).status == "attributed"
    assert await desk.found("C") == ("customer", "ada", ["the customer's earlier order, not more than 30 days ago"])
    assert (await desk.says("D", customer="c-2")).status == "orphan"
    await desk.shop.execute("UPDATE conversions SET status = 'reversed' WHERE customer = 'c-1'")
    assert (await desk.says("E", customer="c-1")).status == "orphan"


async def test_what_a_pixel_says_of_a_customer_brings_nobody_the_next_order(desk):
    await desk.campaign(customer_window_days=30)
    click = await desk.click(days=1)
    said = {"txid": "A", "click_id": click, "customer": "c-1"}
    pixel = read(said, desk.advertiser, postback_id=new_id(), received_at=datetime.now(UTC), source="pixel")
    assert (await receive(desk.shop.database, pixel, timeout_s=20)).status == "attributed"
    assert (await desk.says("B", customer="c-1")).status == "orphan"


async def test_a_click_of_ours_that_is_on_its_way_is_waited_for_before_a_coupon_earns(desk):
    late, never = desk.shop.new_click_id(), desk.shop.new_click_id()
    assert (await desk.says("A", click_id=click_text(late), coupon="BOB")).status == "parked"
    await desk.shop.click(late)
    await desk.shop.execute("UPDATE postbacks SET next_try_at = now()")
    await desk.shop.sweep()
    assert (await desk.found("A"))[:2] == ("click", "ada")
    verdict = await desk.says("B", click_id=click_text(never), coupon="BOB")
    async with desk.shop.database.connection() as connection:
        row = await connection.fetchrow("SELECT * FROM postbacks WHERE postback_id = $1", verdict.postback_id)
        waiting = await settle(connection, from_row(dict(row) | {"tries": GRACE_TRIES - 1}), now=datetime.now(UTC))
        assert waiting.status == "parked"
        await settle(connection, from_row(dict(row) | {"tries": GRACE_TRIES}), now=datetime.now(UTC))
    assert await desk.found("B") == ("coupon", "bob", ["coupon BOB", "no click has this id"])


async def test_a_cookie_whose_click_is_not_stored_yet_is_waited_for(desk):
    late = desk.shop.new_click_id()
    assert (await desk.says("A", visits=[click_text(late)])).status == "parked"
    await desk.shop.click(late)
    await desk.shop.execute("UPDATE postbacks SET next_try_at = now()")
    await desk.shop.sweep()
    assert (await desk.found("A"))[:2] == ("cookie", "ada")


async def test_an_id_that_is_not_ours_keeps_no_coupon_waiting(desk):
    assert (await desk.says("A", click_id="old-platform-77", coupon="BOB")).status == "attributed"
    assert (await desk.says("B", click_id="old-platform-77", coupon="NOBODYS")).status == "parked"


async def test_details_are_kept_with_the_conversion(api, shop):
    click = click_text(await shop.click())
    order = {
        "token": shop.token, "click_id": click, "txid": "A", "amount": 49.9, "customer": "c-1", "customer_type": "new", "discount": "5",
        "items": [{"sku": "A-1", "quantity": 2, "price": 24.95, "category": "boots"}], "gift": True,
    }  # fmt: skip
    answer = await api.client.post("/postback", json=order)
    shown = (await api.admin("GET", f"/api/v1/conversions/{answer.json()['conversion_id']}")).json()
    assert (shown["customer"], shown["parameters"]["gift"], "items" in shown["parameters"]) == ("c-1", "true", False)
    items = [{"sku": "A-1", "category": "boots", "quantity": "2", "price": "24.95"}]
    assert shown["details"] == {"customer_type": "new", "discount": "5.00", "items": items}


async def test_a_shop_writes_as_its_settings_say(api, shop):
    written = {"parameters": {"order": "txid", "sum": "amount", "sid": "click_id"}, "statuses": {"2": "pending"}, "amount_format": "comma"}
    assert (await api.admin("PATCH", "/api/v1/advertisers/shop", {"settings": {"postbacks": written}})).status_code == 200
    click = click_text(await shop.click())
    answer = await api.get("/postback", token=shop.token, sid=click, order="7", sum="1.234,50", status="2")
    shown = (await api.admin("GET", f"/api/v1/conversions/{answer.json()['conversion_id']}")).json()
    assert (shown["txid"], shown["amount"], shown["status"]) == ("7", "1234.50", "pending")
    assert (shown["amount_original"], shown["status_original"], shown["payout"]) == ("1.234,50", "2", "123.45")
    refused = await api.admin("PATCH", "/api/v1/advertisers/shop", {"settings": {"postbacks": {"amount_format": "x"}}})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_settings")


async def test_a_list_of_reports_has_an_answer_to_each(api, shop):
    click = click_text(await shop.click())
    ten = {"click_id": click, "txid": "A", "amount": 10}
    orders = [ten, ten, {"click_id": click, "txid": "B", "amount": "x"}, 7, {"click_id": "nobody", "txid": "C"}]
    answer = await api.client.post("/postback", params={"token": shop.token}, json=orders)
    results = answer.json()["results"]
    assert answer.status_code == 207
    assert [result["http_status"] for result in results] == [200, 200, 422, 422, 202]
    assert [result.get("duplicate") for result in results[:2]] == [False, True]
    assert [result.get("code") for result in results[2:4]] == ["invalid_amount", "invalid_json"]
    good = await api.client.post("/postback", params={"token": shop.token}, json=[{"click_id": click, "txid": "D"}])
    assert (good.status_code, good.json()["results"][0]["status"]) == (200, "attributed")
    for body in ([], [{}] * 1001, "x"):
        assert (await api.client.post("/postback", params={"token": shop.token}, json=body)).status_code == 422
    assert (await api.client.post("/postback", params={"token": "wrong"}, json=orders)).status_code == 401
