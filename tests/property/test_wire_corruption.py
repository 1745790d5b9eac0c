"""Corruption anywhere: a clean prefix and a clean error, never an exception of another kind, never a wrong record."""

from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_wire import a_record
from tracker import wire
from tracker.adapters.journal import segment
from tracker.errors import CorruptData

BATCHES = [(seq, [a_record(link_id=seq * 10 + n) for n in range(seq)]) for seq in (1, 2, 3, 4)]
FRAMES = [wire.encode_frame(seq, records, seq) for seq, records in BATCHES]
HEADER = segment.Header("clicks", "node", bytes(16)).encode()
JOURNAL = b"".join(FRAMES)


def read_all(buffer):
    return [(frame.seq, wire.decode_frame(buffer[frame.start : frame.stop], wire.Record)) for frame in wire.scan(buffer)]


GOOD = read_all(JOURNAL)


@given(st.integers(0, len(JOURNAL)))
def test_a_cut_journal_yields_the_batches_before_the_cut(length):
    whole = sum(1 for n in range(len(FRAMES)) if sum(map(len, FRAMES[: n + 1])) <= length)
    assert read_all(JOURNAL[:length]) == GOOD[:whole]


@given(st.integers(0, len(JOURNAL) - 1), st.integers(1, 255))
def test_a_flipped_byte_yields_a_clean_prefix(at, flip):
    damaged = bytearray(JOURNAL)
    damaged[at] ^= flip
    found = read_all(bytes(damaged))
    hit = next(n for n in range(len(FRAMES)) if at < sum(map(len, FRAMES[: n + 1])))
    assert found == GOOD[:hit]


@given(st.binary(max_size=400))
def test_junk_is_no_journal(junk):
    assert read_all(junk + JOURNAL) == [] or junk == b""


@given(st.binary(max_size=300))
def test_junk_is_no_header_and_no_frame(junk):
    for read in (segment.Header.read, partial(wire.decode_frame, of=wire.Record)):
        try:
            read(junk)
        except CorruptData:
            continue
        raise AssertionError(f"{read} took {junk!r}")


@given(st.integers(0, len(HEADER) - 1), st.integers(1, 255))
def test_a_damaged_header_is_refused(at, flip):
    damaged = bytearray(HEADER)
    damaged[at] ^= flip
    try:
        segment.Header.read(bytes(damaged))
    except CorruptData:
        return
    raise AssertionError("damaged header was read")
