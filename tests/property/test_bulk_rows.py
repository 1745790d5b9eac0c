"""Whatever a list says of a conversion: what is done is done, and no money comes from nowhere."""

from hypothesis import assume, given
from hypothesis import strategies as st

from tracker.domain.bulk_rows import ACTIONS, Row, State, done

AMOUNTS = st.integers(0, 200)
STATES = st.builds(State, st.sampled_from(("pending", "approved", "rejected", "reversed", "orphan")), AMOUNTS, AMOUNTS, st.just("EUR"))
ROWS = st.builds(Row, st.sampled_from(ACTIONS), txid=st.just("T"), amount_micros=st.none() | st.integers(1, 400))


@given(row=ROWS, state=STATES)
def test_a_row_that_was_done_is_done(row, state):
    try:
        found = done(row, state)
    except ValueError:
        assume(False)
    assert done(row, found.after).step is None
    whole = state.amount_micros + state.reversed_micros
    if found.step == "take_back":
        assert (found.after.amount_micros, found.after.reversed_micros) == (whole - row.amount_micros, row.amount_micros)
        assert 0 < found.amount_micros == state.amount_micros - found.after.amount_micros
    elif found.step != "adjust":
        assert (found.after.amount_micros, found.after.reversed_micros) == (state.amount_micros, state.reversed_micros)
