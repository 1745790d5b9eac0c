"""Holds: what a store approves stays pending until its campaign's days are over, and is then approved by the keeper, once."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry

from tests.integration.api_client import click_text
from tests.integration.desk import AT, Desk
from tracker.adapters import postgres_due
from tracker.adapters.audit import audit
from workers.keeper_money import HoldKeeper
from workers.metrics import HoldMetrics

pytestmark = pytest.mark.integration
STATUS = "SELECT status FROM conversions WHERE txid = $1"
APPROVE_AT = "SELECT approve_at FROM conversions WHERE txid = $1"
OWED = "SELECT coalesce(sum(amount_micros), 0)::bigint FROM ledger_entries WHERE account = 'partner' AND status = $1"
OVER = "UPDATE conversions SET approve_at = now() - interval '90 seconds' WHERE txid = $1"


@pytest.fixture
async def desk(api, shop):
    opened = await Desk.opened(api, shop)
    await holds(api, 14)
    return opened


async def holds(api, days):
    changed = await api.admin("PATCH", "/api/v1/campaigns/shoes", {"hold_days": days})
    assert (changed.status_code, changed.json()["hold_days"]) == (200, days)


async def keep(shop):
    """One look of the keeper; its metrics."""
    registry = CollectorRegistry()
    await HoldKeeper(shop.database, HoldMetrics(registry)).once()
    return registry


async def act(api, shop, txid, action):
    number = await shop.value("SELECT id FROM conversions WHERE txid = $1", txid)
    return await api.admin("POST", f"/api/v1/conversions/{number}/{action}", {"reason": "seen"})


async def test_what_a_store_approves_waits_for_its_hold_and_is_approved_by_the_keeper(api, shop, desk, dsn, redis_url):
    told = await desk.says("T", amount="50", status="approved")
    until = AT + timedelta(days=14)
    assert (told.created, await shop.value(STATUS, "T"), await shop.value(APPROVE_AT, "T")) == ("pending", "pending", until)
    assert told.reason.endswith(f"approved by its store, on hold until {until:%Y-%m-%dT%H:%M:%SZ}")
    assert await shop.value("SELECT status FROM postbacks WHERE txid = 'T'") == "approved"
    shown = (await api.admin("GET", "/api/v1/conversions?txid=T")).json()["items"][0]
    assert (shown["approve_at"], shown["trace"][-1]) == (f"{until:%Y-%m-%dT%H:%M:%SZ}", told.reason.rpartition("; ")[2])
    assert (await keep(shop)).get_sample_value("turnout_holds_approved_total") == 0
    await shop.execute(
        "UPDATE conversions SET converted_at = converted_at - interval '15 days', approve_at = approve_at - interval '15 days'"
    )
    seen = await keep(shop)
    assert (seen.get_sample_value("turnout_holds_approved_total"), seen.get_sample_value("turnout_hold_overdue_seconds")) == (1, 0)
    assert (await shop.value(STATUS, "T"), await shop.value(APPROVE_AT, "T")) == ("approved", None)
    assert (await shop.value(OWED, "pending"), await shop.value(OWED, "approved")) == (0, 5_000_000)
    event = "SELECT actor || ': ' || action || ': ' || reason || ': ' || (after ->> 'status') FROM events WHERE entity = 'conversion'"
    assert await shop.value(event) == "keeper: approve: hold of 14 days is over: approved"
    entry = "SELECT DISTINCT kind || ': ' || actor || ': ' || reason FROM ledger_entries WHERE status = 'approved'"
    assert await shop.value(entry) == "approval: keeper: hold of 14 days is over"
    assert (await audit(dsn, redis_url, 1))["postbacks"]["state"] == "balanced"


async def test_a_hold_that_is_over_when_the_sale_is_told_of_holds_nothing(desk, shop):
    number = await shop.click(clicked_at=AT - timedelta(days=29))
    at = (AT - timedelta(days=15)).isoformat().replace("+00:00", "Z")
    told = await desk.says("T", amount="50", ts=at, click_id=click_text(number))
    assert (told.created, await shop.value(APPROVE_AT, "T")) == ("approved", None)


async def test_what_is_pending_waits_for_its_store_and_then_for_its_hold(api, shop, desk):
    await desk.says("T", amount="50", status="pending")
    assert await shop.value(APPROVE_AT, "T") is None
    for _ in range(2):  # the second time it says nothing new
        told = await desk.says("T", 1, status="approved")
        assert (told.outcome, told.reason[:22]) == ("duplicate", "approved by its store,")
        assert (await shop.value(STATUS, "T"), await shop.value(APPROVE_AT, "T")) == ("pending", AT + timedelta(days=14))
    traced = await shop.value("SELECT trace FROM conversions")
    assert len([line for line in traced if "on hold until" in line]) == 1
    await shop.execute(OVER, "T")
    await keep(shop)
    assert await shop.value(STATUS, "T") == "approved"


async def test_a_persons_word_and_a_store_that_takes_the_sale_back_end_a_hold(api, shop, desk):
    for txid in ("approve", "reject", "stores"):
        await desk.says(txid, amount="50")
    assert (await act(api, shop, "approve", "approve")).json()["status"] == "approved"
    assert (await act(api, shop, "reject", "reject")).json()["status"] == "rejected"
    await desk.says("stores", 1, status="reversed")
    assert await shop.value("SELECT count(approve_at) FROM conversions") == 0
    await keep(shop)
    found = await shop.database.fetch("SELECT status FROM conversions ORDER BY txid")
    assert [row["status"] for row in found] == ["approved", "rejected", "rejected"]


async def test_what_only_a_pixel_says_is_never_approved_by_itself(shop, desk):
    told = await desk.take(desk.report("T", 0, source="pixel", amount="50"))
    assert (told.created, await shop.value(APPROVE_AT, "T")) == ("pending", None)
    await shop.execute('UPDATE advertisers SET settings = \'{"pixel_status": "approved"}\'')
    desk.advertiser = type(desk.advertiser)(desk.advertiser.advertiser_id, "shop", "EUR", "approved")
    told = await desk.take(desk.report("U", 0, source="pixel", amount="50"))
    assert (told.created, await shop.value(APPROVE_AT, "U")) == ("pending", None)
    told = await desk.says("T", 1, amount="50")  # the store's own report
    assert (await shop.value(STATUS, "T"), await shop.value(APPROVE_AT, "T")) == ("pending", AT + timedelta(minutes=1, days=14))


async def test_an_earlier_report_that_comes_late_moves_the_end_of_the_hold(shop, desk):
    await desk.says("T", 10, amount="50")
    await desk.says("T", 0, amount="40", status="pending")
    assert (await shop.value(STATUS, "T"), await shop.value(APPROVE_AT, "T")) == ("pending", AT + timedelta(days=14))
    assert await shop.value("SELECT amount_micros FROM conversions") == 40_000_000


async def test_another_hold_is_for_what_is_made_afterwards(api, shop, desk):
    await desk.says("T", amount="50")
    await holds(api, 0)
    assert (await desk.says("U", amount="50")).created == "approved"
    assert (await shop.value(STATUS, "T"), await shop.value(APPROVE_AT, "T")) == ("pending", AT + timedelta(days=14))
    await desk.says("U", -10, amount="40")  # earlier reports that come late
    assert await shop.value(STATUS, "U") == "approved"
    await desk.says("T", -10, amount="40", status="pending")
    assert (await shop.value(STATUS, "T"), await shop.value(APPROVE_AT, "T")) == ("pending", AT + timedelta(days=14, minutes=-10))
    for wrong in (-1, 366, True, "1.5", None):
        refused = await api.admin("PATCH", "/api/v1/campaigns/shoes", {"hold_days": wrong})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_hold_days")


@pytest.mark.parametrize("minute", [1, -1])
async def test_what_was_made_without_a_hold_is_not_held_by_a_later_one(api, shop, desk, minute):
    await holds(api, 0)
    await desk.says("T", amount="50", status="pending")
    await holds(api, 14)
    await desk.says("T", minute, amount="50", status="approved")
    assert (await shop.value(STATUS, "T"), await shop.value(APPROVE_AT, "T")) == ("approved", None)


async def test_a_conversion_that_comes_to_another_campaign_comes_under_its_hold(api, shop, desk):
    await desk.says("T", 10, amount="50")
    hats = {"slug": "hats", "advertiser": "shop", "destination_url": "https://shop.example/", "hold_days": 30}
    assert (await api.admin("POST", "/api/v1/campaigns", hats)).status_code == 201
    assert (await api.admin("POST", "/api/v1/coupons", {"code": "HAT", "partner": "ada", "campaign": "hats"})).status_code == 201
    await desk.says("T", 0, amount="50", click_id="", coupon="HAT")
    assert await shop.value("SELECT m.slug FROM conversions c JOIN campaigns m ON m.id = c.campaign") == "hats"
    assert (await shop.value(STATUS, "T"), await shop.value(APPROVE_AT, "T")) == ("pending", AT + timedelta(days=30))


async def test_several_keepers_approve_each_once_and_leave_what_somebody_holds(shop, desk, dsn, redis_url, monkeypatch):
    monkeypatch.setattr(postgres_due, "ROUND", 3)
    monkeypatch.setattr("workers.keeper_money.ROUND", 3)
    for number in range(10):
        await desk.says(f"T{number}", amount="50")
    await shop.execute("UPDATE conversions SET approve_at = now() - interval '1 hour'")
    async with shop.database.connection() as other, other.transaction():
        await other.execute("SELECT 1 FROM conversions WHERE txid = 'T0' FOR UPDATE")
        found = await asyncio.gather(*(keep(shop) for _ in range(3)))
        assert sum(one.get_sample_value("turnout_holds_approved_total") for one in found) == 9
        assert found[0].get_sample_value("turnout_hold_overdue_seconds") >= 3600
    await keep(shop)
    assert await shop.value("SELECT count(*) FROM conversions WHERE status = 'approved'") == 10
    assert await shop.value("SELECT count(*) FROM events WHERE action = 'approve'") == 10
    assert (await audit(dsn, redis_url, 1))["postbacks"]["state"] == "balanced"


async def test_a_keeper_that_is_stopped_leaves_the_rest_for_the_next(shop, desk):
    await desk.says("T", amount="50")
    await shop.execute(OVER, "T")
    stop = asyncio.Event()
    stop.set()
    registry = CollectorRegistry()
    await HoldKeeper(shop.database, HoldMetrics(registry)).once(stop)
    assert registry.get_sample_value("turnout_hold_overdue_seconds") >= 90
    assert datetime.now(UTC) > await shop.value(APPROVE_AT, "T")
