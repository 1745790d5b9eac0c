"""What plans ask about a sale: facts that nobody can make up, and that are known when they are asked for."""

import asyncio
from fractions import Fraction

import pytest

from tests.integration.api_client import click_text

pytestmark = pytest.mark.integration


async def pay(api, plan):
    changed = await api.admin("PATCH", "/api/v1/campaigns/shoes", {"payout": plan})
    assert changed.status_code == 200, changed.text


async def report(api, shop, txid, **said):
    """The order's payout."""
    said = {"token": shop.token, "click_id": click_text(await shop.click()), "txid": txid, "amount": "100.00"} | said
    if "pixel_key" in said:
        del said["token"]
        await api.get("/pixel.gif", **said)
    else:
        assert (await api.get("/postback", **said)).json()["status"] == "attributed"
    return await shop.value("SELECT payout_micros FROM conversions WHERE txid = $1", txid)


async def test_what_a_pixel_says_of_a_customer_is_no_earlier_payment(api, shop):
    rules = [{"customer": "new", "rate": "30%"}]
    await pay(api, {"type": "plan", "rate": "5%", "rules": rules, "recurring": {"rate": "3%"}})
    await report(api, shop, "p-1", pixel_key=shop.pixel_key, customer="c-1", amount="1.00")
    assert await report(api, shop, "o-1", customer="c-1") == 30_000_000
    assert await report(api, shop, "o-2", customer="c-1") == 3_000_000


async def test_a_rate_that_comes_late_is_kept_though_the_payout_stays(api, shop):
    await pay(api, {"type": "plan", "rate": "5.00 EUR", "tiers": {"by": "revenue", "steps": [{"from": "50", "rate": "6.00 EUR"}]}})
    assert await report(api, shop, "o-1", currency="USD") == 5_000_000
    day = await shop.value("SELECT converted_at::date::text FROM conversions")
    await api.admin("POST", "/api/v1/rates", {"source": "test", "rates": [{"day": day, "currency": "USD", "rate": "1.25"}]})
    await api.admin("POST", "/api/v1/campaigns/shoes/recompute", {"from": day, "to": day})
    assert Fraction(await shop.value("SELECT basis ->> 'exchange' FROM conversions")) == Fraction(4, 5)


async def test_two_changes_at_once_put_nobody_above_itself(api, shop):
    for slug, parent in (("a", None), ("b", None), ("x", "a"), ("y", "b")):
        await api.admin("POST", "/api/v1/partners", {"slug": slug, "parent": parent})
    for _ in range(5):
        changes = [("a", "y"), ("b", "x")]
        answers = await asyncio.gather(*(api.admin("PATCH", f"/api/v1/partners/{slug}", {"parent": parent}) for slug, parent in changes))
        assert sorted(answer.status_code for answer in answers) == [200, 422]
        for slug, _ in changes:
            await api.admin("PATCH", f"/api/v1/partners/{slug}", {"parent": None})


@pytest.mark.parametrize("amount", ["0e9000000", "1_0", "٣", "1e400"])
async def test_an_amount_to_take_back_is_a_plain_number(api, shop, amount):
    await report(api, shop, "o-1")
    number = await shop.value("SELECT id FROM conversions")
    answer = await api.admin("POST", f"/api/v1/conversions/{number}/reverse", {"amount": amount})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_amount")


async def test_terms_that_are_over_before_they_begin_are_refused(api, shop):
    answer = await api.admin("POST", "/api/v1/terms", {"campaign": "shoes", "payout": "5%", "effective_to": "2020-01-01"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_effective_to")
