"""The click writer on a real stream and a real PostgreSQL."""

import asyncio
import time

import pytest
import redis

from tests.integration.click_source import KEY, Node, assert_rollups_are_exact, books, connected, drain, execute, one, record, writer
from tests.wait import wait_until
from tracker.domain import click_id
from tracker.wire import COVERED_KEY, GROUP, covered_decoder

pytestmark = pytest.mark.integration


async def test_every_click_is_stored_once_and_the_books_balance(dsn, redis_url):
    node = Node(redis_url)
    node.accept(40, each=7)
    for first in range(1, 40, 5):
        node.ship(first, first + 4)
    node.close()
    await drain(dsn, redis_url)
    assert await one(dsn, "SELECT count(*) FROM clicks") == 280
    await assert_rollups_are_exact(dsn)
    found = await books(dsn, redis_url)
    assert (found["state"], found["accepted"], found["stored"], found["redelivered"]) == ("balanced", 280, 280, 0)
    with redis.Redis.from_url(redis_url) as client:
        assert client.xpending(KEY, GROUP)["pending"] == 0
        covered = covered_decoder.decode(client.get(COVERED_KEY.format(boot=node.boot.hex())))
        assert (covered.covered, covered.stored, covered.closed_seq) == ("{[1,41)}", 280, 40)
        assert 0 < client.ttl(COVERED_KEY.format(boot=node.boot.hex())) <= 60


async def test_a_row_says_all_that_was_recorded(dsn, redis_url):
    node = Node(redis_url)
    click = record(
        subs=(b"a", b"", b"c\x00d", *[b"x"] * 7), ref=b"R1",
        old_click_id=b"old\xff", extra={"q\x00": b"v\x00"}, truncated=True, host=b"caf\xc3\xa9.example",
    )  # fmt: skip
    node.put([click])
    node.ship(1, 1)
    await drain(dsn, redis_url)
    async with connected(dsn) as connection:
        row = dict(await connection.fetchrow("SELECT * FROM clicks"))
    assert row["click_id"].bytes == click.click_id
    assert int(row["clicked_at"].timestamp() * 1000) == click.received_at_us // 1000
    assert (row["sub1"], row["sub2"], row["sub3"], row["sub10"], row["ref"]) == ("a", None, "cd", "x", "R1")
    assert (row["old_click_id"], row["extra"], row["truncated"], row["host"]) == ("old\ufffd", '{"q": "v"}', True, "café.example")
    assert (row["device"], row["os"], row["browser"]) == ("desktop", "Windows", "Chrome")
    assert (row["link"], row["campaign"], row["partner"], row["advertiser"], row["is_unique"]) == (1, 2, 3, 4, True)
    assert (row["node"], row["boot"].bytes, row["seq"], row["url"]) == ("edge-1", node.boot, 1, "/c/one?sub1=a")


async def test_entries_seen_again_are_only_redelivered(dsn, redis_url):
    node = Node(redis_url)
    node.accept(10)
    node.ship(1, 10)
    await drain(dsn, redis_url)
    node.ship(1, 10)
    node.ship(4, 6)
    await drain(dsn, redis_url)
    await assert_rollups_are_exact(dsn)
    node.report()
    found = await books(dsn, redis_url)
    assert (found["state"], found["stored"], found["duplicate"], found["redelivered"]) == ("balanced", 50, 0, 65)


async def test_two_writers_with_overlapping_runs_account_for_each_batch_once(dsn, redis_url):
    node = Node(redis_url)
    node.accept(300, each=4)
    for width, start in ((10, 1), (15, 6), (7, 3), (10, 1)):  # shipped again and again, cut differently each time
        for first in range(start, 301, width):
            node.ship(first, min(first + width - 1, 300))
    node.close()
    await asyncio.gather(drain(dsn, redis_url, name="w:0", slot=0), drain(dsn, redis_url, name="w:1", slot=1))
    await drain(dsn, redis_url)
    assert await one(dsn, "SELECT count(*) FROM clicks") == 1200
    await assert_rollups_are_exact(dsn)
    found = await books(dsn, redis_url)
    assert (found["state"], found["accepted"], found["stored"], found["duplicate"]) == ("balanced", 1200, 1200, 0)


async def test_a_damaged_frame_is_a_dead_letter_and_the_books_close(dsn, redis_url):
    node = Node(redis_url)
    node.accept(5, each=3)
    node.damaged = {3}
    node.ship(1, 5)
    node.close()
    await drain(dsn, redis_url)
    async with connected(dsn) as connection:
        letter = await connection.fetchrow("SELECT reason, boot, seq, records FROM dead_letters")
    assert (letter["reason"], letter["boot"].bytes, letter["seq"], letter["records"]) == ("corrupt", node.boot, 3, 3)
    found = await books(dsn, redis_url)
    assert (found["state"], found["stored"], found["rejected"]) == ("balanced", 12, 3)


async def test_a_good_copy_in_the_same_read_is_taken_for_a_damaged_one(dsn, redis_url):
    node = Node(redis_url)
    node.accept(3)
    node.damaged = {2}
    node.ship(1, 3)
    node.damaged = set()
    node.ship(2, 3)
    await drain(dsn, redis_url)
    assert await one(dsn, "SELECT count(*) FROM clicks") == 15
    assert await one(dsn, "SELECT count(*) FROM dead_letters") == 0


async def test_an_entry_that_nobody_can_read_is_a_dead_letter_without_a_boot(dsn, redis_url):
    node = Node(redis_url)
    node.accept(1)
    node.add({b"v": b"1", b"boot": b"zz", b"n": b"7"})
    node.ship(1, 1)
    await drain(dsn, redis_url)
    async with connected(dsn) as connection:
        letter = await connection.fetchrow("SELECT reason, boot::text AS boot, records FROM dead_letters")
    assert tuple(letter) == ("corrupt", "00000000-0000-0000-0000-000000000000", 7)
    assert await one(dsn, "SELECT count(*) FROM clicks") == 5


async def test_poison_is_mended_or_buried_alone(dsn, redis_url):
    node = Node(redis_url)
    good = node.accept(2)
    node.put([record(ip="not an address\0" * 20, user_agent=b"a\x00b\xff\xed\xa0\x80", target=b"/\x00"), record(link_id=2**63)])
    node.put([record(click_id=b"short"), record(rule_version=70_000), record(received_at_us=-5), record()])
    node.ship(1, len(good) + 2)
    node.close()
    await drain(dsn, redis_url)
    assert await one(dsn, "SELECT count(*) FROM clicks") == 12
    assert await one(dsn, "SELECT count(*) FROM dead_letters WHERE reason = 'invalid'") == 4
    assert (await books(dsn, redis_url))["state"] == "balanced"
    await assert_rollups_are_exact(dsn)


async def test_a_row_that_postgresql_refuses_is_buried_and_its_neighbours_are_stored(dsn, redis_url):
    await execute(dsn, "ALTER TABLE clicks ADD CONSTRAINT poison CHECK (ref <> 'poison')")
    node = Node(redis_url)
    node.accept(30)
    node.put([record(), record(ref=b"poison"), record()])
    node.accept(10)
    node.ship(1, 41)
    node.close()
    await drain(dsn, redis_url)
    assert await one(dsn, "SELECT count(*) FROM clicks") == 202
    assert await one(dsn, "SELECT reason FROM dead_letters") == "refused"
    found = await books(dsn, redis_url)
    assert (found["state"], found["rejected"]) == ("balanced", 1)
    await assert_rollups_are_exact(dsn)


async def test_the_same_id_again_is_a_duplicate_and_another_click_under_it_a_collision(dsn, redis_url):
    node, other = Node(redis_url), Node(redis_url, name="edge-2")
    node.accept(2)
    first = node.batches[1][0]
    other.put([first, record()])
    other.put([record(click_id=first.click_id, target=b"/c/other")])
    other.put([*[record(click_id=(twin := record()).click_id, received_at_us=twin.received_at_us, visitor_key=b"v") for _ in range(1)] * 2])
    node.ship(1, 2)
    await drain(dsn, redis_url)
    other.ship(1, 3)
    other.close()
    node.close()
    await drain(dsn, redis_url)
    found = await books(dsn, redis_url)
    assert (found["state"], found["stored"], found["duplicate"], found["rejected"]) == ("balanced", 12, 2, 1)
    assert await one(dsn, "SELECT reason FROM dead_letters") == "id_collision"
    await assert_rollups_are_exact(dsn)


async def test_a_batch_cut_out_of_covered_is_mended_without_being_counted_again(dsn, redis_url):
    node = Node(redis_url)
    node.accept(9)
    node.ship(1, 9)
    node.close()
    await drain(dsn, redis_url)
    await execute(dsn, "UPDATE boots SET covered = covered - '{[4,6)}'::int8multirange")
    node.ship(1, 9)
    await drain(dsn, redis_url)
    assert await one(dsn, "SELECT covered::text FROM boots") == "{[1,10)}"
    found = await books(dsn, redis_url)
    assert (found["state"], found["stored"], found["duplicate"]) == ("balanced", 45, 0)
    await assert_rollups_are_exact(dsn)


async def test_flushall_loses_nothing_that_is_shipped_again(dsn, redis_url):
    node = Node(redis_url)
    node.accept(20)
    node.ship(1, 10)
    stop = asyncio.Event()
    running = asyncio.create_task(writer(dsn, redis_url).run(stop))
    await wait_for_count(dsn, 50)
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
    node.ship(5, 20)
    await wait_for_count(dsn, 100)
    stop.set()
    await asyncio.wait_for(running, 20)


async def wait_for_count(dsn: str, count: int) -> None:
    async def is_stored() -> bool:
        return await one(dsn, "SELECT count(*) FROM clicks") == count

    await wait_until(is_stored)


async def test_a_click_in_a_quiet_stream_waits_for_no_others(dsn, redis_url):
    stop = asyncio.Event()
    running = asyncio.create_task(writer(dsn, redis_url).run(stop))
    node = Node(redis_url)
    node.accept(1)
    node.ship(1, 1)
    await wait_for_count(dsn, 5)
    node.accept(1)
    node.ship(2, 2)
    await wait_for_count(dsn, 10)
    stop.set()
    await asyncio.wait_for(running, 20)


async def test_what_another_consumer_left_is_taken_over(dsn, redis_url):
    node = Node(redis_url)
    node.accept(5)
    node.ship(1, 5)
    with redis.Redis.from_url(redis_url) as client:
        client.xgroup_create(KEY, GROUP, "0", mkstream=True)
        assert client.xreadgroup(GROUP, "dead:0", {KEY: ">"})
    await asyncio.sleep(0.05)
    await drain(dsn, redis_url, stale_after_ms=1)
    assert await one(dsn, "SELECT count(*) FROM clicks") == 25


async def test_a_click_that_comes_late_wakes_the_postback_that_waits_for_it(dsn, redis_url):
    node, hour_ago = Node(redis_url), int((time.time() - 3600) * 1000)
    late, young, old = record(hour_ago), record(), record(old_click_id=b"tune-77")
    waiting = [click_id.to_text(late.click_id).decode(), click_id.to_text(young.click_id).decode(), "tune-77", "junk"]
    for text in waiting:
        await execute(
            dsn, "INSERT INTO postbacks (postback_id, received_at, source, click_id, outcome, next_try_at) "
            "VALUES (gen_random_uuid(), now(), 'postback', $1, 'parked', now() + interval '1 day')", text,
        )  # fmt: skip
    node.put([late, young, old])
    node.ship(1, 1)
    await drain(dsn, redis_url)
    async with connected(dsn) as connection:
        due = await connection.fetch("SELECT click_id FROM postbacks WHERE next_try_at <= now()")
    assert {row["click_id"] for row in due} == {waiting[0], waiting[2]}


async def test_only_the_first_click_of_a_visitor_on_a_link_and_day_is_unique(dsn, redis_url):
    node = Node(redis_url)
    visits = [
        record(visitor_key=b"v"),
        record(visitor_key=b"v"),
        record(visitor_key=b"v", link_id=9),
        record(visitor_key=b""),
        record(counted=False),
    ]
    old = record(int((time.time() - 3 * 86400) * 1000), visitor_key=b"v")
    node.put([*visits, old])
    node.ship(1, 1)
    await drain(dsn, redis_url)
    async with connected(dsn) as connection:
        found = {row["click_id"].bytes: row["is_unique"] for row in await connection.fetch("SELECT click_id, is_unique FROM clicks")}
    assert [found[visit.click_id] for visit in [*visits, old]] == [True, False, True, None, False, None]
    await assert_rollups_are_exact(dsn)
    with redis.Redis.from_url(redis_url) as client:
        assert all(client.ttl(key) > 0 for key in client.scan_iter("turnout:unique:*"))


async def test_clicks_below_the_retention_floor_are_counted_as_expired(dsn, redis_url):
    await execute(dsn, "INSERT INTO installation (key, value) VALUES ('retention_floor', (current_date - 10)::text)")
    node = Node(redis_url)
    node.put([record(int((time.time() - 20 * 86400) * 1000)), record()])
    node.ship(1, 1)
    node.close()
    await drain(dsn, redis_url)
    assert await one(dsn, "SELECT count(*) FROM clicks") == 1
    assert await one(dsn, "SELECT reason FROM dead_letters") == "expired"
    assert (await books(dsn, redis_url))["state"] == "balanced"
