"""The books of a boot."""

from datetime import UTC, datetime, timedelta

import pytest

from tracker.domain.books import Account, Delta, Report, State, gaps, judge, worst
from tracker.domain.enrichment import Tally, clean, fault, instant, readable
from tracker.domain.intervals import SeqSet

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def account(covered: str = "{[1,11)}", **changes) -> Account:
    facts = {
        "accepted": 100,
        "stored": 100,
        "duplicate": 0,
        "rejected": 0,
        "unrecorded": 0,
        "redelivered": 0,
        "last_seq": 10,
        "closed_seq": None,
        "lost": SeqSet(),
    }
    return Account(boot=b"b" * 16, node="n", kind="clicks", covered=SeqSet.parse(covered), last_heard_at=NOW, **(facts | changes))


def report(held: str = "{}", **changes) -> Report:
    facts = {"last_seq": 10, "accepted": 100, "unrecorded": 0, "closed": False, "heard_at": NOW, "lost": SeqSet()}
    return Report(node="n", held=SeqSet.parse(held), **(facts | changes))


def verdict(of: Account, said: Report | None = None, in_stream=None, *, now=NOW, stream_read=True):
    found = judge(of, said, in_stream or {}, now, stream_read=stream_read)
    parts = (found.stored, found.duplicate, found.rejected, found.in_flight, found.unrecorded, found.unaccounted)
    assert found.accepted == sum(parts)
    return found.state, found.in_flight, found.unrecorded, found.unaccounted, str(found.missing)


@pytest.mark.parametrize(
    ("of", "said", "in_stream", "expected"),
    [
        (account(), None, {}, (State.BALANCED, 0, 0, 0, "{}")),
        (account(stored=90, duplicate=4, rejected=6), report(), {}, (State.BALANCED, 0, 0, 0, "{}")),
        (account("{[1,9)}", stored=80), report("{[9,11)}"), {}, (State.IN_FLIGHT, 20, 0, 0, "{}")),
        (account("{[1,9)}", stored=80), report(), {9: 10, 10: 10}, (State.IN_FLIGHT, 20, 0, 0, "{}")),
        (account("{[1,9)}", stored=80), report(), {}, (State.UNBALANCED, 0, 0, 20, "{[9,11)}")),
        (account("{[1,9)}", stored=80), None, {3: 7, 9: 10, 10: 10}, (State.IN_FLIGHT, 20, 0, 0, "{}")),
        (account("{[1,9)}", stored=80), report(), {9: 12}, (State.UNBALANCED, 12, 0, 8, "{[10,11)}")),
        (account("{[1,9)}", stored=80), report("{[9,10)}"), {}, (State.UNBALANCED, 10, 0, 10, "{[10,11)}")),
        (account("{[1,9)}", stored=80, last_seq=8, accepted=80), report("{[9,11)}"), {}, (State.IN_FLIGHT, 20, 0, 0, "{}")),
        (account("{[1,9),[10,11)}", stored=90), report(last_seq=8, accepted=80), {}, (State.IN_FLIGHT, 10, 0, 0, "{}")),
        (account("{[1,9)}", stored=80, closed_seq=10, unrecorded=20, lost=SeqSet([(9, 11)])), None, {}, (State.BALANCED, 0, 20, 0, "{}")),
        (account("{[1,9)}", stored=80), report("{[10,11)}", unrecorded=9, lost=SeqSet([(9, 10)])), {}, (State.IN_FLIGHT, 11, 9, 0, "{}")),
        # a real gap is not hidden by an unrecorded one beside it
        (
            account("{[1,8)}", stored=70),
            report("{[10,11)}", unrecorded=9, lost=SeqSet([(9, 10)])),
            {},
            (State.UNBALANCED, 10, 9, 11, "{[8,9)}"),
        ),
        (account(stored=100), report(unrecorded=5), {}, (State.BALANCED, 0, 0, 0, "{}")),
        (account("{[1,10)}", stored=100, closed_seq=10), None, {}, (State.UNBALANCED, 0, 0, 0, "{[10,11)}")),
        (account(stored=101, closed_seq=10), None, {}, (State.UNBALANCED, 0, 0, -1, "{}")),
    ],
)
def test_books_are_balanced_by_what_can_be_proved(of, said, in_stream, expected):
    assert verdict(of, said, in_stream) == expected


def test_a_boot_neither_closed_nor_heard_of_for_a_minute_is_unknown():
    late = NOW + timedelta(seconds=61)
    assert verdict(account(), now=late)[0] is State.UNKNOWN
    assert verdict(account(), report(heard_at=late), now=late)[0] is State.BALANCED
    assert verdict(account(closed_seq=10), now=late)[0] is State.BALANCED
    assert verdict(account(stored=101), now=late)[0] is State.UNBALANCED


def test_without_the_streams_only_closed_and_complete_boots_are_known():
    assert verdict(account(), stream_read=False)[0] is State.UNKNOWN
    assert verdict(account(stored=90, closed_seq=10), stream_read=False)[0] is State.UNKNOWN
    assert verdict(account(closed_seq=10), stream_read=False)[0] is State.BALANCED


def test_gaps_reach_as_far_as_anybody_gave_a_seq():
    assert str(gaps(account("{[1,3),[5,11)}"), report(last_seq=12))) == "{[3,5),[11,13)}"
    assert str(gaps(account("{}", last_seq=0, closed_seq=2), None)) == "{[1,3)}"


def test_the_worst_state_counts():
    assert worst([]) is State.BALANCED
    assert worst([State.IN_FLIGHT, State.UNBALANCED, State.UNKNOWN]) is State.UNBALANCED


def test_a_delta_takes_entries_in_any_order():
    delta = Delta(b"b", "n", "clicks", "h")
    delta.heard(50, 9, None, 0, SeqSet())
    delta.heard(60, 9, 10, 3, SeqSet([(8, 9)]))
    delta.heard(20, 4, 10, 0, SeqSet())
    assert (delta.accepted, delta.last_seq, delta.closed_seq, delta.unrecorded) == (60, 10, 10, 3)
    assert str(delta.lost) == "{[8,9)}"
    delta.fresh.add(5, 8)
    delta.seen.add(1, 3)
    assert delta.fits(SeqSet([(1, 3)]))
    assert not delta.fits(SeqSet([(1, 6)]))
    assert not delta.fits(SeqSet([(1, 2)]))


def test_text_becomes_what_postgresql_takes():
    assert readable(b"a\x00b\xff") == "ab\ufffd"
    assert readable("grün".encode()) == "grün"
    assert clean("a\0\ud800ü" + "x" * 99, 6) == "a?üxxx"
    assert clean("plain", 3) == "pla"


def test_a_record_that_cannot_be_a_row_says_why():
    good = (b"i" * 16, 0, (1, None), 1)
    assert fault(*good) is None
    assert "bytes" in str(fault(b"", 0, (), 1))
    assert "instant" in str(fault(b"i" * 16, -1, (), 1))
    assert "range" in str(fault(b"i" * 16, 0, (2**63,), 1))
    assert "rule" in str(fault(b"i" * 16, 0, (), 2**15))


def test_rollups_count_rows_by_quarter_hours_and_days():
    tally, at = Tally(), instant(1_790_000_000_000_000)
    tally.add(at, 1, 2, 3, counted=True, unique=True)
    tally.add(at + timedelta(seconds=1), 1, 2, 3, counted=True, unique=None)
    tally.add(at, None, None, None, counted=False, unique=False)
    tally.close()
    bucket = at.replace(minute=at.minute // 15 * 15, second=0)

    def counts(rollup):
        return {key: (row.clicks, row.unique_clicks, row.total) for key, row in rollup.items()}

    assert counts(tally.buckets) == {
        (bucket, 1, 2, 3): (2, 1, 2),
        (bucket, 0, 0, 0): (0, 0, 1),
    }
    assert counts(tally.days) == {
        (at.date(), 1, 2): (2, 1, 2),
        (at.date(), 0, 0): (0, 0, 1),
    }
