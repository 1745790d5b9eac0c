"""Old hosts' reports through stream and conversion writer: whatever is shipped again, and however a commit ends, each counts once."""

import asyncio
from datetime import UTC, datetime

import pytest
import redis

from tests.integration.click_source import Node
from tests.integration.old_hosts import OldHosts, old_report
from tests.wait import wait_until
from tracker.adapters.audit import audit
from tracker.adapters.postgres_old_report_desk import forget
from tracker.adapters.postgres_receipts import ReceiptSink
from tracker.adapters.redis_books import BookBoard
from tracker.adapters.redis_streams import EntryStream
from tracker.errors import StoreUnavailable
from tracker.wire import Receipt, stream_key
from workers import old_report_sweeper
from workers.receipt_loading import ReceiptLoader
from workers.stream_writer import CONVERSIONS, StreamWriter

pytestmark = pytest.mark.integration
KEY = stream_key("conversions", 0)


class ReceiptNode(Node):
    """A redirector that ships receipts."""

    def add(self, fields: dict[bytes, bytes]) -> None:
        with redis.Redis.from_url(self.redis_url) as client:
            client.xadd(KEY, fields)


class LosesAnswers(ReceiptSink):
    """A sink whose first commit takes effect, and nobody is told."""

    is_told = False

    async def store(self, load):
        stored = await super().store(load)
        if not self.is_told:
            self.is_told = True
            raise StoreUnavailable("the answer was lost")
        return stored


@pytest.fixture
async def old(api, shop, dsn):
    opened = OldHosts.opened(api, shop, dsn)
    await opened.host("old.example", "cake")
    await opened.means("cake", "creative", "513", campaign="shoes")
    await opened.old_click("cake", "5512", datetime.now(UTC))
    yield opened
    opened.sink.close()


async def drain(old, redis_url, sink):
    stop = asyncio.Event()
    stop.set()
    stream = EntryStream(redis_url, KEY, "w:0", stale_after_ms=0)
    writer = StreamWriter(CONVERSIONS, stream, ReceiptLoader(), sink, BookBoard(redis_url), old.metrics)
    await asyncio.wait_for(writer.run(stop), 60)


async def test_what_is_shipped_again_or_committed_unheard_counts_once(old, dsn, redis_url):
    node = ReceiptNode(redis_url)
    banner, sale = "old.example/i.ashx?a=46&c=513", "old.example/p.ashx?f=pb&o=9&r=5512&t=A-1&p=12.00"
    for number in range(3):
        reports = [old_report(banner, "impression", "cake"), old_report(banner, "impression", "cake")]
        reports += [old_report(sale.replace("A-1", f"A-{number}"), platform="cake")]
        node.put([Receipt(None, report) for report in reports])
    node.ship(1, 2)
    node.ship(1, 1)
    sink = LosesAnswers(dsn, old_reports=old.reports)
    await drain(old, redis_url, sink)
    node.ship(2, 3)
    node.ship(1, 3)
    node.close()
    await drain(old, redis_url, sink)
    sink.close()
    assert await old.shop.value("SELECT sum(impressions)::int FROM impression_stats") == 6
    assert sorted(row["txid"] for row in await old.conversions()) == ["A-0", "A-1", "A-2"]
    books = await audit(dsn, redis_url, 1)
    receipts = books["conversions"]
    assert (receipts["accepted"], receipts["stored"], receipts["duplicate"], receipts["state"]) == (9, 9, 0, "balanced")
    assert books["postbacks"]["old_reports"] == {"read": 3, "waiting": 0, "refused": 0, "ignored": 0, "impressions": 6}
    assert books["postbacks"]["state"] == "balanced"


async def test_the_sweeper_reads_what_waits_and_counts_what_goes_on_waiting(old):
    await old.host("nobodys.example", "cake", advertiser=None)
    waits, comes = [await old.sends(f"nobodys.example/p.ashx?f=pb&o={o}&r=unknown&t=T{o}", platform="cake") for o in (1, 2)]
    await old.means("cake", "offer", "2", campaign="shoes")
    await old.shop.execute("UPDATE old_reports SET next_try_at = now()")
    stop = asyncio.Event()
    sweeper = asyncio.create_task(old_report_sweeper.sweep(old.shop.database, old.reports, stop, old.old_metrics))

    async def is_read():
        return (await old.row(comes))["state"] == "read" and old.counted("turnout_old_reports_waiting") == 1

    await wait_until(is_read, because="what is mapped is read")
    stop.set()
    await sweeper
    assert (await old.row(waits))["state"] == "waiting"
    assert old.counted("turnout_old_reports_decided_total", platform="cake", outcome="parked") == 1


async def test_a_waiting_report_that_raises_an_error_is_put_off_and_holds_up_no_other(old):
    await old.host("nobodys.example", "cake", advertiser=None)
    bad, good = [await old.sends(f"nobodys.example/p.ashx?f=pb&o=2&r=5512x&t={txid}", platform="cake") for txid in ("bad", "good")]
    await old.means("cake", "offer", "2", campaign="shoes")
    await old.shop.execute("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON postbacks FOR EACH ROW WHEN (NEW.txid = 'bad') EXECUTE FUNCTION refuse();
    """)
    swept = await old.retry()
    assert ([taken.outcome for taken in swept.taken], swept.failed, swept.looked_at) == (["parked"], 1, 2)
    assert [(row["state"], row["tries"]) for row in (await old.row(bad), await old.row(good))] == [("waiting", 2), ("read", 1)]


async def test_reports_that_do_not_wait_are_kept_for_half_a_year(old):
    kept, waits, goes = [await old.sends(f"old.example/p.ashx?f=pb&o=9&r=5512&t={txid}", platform="cake") for txid in "abc"]
    await old.shop.execute("UPDATE old_reports SET received_at = now() - interval '181 days' WHERE postback_id <> $1", kept.uuid)
    await old.shop.execute("UPDATE old_reports SET state = 'waiting', next_try_at = now() WHERE postback_id = $1", waits.uuid)
    await old.shop.database.transaction(forget)
    left = {row["postback_id"] for row in await old.shop.database.fetch("SELECT postback_id FROM old_reports")}
    assert left == {kept.uuid, waits.uuid}
    assert goes.uuid not in left
