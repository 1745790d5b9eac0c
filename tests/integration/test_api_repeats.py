"""Several postbacks of one order: what is stated last, by whom it was said, and in which order it happened."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.integration.api_client import Api, Shop, click_text

pytestmark = pytest.mark.integration


class Store:
    """A store that sends postbacks about one order, and the way to look at what became of it."""

    def __init__(self, api: Api, shop: Shop, txid: str = "X") -> None:
        self.api, self.shop, self.txid = api, shop, txid

    async def says(self, **parameters: str) -> dict[str, Any]:
        answer = await self.api.get("/postback", token=self.shop.token, txid=self.txid, **parameters)
        assert answer.status_code in (200, 202), answer.text
        return dict(answer.json())

    async def pixel_says(self, **parameters: str) -> None:
        await self.api.get("/pixel.gif", pixel_key=self.shop.pixel_key, txid=self.txid, **parameters)

    async def verdicts(self) -> dict[str, Any]:
        return dict((await self.api.get("/postback/status", token=self.shop.token, txid=self.txid)).json())

    async def conversion(self) -> dict[str, Any]:
        number = (await self.verdicts())["conversion_id"]
        return dict((await self.api.admin("GET", f"/api/v1/conversions/{number}")).json())

    async def owed(self) -> dict[tuple[str, str], float]:
        """(account, status) → what the ledger's entries sum to, where that is not nothing."""
        sums: Counter[tuple[str, str]] = Counter()
        for entry in (await self.conversion())["ledger"]:
            sums[entry["account"], entry["status"]] += float(entry["amount"])  # type: ignore[assignment]
        return {key: value for key, value in sums.items() if value}


@pytest.fixture
def store(api: Api, shop: Shop) -> Store:
    return Store(api, shop)


async def _another_partner(api: Api, shop: Shop) -> str:
    """A click of the partner bob."""
    await api.admin("POST", "/api/v1/partners", {"slug": "bob"})
    await api.admin("POST", "/api/v1/links", {"slug": "bobs", "partner": "bob", "campaign": "shoes"})
    click = await shop.click()
    await shop.execute("UPDATE clicks SET link = l.id, partner = l.partner_id FROM links l WHERE l.slug = 'bobs' AND click_id = $1", click)
    return click_text(click)


async def _click_of_another_advertiser(api: Api) -> str:
    for plural, body in {
        "advertisers": {"slug": "other", "currency": "EUR"},
        "campaigns": {"slug": "hats", "advertiser": "other", "destination_url": "https://other.example/"},
        "links": {"slug": "others", "partner": "ada", "campaign": "hats"},
    }.items():
        assert (await api.admin("POST", f"/api/v1/{plural}", body)).status_code == 201
    return "others"


async def _foreign_click(api: Api, shop: Shop) -> str:
    slug = await _click_of_another_advertiser(api)
    click = await shop.click()
    await shop.execute(
        "UPDATE clicks SET link = l.id, campaign = l.campaign_id, advertiser = l.advertiser_id FROM links l"
        " WHERE l.slug = $2 AND click_id = $1",
        *(click, slug),
    )
    return click_text(click)


@pytest.mark.parametrize(
    ("first", "then", "status"),
    [
        ("pending", {"status": "reversed"}, "rejected"),
        ("pending", {"status": "rejected"}, "rejected"),
        ("approved", {"status": "rejected"}, "reversed"),
        ("approved", {"status": "reversed", "amount": "0"}, "reversed"),
        ("approved", {"status": "reversed", "currency": "USD", "amount": "10"}, "reversed"),
        ("pending", {"status": "approved", "amount": "11"}, "approved"),
    ],
)
async def test_a_stated_status_moves_whatever_amount_stands_beside_it(
    store: Store, shop: Shop, first: str, then: dict[str, str], status: str
) -> None:
    click = click_text(await shop.click())
    await store.says(click_id=click, amount="10", status=first)
    told = await store.says(click_id=click, **then)
    assert (told["duplicate"], f"{first} → {status}" in told["reason"]) == (True, True)
    shown = await store.conversion()
    assert (shown["status"], shown["amount"]) == (status, "10.00")
    assert await store.owed() == ({("partner", "approved"): 1.0, ("advertiser", "approved"): 10.0} if status == "approved" else {})
    differs = "amount" in then
    assert ("amount differs" in told["reason"]) is differs
    assert (await store.verdicts())["postbacks"][0]["outcome"] == ("conflict" if differs else "duplicate")


async def test_a_status_that_cannot_be_followed_is_said(store: Store, shop: Shop) -> None:
    click = click_text(await shop.click())
    for status in ("pending", "rejected"):
        await store.says(click_id=click, amount="10", status=status)
    told = await store.says(click_id=click, amount="10", status="reversed")
    assert told["reason"] == "reversed was sent, conversion is rejected"
    assert (await store.says(click_id=click, status="approved"))["reason"] == "approved was sent, conversion is rejected"
    assert [p["outcome"] for p in (await store.verdicts())["postbacks"][:2]] == ["conflict", "conflict"]


async def test_a_goal_that_refuses_other_amounts_still_lets_a_sale_be_taken_back(api: Api, store: Store, shop: Shop) -> None:
    await api.admin("POST", "/api/v1/goals", {"slug": "lead", "campaign": "shoes", "duplicate_policy": "conflict"})
    click = click_text(await shop.click())
    await store.says(click_id=click, amount="10", goal="lead")
    await store.says(click_id=click, amount="0", goal="lead", status="reversed")
    assert (await store.conversion())["status"] == "reversed"


async def test_a_pixels_orphan_does_not_block_the_stores_own_report(api: Api, store: Store, shop: Shop) -> None:
    await store.pixel_says(click_id=await _foreign_click(api, shop), amount="1")
    assert (await store.conversion())["status"] == "orphan"
    told = await store.says(click_id=click_text(await shop.click()), amount="50")
    assert (told["status"], told["duplicate"]) == ("attributed", False)
    shown = await store.conversion()
    assert (shown["status"], shown["partner"], shown["amount"], shown["payout"]) == ("approved", "ada", "50.00", "5.00")
    assert await store.owed() == {("partner", "approved"): 5.0, ("advertiser", "approved"): 50.0}
    assert await shop.value("SELECT amount_micros FROM conversion_shares") == 5_000_000


async def test_the_stores_report_takes_over_what_a_pixel_said(api: Api, store: Store, shop: Shop) -> None:
    await store.pixel_says(click_id=await _another_partner(api, shop), amount="0.10")
    assert (await store.conversion())["partner"] == "bob"
    await store.says(click_id=click_text(await shop.click()), amount="99")  # no status: approved
    shown = await store.conversion()
    assert (shown["status"], shown["partner"], shown["amount"], shown["payout"]) == ("approved", "ada", "99.00", "9.90")
    assert await store.owed() == {("partner", "approved"): 9.9, ("advertiser", "approved"): 99.0}
    assert (
        await shop.value("SELECT sum(amount_micros) FROM ledger_entries l JOIN partners p ON p.id = l.partner_id WHERE slug = 'bob'") == 0
    )
    assert await shop.value("SELECT array_agg(p.slug) FROM conversion_shares s JOIN partners p ON p.id = s.partner_id") == ["ada"]
    again = await store.says(click_id=click_text(await shop.click()), amount="1")
    assert again["duplicate"] is True  # the store's own word is not taken over
    await store.pixel_says(click_id=await shop_click(shop), amount="7")
    assert (await store.conversion())["amount"] == "99.00"


async def shop_click(shop: Shop) -> str:
    return click_text(await shop.click())


async def test_a_pixels_word_stays_pending_when_the_store_names_no_click_that_earns(store: Store, shop: Shop) -> None:
    await store.pixel_says(click_id=await shop_click(shop), amount="5")
    told = await store.says(coupon="NOBODY", amount="99")
    assert (told["status"], told["duplicate"]) == ("attributed", True)
    assert "the pixel's click and amount are kept" in told["reason"]
    assert (await store.conversion())["status"] == "pending"


async def test_a_store_whose_click_is_late_takes_over_when_it_comes(store: Store, shop: Shop) -> None:
    await store.pixel_says(click_id=await shop_click(shop), amount="5")
    late = shop.new_click_id()
    assert (await store.says(click_id=click_text(late), amount="99"))["status"] == "parked"
    await shop.click(late)
    await shop.execute("UPDATE postbacks SET next_try_at = now() WHERE outcome = 'parked'")
    await shop.sweep()
    shown = await store.conversion()
    assert (shown["click_id"], shown["amount"], shown["status"]) == (click_text(late), "99.00", "approved")


async def test_an_orphan_is_matched_anew_by_a_corrected_postback(store: Store, shop: Shop) -> None:
    first = await store.says(coupon="wrong", amount="10")
    assert first["status"] == "orphan"
    assert (await store.says(coupon="wrong", amount="10"))["duplicate"] is True
    told = await store.says(click_id=await shop_click(shop), amount="10")
    assert (told["status"], told["duplicate"], told["conversion_id"]) == ("attributed", False, first["conversion_id"])
    assert await store.owed() == {("partner", "approved"): 1.0, ("advertiser", "approved"): 10.0}
    assert "it was an orphan" in (await store.conversion())["trace"]
    await store.pixel_says(click_id=await shop_click(shop), amount="7")
    assert (await store.conversion())["amount"] == "10.00"


async def test_a_pixel_does_not_claim_what_the_store_called_an_orphan(store: Store, shop: Shop) -> None:
    await store.says(coupon="wrong", amount="10")
    await store.pixel_says(click_id=await shop_click(shop), amount="10")
    assert (await store.conversion())["status"] == "orphan"


async def test_a_coupon_counts_beside_the_click_of_another_advertiser(api: Api, store: Store, shop: Shop) -> None:
    await api.admin("POST", "/api/v1/coupons", {"code": "ADA10", "partner": "ada", "campaign": "shoes"})
    told = await store.says(click_id=await _foreign_click(api, shop), coupon="ADA10", amount="10")
    assert told["status"] == "attributed"
    assert (await store.conversion())["attribution"] == "coupon"


async def test_postbacks_at_once_of_an_orphan_pay_it_once(store: Store, shop: Shop) -> None:
    await store.says(coupon="wrong", amount="10")
    click = await shop_click(shop)
    told = await asyncio.gather(*(store.says(click_id=click, amount="10") for _ in range(10)))
    assert sum(not answer["duplicate"] for answer in told) == 1
    assert await store.owed() == {("partner", "approved"): 1.0, ("advertiser", "approved"): 10.0}


async def test_parked_postbacks_of_an_order_take_effect_in_the_order_in_which_they_happened(store: Store, shop: Shop) -> None:
    late, now = shop.new_click_id(), datetime.now(UTC)
    for age, status in ((1, "reversed"), (3, "pending"), (2, "approved")):
        at = (now - timedelta(seconds=age)).isoformat()
        assert (await store.says(click_id=click_text(late), amount="10", status=status, ts=at))["status"] == "parked"
    await shop.click(late)
    # Only the last of them is due: the others come with it.
    await shop.execute("UPDATE postbacks SET next_try_at = CASE status WHEN 'reversed' THEN now() ELSE now() + interval '1 hour' END")
    assert await shop.sweep() == 1
    shown = await store.conversion()
    assert shown["status"] == "reversed"
    assert [entry["kind"] for entry in shown["ledger"] if entry["account"] == "partner"] == [
        *("conversion", "approval", "approval", "reversal"),
    ]
    assert await shop.value("SELECT count(*) FROM postbacks WHERE outcome = 'parked'") == 0


async def test_one_postback_that_raises_holds_up_no_other(store: Store, shop: Shop, api: Api) -> None:
    numbers = [shop.new_click_id() for _ in range(5)]
    for number in numbers:
        await Store(api, shop, str(number)).says(click_id=click_text(number), amount="10")
    for number in numbers:
        await shop.click(number)
    await shop.execute(
        "ALTER TABLE conversions ADD CONSTRAINT broken CHECK (txid <> '" + str(numbers[2]) + "')",
    )
    await shop.execute("UPDATE postbacks SET next_try_at = now()")
    assert await shop.sweep() == 5
    assert await shop.value("SELECT count(*) FROM conversions") == 4
    row = (await shop.database.fetch("SELECT tries, next_try_at > now() AS is_put_off FROM postbacks WHERE outcome = 'parked'"))[0]
    assert (row["tries"], row["is_put_off"]) == (2, True)


async def test_postbacks_without_anything_new_are_put_off_in_one_statement(shop: Shop, api: Api) -> None:
    for n in range(30):
        await Store(api, shop, str(n)).says(click_id=f"old-{n}", amount="10")
    await shop.execute("UPDATE postbacks SET next_try_at = now()")
    before = await shop.value("SELECT count(DISTINCT xmin::text) FROM postbacks")
    assert before == 1
    assert await shop.sweep() == 30
    assert await shop.value("SELECT count(DISTINCT xmin::text) FROM postbacks WHERE tries = 2 AND next_try_at > now()") == 1
    assert await shop.value("SELECT count(*) FROM postbacks WHERE tries = 2 AND next_try_at > now()") == 30


async def test_the_status_of_an_order_is_that_of_its_newest_postbacks(store: Store, shop: Shop) -> None:
    for _ in range(101):
        await store.says(click_id="nobody-knows")
    await store.api.get("/postback", token=shop.token, txid=store.txid, click_id="x", amount="bad")
    found = await store.verdicts()
    assert (found["status"], len(found["postbacks"])) == ("rejected", 100)
    assert found["postbacks"][0]["outcome"] == "rejected"


async def test_long_click_ids_without_txid_are_different_orders(api: Api, shop: Shop) -> None:
    numbers = set()
    for end in ("a", "b"):
        click = await shop.click()
        await shop.execute("UPDATE clicks SET old_click_id = $2 WHERE click_id = $1", click, "x" * 254 + end)
        told = (await api.get("/postback", token=shop.token, click_id="x" * 254 + end, amount="1")).json()
        numbers.add(told["conversion_id"])
    assert len(numbers) == 2
    told = (await api.get("/postback", token=shop.token, click_id=await shop_click(shop), txid="click:7", amount="1")).json()
    shown = (await api.admin("GET", f"/api/v1/conversions/{told['conversion_id']}")).json()
    assert not any("no txid" in line for line in shown["trace"])
