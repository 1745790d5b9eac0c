"""Several reports of one order under each duplicate policy: what is owed at the end, in whatever order and however often they come."""

import asyncio
import random
from collections import Counter
from datetime import timedelta

import pytest

from tests.integration.api_client import click_text
from tests.integration.desk import AT, Desk
from tracker.domain.money import MICROS
from tracker.programme import DUPLICATE_POLICIES

pytestmark = pytest.mark.integration
OWED = """
    SELECT account || coalesce(nullif(' ' || p.slug, ' ada'), '') AS account, sum(amount_micros)::bigint AS micros
    FROM ledger_entries l LEFT JOIN partners p ON p.id = l.partner_id
    WHERE conversion_id IN (SELECT id FROM conversions WHERE txid = $1) GROUP BY 1 HAVING sum(amount_micros) <> 0
"""
BOBS = """
    WITH p AS (INSERT INTO partners (slug) VALUES ('bob') RETURNING id),
    t AS (INSERT INTO terms (campaign_id, partner_id, payout_type, percent_micros)
        SELECT campaign, p.id, 'percent', 30000000 FROM p, clicks WHERE click_id = $1)
    UPDATE clicks SET partner = p.id FROM p WHERE click_id = $1
"""
ROWS = """
    SELECT occurrence, amount_micros, payout_micros, status, is_repeat,
        (SELECT coalesce(sum(s.amount_micros), 0)::bigint FROM conversion_shares s WHERE s.conversion_id = c.id) AS shares
    FROM conversions c WHERE txid = $1 ORDER BY occurrence
"""


class Orders(Desk):
    """What became of a shop's reports."""

    async def policy(self, policy):
        await self.shop.execute("UPDATE goals SET duplicate_policy = $1 WHERE slug = 'sale'", policy)

    async def bobs_click(self):
        """A click of another partner, who is paid 30 %."""
        click = await self.shop.click(clicked_at=AT - timedelta(hours=2))
        await self.shop.execute(BOBS, click)
        return click_text(click)

    async def owed(self, txid):
        """account → what it comes to; `partner` is ada."""
        rows = await self.shop.database.fetch(OWED, txid)
        return {row["account"]: row["micros"] / MICROS for row in rows}

    async def rows(self, txid):
        rows = await self.shop.database.fetch(ROWS, txid)
        assert all(row["payout_micros"] == row["shares"] for row in rows)
        return [(row["occurrence"], row["amount_micros"] // MICROS, row["status"], row["is_repeat"]) for row in rows]


@pytest.fixture
async def desk(api, shop):
    return await Orders.opened(api, shop)


async def outcomes(desk, policy, *reports):
    """Take the reports of one order, a minute apart; the outcomes, the conversions, what the partner is owed."""
    await desk.policy(policy)
    verdicts = [await desk.says("T", minute, **parameters) for minute, parameters in enumerate(reports)]
    return [verdict.outcome for verdict in verdicts], await desk.rows("T"), (await desk.owed("T")).get("partner", 0)


STATED = ["pending", "approved"]
STATED_OR_TAKEN_BACK = [*STATED * 5, "reversed", "rejected"]  # seldom: nothing is owed for what is taken back, so it shows nothing
TEN, TWENTY = {"amount": "10"}, {"amount": "20"}


async def test_ignore_keeps_the_first_and_shows_the_difference(desk):
    found = await outcomes(desk, "ignore", TEN, TWENTY, TEN)
    assert found == (["attributed", "conflict", "duplicate"], [(1, 10, "approved", False)], 1)


async def test_conflict_refuses_another_amount(desk):
    found = await outcomes(desk, "conflict", TEN, TWENTY)
    assert found == (["attributed", "conflict"], [(1, 10, "approved", False)], 1)


async def test_amend_takes_the_last_by_ledger_entries(desk):
    found = await outcomes(desk, "amend", TEN | {"status": "pending"}, TWENTY, TWENTY, {"status": "approved"})
    assert found == (["attributed", "attributed", "duplicate", "duplicate"], [(1, 20, "approved", False)], 2)
    kinds = await desk.shop.database.fetch("SELECT kind, count(*) AS n FROM ledger_entries GROUP BY kind ORDER BY kind")
    assert {row["kind"]: row["n"] for row in kinds} == {"approval": 4, "conversion": 2, "correction": 2}


async def test_increment_adds_each_report_once(desk):
    found = await outcomes(desk, "increment", TEN, TWENTY, TEN, {"status": "reversed"})
    assert found == (["attributed", "attributed", "attributed", "duplicate"], [(1, 40, "reversed", False)], 0)
    assert (await desk.says("T", 9, amount="5", currency="USD")).outcome == "conflict"
    verdict = await desk.says("T", 10, amount="5")
    assert (verdict.outcome, verdict.reason) == ("conflict", "5.00 EUR was added to 40.00 EUR; nothing is owed, conversion is reversed")
    assert (await desk.rows("T"), await desk.owed("T")) == ([(1, 45, "reversed", False)], {})


async def becomes_an_orphan(desk, click, **said):
    """A report whose click nobody knew in time, and two more of its order."""
    assert (await desk.says("T", 1, click_id=click, amount="10", **said)).status == "parked"
    await desk.shop.execute("UPDATE postbacks SET parked_until = now() - interval '1 day', next_try_at = now()")
    await desk.shop.sweep()
    assert (await desk.says("T", 3, click_id=click, amount="20")).status == "orphan"
    assert (await desk.says("T", 4, click_id=click, status="approved")).status == "orphan"


@pytest.mark.parametrize(("policy", "micros", "rows"), [("increment", 30, 1), ("always_new", 30, 2), ("amend", 20, 1), ("ignore", 10, 1)])
async def test_what_was_said_of_an_orphan_counts_once_its_click_has_come(desk, api, policy, micros, rows):
    await desk.policy(policy)
    late = desk.shop.new_click_id(AT - timedelta(hours=1))
    await becomes_an_orphan(desk, click_text(late))
    await desk.shop.click(late, clicked_at=AT - timedelta(hours=1))
    assert (await api.admin("POST", "/api/v1/conversions/match", {})).json()["attributed"] == 1
    await desk.shop.sweep()
    assert (await desk.owed("T"), len(await desk.rows("T"))) == ({"partner": micros / 10, "advertiser": micros}, rows)
    assert await desk.shop.value("SELECT count(*) FROM postbacks WHERE outcome IN ('parked', 'orphan')") == 0


async def test_all_that_was_said_of_an_orphan_is_added_when_another_report_matches_it(desk):
    await desk.policy("increment")
    await becomes_an_orphan(desk, "102ab4")
    assert (await desk.says("T", 5, status="approved")).outcome == "attributed"
    await desk.shop.sweep()
    assert await desk.owed("T") == {"partner": 3, "advertiser": 30}


async def test_always_new_makes_a_conversion_of_each_report(desk):
    found = await outcomes(desk, "always_new", TEN, TEN, TWENTY)
    assert found == (["attributed"] * 3, [(1, 10, "approved", False), (2, 10, "approved", False), (3, 20, "approved", False)], 4)
    assert (await desk.says("T", 5, amount="10", status="reversed")).duplicate
    assert await desk.owed("T") == {"partner": 3, "advertiser": 30}
    assert (await desk.says("T", 6, status="reversed")).duplicate
    assert await desk.owed("T") == {"partner": 1, "advertiser": 10}


async def test_new_or_repeated_marks_the_repetitions(desk):
    found = await outcomes(desk, "new_or_repeated", TEN, TEN)
    assert found == (["attributed", "attributed"], [(1, 10, "approved", False), (2, 10, "approved", True)], 2)


async def test_by_event_id_an_event_counts_once_whatever_its_order(desk):
    a, b = {"event_id": "a"}, {"event_id": "b"}
    found = await outcomes(desk, "by_event_id", TEN | a, TEN | a, TWENTY | b, TEN)
    assert found == (["attributed", "duplicate", "attributed", "conflict"], [(1, 10, "approved", False), (2, 20, "approved", False)], 3)
    assert (await desk.says("U", 9, amount="10", event_id="a")).outcome == "duplicate"
    assert await desk.rows("U") == []


async def test_a_status_without_an_amount_is_no_other_order(desk):
    found = await outcomes(desk, "always_new", TEN | {"status": "pending"}, {"status": "approved"})
    assert found == (["attributed", "duplicate"], [(1, 10, "approved", False)], 1)


async def test_what_was_taken_back_before_it_was_heard_of_stays_so(desk):
    await desk.policy("always_new")
    await desk.says("T", 5, amount="10", status="reversed")
    await desk.says("T", 1, amount="10")
    assert (await desk.rows("T"), await desk.owed("T")) == ([(1, 10, "reversed", False)], {})


async def test_an_earlier_report_that_comes_late_goes_before(desk):
    await desk.policy("ignore")
    later, earlier = desk.report("T", 5, amount="20"), desk.report("T", 1, amount="10")
    assert (await desk.take(later)).outcome == "attributed"
    verdict = await desk.take(earlier)
    assert (verdict.outcome, verdict.reason.split(": ")[-1]) == ("attributed", "it was 20.00 EUR")
    assert (await desk.rows("T"), await desk.owed("T")) == ([(1, 10, "approved", False)], {"partner": 1, "advertiser": 10})


async def test_a_pixel_makes_no_second_conversion_of_what_the_shop_said(desk):
    await desk.policy("always_new")
    await desk.says("T", 1, amount="10")
    pixel = desk.report("T", 2, amount="10", source="pixel")
    assert (await desk.take(pixel)).outcome == "duplicate"
    assert len(await desk.rows("T")) == 1


@pytest.mark.parametrize("policy", DUPLICATE_POLICIES)
async def test_money_depends_neither_on_the_order_of_arrival_nor_on_repetition(desk, policy):
    """25 random orders of up to 5 reports, each taken in its own order and then, under another number, shuffled and some twice."""
    await desk.policy(policy)
    rng = random.Random(policy)
    several = policy in ("always_new", "new_or_repeated", "by_event_id")
    clicks = [desk.click] if policy == "increment" else [desk.click, await desk.bobs_click()]
    for number in range(25):
        told = []
        for minute in range(rng.randint(1, 5)):
            said = {"amount": rng.choice(["10", "20", "30.50"]), "click_id": rng.choice(clicks)}
            if policy == "amend":
                said["amount"] = rng.choice(["", said["amount"], said["amount"]])
                said["currency"] = rng.choice(["EUR", "USD"])
            if rng.random() < 0.5:
                said["status"] = rng.choice(STATED if several else STATED_OR_TAKEN_BACK)
            if policy == "by_event_id":
                said["event_id"] = f"{number}-{minute}"
            told.append((minute, said))
        straight = [desk.report(f"S{number}", minute, **said) for minute, said in told]
        mixed = [
            desk.report(f"M{number}", minute, **(said | ({"event_id": f"m{said['event_id']}"} if "event_id" in said else {})))
            for minute, said in told
        ]
        mixed += rng.sample(mixed, rng.randint(0, len(mixed)))
        rng.shuffle(mixed)
        for postback in (*straight, *mixed):
            await desk.take(postback)
        assert await desk.owed(f"S{number}") == await desk.owed(f"M{number}"), (told, [postback.received_at for postback in mixed])


@pytest.mark.parametrize("policy", DUPLICATE_POLICIES)
async def test_many_at_once_come_to_the_same(desk, policy):
    """20 reports of one order at once, each from two processes' worth of connections at the same time."""
    await desk.policy(policy)
    reports = [desk.report("T", 0, amount="10", event_id=f"e{number % 4}") for number in range(20)]
    await asyncio.gather(*(desk.take(postback) for postback in (*reports, *reports)))
    expected = {"ignore": 10, "conflict": 10, "amend": 10, "increment": 200, "always_new": 200, "new_or_repeated": 200, "by_event_id": 40}
    assert (await desk.owed("T"))["advertiser"] == expected[policy]
    kept = Counter(row["outcome"] for row in await desk.shop.database.fetch("SELECT outcome FROM postbacks"))
    assert kept.total() == 20


async def test_a_pixel_changes_neither_amount_nor_click_of_a_known_order(desk):
    rival = await desk.shop.click(clicked_at=AT - timedelta(hours=2))
    forged = {"click_id": click_text(rival), "amount": "100000", "ts": "2026-01-01T00:00:00Z"}
    for policy in ("ignore", "amend", "increment"):
        await desk.policy(policy)
        await desk.shop.execute("TRUNCATE postbacks, conversions, conversion_shares CASCADE")
        await desk.says("T", 1, amount="50", source="pixel")
        assert (await desk.says("T", 2, source="pixel", **forged)).duplicate
        row = await desk.shop.database.fetchrow("SELECT amount_micros, click_id FROM conversions")
        assert (row["amount_micros"], click_text(row["click_id"])) == (50 * MICROS, desk.click), policy


async def test_the_shops_own_report_takes_the_place_of_its_own_pixels(desk):
    for policy in ("always_new", "by_event_id"):
        await desk.policy(policy)
        await desk.shop.execute("TRUNCATE postbacks, conversions, conversion_shares CASCADE")
        a, b = {"amount": "10", "event_id": "a"}, {"amount": "20", "event_id": "b"}
        for minute, said in enumerate((a, b)):
            await desk.says("T", minute, source="pixel", **said)
        for minute, said in enumerate((a, b)):
            await desk.says("T", 5 + minute, **said)
        assert await desk.rows("T") == [(1, 10, "approved", False), (2, 20, "approved", False)], policy


async def test_a_reversal_of_an_amount_that_none_has_is_shown_and_takes_back_no_other(desk):
    await desk.policy("always_new")
    await desk.says("T", 1, amount="10")
    verdict = await desk.says("T", 2, amount="20", status="reversed")
    assert (verdict.outcome, await desk.owed("T")) == ("conflict", {"partner": 1, "advertiser": 10})


async def test_the_first_click_earns_a_lead_without_an_amount(desk):
    """The same two reports in both orders of arrival."""
    await desk.policy("ignore")
    other = click_text(await desk.shop.click(clicked_at=AT - timedelta(hours=2)))
    for txid, order in (("T", (0, 1)), ("U", (1, 0))):
        reports = [desk.report(txid, 1, click_id=other), desk.report(txid, 2)]
        for number in order:
            await desk.take(reports[number])
        assert click_text(await desk.shop.value("SELECT click_id FROM conversions WHERE txid = $1", txid)) == other


@pytest.mark.parametrize("policy", ["ignore", "amend", "increment", "always_new", "by_event_id"])
async def test_a_shop_that_only_states_a_status_keeps_what_its_pixel_said_of_the_sale(desk, policy):
    """By the pixel's click, by one of its own, and by none that earns; then the shop names an amount after all."""
    await desk.policy(policy)
    bobs = await desk.bobs_click()
    for txid, said, owed in (
        ("T", {}, {"partner": 5, "advertiser": 50}),
        ("U", {"click_id": bobs}, {"partner bob": 15, "advertiser": 50}),
        ("V", {"click_id": "", "coupon": "NOBODYS"}, {"partner": 5, "advertiser": 50}),
    ):
        await desk.says(txid, 1, source="pixel", amount="50", discount="4", tax="9", event_id=txid)
        await desk.says(txid, 2, status="approved", tax="8", **said)
        row = await desk.shop.database.fetchrow("SELECT status, details FROM conversions WHERE txid = $1", txid)
        assert (await desk.owed(txid), row["status"]) == (owed, "approved"), txid
        assert row["details"] == {"discount": "4.00", "tax": "9.00" if txid == "V" else "8.00"}
    assert (await desk.says("T", 3, amount="60", event_id="T")).outcome == "attributed"
    assert await desk.owed("T") == {"partner": 6, "advertiser": 60}
    assert (await desk.says("T", 4, amount="60", event_id="T")).duplicate is (policy not in ("increment", "always_new"))


async def test_a_status_is_followed_by_the_very_conversion_that_takes_the_amount(desk):
    await desk.policy("always_new")
    for minute, amount in enumerate(("30", "40")):
        await desk.says("T", minute, source="pixel", amount=amount, status="pending")
    await desk.says("T", 2, status="pending")
    assert (await desk.says("T", 3, amount="50", status="approved")).outcome == "attributed"
    assert await desk.rows("T") == [(1, 30, "pending", False), (2, 50, "approved", False)]
    assert (
        await desk.shop.value("SELECT sum(amount_micros) FROM ledger_entries WHERE account = 'partner' AND status = 'approved'")
        == 5 * MICROS
    )


async def test_an_event_that_is_known_by_another_order_number_takes_the_shops_amount_and_status(desk):
    await desk.policy("by_event_id")
    await desk.says("A", 1, source="pixel", amount="40", event_id="e")
    await desk.says("A", 2, status="pending", event_id="e")
    assert (await desk.says("B", 3, amount="50", status="approved", event_id="e")).outcome == "attributed"
    assert (await desk.rows("A"), await desk.rows("B")) == ([(1, 50, "approved", False)], [])
    assert await desk.owed("A") == {"partner": 5, "advertiser": 50}


@pytest.mark.parametrize("is_order_known", [True, False])
async def test_a_conversion_that_is_found_by_its_event_keeps_its_order_number(desk, is_order_known):
    await desk.policy("by_event_id")
    await desk.says("A", 1, source="pixel", amount="40", event_id="e")
    if is_order_known:
        assert (await desk.says("B", 2, amount="20", event_id="f")).outcome == "attributed"
    report = desk.report("B", 3, amount="50", event_id="e")
    assert (await desk.take(report)).outcome == "attributed"
    assert await desk.rows("A") == [(1, 50, "approved", False)]
    assert await desk.rows("B") == ([(1, 20, "approved", False)] if is_order_known else [])
    assert (await desk.says("B", 4, amount="50", event_id="e")).outcome == "duplicate"
    assert await desk.owed("A") == {"partner": 5, "advertiser": 50}


async def test_an_orphan_that_is_found_by_its_event_keeps_its_order_number_and_what_was_said_of_it(desk):
    await desk.policy("by_event_id")
    await becomes_an_orphan(desk, "102ab4", event_id="e")
    await desk.says("B", 5, amount="20", event_id="f")
    assert (await desk.says("B", 6, amount="50", event_id="e")).outcome == "attributed"
    await desk.shop.sweep()
    assert await desk.rows("B") == [(1, 20, "approved", False)]
    assert await desk.rows("T") == [(1, 50, "approved", False)]
