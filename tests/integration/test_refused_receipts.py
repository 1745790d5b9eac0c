"""Journaled postbacks that PostgreSQL refuses: a dead letter each, and a postback that says so to its store and in the books."""

from dataclasses import replace

import pytest

from tests.integration.desk import Desk
from tracker.adapters.audit import POSTBACK_COUNTS, audit
from tracker.adapters.postgres_loads import Load
from tracker.adapters.postgres_receipts import ReceiptSink, Row
from tracker.domain.books import Delta
from tracker.domain.intervals import SeqSet
from tracker.wire import Receipt

pytestmark = pytest.mark.integration
BOOT = bytes(16)
REFUSE = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'internal detail'; END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON conversions FOR EACH ROW WHEN (NEW.txid = 'unlucky') EXECUTE FUNCTION refuse();
"""


@pytest.fixture
async def desk(api, shop):
    return await Desk.opened(api, shop)


@pytest.fixture
async def sink(dsn):
    made = ReceiptSink(dsn)
    yield made
    made.close()


def load_of(*postbacks):
    rows = [Row(Receipt(postback), BOOT, seq) for seq, postback in enumerate(postbacks, 1)]
    return Load(rows=rows, deltas={BOOT: delta_of(len(rows))})


def delta_of(records):
    return Delta(BOOT, "n", "conversions", "h", SeqSet([(1, records + 1)]), accepted=records, last_seq=records)


async def status_of(desk, api, txid):
    answer = await api.get("/postback/status", token=desk.shop.token, txid=txid)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_refused_receipt_is_a_rejected_postback_and_stays_in_the_books(desk, api, sink, dsn, redis_url):
    await desk.shop.execute(REFUSE)
    good, unlucky = desk.report("good", 0, amount="10"), desk.report("unlucky", 1, amount="10", goal="sale")
    huge, strange = replace(desk.report("huge", 2), amount_micros=2**63), replace(desk.report("strange", 3), goal="a\0b", ip="\0")
    stored = await sink.store(load_of(good, unlucky, huge, strange))
    assert (stored.stored, [letter.reason for letter in stored.letters]) == (1, ["refused"] * 3)
    for txid, why in (("unlucky", "an error on our side"), ("huge", "a value in it cannot be kept"), ("strange", "a value in it")):
        told = await status_of(desk, api, txid)
        assert told["status"] == "rejected"
        assert told["postbacks"][0]["reason"].startswith(why)
    assert await desk.shop.value("SELECT goal FROM postbacks WHERE txid = 'strange'") == "a\ufffdb"
    assert "internal detail" in await desk.shop.value("SELECT detail FROM dead_letters WHERE seq = 2")
    part = (await audit(dsn, redis_url, 1))["postbacks"]
    assert (part["received"], part["effective"], part["rejected"], part["unexplained"]) == (4, 1, 3, 0)
    assert part["received"] == sum(part[name] for name in POSTBACK_COUNTS[1:])


async def test_a_refused_receipt_that_is_sent_again_takes_effect_once(desk, api, sink, dsn, redis_url):
    await desk.shop.execute(REFUSE)
    unlucky = desk.report("unlucky", 0, amount="10")
    await sink.store(load_of(unlucky))
    await desk.shop.execute("DROP TRIGGER refuse ON conversions")
    assert [(await desk.take(unlucky)).status for _ in range(2)] == ["attributed", "attributed"]
    told = await status_of(desk, api, "unlucky")
    assert (told["status"], [postback["outcome"] for postback in told["postbacks"]]) == ("attributed", ["attributed"])
    assert (await audit(dsn, redis_url, 1))["postbacks"]["state"] == "balanced"


async def test_what_cannot_be_kept_at_all_is_a_dead_letter_and_holds_up_no_other(desk, sink):
    nobodys = replace(desk.report("nobodys", 0), advertiser_id=10**9)
    stored = await sink.store(load_of(nobodys, desk.report("good", 1, amount="10")))
    assert (stored.stored, len(stored.letters)) == (1, 1)
    assert await desk.shop.value("SELECT count(*) FROM postbacks") == 1
