"""Tiers, bonuses and clicks of a month, booked as it grows, by the difference; and a changed payout tried on a month."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest

from tests.integration.api_client import click_text
from tracker.adapters.postgres_months import Month, month_of, settle_clicks
from tracker.errors import NotFound, RejectedInput
from tracker.payouts.preview import Previewing
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
SOLD_AT = datetime.now(UTC) - timedelta(days=1)
ENTRIES = """
    SELECT p.slug AS partner, l.kind, l.status, sum(l.amount_micros)::bigint AS micros
    FROM ledger_entries l JOIN partners p ON p.id = l.partner_id
    WHERE l.kind IN ('tiers', 'bonus', 'clicks') GROUP BY 1, 2, 3 HAVING sum(l.amount_micros) <> 0 ORDER BY 1, 2, 3
"""


@pytest.fixture
async def month(api, shop):
    """A month of the campaign, its plan with everything that looks at months; Ada's parent is Eve. Orders are of one instant in it."""
    await api.admin("POST", "/api/v1/partners", {"slug": "eve"})
    await api.admin("PATCH", "/api/v1/partners/ada", {"parent": "eve"})
    await shop.execute("UPDATE partner_parents SET effective_from = '-infinity'")
    terms = {"campaign": "shoes", "payout": PLAN, "effective_from": "2026-01-01"}
    assert (await api.admin("POST", "/api/v1/terms", terms)).status_code == 201
    campaign = await shop.value("SELECT id FROM campaigns WHERE slug = 'shoes'")
    return Month(campaign, SOLD_AT.date().replace(day=1))


async def order(api, shop, number, **said):
    click = click_text(await shop.click(clicked_at=SOLD_AT - timedelta(minutes=5)))
    said = {"token": shop.token, "click_id": click, "txid": f"o-{number}", "amount": "100.00", "ts": SOLD_AT.isoformat()} | said
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


async def test_clicks_of_days_that_are_over_are_paid_by_the_terms_of_their_day_without_rounding(api, shop, month):
    statement = """
        INSERT INTO daily_stats (day, slot, campaign, partner, clicks, unique_clicks, total)
        SELECT $1, $2, $3, id, $4, $4, $4 FROM (SELECT id FROM partners WHERE slug = 'ada' UNION SELECT 0) p
    """  # 0: clicks that nobody brought
    january = Month(month.campaign, date(2026, 1, 1))
    dearer = PLAN | {"per_click": "0.05"}
    for whose in ({"effective_from": "2026-01-10T12:00"}, {"effective_from": "2026-01-20", "partner": "ada"}):
        payout = dearer if "partner" not in whose else PLAN | {"per_click": "0.1"}
        assert (await api.admin("POST", "/api/v1/terms", {"campaign": "shoes", "payout": payout} | whose)).status_code == 201
    for day, clicks in ((1, 3), (10, 4), (11, 5), (20, 6), (31, 7)):
        await shop.execute(statement, date(2026, 1, day), day, month.campaign, clicks)
    async with shop.database.connection() as connection:
        assert await settle_clicks(connection, january, until=date(2026, 1, 31), actor="test") == 1
        assert await settle_clicks(connection, january, until=date(2026, 1, 31), actor="test") == 0
    # 7 × 0.0375 until the terms of the 10th at noon, 5 × 0.05, and 6 × 0.1; the 31st is not over
    assert await entries(shop) == {("ada", "clicks", "approved"): 262_500 + 250_000 + 600_000}
    await MonthKeeper(shop.database).once()  # looks at this month and the last
    assert len(await entries(shop)) == 1


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


async def test_what_changes_while_no_keeper_runs_is_found_however_old_and_wherever_it_goes(api, shop, month):
    orders = [await order(api, shop, number) for number in range(3)]
    assert (await look(shop))["ada", "tiers", "approved"] == 2_000_000
    await shop.execute("UPDATE conversions SET converted_at = converted_at - interval '1 year' WHERE id = $1", UUID(orders[0]))
    assert await look(shop) == {}  # the month that it left has two
    assert await shop.value("SELECT count(*) FROM month_changes") == 0


async def test_terms_with_tiers_that_are_put_in_force_by_recompute_are_booked_though_no_payout_changes(api, shop, month):
    plain = {"campaign": "shoes", "payout": "10%", "effective_from": "2026-01-02"}
    assert (await api.admin("POST", "/api/v1/terms", plain)).status_code == 201
    for number in range(3):
        await order(api, shop, number)
    assert await look(shop) == {}
    tiers = {"type": "plan", "rate": "10%", "tiers": PLAN["tiers"]}
    assert (await api.admin("POST", "/api/v1/terms", plain | {"payout": tiers, "effective_from": "2026-01-03"})).status_code == 201
    days = {"from": SOLD_AT.date().isoformat(), "to": SOLD_AT.date().isoformat()}
    assert (await api.admin("POST", "/api/v1/campaigns/shoes/recompute", days)).json()["looked_at"] == 3
    assert await look(shop) == {("ada", "tiers", "approved"): 2_000_000}


async def test_a_preview_leaves_promotions_in_force_and_comes_before_what_was_changed_in_the_month(api, shop, month):
    await order(api, shop, 0)
    name = f"{month.first:%Y-%m}"
    later = {"campaign": "shoes", "payout": "1%", "effective_from": SOLD_AT.date().isoformat()}
    assert (await api.admin("POST", "/api/v1/terms", later)).status_code == 201
    assert (await Previewing(shop.database).run("shoes", "20%", month=name))["totals"][0]["would_be"] == "20.00"
    promotion = {"campaign": "shoes", "payout": "50%", "effective_from": "2026-01-05", "effective_to": "2099-01-01"}
    assert (await api.admin("POST", "/api/v1/terms", promotion)).status_code == 201
    assert (await Previewing(shop.database).run("shoes", "20%", month=name))["totals"][0]["would_be"] == "50.00"
    assert await shop.value("SELECT count(*) FROM terms WHERE effective_from = $1", month.bounds[1]) == 0


async def test_a_sale_by_other_terms_counts_and_takes_nothing_away(api, shop, month):
    for number in range(3):
        await order(api, shop, number)
    own = {"campaign": "shoes", "payout": "12%", "partner": "ada"}
    assert (await api.admin("POST", "/api/v1/terms", own | {"effective_from": "2026-01-01"})).status_code == 201
    await order(api, shop, 3)
    # the fourth, by plain terms, has no bonus; the third keeps its tier
    assert await look(shop) == {("ada", "tiers", "approved"): 2_000_000, ("eve", "tiers", "approved"): 200_000}


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
    empty = await Previewing(shop.database).run("shoes", "20%", month="2026-01")
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
