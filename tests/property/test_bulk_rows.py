"""Whatever a list says of a conversion: what is done is done, and no money comes from nowhere."""

from contextlib import suppress
from itertools import product

from hypothesis import assume, given
from hypothesis import strategies as st

from tracker.domain.bulk_rows import ACTIONS, Row, State, clash, done

AMOUNTS = st.integers(0, 200)
STATES = st.builds(State, st.sampled_from(("pending", "approved", "rejected", "reversed", "orphan")), AMOUNTS, AMOUNTS, st.just("EUR"))
ROWS = st.builds(Row, st.sampled_from(ACTIONS), txid=st.just("T"), amount_micros=st.none() | st.integers(1, 400))
# As rows are read: an amount only where it means something. Few amounts, so that they meet.
READ = [
    *(Row(action, txid="T") for action in ("approve", "reject", "reverse")),
    *(Row("adjust", txid="T", amount_micros=amount) for amount in range(7)),
    *(Row("reverse", txid="T", amount_micros=amount) for amount in range(1, 7)),
]
READABLE = [State(*state, "EUR") for state in product(("pending", "approved", "rejected", "reversed"), range(4), range(4))]


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


def applied(rows, state):
    """The state after a list, and how many steps were taken."""
    steps = 0
    for row in rows:
        found = done(row, state)
        state, steps = found.after, steps + (found.step is not None)
    return state, steps


def test_a_list_with_two_rows_of_one_conversion_does_nothing_the_second_time():
    """Every pair of rows in every state."""
    moved = 0
    for first, second in product(READ, READ):
        assert (clash(first, second) is None) == (clash(second, first) is None)
        if clash(first, second):
            continue
        for state in READABLE:
            with suppress(ValueError):
                after, steps = applied((first, second), state)
                moved += steps == 2
                assert applied_again((first, second), after) == (after, 0), (first, second, state)
    assert moved > 100


def applied_again(rows, state):
    try:
        return applied(rows, state)
    except ValueError as exc:
        return exc
