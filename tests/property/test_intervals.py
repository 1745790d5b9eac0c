"""`SeqSet` behaves as a plain set of integers does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.domain.intervals import SeqSet

ranges = st.tuples(st.integers(0, 60), st.integers(0, 60))
steps = st.lists(st.tuples(st.sampled_from(["add", "discard"]), ranges), max_size=30)


def built(script):
    ours, plain = SeqSet(), set()
    for verb, (start, stop) in script:
        getattr(ours, verb)(start, stop)
        (plain.update if verb == "add" else plain.difference_update)(range(start, stop))
    return ours, plain


def members(seqs):
    return {seq for start, stop in seqs for seq in range(start, stop)}


@given(steps)
def test_a_seq_set_holds_what_a_plain_set_would_hold(script):
    ours, plain = built(script)
    assert members(ours) == plain
    assert len(ours) == len(plain)
    assert bool(ours) == bool(plain)
    assert (ours.first, ours.last) == ((min(plain), max(plain)) if plain else (None, None))


@given(steps)
def test_ranges_are_sorted_disjoint_and_never_touch(script):
    ours, _ = built(script)
    flat = [edge for pair in ours for edge in pair]
    assert flat == sorted(set(flat))


@given(steps, steps, ranges)
def test_the_algebra_is_the_algebra_of_sets(left, right, window):
    (a, plain_a), (b, plain_b) = built(left), built(right)
    start, stop = window
    assert members(a.minus(b)) == plain_a - plain_b
    assert members(a.both(b)) == plain_a & plain_b
    assert members(a.within(start, stop)) == plain_a & set(range(start, stop))
    assert a.covers(start, stop) == set(range(start, stop)).issubset(plain_a)
    assert a.overlaps(start, stop) == bool(plain_a & set(range(start, stop)))
    assert all((seq in a) == (seq in plain_a) for seq in range(62))
    assert all(set(range(seq, a.run_stop(seq))) <= plain_a and a.run_stop(seq) not in plain_a - {seq} for seq in range(62))
    a.update(b)
    assert members(a) == plain_a | plain_b


@given(steps)
def test_text_is_postgresqls_and_reads_back(script):
    ours, _ = built(script)
    assert SeqSet.parse(str(ours)) == ours
    assert SeqSet(list(ours)) == ours
    assert repr(ours) == f"SeqSet({ours})"


@pytest.mark.parametrize("text", ["", "{", "{[1,2]}", "{(1,2)}", "{[1,2),}", "empty"])
def test_other_text_is_refused(text):
    with pytest.raises(ValueError, match="int8multirange"):
        SeqSet.parse(text)
