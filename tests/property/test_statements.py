"""Whatever is booked and however often it is run: nothing is lost or paid twice, and nobody is paid a negative amount."""

from hypothesis import given
from hypothesis import strategies as st

from tracker.domain import money, statements

MICROS = st.integers(-(10**12), 10**12)
CURRENCIES = st.sampled_from(("EUR", "JPY", "KWD", "CLF"))


@given(runs=st.lists(st.lists(MICROS, max_size=5), max_size=12), minimum=st.integers(0, 10**9), currency=CURRENCIES)
def test_payments_and_the_last_balance_are_the_sum_of_all_lines(runs, minimum, currency):
    balance, paid = 0, 0
    unit = 10 ** (6 - money.minor_unit(currency))
    for lines in runs:
        due = balance + sum(lines)
        settled = statements.settle(balance, sum(lines), minimum_micros=minimum, currency=currency)
        assert due == settled.payment_micros + settled.closing_micros
        assert settled.payment_micros >= 0
        assert settled.payment_micros % unit == 0
        assert (settled.status == "due") == (settled.payment_micros > 0)
        if settled.payment_micros:
            assert due >= minimum
            assert abs(settled.closing_micros) * 2 <= unit
        elif due >= minimum:
            assert due * 2 <= unit
        balance, paid = settled.closing_micros, paid + settled.payment_micros
    assert paid + balance == sum(map(sum, runs))


@given(opening=MICROS, lines=MICROS, currency=CURRENCIES)
def test_no_amount_is_a_negative_zero(opening, lines, currency):
    settled = statements.settle(opening, lines, minimum_micros=0, currency=currency)
    for micros in (settled.payment_micros, settled.closing_micros):
        shown = money.format_micros(micros, currency)
        assert shown.startswith("-") == (micros < 0)
        assert money.parse_micros(shown) == micros


@given(
    status=st.sampled_from(("carried", "due", "exported", "paid", "failed", "returned")),
    marks=st.lists(st.sampled_from(list(statements.MOVES))),
)
def test_what_a_payment_is_marked_as_it_stays_and_is_owed_again_once_at_most(status, marks):
    came_back = status in ("failed", "returned")
    for mark in marks:
        after = statements.marked(status, mark)
        assert after in (None, mark)
        assert statements.marked(after or status, mark) == after
        assert not (came_back and after not in (None, status))
        came_back = came_back or after in ("failed", "returned")
        status = after or status
