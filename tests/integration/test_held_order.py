"""An order whose row somebody holds: its own postback is kept, and nobody else's has to be."""

from functools import partial

import pytest

from tests.integration.desk import Desk
from tracker.adapters.postgres_conversions import receive
from tracker.api.intake import HELD, Breaker, Intake

pytestmark = pytest.mark.integration
HOLD = "BEGIN; SELECT 1 FROM conversions WHERE txid = 'held' FOR UPDATE"


class Journal:
    """Where an intake keeps what PostgreSQL does not take."""

    def __init__(self):
        self.txids = []

    async def record(self, receipt):
        self.txids.append(receipt.postback.txid)


@pytest.fixture
async def desk(api, shop):
    return await Desk.opened(api, shop)


async def test_a_held_order_keeps_no_other_from_postgresql(desk):
    intake, journal = Intake(partial(receive, desk.shop.database), Breaker(), options=None), Journal()
    intake.recording = journal
    await intake.take(desk.report("held", 0, amount="10"))
    async with desk.shop.database.connection() as somebody:
        await somebody.execute(HOLD)
        held, is_only_kept = await intake.take(desk.report("held", 1, status="reversed"))
        other, other_is_kept = await intake.take(desk.report("other", 1, amount="10"))
        await somebody.execute("ROLLBACK")
    assert (held.status, held.reason, is_only_kept) == ("parked", HELD, True)
    assert (other.status, other_is_kept) == ("attributed", False)
    assert journal.txids == ["held"]
    assert await desk.shop.value("SELECT status FROM conversions WHERE txid = 'held'") == "approved"
