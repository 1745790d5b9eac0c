"""Conservation: whatever is covered, held, in the stream or lost, every accepted record is somewhere."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from tracker.domain.books import Account, Report, State, judge
from tracker.domain.intervals import SeqSet

NOW = datetime(2026, 11, 22, tzinfo=UTC)
PLACES = ("covered", "held", "stream", "lost")


@given(st.lists(st.tuples(st.integers(1, 9), st.sampled_from(PLACES)), max_size=30), st.integers(0, 30), st.booleans())
def test_every_record_is_accounted_for_and_a_loss_is_always_named(batches, heard_to, closed):
    places = {place: SeqSet((seq, seq + 1) for seq, (_, at) in enumerate(batches, 1) if at == place) for place in PLACES}
    counts = dict(enumerate((count for count, _ in batches), 1))
    sums = {place: sum(counts[seq] for start, stop in places[place] for seq in range(start, stop)) for place in PLACES}
    total, last = sum(counts.values()), len(batches)
    heard_to = min(heard_to, last)
    account = Account(
        boot=b"b" * 16, node="n", kind="clicks", covered=places["covered"], lost=SeqSet(),
        accepted=sum(counts[seq] for seq in range(1, heard_to + 1)),
        stored=sums["covered"], duplicate=0, rejected=0, unrecorded=0, redelivered=0, last_seq=heard_to,
        closed_seq=last if closed else None, last_heard_at=NOW,
    )  # fmt: skip
    report = Report("n", last, total, 0, places["held"], SeqSet(), closed=False, heard_at=NOW)
    in_stream = {seq: counts[seq] for start, stop in places["stream"] for seq in range(start, stop)}
    found = judge(account, report, in_stream, NOW, stream_read=True)
    assert found.accepted == total == found.stored + found.in_flight + found.unaccounted
    assert found.missing == places["lost"]
    assert (found.state is State.UNBALANCED) == bool(places["lost"])
    if not places["lost"]:
        assert found.in_flight == sums["held"] + sums["stream"]
    elif not places["held"]:
        assert found.unaccounted == sums["lost"]
    else:
        assert found.unaccounted >= len(places["lost"])
