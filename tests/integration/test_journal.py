"""The journal and the shipper against a real stream: what is written, shipped, shipped again, taken over and unlinked."""

import asyncio
import os
import resource
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import redis.asyncio as redis

from tests.unit.test_wire import a_record
from tests.wait import wait_until
from tracker import wire
from tracker.adapters.journal import boot_log, counter_page, segment, slot
from tracker.adapters.journal.recording import Recording, RecordingOptions
from tracker.adapters.journal.stream_link import StreamLink
from tracker.adapters.journal.writer import Batch, JournalWriter
from tracker.domain.intervals import SeqSet

pytestmark = pytest.mark.integration
STREAM = wire.stream_key("clicks", 0)


def options(tmp_path, redis_url, **changes):
    facts = {
        "kind": "clicks",
        "node": "test",
        "root": tmp_path / "journal" / "clicks",
        "redis_url": redis_url,
        "ack": "journal",
        "deadline_s": 0.025,
        "keep_s": 3600.0,
        "max_bytes": 1 << 40,
        "segment_bytes": 1 << 20,
        "shards": 1,
    }
    return RecordingOptions(**(facts | changes))


@pytest.fixture
async def stream(redis_url):
    client = redis.Redis.from_url(redis_url)
    yield client
    await client.aclose()


async def started(tmp_path, redis_url, **changes):
    recording = Recording(options(tmp_path, redis_url, **changes))
    await recording.start()
    return recording


async def record(recording, count, first=0):
    loop = asyncio.get_running_loop()
    waits = []
    for number in range(first, first + count):
        written = loop.create_future()
        recording.add(a_record(click_id=number.to_bytes(16, "big")), lambda written=written: written.done() or written.set_result(None))
        waits.append(written)
        if number % 7 == 0:
            await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await asyncio.gather(*waits)


async def entries(stream):
    return [wire.Entry.read(fields) for _, fields in await stream.xrange(STREAM)]


async def shipped_ids(stream):
    ids = []
    for entry in await entries(stream):
        for frame in entry.frames():
            ids += [int.from_bytes(r.click_id, "big") for r in wire.decode_frame(entry.payload[frame.start : frame.stop], wire.Record)[0]]
    return ids


async def publish(stream, recording_or_boot, covered, *, closed=None, stored=0, system="1", timeline=1, at_ms=None):
    boot = recording_or_boot if isinstance(recording_or_boot, bytes) else recording_or_boot.line.boot
    state = wire.CoveredState(system, timeline, str(covered), stored, stored, 0, 0, 0, closed, at_ms or time.time_ns() // 1_000_000)
    await stream.set(wire.COVERED_KEY.format(boot=boot.hex()), wire.report_encoder.encode(state))


async def test_every_record_is_in_the_journal_before_its_answer_and_in_the_stream_after(tmp_path, redis_url, stream):
    recording = await started(tmp_path, redis_url, deadline_s=0.0)  # a busy machine must not answer at the deadline
    await record(recording, 1000)
    (path,) = (tmp_path / "journal/clicks/slot-0").glob("*.seg")
    reader = segment.SegmentReader(path)
    assert reader.records == 1000
    assert reader.seqs() == SeqSet([(1, recording.line.last_seq + 1)])
    await wait_until(recording.shipper.is_done)
    await wait_until(lambda: shipped_ids_equal(stream, range(1000)))
    assert [entry.accepted for entry in await entries(stream)][-1] == 1000
    await recording.stop(5)
    last = (await entries(stream))[-1]
    assert (last.closed_seq, last.accepted, last.unrecorded) == (recording.line.last_seq, 1000, 0)


async def shipped_ids_equal(stream, wanted):
    return sorted(await shipped_ids(stream)) == list(wanted)


async def test_covered_segments_go_and_uncovered_ones_stay(tmp_path, redis_url, stream):
    recording = await started(tmp_path, redis_url, keep_s=0.0, segment_bytes=10_000, deadline_s=0.0)
    for first in range(0, 1000, 100):
        await record(recording, 100, first)
    directory = tmp_path / "journal/clicks/slot-0"
    paths = sorted(directory.glob("*.seg"))
    assert len(paths) > 3
    first = segment.SegmentReader(paths[0]).seqs()
    await publish(stream, recording, first)
    await wait_until(lambda: not paths[0].exists())
    assert all(path.exists() for path in paths[1:])
    await recording.stop(1)


async def test_the_byte_limit_takes_covered_segments_only(tmp_path, redis_url, stream):
    recording = await started(tmp_path, redis_url, max_bytes=1, segment_bytes=10_000, deadline_s=0.0)
    for first in range(0, 1000, 100):
        await record(recording, 100, first)
    directory = tmp_path / "journal/clicks/slot-0"
    paths = sorted(directory.glob("*.seg"))
    await publish(stream, recording, segment.SegmentReader(paths[1]).seqs())
    await wait_until(lambda: not paths[1].exists())
    assert [path.exists() for path in paths[:3]] == [True, False, True]
    await recording.stop(1)


async def test_a_decrease_of_what_is_covered_ships_again_from_there(tmp_path, redis_url, stream):
    recording = await started(tmp_path, redis_url)
    await record(recording, 300)
    await wait_until(recording.shipper.is_done)
    await publish(stream, recording, SeqSet([(1, recording.line.last_seq + 1)]))
    await wait_until(lambda: not recording.shipper.own.held())
    before = await stream.xlen(STREAM)
    await publish(stream, recording, SeqSet([(1, 3)]))
    await wait_until(lambda: recording.shipper.own.covered == SeqSet([(1, 3)]))
    wanted = set(range(3, recording.line.last_seq + 1))
    await wait_until(lambda: is_sent_after(stream, before, wanted))
    await recording.stop(1)


async def is_sent_after(stream, before, wanted):
    return {seq for entry in (await entries(stream))[before:] for seq in range(entry.seq_from, entry.seq_to + 1)} == wanted


async def grown(stream, before):
    return await stream.xlen(STREAM) > before


async def test_another_postgresql_is_told_everything_it_does_not_have(tmp_path, redis_url, stream):
    recording = await started(tmp_path, redis_url)
    await record(recording, 50)
    await wait_until(recording.shipper.is_done)
    await publish(stream, recording, SeqSet([(1, recording.line.last_seq + 1)]))
    await wait_until(lambda: not recording.shipper.own.held())
    before = await stream.xlen(STREAM)
    await publish(stream, recording, SeqSet(), system="2")
    await wait_until(lambda: grown(stream, before))
    await recording.stop(1)


async def test_an_overtaken_state_is_not_mistaken_for_a_rewind(tmp_path, redis_url, stream):
    recording = await started(tmp_path, redis_url)
    await record(recording, 50)
    await wait_until(recording.shipper.is_done)
    now_ms = time.time_ns() // 1_000_000
    whole = SeqSet([(1, recording.line.last_seq + 1)])
    await publish(stream, recording, whole, at_ms=now_ms)
    await wait_until(lambda: not recording.shipper.own.held())
    before = await stream.xlen(STREAM)
    await publish(stream, recording, SeqSet(), at_ms=now_ms - 500)
    await asyncio.sleep(2.5)
    assert await stream.xlen(STREAM) == before
    await recording.stop(1)


async def test_flushall_ships_what_is_not_covered_again(tmp_path, redis_url, stream):
    recording = await started(tmp_path, redis_url)
    await record(recording, 200)
    await wait_until(recording.shipper.is_done)
    await asyncio.sleep(1.2)  # a tick that sees the stream whole
    await stream.flushall()
    await wait_until(lambda: shipped_ids_equal(stream, range(200)))
    await recording.stop(1)


async def test_what_was_acked_and_is_still_not_covered_is_shipped_again(tmp_path, redis_url, stream):
    """PostgreSQL went back to before a commit whose entries were acked, and nobody had told us of that commit."""
    await stream.xgroup_create(STREAM, wire.GROUP, id="0", mkstream=True)
    recording = await started(tmp_path, redis_url)
    await record(recording, 20)
    await wait_until(recording.shipper.is_done)
    taken = await stream.xreadgroup(wire.GROUP, "w", {STREAM: ">"}, count=100)
    await stream.xack(STREAM, wire.GROUP, *(entry_id for entry_id, _ in taken[0][1]))
    before = await stream.xlen(STREAM)
    await wait_until(lambda: grown(stream, before), within_s=15)
    await recording.stop(1)


async def test_without_redis_answers_come_from_the_journal_and_it_is_all_shipped_later(tmp_path, redis_url, stream):
    recording = await started(tmp_path, "unix:///nowhere/at/all.sock")
    await record(recording, 5000)
    assert recording.line.late < 5000
    await recording.stop(0)
    heir = await started(tmp_path, redis_url)
    await wait_until(lambda: shipped_ids_equal(stream, range(5000)))
    await heir.stop(1)


CHILD = """
import asyncio, os, sys
from pathlib import Path
from tests.integration.test_journal import options, record
from tracker.adapters.journal.recording import Recording
async def main():
    recording = Recording(options(Path(sys.argv[1]), sys.argv[2]))
    await recording.start()
    await record(recording, int(sys.argv[3]))
    print("recorded", recording.line.boot.hex(), flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def child(tmp_path, redis_url, count, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path), redis_url, str(count)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])} | environment,
    )


async def test_the_slot_of_a_killed_process_is_taken_over_shipped_closed_and_forgotten(tmp_path, redis_url, stream):
    process = child(tmp_path, "unix:///nowhere/at/all.sock", 700)
    boot = bytes.fromhex((await asyncio.to_thread(process.stdout.readline)).split()[1])
    process.kill()
    process.communicate()
    heir = await started(tmp_path, redis_url, keep_s=0.0)
    await wait_until(lambda: shipped_ids_equal(stream, range(700)))
    remains = next(log for log in heir.shipper.logs() if log.boot == boot)
    assert remains.line.accepted == 700
    await publish(stream, boot, SeqSet([(1, remains.line.last_seq + 1)]), stored=700)
    closing = await wait_until(lambda: closing_of(stream, boot))
    assert (closing.closed_seq, closing.accepted, closing.unrecorded) == (remains.line.last_seq, 700, 0)
    await publish(stream, boot, SeqSet([(1, remains.line.last_seq + 1)]), closed=remains.line.last_seq, stored=700)
    await wait_until(lambda: all(log.boot != boot for log in heir.shipper.logs()))
    assert not list((tmp_path / "journal/clicks/slot-0").glob(f"{boot.hex()}*"))
    await heir.stop(1)


async def closing_of(stream, boot):
    return next((entry for entry in await entries(stream) if entry.boot == boot and entry.closed_seq is not None), None)


@pytest.mark.parametrize("point", ["journal.before_write", "journal.after_write", "shipper.before_xadd", "shipper.after_xadd"])
async def test_a_kill_between_any_two_steps_loses_nothing_that_was_answered(tmp_path, redis_url, stream, point):
    process = child(tmp_path, redis_url, 50, TURNOUT_INTERNAL_CRASH_AT=point)
    out, _ = await asyncio.to_thread(process.communicate)
    assert process.returncode == -9
    heir = await started(tmp_path, redis_url)
    answered = range(50) if "recorded" in out else range(0)
    await wait_until(
        lambda: sum(log.line.accepted for log in heir.shipper.logs() if log is not heir.shipper.own), because="the page says so"
    )
    if point != "journal.before_write":
        await wait_until(lambda: contains(stream, set(answered) or {0}))
    await heir.stop(1)


async def contains(stream, wanted):
    return wanted <= set(await shipped_ids(stream))


async def test_a_damaged_tail_is_put_aside_and_the_rest_is_shipped(tmp_path, redis_url, stream):
    recording = await started(tmp_path, "unix:///nowhere/at/all.sock")
    for first in range(0, 300, 100):
        await record(recording, 100, first)
    await recording.stop(0)
    (path,) = (tmp_path / "journal/clicks/slot-0").glob("*.seg")
    data = bytearray(path.read_bytes())
    last = list(wire.scan(data, len(segment.SegmentReader(path).header.encode())))[-1]
    data[last.start + 60] ^= 0xFF
    path.write_bytes(data)
    heir = await started(tmp_path, redis_url)
    await wait_until(lambda: shipped_ids_equal(stream, range(300 - last.records)))
    assert path.with_suffix(".damaged").exists()
    await heir.stop(1)


@pytest.fixture
def small_files():
    """write(2) beyond 20 KB fails in this process: a disk that fills up, where no tmpfs can be mounted."""
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("ack", ["journal", "journal-sync"])
async def test_when_the_disk_refuses_redis_is_waited_for_and_nothing_is_lost(tmp_path, redis_url, stream, small_files, ack):
    recording = await started(tmp_path, redis_url, ack=ack)
    for first in range(0, 2000, 200):
        await record(recording, 200, first)
    await wait_until(lambda: shipped_ids_equal(stream, range(2000)))
    assert recording.line.unrecorded == 0
    assert recording.shipper.own.unjournaled()
    await publish(stream, recording, SeqSet([(1, recording.line.last_seq + 1)]), stored=2000)
    await wait_until(lambda: not recording.shipper.own.unjournaled())
    await recording.stop(1)


async def test_when_disk_and_redis_refuse_the_visitor_is_answered_and_the_loss_is_counted(tmp_path, small_files):
    recording = await started(tmp_path, "unix:///nowhere/at/all.sock")
    for first in range(0, 2000, 200):
        await record(recording, 200, first)
    written = recording.journaled_records
    assert written < 2000
    await recording.stop(0)
    assert recording.line.unrecorded == 2000 - written
    assert recording.line.accepted == 2000


async def test_who_must_not_be_answered_before_it_is_safe_waits(tmp_path, small_files):
    recording = await started(tmp_path, "unix:///nowhere/at/all.sock", ack="journal-sync", answers_anyway=False)
    answered = []
    for number in range(400):
        recording.add(a_record(click_id=number.to_bytes(16, "big")), partial(answered.append, number))
        await asyncio.sleep(0)
    own = recording.shipper.own
    await wait_until(lambda: own.unjournaled() and all(batch.shipping for batch in own.unjournaled()), because="the deadline has passed")
    assert 0 < len(answered) == recording.journaled_records < 400
    assert recording.line.late == 0
    await recording.stop(0)


async def test_who_must_not_be_answered_before_it_is_safe_is_answered_when_redis_has_it(freezable, redis_url, stream):
    recording = await started(freezable, redis_url, ack="journal-sync", answers_anyway=False)
    await record(recording, 10)
    os.sync()
    with subprocess.Popen(["sh", "-c", f"sleep 8; fsfreeze -u {freezable}"], stderr=subprocess.DEVNULL) as watchdog:
        subprocess.run(["fsfreeze", "-f", freezable], check=True)
        await record(recording, 100, 10)
        assert watchdog.poll() is None, "answered while the disk was frozen"
        assert recording.line.late == 0
        assert await shipped_ids_equal(stream, range(110))
    await wait_until(lambda: recording.journaled_records == 110, because="written after the thaw")
    await recording.stop(1)


async def test_with_ack_redis_the_answer_waits_for_the_stream(tmp_path, redis_url, stream):
    recording = await started(tmp_path, redis_url, ack="redis", deadline_s=0.0)
    await record(recording, 30)
    assert await shipped_ids_equal(stream, range(30))
    assert recording.line.late == 0
    await recording.stop(1)


async def test_journal_sync_is_synced_and_knows_no_deadline(tmp_path, redis_url):
    recording = await started(tmp_path, redis_url, ack="journal-sync", deadline_s=0.000001)
    await record(recording, 200)
    assert recording.line.late == 0
    assert recording.journaled_records == 200
    await recording.stop(1)


async def test_a_journal_slower_than_the_deadline_holds_nobody_up_and_is_counted(tmp_path, redis_url, stream, monkeypatch):
    thawed, write = threading.Event(), os.writev
    monkeypatch.setattr(os, "writev", lambda *parts: thawed.wait(30) and write(*parts))
    recording = await started(tmp_path, redis_url)
    await record(recording, 200)
    assert recording.line.late == 200
    assert recording.journaled_records == 0
    thawed.set()
    await wait_until(lambda: shipped_ids_equal(stream, range(200)))
    await wait_until(lambda: recording.journaled_records == 200, because="written after all")
    assert recording.line.unrecorded == 0
    await recording.stop(1)


async def test_what_was_answered_from_memory_is_shipped_while_the_disk_hangs(tmp_path, redis_url, stream, monkeypatch):
    thawed, write = threading.Event(), os.writev
    monkeypatch.setattr(os, "writev", lambda *parts: thawed.wait(30) and write(*parts))
    looks, hangs_for = [], JournalWriter.hangs_for
    monkeypatch.setattr(JournalWriter, "hangs_for", lambda writer: looks.append(1) or (hangs_for(writer) if len(looks) > 1 else 0.0))
    recording = await started(tmp_path, redis_url, ack="memory")
    await record(recording, 200)
    await wait_until(lambda: shipped_ids_equal(stream, range(200)), within_s=10)
    thawed.set()
    await recording.stop(1)
    assert recording.line.unrecorded == 0
    assert len(looks) > 1  # at the first look the disk had only just been asked


async def test_a_process_that_was_late_itself_gives_the_disk_its_time(tmp_path, redis_url):
    """After a start hundreds wait in the socket: who is answered then must be in the journal all the same."""
    recording = await started(tmp_path, redis_url, deadline_s=0.5)
    waiting = [recording.record(a_record(click_id=number.to_bytes(16, "big"))) for number in range(1200)]
    time.sleep(0.8)
    await asyncio.wait(waiting)
    assert recording.line.late == 0
    assert recording.journaled_records == 1200
    await recording.stop(1)


async def test_a_full_segment_that_is_synced_slowly_holds_nobody_up(tmp_path, redis_url, monkeypatch):
    thawed, sync = threading.Event(), os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: thawed.wait(30) and sync(descriptor))
    recording = await started(tmp_path, redis_url, segment_bytes=10_000, deadline_s=0.0)
    for first in range(0, 600, 100):
        await record(recording, 100, first)
    assert recording.journaled_records == 600
    thawed.set()
    await recording.stop(1)
    assert recording.line.unrecorded == 0


async def test_a_segment_whose_sync_failed_is_written_anew(tmp_path, redis_url):
    recording = await started(tmp_path, "unix:///nowhere/at/all.sock", segment_bytes=1, deadline_s=0.0)
    await record(recording, 100)
    path = min((tmp_path / "journal/clicks/slot-0").glob("*.seg"))
    recording.shipper.own.distrust(path)
    await wait_until(lambda: path.with_suffix(".suspect").exists(), because="what it held is in another segment")
    assert path not in recording.shipper.own.segments
    assert recording.shipper.own.on_disk == SeqSet([(1, recording.line.last_seq + 1)])
    assert recording.journaled_records == 100
    await recording.stop(0)


async def test_one_damaged_batch_holds_up_neither_the_loop_nor_the_others(tmp_path, redis_url, stream):
    """A flipped byte under a backlog that must be read back: everything in other segments is shipped."""
    recording = await started(tmp_path, "unix:///nowhere/at/all.sock", segment_bytes=20_000)
    for first in range(0, 1000, 20):
        await record(recording, 20, first)
    await recording.stop(0)
    paths = sorted((tmp_path / "journal/clicks/slot-0").glob("*.seg"))
    heir = await started(tmp_path, "unix:///nowhere/at/all.sock")
    await wait_until(lambda: [log for log in heir.shipper.logs() if log is not heir.shipper.own])
    good = segment.SegmentReader(paths[0])
    data = bytearray(paths[0].read_bytes())
    data[len(good.header.encode()) + 50] ^= 0xFF
    paths[0].write_bytes(data)
    lost = good.records
    heir.shipper._link = StreamLink(redis_url)
    await wait_until(lambda: at_least(stream, 1000 - lost))
    await heir.stop(0)


async def at_least(stream, count):
    return len(set(await shipped_ids(stream))) >= count


async def test_what_only_waits_in_the_stream_is_not_sent_again(tmp_path, redis_url, stream):
    """PostgreSQL away for long: a later batch may be covered while older ones lie unread; sending those again would fill Redis."""
    await stream.xgroup_create(STREAM, wire.GROUP, id="0", mkstream=True)
    recording = await started(tmp_path, redis_url)
    for first in range(0, 100, 10):
        await record(recording, 10, first)
        await wait_until(recording.shipper.is_done)
    last = recording.line.last_seq
    await publish(stream, recording, SeqSet([(last, last + 1)]))
    await wait_until(lambda: recording.shipper.own.covered)
    before = await stream.xlen(STREAM)
    recording.shipper.own.window = [replace(entry, sent_at=entry.sent_at - 3600) for entry in recording.shipper.own.window]
    await asyncio.sleep(2.5)
    assert await stream.xlen(STREAM) == before
    await recording.stop(0)


async def test_another_group_without_ours_is_no_loss(tmp_path, redis_url, stream):
    await stream.xgroup_create(STREAM, "tee", id="0", mkstream=True)
    recording = await started(tmp_path, redis_url)
    await record(recording, 20)
    await wait_until(recording.shipper.is_done)
    before = await stream.xlen(STREAM)
    await asyncio.sleep(3.5)
    assert await stream.xlen(STREAM) == before
    await recording.stop(0)


async def test_journal_sync_answers_in_the_end_when_disk_and_redis_refuse(tmp_path, small_files):
    recording = await started(tmp_path, "unix:///nowhere/at/all.sock", ack="journal-sync")
    for first in range(0, 2000, 200):
        await record(recording, 200, first)
    assert recording.line.late > 0
    await recording.stop(0)
    assert recording.line.unrecorded == 2000 - recording.journaled_records
    assert len(recording.shipper.own.lost) > 0


async def test_a_boot_without_a_line_on_a_full_counter_page_gets_one_when_others_are_closed(tmp_path, redis_url, stream):
    held = slot.acquire(tmp_path / "journal/clicks")
    page = held.open_page()
    lines = [counter_page.CounterLine(os.urandom(16)) for _ in range(counter_page.LINES)]
    assert all(line.attach(page) for line in lines)
    held.release()
    recording = await started(tmp_path, redis_url)
    assert not recording.line.is_kept
    await asyncio.sleep(2)
    assert all(entry.boot != recording.line.boot for entry in await entries(stream)), "nothing says that this boot exists"
    for line in lines:
        await publish(stream, line.boot, SeqSet(), closed=0)
    await wait_until(lambda: recording.line.is_kept, within_s=20)
    await recording.stop(1)


async def test_memory_is_let_go_oldest_first_and_only_what_nobody_has_is_given_up(monkeypatch):
    monkeypatch.setattr(boot_log, "MEMORY_MAX_BYTES", 10_000)
    boot = boot_log.BootLog("clicks", "n", b"b" * 16, counter_page.CounterLine(b"b" * 16), None)
    for seq in range(1, 10):
        batch = Batch(seq, 1, seq, bytes(1000), 0.0, [])
        boot.remember(batch)
        boot.offer(batch)
    boot.shipped(boot.memory_run(3000, unjournaled_only=True), b"1-1", 0.0)
    for seq in range(10, 14):
        boot.remember(Batch(seq, 1, seq, bytes(1000), 0.0, []))
    assert boot.line.unrecorded == 0, "Redis has the oldest three: their memory goes first"
    boot.remember(Batch(14, 1, 14, bytes(1000), 0.0, []))
    assert (boot.line.unrecorded, str(boot.lost)) == (1, "{[4,5)}")
    state = wire.CoveredState("1", 1, "{[4,5)}", 1, 1, 0, 0, 0, None, 1)
    boot.apply(state)
    assert (boot.line.unrecorded, str(boot.lost)) == (0, "{}"), "it turned up after all"


@pytest.fixture
def freezable(tmp_path):
    """A file system of its own that can be frozen, as snapshots do. A watchdog thaws it, for a frozen loop could not."""
    image, folder = tmp_path / "image", tmp_path / "mounted"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    made = os.getuid() == 0 and subprocess.run(["mkfs.ext4", "-q", "-F", image], check=False).returncode == 0
    if not made or subprocess.run(["mount", "-o", "loop", image, folder], check=False, capture_output=True).returncode:
        pytest.skip("needs root, mkfs.ext4 and loop devices")
    yield folder
    subprocess.run(["fsfreeze", "-u", folder], check=False, capture_output=True)
    subprocess.run(["umount", "-l", folder], check=False)


async def test_a_frozen_disk_freezes_no_redirect(freezable, redis_url, stream):
    recording = await started(freezable, redis_url)
    await record(recording, 100)
    os.sync()
    await asyncio.sleep(1.5)  # what was mapped or written is clean again: the next store to it would wait
    with subprocess.Popen(["sh", "-c", f"sleep 8; fsfreeze -u {freezable}"], stderr=subprocess.DEVNULL) as watchdog:
        subprocess.run(["fsfreeze", "-f", freezable], check=True)
        await record(recording, 100, 100)
        await asyncio.sleep(3)
        await record(recording, 100, 200)
        assert watchdog.poll() is None, "answered while the disk was frozen"
        assert recording.line.late > 0
        await wait_until(lambda: shipped_ids_equal(stream, range(300)), because="memory ships what the disk holds up")
        assert watchdog.poll() is None
    await wait_until(lambda: recording.journaled_records == 300, because="written after the thaw")
    assert recording.line.unrecorded == 0
    await recording.stop(1)


def test_the_counter_page_survives_its_process_and_hands_lines_back(tmp_path):
    page = counter_page.CounterPage(tmp_path / "counters")
    line = counter_page.CounterLine(b"b" * 16)
    assert line.attach(page)
    line.last_seq, line.accepted, line.unrecorded = 3, 40, 1
    line.save()
    page.close()
    (found,) = counter_page.CounterPage(tmp_path / "counters").lines()
    assert (found.boot, found.last_seq, found.accepted, found.unrecorded) == (b"b" * 16, 3, 40, 1)
    found.release()
    assert counter_page.CounterPage(tmp_path / "counters").lines() == []


def test_a_full_counter_page_refuses_instead_of_overwriting(tmp_path):
    page = counter_page.CounterPage(tmp_path / "counters")
    assert all(counter_page.CounterLine(os.urandom(16)).attach(page) for _ in range(counter_page.LINES))
    assert not counter_page.CounterLine(os.urandom(16)).attach(page)


def test_two_processes_never_share_a_slot(tmp_path):
    first, second = slot.acquire(tmp_path), slot.acquire(tmp_path)
    assert first.directory != second.directory
    first.release()
    third = slot.acquire(tmp_path)
    assert third.directory == first.directory
    second.release()
    third.release()


def test_an_unwritable_root_is_an_os_error_for_the_caller_to_handle(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises((NotADirectoryError, FileExistsError)):
        slot.acquire(tmp_path / "file")
