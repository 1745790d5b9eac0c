"""The verdict of a drill: what was lost or doubled is named, and makes it fail."""

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from tracker.adapters.postgres_drill import Drills
from tracker.adapters.postgres_pool import database
from tracker.domain import click_id
from tracker.drill import run as drilling
from tracker.drill.faults import DRILLS
from tracker.drill.run import Outcome, keep
from tracker.drill.traffic import Ledger

pytestmark = pytest.mark.integration


async def test_what_is_not_stored_is_named_and_makes_the_drill_fail(dsn, monkeypatch, tmp_path):
    monkeypatch.setattr(drilling, "SETTLE_S", 0.0)
    missing = UUID(bytes=click_id.compose(1_763_000_000_000, os.urandom(click_id.RANDOM_BYTES)))
    ledger = Ledger(asked=2, redirected={"t-1": click_id.to_text(missing.bytes).decode()}, orders=["t-1"])
    outcome = Outcome("healthy", DRILLS["healthy"].does, "t", "", 1, 1)
    async with database(dsn, name="test", size=1) as opened:
        await drilling._settle(Drills(opened, link_base="http://x"), ledger, outcome, since=datetime.now(UTC))
    assert outcome.lost == [str(missing)]
    assert outcome.orders_lost == ["t-1"]
    assert not outcome.is_good
    assert json.loads(keep(outcome, tmp_path).read_text())["good"] is False


@pytest.mark.parametrize(
    "wrong", [{"doubled": 1}, {"refused": [500]}, {"orders_doubled": 1}, {"orders_given_up": ["x"]}, {"redirected": 0}]
)
def test_any_single_fault_makes_a_drill_fail(wrong):
    good = Outcome("healthy", "", "t", "", 1, 1, asked=1, redirected=1, stored=1)
    assert good.is_good
    assert not replace(good, **wrong).is_good
