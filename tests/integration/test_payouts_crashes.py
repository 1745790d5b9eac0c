"""`turnout payouts` killed with SIGKILL between any two steps: everybody is paid once, and statements add up."""

import asyncio
import os
import signal
import subprocess

import pytest

from tests import launcher
from tests.integration.payout_books import IBANS, RUNS, amounts, assert_all_adds_up, does, earns, paid_to, partner, runs

pytestmark = pytest.mark.integration
BEFORE_COMMIT = ("run_made", "statements_made", "lines_taken", "paid", "before_commit")
RUN = ("run", "--period", "2025-10", "--currency", "EUR", "--minimum", "5")
ROWS = """
    SELECT (SELECT count(*) FROM payout_runs) + (SELECT count(*) FROM statements) + (SELECT count(*) FROM statement_lines)
        + (SELECT count(*) FROM ledger_entries WHERE kind = 'payment')
"""
STATUSES = "SELECT string_agg(p.slug || ' ' || s.status, ', ' ORDER BY s.id) FROM statements s JOIN partners p ON p.id = s.partner_id"


@pytest.fixture
def killed(dsn, tmp_path):
    """Runs a command that is to be killed at each of the points, all at once."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TURNOUT_")}
    environment |= {"TURNOUT_DATABASE_URL": dsn, "TURNOUT_DATA_DIR": str(tmp_path / "data")}

    def start(point, arguments):
        words = ["-m", "tracker", "payouts", *arguments]
        return launcher.launch(words, env=environment | {"TURNOUT_INTERNAL_CRASH_AT": f"payouts.{point}"}, stdout=subprocess.DEVNULL)

    async def run(points, *arguments):
        processes = [start(point, arguments) for point in points]
        codes = await asyncio.gather(*(asyncio.to_thread(process.wait, 60) for process in processes))
        assert codes == [-signal.SIGKILL] * len(points)

    return run


async def test_whoever_is_paid_is_paid_once_wherever_the_run_is_killed(api, shop, killed):
    await partner(api, "bea")
    await earns(shop, "ada", "50.00")
    await earns(shop, "bea", "4.00")
    await killed(BEFORE_COMMIT, *RUN)
    assert await shop.value(ROWS) == 0
    await assert_all_adds_up(shop)
    await killed(["after_commit"], *RUN)
    made = await runs(api, minimum="5", status=200)
    assert amounts(made) == {"ada": ("0.00", "50.00", "50.00", "0.00", "due"), "bea": ("0.00", "4.00", "0.00", "4.00", "carried")}
    assert await shop.value("SELECT count(*) FROM ledger_entries WHERE kind = 'payment'") == 1
    await assert_all_adds_up(shop)


async def test_what_became_of_a_payment_is_booked_once_wherever_it_is_killed(api, shop, killed, tmp_path):
    await paid_to(api, "ada", name="Ada", iban=IBANS[0])
    await earns(shop, "ada", "50.00")
    run = (await runs(api))["run"]
    export = ("export", run, "--format", "csv", "-o", str(tmp_path / "file.csv"))
    await killed(["before_export"], *export)
    assert await shop.value(STATUSES) == "ada due"
    await killed(["after_export"], *export)
    assert (await shop.value(STATUSES), (tmp_path / "file.csv").exists()) == ("ada exported", False)
    again = await does(api, run, "export", format="csv")
    assert (again.headers["x-batch"], "ada,sepa,Ada" in again.text) == ("1", True)
    await killed(["before_mark"], "mark-failed", run, "--partner", "ada")
    assert await shop.value(STATUSES) == "ada exported"
    await does(api, run, "mark-failed", partner="ada")
    await assert_all_adds_up(shop)


async def test_a_draft_is_approved_or_cancelled_as_a_whole(api, shop, killed):
    await earns(shop, "ada", "50.00")
    run = (await runs(api, "2025-11", two_person=True))["run"]
    await asyncio.gather(killed(["paid", "before_approval"], "approve", run), killed(["before_cancel"], "cancel", run))
    shown = (await api.admin("GET", f"{RUNS}/{run}")).json()
    assert (shown["status"], amounts(shown)["ada"][2]) == ("draft", "50.00")
    assert await shop.value("SELECT count(*) FROM ledger_entries WHERE kind = 'payment'") == 0
    await does(api, run, "cancel")
    await assert_all_adds_up(shop)
