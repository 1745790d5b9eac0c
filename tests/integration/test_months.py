"""Tiers, bonuses and clicks of a month, booked as it grows, by the difference; and a changed payout tried on a month."""

import asyncio
from datetime import UTC, date, datetime, timedelta

import pytest

from tests.integration.api_client import click_text
from tracker.adapters.postgres_months import Month, month_of, settle
from tracker.errors import NotFound, RejectedInput
from tracker.payout_preview import Previewing
from workers.keeper_months import MonthKeeper

pytestmark = pytest.mark.integration

PLAN = {
    "type": "plan",
    "rate": "10%",
    "currency": "EUR",
    "tiers": {"by": "conversions", "steps": [{"from": 3, "rate": "12%"}]},
    "bonuses": [{"conversions": 4, "amount": "25.00"}],
    "per_click": "0.0375",
    "levels": [{"percent": "10"}],
}
ENTRIES = """
    SELECT p.slug AS partner, l.kind, l.status, sum(l.amount_micros)::bigint AS micros
    FROM ledger_entries l JOIN partners p ON p.id = l.partner_id
    WHERE l.kind IN ('tiers', 'bonus', 'clicks') GROUP BY 1, 2, 3 HAVING sum(l.amount_micros) <> 0 ORDER BY 1, 2, 3
"""


@pytest.fixture
async def month(api, shop):
    """This month of the campaign, its plan with everything that looks at months; Ada's parent is Eve."""
    await api.admin("POST", "/api/v1/partners", {"slug": "eve"})
    await api.admin("PATCH", "/api/v1/partners/ada", {"parent": "eve"})
    changed = await api.admin("PATCH", "/api/v1/campaigns/shoes", {"payout": PLAN})
    assert changed.status_code == 200, changed.text
    campaign = await shop.value("SELECT id FROM campaigns WHERE slug = 'shoes'")
    return Month(campaign, datetime.now(UTC).date().replace(day=1))


async def order(api, shop, number, **said):
    said = {"token": shop.token, "click_id": click_text(await shop.click()), "txid": f"o-{number}", "amount": "100.00"} | said
    answer = (await api.get("/postback", **said)).json()
    assert answer["status"] == "attributed", answer
    return answer["conversion_id"]


async def entries(shop):
    async with shop.database.connection() as connection:
        return {(row["partner"], row["kind"], row["status"]): row["micros"] for row in await connection.fetch(ENTRIES)}


async def look(shop):
    await MonthKeeper(shop.database).once()
    return await entries(shop)


async def test_a_month_is_booked_as_it_grows_and_shrinks(api, shop, month):
    for number in range(2):
        await order(api, shop, number)
    assert await look(shop) == {}
    third = await order(api, shop, 2)
    # the third: 2 % of 100.00 more, and 10 % of that for the parent
    assert await look(shop) == {("ada", "tiers", "approved"): 2_000_000, ("eve", "tiers", "approved"): 200_000}
    await order(api, shop, 3, status="pending")
    # the fourth makes the bonus, but only once it is approved
    waiting = {("ada", "tiers", "pending"): 2_000_000, ("eve", "tiers", "pending"): 200_000, ("ada", "bonus", "pending"): 25_000_000}
    assert await look(shop) == {("ada", "tiers", "approved"): 2_000_000, ("eve", "tiers", "approved"): 200_000} | waiting
    reversal = await api.admin("POST", f"/api/v1/conversions/{third}/reverse", {"reason": "returned"})
    assert reversal.status_code == 200, reversal.text
    # three are left, one of them pending
    assert await look(shop) == {("ada", "tiers", "pending"): 2_000_000, ("eve", "tiers", "pending"): 200_000}
    assert await look(shop) == await entries(shop)


async def test_clicks_are_paid_by_their_day_without_rounding(shop, month):
    statement = """
        INSERT INTO daily_stats (day, slot, campaign, partner, clicks, unique_clicks, total)
        SELECT $1, $2, $3, id, $4, $4, $4 FROM partners WHERE slug = 'ada'
    """
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)  # the plan is in force when a day begins
    later = Month(month.campaign, tomorrow.replace(day=1))
    await shop.execute(statement, tomorrow, 1, month.campaign, 3)
    await shop.execute(statement, tomorrow, 2, month.campaign, 4)
    async with shop.database.connection() as connection:
        assert await settle(connection, later, actor="test", only_clicks=True) == 1
        assert await settle(connection, later, actor="test") == 0
    assert await entries(shop) == {("ada", "clicks", "approved"): 262_500}  # 7 × 0.0375


async def test_many_keepers_book_once(api, shop, month):
    for number in range(4):
        await order(api, shop, number)
    await asyncio.gather(*(MonthKeeper(shop.database).once() for _ in range(4)))
    # 2 × 2.00, and the bonus
    assert await entries(shop) == {
        ("ada", "bonus", "approved"): 25_000_000, ("ada", "tiers", "approved"): 4_000_000, ("eve", "tiers", "approved"): 400_000,
    }  # fmt: skip
    assert await shop.value("SELECT count(*) FROM ledger_entries WHERE kind IN ('tiers', 'bonus')") == 3
    assert await shop.value("SELECT max(effective_on) FROM ledger_entries WHERE kind = 'tiers'") == month.end - timedelta(days=1)


async def test_what_changed_before_the_keeper_was_away_is_found_again(api, shop, month):
    keeper = MonthKeeper(shop.database)
    await keeper.once()
    for number in range(3):
        await order(api, shop, number)
    await keeper.once()
    assert (await entries(shop))["ada", "tiers", "approved"] == 2_000_000


def test_months_of_any_length():
    assert [Month(1, date(2026, month, 1)).end for month in (2, 12)] == [date(2026, 3, 1), date(2027, 1, 1)]
    assert [month_of(date(2026, 3, 31), back=back) for back in range(4)] == [
        date(2026, 3, 1), date(2026, 2, 1), date(2026, 1, 1), date(2025, 12, 1),
    ]  # fmt: skip


async def test_a_payout_is_tried_on_a_real_month_before_it_is_saved(api, shop, month):
    for number in range(4):
        await order(api, shop, number)
    await look(shop)
    before = await shop.value("SELECT count(*) FROM terms"), await shop.value("SELECT count(*) FROM ledger_entries")
    tried = await Previewing(shop.database).run("shoes", "20%", month=f"{month.first:%Y-%m}")
    # Ada has 4 × 10.00, two of them at 12 %, and the bonus; Eve 10 % of 44.00. With 20 % and nothing else: 4 × 20.00
    assert tried["partners"] == [
        {"partner": "ada", "currency": "EUR", "booked": "69.00", "would_be": "80.00", "difference": "11.00"},
        {"partner": "eve", "currency": "EUR", "booked": "4.40", "would_be": "0.00", "difference": "-4.40"},
    ]
    assert tried["totals"] == [{"currency": "EUR", "booked": "73.40", "would_be": "80.00", "difference": "6.60"}]
    same = await Previewing(shop.database).run("shoes", PLAN, month=f"{month.first:%Y-%m}")
    assert {row["difference"] for row in same["partners"]} == {"0.00"}
    of_ada = await Previewing(shop.database).run("shoes", "1.00 EUR", month=f"{month.first:%Y-%m}", partner="ada")
    assert of_ada["totals"][0]["would_be"] == "4.00"
    assert before == (await shop.value("SELECT count(*) FROM terms"), await shop.value("SELECT count(*) FROM ledger_entries"))
    empty = await Previewing(shop.database).run("shoes", "20%")
    assert (empty["conversions"], empty["partners"]) == (0, [])


@pytest.mark.parametrize(
    ("said", "field"),
    [({"campaign": "gone"}, "campaign"), ({"goal": "gone"}, "goal"), ({"partner": "gone"}, "partner"), ({"month": "2026-13"}, "month"),
     ({"value": "ten"}, "payout")],
)  # fmt: skip
async def test_a_preview_of_nothing_names_the_field(shop, said, field):
    with pytest.raises((NotFound, RejectedInput)) as caught:
        await Previewing(shop.database).run(**{"campaign": "shoes", "value": "20%"} | said)
    assert caught.value.field == field
