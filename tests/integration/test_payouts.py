"""Payout runs: what is paid, what is held and carried over, who approves, what comes back; and that it always adds up."""

import asyncio
import csv
import io
import json
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from alembic.command import upgrade

from tests.integration.payout_books import (
    IBANS,
    RUNS,
    amounts,
    assert_all_adds_up,
    does,
    earns,
    key_of,
    of_sale,
    paid_to,
    partner,
    runs,
)
from tracker.adapters import postgres_payouts, schema
from tracker.api import payouts as api_payouts
from tracker.cli import main
from tracker.cli import payouts as cli
from tracker.errors import RejectedInput

pytestmark = pytest.mark.integration
DUE = "SELECT coalesce(sum(amount_micros), 0)::bigint FROM ledger_entries WHERE account = 'partner' AND status = 'approved'"

OPEN = "SELECT string_agg(o::text, ' ' ORDER BY ledger_entry_id) FROM open_entries o"


async def test_who_reaches_the_minimum_is_paid_and_who_does_not_is_carried_over(api, shop):
    await partner(api, "bea")
    await partner(api, "cal")
    await partner(api, "new")
    await earns(shop, "ada", "50.00")
    await earns(shop, "bea", "49.99")
    await earns(shop, "cal", "70.00")
    await earns(shop, "cal", "-0.01")
    await earns(shop, "new", "90.00", status="pending")
    made = await runs(api, minimum="50.00")
    assert amounts(made) == {
        "ada": ("0.00", "50.00", "50.00", "0.00", "due"),
        "bea": ("0.00", "49.99", "0.00", "49.99", "carried"),
        "cal": ("0.00", "69.99", "69.99", "0.00", "due"),
    }
    assert (made["run"], made["status"], made["totals"]["payment"], made["totals"]["due"]) == ("eur-2025-10-31", "approved", "119.99", 2)
    assert await shop.value(DUE) == 49_990_000
    await assert_all_adds_up(shop)
    await earns(shop, "bea", "0.01", "2025-11-01")
    assert amounts(await runs(api, "2025-11", minimum="50.00")) == {"bea": ("49.99", "0.01", "50.00", "0.00", "due")}
    await assert_all_adds_up(shop)


async def test_a_debt_is_carried_until_it_is_earned_back(api, shop):
    await earns(shop, "ada", "-30.00", "2025-09-05")
    assert amounts(await runs(api, "2025-09"))["ada"] == ("0.00", "-30.00", "0.00", "-30.00", "carried")
    await earns(shop, "ada", "20.00")
    assert amounts(await runs(api, "2025-10"))["ada"] == ("-30.00", "20.00", "0.00", "-10.00", "carried")
    assert amounts(await runs(api, "2025-11"))["ada"] == ("-10.00", "0.00", "0.00", "-10.00", "carried")
    await earns(shop, "ada", "25.00", "2025-12-01")
    assert amounts(await runs(api, "2025-12"))["ada"] == ("-10.00", "25.00", "15.00", "0.00", "due")
    assert (await runs(api, "2026-01"))["statements"] == []
    assert await shop.value(DUE) == 0
    await assert_all_adds_up(shop)


async def test_what_is_less_than_a_cent_is_kept_for_the_next_months(api, shop):
    for month in ("08", "09", "10"):
        await earns(shop, "ada", "1.003333", f"2026-{month}-01")
        await runs(api, f"2026-{month}")
    paid = await shop.database.fetch("SELECT payment_micros, closing_micros FROM statements ORDER BY id")
    assert [tuple(row.values()) for row in paid] == [(1_000_000, 3_333), (1_010_000, -3_334), (1_000_000, -1)]
    await earns(shop, "ada", "10.5", "2025-10-01", currency="JPY")
    shown = (await runs(api, "2025-10", currency="JPY"))["statements"][0]
    assert (shown["payment"], shown["closing"]) == ("10", "0.5")
    await assert_all_adds_up(shop)


async def test_the_last_days_are_held_and_come_with_the_next_run(api, shop):
    await earns(shop, "ada", "1.00", "2025-10-17")
    await earns(shop, "ada", "2.00", "2025-10-18")
    made = await runs(api, hold_days=14)
    assert (made["taken_to"], amounts(made)["ada"][1]) == ("2025-10-17", "1.00")
    await earns(shop, "ada", "4.00", "2025-10-03")  # booked late
    assert amounts(await runs(api, "2025-11", hold_days=14))["ada"][1] == "6.00"
    await assert_all_adds_up(shop)


async def test_a_sale_that_is_known_to_be_taken_back_is_not_paid(api, shop):
    """A reversal waits for no hold and no next period: it is ripe when its sale is. What is booked later is for the next run."""
    held, late, fixed = uuid4(), uuid4(), uuid4()
    for sale in (held, late, fixed):
        await of_sale(shop, sale, "conversion", "100.00", "2025-10-10")
    await of_sale(shop, held, "reversal", "-100.00", "2025-10-20")
    await of_sale(shop, late, "reversal", "-100.00", "2025-11-05")
    await of_sale(shop, fixed, "correction", "1.50", "2025-11-05")
    await of_sale(shop, uuid4(), "conversion", "7.00", "2025-10-18")
    assert amounts(await runs(api, hold_days=14))["ada"] == ("0.00", "101.50", "101.50", "0.00", "due")
    await of_sale(shop, fixed, "reversal", "-101.50", "2025-11-25")
    assert amounts(await runs(api, "2025-11", hold_days=14))["ada"] == ("0.00", "-94.50", "0.00", "-94.50", "carried")
    await assert_all_adds_up(shop)


async def test_a_sale_is_ripe_when_it_was_approved_and_so_is_what_takes_it_back(api, shop):
    sale, held = uuid4(), uuid4()
    for one in (sale, held):
        await of_sale(shop, one, "conversion", "10.00", "2025-09-01", status="pending")
        await of_sale(shop, one, "status", "-10.00", "2025-10-20", status="pending")
        await of_sale(shop, one, "status", "10.00", "2025-10-20")
    await of_sale(shop, sale, "reversal", "-10.00", "2025-12-01")
    assert await shop.value("SELECT count(*) FROM open_entries WHERE ripe_on = '2025-10-20'") == 3
    made = await runs(api, two_person=True)
    await does(api, made["run"], "cancel")
    assert await shop.value("SELECT count(*) FROM open_entries WHERE ripe_on = '2025-10-20'") == 3
    assert amounts(await runs(api))["ada"][1] == "10.00"
    await assert_all_adds_up(shop)


async def test_a_period_that_is_not_over_is_foreseen_and_not_run(api, shop):
    today = datetime.now(UTC).date()
    body = {"from": "2025-01-01", "to": today.isoformat(), "currency": "EUR"}
    await earns(shop, "ada", "50.00", today.isoformat())
    refused = await api.admin("POST", RUNS, body)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_to")
    told = (await api.admin("POST", RUNS, body | {"dry_run": True})).json()
    assert (told["period_is_over"], amounts(told)["ada"][2]) == (False, "50.00")
    assert await shop.value("SELECT count(*) FROM payout_runs") == 0
    made = await api.admin("POST", RUNS, body | {"to": (today - timedelta(days=1)).isoformat()})
    assert made.status_code == 201, made.text
    assert (await runs(api, "2024-01", currency="JPY", status=200, dry_run=True))["period_is_over"] is True


async def test_a_dry_run_says_the_same_and_writes_nothing(api, shop):
    await earns(shop, "ada", "50.00")
    before = await shop.value("SELECT count(*) FROM events")
    told = await runs(api, status=200, dry_run=True)
    assert amounts(told) == {"ada": ("0.00", "50.00", "50.00", "0.00", "due")}
    assert [await shop.value(f"SELECT count(*) FROM {table}") for table in ("payout_runs", "statements", "statement_lines")] == [0, 0, 0]
    assert await shop.value("SELECT count(*) FROM events") == before
    assert amounts(await runs(api)) == amounts(told)
    assert (await runs(api, status=409, dry_run=True))["code"] == "run_exists"


async def test_the_same_run_again_is_the_same_run_and_another_one_is_refused(api, shop):
    await earns(shop, "ada", "50.00")
    made = await runs(api, minimum="10")
    await earns(shop, "ada", "5.00")
    assert await runs(api, status=200, minimum="10.00") == made
    for more, field in (({"minimum": "11"}, "minimum"), ({"minimum": "10", "hold_days": 1}, "hold_days")):
        refused = await runs(api, status=409, **more)
        assert (refused["code"], refused["field"]) == ("run_differs", field)
    assert (await runs(api, "2025-09", status=409))["code"] == "later_run"
    assert await shop.value("SELECT count(*) FROM ledger_entries WHERE kind = 'payment'") == 1


async def test_several_runs_at_once_pay_everybody_once(api, shop):
    for number in range(20):
        await partner(api, f"p{number}")
        await earns(shop, f"p{number}", "10.00")
    body = {"period": "2025-10", "currency": "EUR"}
    other = {"period": "2025-11", "currency": "EUR"}
    asked = await asyncio.gather(*(api.admin("POST", RUNS, one) for one in (body, body, other, body, other)))
    assert {done.status_code for done in asked} <= {200, 201, 409}  # November may have been first
    assert [done.status_code for done in asked].count(201) in (1, 2)
    assert await shop.value("SELECT count(*) FROM ledger_entries WHERE kind = 'payment'") == 20
    assert await shop.value(DUE) == 0
    await assert_all_adds_up(shop)


async def test_what_is_booked_during_a_run_is_on_this_statement_or_the_next(api, shop):
    async def sells():
        for _ in range(40):
            await earns(shop, "ada", "1.00")

    await earns(shop, "ada", "1.00")
    await asyncio.gather(sells(), runs(api), sells())
    await runs(api, "2025-11")
    assert await shop.value(DUE) == 0
    assert await shop.value("SELECT sum(payment_micros)::bigint FROM statements") == 81_000_000
    await assert_all_adds_up(shop)


async def test_a_draft_pays_nobody_until_somebody_else_approves_it(api, shop):
    ann, ben = await key_of(api, "ann"), await key_of(api, "ben")
    await earns(shop, "ada", "50.00")
    made = await runs(api, key=ann, two_person=True)
    assert (made["status"], amounts(made)["ada"][2], await shop.value(DUE)) == ("draft", "50.00", 50_000_000)
    run = made["run"]
    for action, body in (("export", {"format": "csv"}), ("mark-paid", {})):
        assert (await does(api, run, action, 409, **body))["code"] == "not_approved"
    assert (await runs(api, "2025-11", status=409))["code"] == "draft_open"
    assert (await does(api, run, "approve", 409, key=ann))["code"] == "same_person"
    await earns(shop, "ada", "7.00")
    done = await does(api, run, "approve", key=ben, reason="looked at each")
    assert (done["status"], done["created_by"], done["approved_by"]) == ("approved", "key:ann", "key:ben")
    assert await does(api, run, "approve", key=ben) == done
    assert await shop.value(DUE) == 7_000_000
    assert (await does(api, run, "cancel", 409))["code"] == "approved"
    assert await shop.value("SELECT string_agg(actor || ' ' || action, ', ' ORDER BY id) FROM events WHERE entity = 'payout-run'") == (
        "key:ann create, key:ben approve"
    )
    await assert_all_adds_up(shop)


async def test_two_approvals_at_once_pay_once(api, shop):
    ann, ben, cyd = [await key_of(api, name) for name in ("ann", "ben", "cyd")]
    await earns(shop, "ada", "50.00")
    run = (await runs(api, key=ann, two_person=True))["run"]
    await asyncio.gather(does(api, run, "approve", key=ben), does(api, run, "approve", key=cyd))
    assert await shop.value("SELECT count(*) FROM ledger_entries WHERE kind = 'payment'") == 1
    await assert_all_adds_up(shop)


async def test_a_cancelled_draft_leaves_no_trace_in_balances(api, shop):
    await earns(shop, "ada", "-5.00", "2025-09-01")
    await runs(api, "2025-09")
    await earns(shop, "ada", "50.00")
    made = await runs(api, two_person=True)
    done = await does(api, made["run"], "cancel", reason="wrong minimum")
    assert (done["status"], done["statements"], await shop.value(DUE)) == ("cancelled", [], 45_000_000)
    assert (await does(api, made["run"], "cancel"))["status"] == "cancelled"
    assert (await does(api, made["run"], "approve", 409))["code"] == "cancelled"
    await assert_all_adds_up(shop)
    again = await runs(api, minimum="10")
    assert (again["run"], amounts(again)) == ("eur-2025-10-31-2", {"ada": ("-5.00", "50.00", "45.00", "0.00", "due")})
    kept = json.loads(await shop.value("SELECT before::text FROM events WHERE action = 'cancel'"))
    assert kept["totals"]["payment"] == "45.00"
    await assert_all_adds_up(shop)


async def test_a_payment_that_came_back_is_paid_by_the_next_run(api, shop):
    await partner(api, "bea")
    for who in ("ada", "bea"):
        await earns(shop, who, "50.00")
    run = (await runs(api))["run"]
    path = f"{RUNS}/{run}/statements"
    assert (await does(api, run, "mark-returned", 409, partner="ada"))["code"] == "invalid_status"
    assert (await does(api, run, "mark-paid", partner="ada", reference="B-1"))["changed"] == 1
    assert (await does(api, run, "mark-paid", partner="ada"))["changed"] == 0
    assert (await does(api, run, "mark-failed", 409, partner="ada"))["code"] == "invalid_status"
    assert (await does(api, run, "mark-returned", partner="ada", reason="account closed"))["changed"] == 1
    assert (await does(api, run, "mark-failed", partner="bea"))["changed"] == 1
    for again in ("mark-returned", "mark-failed"):
        assert (await does(api, run, again, partner="ada" if again == "mark-returned" else "bea"))["changed"] == 0
    assert (await does(api, run, "mark-paid", 409, partner="bea"))["code"] == "invalid_status"
    assert (await does(api, run, "mark-paid"))["changed"] == 0
    assert (await does(api, run, "mark-returned", 404, partner="nobody"))["code"] == "unknown_statement"
    assert (await does(api, run, "mark-failed", 422))["field"] == "partner"
    assert await shop.value(DUE) == 100_000_000
    shown = (await api.admin("GET", f"{path}/ada")).json()
    assert (shown["payment"], shown["closing"], shown["status"], shown["reason"]) == ("50.00", "0.00", "returned", "account closed")
    next_run = await runs(api, "2025-11", hold_days=30)  # what came back is not held again
    assert amounts(next_run) == dict.fromkeys(("ada", "bea"), ("0.00", "50.00", "50.00", "0.00", "due"))
    entries = (await api.admin("GET", f"{RUNS}/{next_run['run']}/statements/ada")).json()["entries"]
    assert [(entry["kind"], entry["amount"], entry["reason"]) for entry in entries] == [
        ("payment_returned", "50.00", f"payment of payout run {run} returned: account closed"),
    ]
    assert (await does(api, next_run["run"], "mark-paid"))["changed"] == 2
    assert await shop.value(DUE) == 0
    told = await shop.value("SELECT string_agg(action, ', ' ORDER BY id) FROM events WHERE entity_id = $1", f"{run}/ada")
    assert told == "mark-paid, mark-returned"
    await assert_all_adds_up(shop)


async def test_a_mark_that_is_made_twice_at_once_books_once(api, shop):
    await earns(shop, "ada", "50.00")
    run = (await runs(api))["run"]
    marks = await asyncio.gather(*(does(api, run, "mark-failed", partner="ada") for _ in range(4)))
    assert sorted(done["changed"] for done in marks) == [0, 0, 0, 1]
    assert await shop.value(DUE) == 50_000_000
    await assert_all_adds_up(shop)


async def test_a_statement_can_be_added_up_from_its_csv_and_read_as_a_page(api, shop):
    """A sale of the shop's own, so that there is a txid, and what somebody wrote that no page and no spreadsheet may run."""
    click = await shop.click()
    order = {"token": shop.token, "click_id": str(click), "txid": "<b>1</b>", "amount": "70.00"}
    assert (await api.get("/postback", **order)).json()["status"] == "attributed"
    await earns(shop, "ada", "-1.234567", reason="=HYPERLINK(1)<script>")
    await paid_to(api, "ada", name="Ada & Söhne", iban=IBANS[0])
    await shop.execute("UPDATE open_entries SET ripe_on = '2025-10-10'")  # as if the sale were of last year
    made = await runs(api)
    path = f"{RUNS}/{made['run']}/statements/ada"
    told = (await api.admin("GET", f"{path}?format=csv")).text
    rows = list(csv.DictReader(io.StringIO(told)))
    sums = {name: sum(Decimal(row["amount"]) for row in rows if row["line"] == name) for name in ("opening", "entry", "payment", "closing")}
    assert sums["opening"] + sums["entry"] + sums["payment"] == sums["closing"] == Decimal("-0.004567")
    assert ("<b>1</b>", "shoes", "7.00") in {(row["txid"], row["campaign"], row["amount"]) for row in rows}
    assert "'=HYPERLINK(1)<script>" in {row["reason"] for row in rows}
    page = await api.client.get(path, headers={"Authorization": "Bearer test-admin-key", "Accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for written, not_written in (
        ("&lt;b&gt;1", "<b>1"),
        ("&lt;script&gt;", "<script"),
        ("Ada &amp; Söhne, DE…3000", IBANS[0]),
        ("-5.77", "http"),
    ):
        assert written in page.text
        assert not_written not in page.text
    assert (await api.admin("GET", path)).json()["details"]["iban"] == "DE…3000"
    for wrong, status in ((f"{path}?format=pdf", 422), (f"{RUNS}/{made['run']}/statements/bob", 404), (f"{RUNS}/x/statements/ada", 404)):
        assert (await api.admin("GET", wrong)).status_code == status
    await assert_all_adds_up(shop)


@pytest.mark.parametrize("form", ["json", "html", "csv"])
async def test_a_statement_is_shaped_beside_the_loop(api, shop, monkeypatch, form):
    """One of a hundred thousand lines takes seconds, in which nobody else would be answered."""
    threads = []

    def watched(shape):
        def shaped(*arguments):
            threads.append(threading.get_ident())
            return shape(*arguments)

        return shaped

    await earns(shop, "ada", "5.00")
    run = (await runs(api))["run"]
    for module, name in ((api_payouts, "_statement"), (postgres_payouts, "_line")):
        monkeypatch.setattr(module, name, watched(getattr(module, name)))
    assert (await api.admin("GET", f"{RUNS}/{run}/statements/ada?format={form}")).status_code == 200
    assert len(threads) == 2
    assert threading.get_ident() not in threads


async def test_a_long_run_is_shown_page_by_page_and_by_status(api, shop):
    for number in range(5):
        await partner(api, f"p{number}")
        await earns(shop, f"p{number}", str(number + 1))
    run = (await runs(api, minimum="3"))["run"]
    first = (await api.admin("GET", f"{RUNS}/{run}?limit=2")).json()
    rest = (await api.admin("GET", f"{RUNS}/{run}?limit=9&cursor={first['next_cursor']}")).json()
    assert [one["partner"] for one in first["statements"] + rest["statements"]] == [f"p{number}" for number in range(5)]
    carried = (await api.admin("GET", f"{RUNS}/{run}?status=carried")).json()
    assert [one["partner"] for one in carried["statements"]] == ["p0", "p1"]
    await runs(api, "2025-11")
    page = (await api.admin("GET", f"{RUNS}?limit=1&currency=EUR")).json()
    assert [one["run"] for one in page["items"]] == ["eur-2025-11-30"]
    page = (await api.admin("GET", f"{RUNS}?cursor={page['next_cursor']}&status=approved")).json()
    assert [one["run"] for one in page["items"]] == [run]


async def test_what_was_booked_before_there_were_runs_is_open_and_the_revision_can_be_repeated(api, shop, dsn):
    """As on a database that is upgraded, and once more as after an interruption: what is on statements stays there."""
    await earns(shop, "ada", "1.00")
    await runs(api)
    await earns(shop, "ada", "2.00")
    await earns(shop, "ada", "4.00", status="pending")
    sale = uuid4()
    await of_sale(shop, sale, "conversion", "8.00", "2025-10-31")
    await of_sale(shop, sale, "reversal", "-8.00", "2025-12-01")
    before = await shop.value(OPEN)
    for _ in range(2):
        await shop.execute("DELETE FROM open_entries")
        await shop.execute("UPDATE alembic_version SET version_num = '0008'")
        await asyncio.to_thread(upgrade, schema._config(dsn), "0009")
        await assert_all_adds_up(shop)
        assert await shop.value(OPEN) == before
    assert amounts(await runs(api, "2025-11"))["ada"][2] == "2.00"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"period": "2025-13"}, "period"), ({"period": "2025-10", "to": "2025-10-31"}, "period"), ({"period": None}, "from"),
        ({"period": None, "from": "2025-10-02", "to": "2025-10-01"}, "to"), ({"period": None, "from": "2025-02-30", "to": "x"}, "from"),
        ({"period": "2999-01"}, "period"), ({"period": None, "from": "2025-10-01", "to": f"{datetime.now(UTC):%Y-%m-%d}"}, "to"),
        ({"period": None, "from": "0001-01-01", "to": "2025-01-01"}, "from"),
        ({"currency": None}, "currency"), ({"currency": "EURO"}, "currency"),
        ({"minimum": "-1"}, "minimum"), ({"minimum": 1.5}, "minimum"), ({"minimum": "1e"}, "minimum"), ({"hold_days": 366}, "hold_days"),
        ({"hold_days": True}, "hold_days"), ({"two_person": "maybe"}, "two_person"), ({"reason": "\x00"}, "reason"), ({"foo": 1}, "foo"),
    ],
)  # fmt: skip
async def test_a_wrong_question_is_refused_with_the_field_that_is_wrong(api, change, field):
    body = {"period": "2025-10", "currency": "EUR"} | change
    refused = await api.admin("POST", RUNS, body)
    assert (refused.status_code, refused.json()["field"]) == (422, field), refused.text


async def test_what_is_not_there_is_not_found(api, shop):
    assert (await does(api, "eur-2025-10-31", "approve", 404))["code"] == "unknown_run"
    for path in (f"{RUNS}/x", f"{RUNS}/%00", "/api/v1/payout-details/ada", "/api/v1/payout-details/x"):
        assert (await api.admin("GET", path)).status_code == 404, path
    for query, code in (("?status=x", "invalid_filter"), ("?foo=x", "invalid_filter"), ("?cursor=x", "invalid_cursor")):
        assert (await api.admin("GET", RUNS + query)).json()["code"] == code


async def test_a_viewer_reads_runs_and_statements_and_no_account(api, shop):
    viewer = await key_of(api, "viewer", "viewer")
    await paid_to(api, "ada", name="Ada", iban=IBANS[0])
    await earns(shop, "ada", "5.00")
    run = (await runs(api))["run"]
    shown = await api.call(viewer, "GET", f"{RUNS}/{run}/statements/ada")
    assert (shown.status_code, IBANS[0] in shown.text, "DE…3000" in shown.text) == (200, False, True)
    assert (await api.call(viewer, "GET", "/api/v1/payout-details/ada")).status_code == 403
    for action in ("approve", "cancel", "export", "mark-paid"):
        assert (await api.call(viewer, "POST", f"{RUNS}/{run}/{action}", {})).status_code == 403
    assert not await shop.value("SELECT count(*) FROM events WHERE concat(before::text, after::text) LIKE '%' || $1 || '%'", IBANS[0])


def command(capsys, *arguments):
    assert main.app(["payouts", *arguments], standalone_mode=False) in (None, 0)
    return capsys.readouterr().out


async def test_the_commands_do_what_the_api_does(api, shop, dsn, tmp_path, monkeypatch, capsys):
    for name, value in (("DATABASE_URL", dsn), ("DATA_DIR", str(tmp_path)), ("PAYOUT_TWO_PERSON", "1")):
        monkeypatch.setenv(f"TURNOUT_{name}", value)

    async def turnout(*arguments):
        return await asyncio.to_thread(command, capsys, *arguments)

    await earns(shop, "ada", "50.00")
    asked = ("run", "--period", "2025-10", "--currency", "EUR", "--minimum", "50")
    foreseen = json.loads(await turnout(*asked, "--dry-run", "--json"))
    assert amounts(foreseen)["ada"] == ("0.00", "50.00", "50.00", "0.00", "due")
    assert "waits for approval" in await turnout(*asked)
    made = json.loads(await turnout(*asked, "--json"))
    assert (made["status"], made["created_by"]) == ("draft", cli.person())
    assert cli.person().startswith("cli:")
    with pytest.raises(Exception, match="somebody else must approve"):
        await turnout("approve", "eur-2025-10-31")
    monkeypatch.setattr(cli, "person", lambda: "cli:somebody-else")
    assert "is approved" in await turnout("approve", "eur-2025-10-31")
    assert "eur-2025-10-31" in await turnout("list")
    assert json.loads(await turnout("list", "--json"))["items"][0]["totals"]["payment"] == "50.00"
    assert "ada" in await turnout("show", "eur-2025-10-31")
    assert "50.00" in await turnout("show", "eur-2025-10-31", "--partner", "ada")
    page = tmp_path / "page.html"
    await turnout("show", "eur-2025-10-31", "--partner", "ada", "--format", "html", "-o", str(page))
    assert page.read_text().startswith("<!doctype html>")
    assert (page.stat().st_mode & 0o777, [path.name for path in tmp_path.glob(".page*")]) == (0o600, [])
    assert "ada,Ada,0.00,50.00,50.00,0.00,EUR,due" in await turnout("show", "eur-2025-10-31", "--format", "csv")
    assert (await turnout("mark-paid", "eur-2025-10-31", "--partner", "ada")) == "1 payments of eur-2025-10-31 are marked\n"
    assert json.loads(await turnout("mark-returned", "eur-2025-10-31", "--partner", "ada", "--json"))["changed"] == 1
    await turnout("run", "--from", "2025-11-01", "--to", "2025-11-30", "--currency", "EUR", "--reason", "too early")
    assert "is cancelled" in await turnout("cancel", "eur-2025-11-30")
    for wrong in (("show", "eur-2025-10-31", "--format", "html"), ("show", "x", "--format", "pdf"), ("run", "--period", "2025-10")):
        with pytest.raises(Exception, match=r"format|currency"):
            await turnout(*wrong)
    await assert_all_adds_up(shop)


async def test_the_commands_name_the_other_files_of_a_run(api, shop, dsn, tmp_path, monkeypatch, capsys):
    """Nobody has the first file when its export was cut off: the second one must not hide it."""
    for name, value in (("DATABASE_URL", dsn), ("DATA_DIR", str(tmp_path))):
        monkeypatch.setenv(f"TURNOUT_{name}", value)

    async def turnout(*arguments):
        await asyncio.to_thread(main.app, ["payouts", *arguments], standalone_mode=False)
        told = capsys.readouterr()
        return told.out + told.err

    month = f"{datetime.now(UTC):%Y-%m}"
    assert "not over" in await turnout("run", "--period", month, "--currency", "EUR", "--dry-run")
    await partner(api, "bea")
    await paid_to(api, "ada", name="Ada", iban=IBANS[0])
    for slug in ("ada", "bea"):
        await earns(shop, slug, "5.00")
    assert "not over" not in await turnout("run", "--period", "2025-10", "--currency", "EUR", "--dry-run")
    run = (await runs(api))["run"]
    export = ("export", run, "--format", "csv", "-o", str(tmp_path / "file.csv"))
    assert "other files" not in await turnout(*export)
    await paid_to(api, "bea", name="Bea", iban=IBANS[1])
    assert "unpaid too, in other files: batch 1" in await turnout(*export)
    with pytest.raises(Exception, match="batches 1, 2"):
        await turnout("mark-paid", run)
    assert "1 payments" in await turnout("mark-paid", run, "--batch", "1")
    await turnout("mark-failed", run, "--partner", "bea")
    with pytest.raises(Exception, match="--batch 2 --renew"):
        await turnout(*export)
    with pytest.raises(Exception, match="left to pay; unpaid batches: none"):
        await turnout(*export, "--batch", "2", "--renew")
    await assert_all_adds_up(shop)


def test_a_file_is_written_as_a_whole_for_its_owner_alone(tmp_path, monkeypatch):
    target, link = tmp_path / "file.xml", tmp_path / "link.xml"
    target.write_text("before")
    target.chmod(0o644)
    link.symlink_to(target)
    cli._write(b"after", link)
    assert (target.read_text(), target.stat().st_mode & 0o777, link.is_symlink()) == ("after", 0o600, True)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cli.os, "fsync", full)
    with pytest.raises(RejectedInput, match="cannot be written"):
        cli._write(b"half", target)
    assert (target.read_text(), sorted(path.name for path in tmp_path.iterdir())) == ("after", ["file.xml", "link.xml"])
    with pytest.raises(RejectedInput, match="cannot be written"):
        cli._write(b"x", tmp_path)
