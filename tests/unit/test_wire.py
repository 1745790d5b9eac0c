"""The formats that outlive a process. A golden value that changes here is a journal nobody can read any more."""

import hashlib
import zlib
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest

from tracker import wire
from tracker.domain.postback import Postback
from tracker.errors import CorruptData

BOOT = bytes(range(16))


def a_record(**changes):
    facts = {
        "click_id": bytes.fromhex("019a0000000070008000000000000001"),
        "received_at_us": 1_763_000_000_000_000,
        "kind": "click",
        "method": "GET",
        "host": b"go.example",
        "target": b"/c/summer?sub1=caf\xe9",
        "link_id": 3,
        "campaign_id": 2,
        "partner_id": 1,
        "advertiser_id": 1,
        "creative": "banner",
        "outcome": "ok",
        "verdict": "valid",
        "rule_version": 1,
        "counted": True,
        "destination": b"https://shop.example/?click_id=x",
        "ip": "203.0.113.0",
        "country": "DE",
        "network": "",
        "user_agent": b"Mozilla/5.0",
        "referrer": b"https://blog.example/",
        "language": b"de-DE",
        "subs": (b"caf\xe9",),
        "ref": b"their-id",
        "visitor_key": bytes(16),
        "platform": "tune",
        "old_partner": b"7",
        "extra": {"k": b"v"},
    }
    return wire.Record(**(facts | changes))


def test_the_frame_of_a_known_batch_has_the_bytes_it_always_had():
    frame = wire.encode_frame(7, [a_record(), a_record(link_id=None, outcome="unknown")], 42)
    assert len(frame) == 522
    assert hashlib.sha256(frame).hexdigest() == "e2eb8c42baa504464c2d6633fd1f221d94d2126d472353e25b78d42856af1d49"


def a_receipt(**changes):
    facts = {
        "postback_id": UUID("019a0000-0000-7000-8000-000000000002"),
        "received_at": datetime(2026, 1, 31, 12, 0, 0, 123456, UTC),
        "source": "postback",
        "advertiser_id": 7,
        "txid": "ORDER-1 é",
        "goal": "sale",
        "click_id": "01k8000000000000000000000z",
        "coupon": None,
        "amount_micros": 49_900_000,
        "currency": "EUR",
        "amount_original": "49.90",
        "currency_original": "",
        "status": "approved",
        "status_original": "",
        "happened_at": None,
        "parameters": {"txid": "ORDER-1 é", "basket": "3"},
        "ip": "203.0.113.0",
    }
    return wire.Receipt(Postback(**(facts | changes)))


def test_the_frame_of_known_receipts_has_the_bytes_it_always_had():
    receipts = [a_receipt(), a_receipt(coupon="SPRING", happened_at=datetime(2026, 1, 30, tzinfo=UTC), unverified=True)]
    frame = wire.encode_frame(3, receipts, 9)
    assert wire.decode_frame(frame, wire.Receipt) == (receipts, [])
    assert hashlib.sha256(frame).hexdigest() == "1430527e526f2e67e97f47e024d5b7d40fe02e8854aeeaffcc6946909239bca7"


def test_a_receipt_of_before_it_had_customers_and_details_is_read():
    fields = msgspec.to_builtins(a_receipt().postback, builtin_types=(datetime, UUID))
    later = ("customer", "event_id", "visits", "details", "stated_at", "campaign", "partner", "old_source")
    of_before = {name: value for name, value in fields.items() if name not in later}
    assert len(of_before) == len(fields) - len(later)
    assert wire._batch_decoders[wire.Receipt].decode(msgspec.msgpack.encode([[of_before]])) == [a_receipt()]


def test_a_receipt_of_the_future_is_read_without_what_is_not_known():
    fields = msgspec.to_builtins(a_receipt().postback, builtin_types=(datetime, UUID)) | {"a field of 2030": 1}
    assert wire._batch_decoders[wire.Receipt].decode(msgspec.msgpack.encode([[fields, None, "another"]])) == [a_receipt()]


def test_a_frame_reads_back_as_it_was_written():
    records = [a_record(), a_record(counted=False)]
    frame = wire.encode_frame(7, records, 42)
    (found,) = wire.scan(frame)
    assert (found.seq, found.records, found.accepted) == (7, 2, 42)
    assert wire.decode_frame(frame, wire.Record) == (records, [])


def test_a_record_with_fields_of_the_future_is_read_without_them():
    fields = [*msgspec.structs.astuple(a_record()), "a field of the year 2030"]
    payload = msgspec.msgpack.encode([fields])
    assert wire._batch_decoders[wire.Record].decode(payload) == [a_record()]


def test_one_unreadable_record_does_not_take_the_batch_with_it():
    payload = msgspec.msgpack.encode([a_record(), ["junk"], a_record()])
    checked = wire._CHECKED.pack(1, 3, 3) + payload
    frame = wire.FRAME.pack(len(payload), zlib.crc32(checked), 1, 3, 3) + payload
    records, unreadable = wire.decode_frame(frame, wire.Record)
    assert records == [a_record(), a_record()]
    assert unreadable == [msgspec.msgpack.encode(["junk"])]


@pytest.mark.parametrize(
    ("field", "size"),
    [("target", 60_000), ("destination", 5_000), ("user_agent", 20_000), ("referrer", 9_000), ("host", 300), ("ref", 70_000)],
)
def test_no_record_takes_more_than_its_bound_and_a_cut_one_says_so(field, size):
    record = wire.fit(a_record(**{field: b"x" * size}))
    assert record.truncated
    assert len(wire._encoder.encode([record])) <= wire.RECORD_MAX_BYTES


def test_everything_too_long_at_once_still_fits():
    fields = (
        "host",
        "target",
        "destination",
        "user_agent",
        "referrer",
        "language",
        "ref",
        "old_partner",
        "old_offer",
        "old_creative",
        "old_click_id",
    )
    record = a_record(**dict.fromkeys(fields, b"y" * 3000), subs=(b"z" * 3000,) * 10, extra={"k": b"v" * 3000})
    assert len(wire._encoder.encode([wire.fit(record)])) <= wire.RECORD_MAX_BYTES


def test_a_record_that_fits_is_not_touched():
    assert wire.fit(a_record()) == a_record()


def an_entry(**changes):
    frames = wire.encode_frame(5, [a_record()], 11) + wire.encode_frame(6, [a_record()] * 2, 13)
    facts = {
        "node": "n",
        "boot": BOOT,
        "host_id": "h:1",
        "seq_from": 5,
        "seq_to": 6,
        "counts": (1, 2),
        "accepted": 13,
        "sent_at_ms": 1,
        "payload": frames,
    }
    return wire.Entry(**(facts | changes))


def test_an_entry_reads_back_with_its_frames():
    entry = an_entry()
    assert wire.Entry.read(entry.fields()) == entry
    assert [frame.records for frame in entry.frames()] == [1, 2]
    assert entry.records == 3


def test_opening_and_closing_entries_carry_no_batch():
    closing = an_entry(seq_from=1, seq_to=0, counts=(), payload=b"", closed_seq=6, unrecorded=2)
    assert wire.Entry.read(closing.fields()) == closing
    assert closing.frames() == []


def test_a_damaged_frame_of_an_entry_is_none_and_never_another_batch():
    entry = an_entry()
    damaged = bytearray(entry.payload)
    damaged[40] ^= 1
    assert wire.Entry.read(an_entry(payload=bytes(damaged)).fields()).frames() == [None, None]


@pytest.mark.parametrize(
    "broken",
    [
        {b"v": b"2"},
        {b"boot": b"00"},
        {b"boot": b"zz"},
        {b"counts": b"1"},
        {b"counts": b"1,0"},
        {b"seq_to": b"x"},
        {b"n": None, b"node": None},
    ],
)
def test_an_entry_that_contradicts_itself_is_refused(broken):
    fields = {key: value for key, value in (an_entry().fields() | broken).items() if value is not None}
    with pytest.raises(CorruptData):
        wire.Entry.read(fields)
