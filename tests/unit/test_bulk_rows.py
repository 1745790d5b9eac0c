"""What a row of a list says, and what it comes to."""

from uuid import UUID

import pytest

from tracker.domain.bulk_rows import Done, Row, State, clash, done, read

NUMBER = "0198f6a0-0000-7000-8000-000000000000"
EUR = 1_000_000


def state(status="approved", left=100, taken=0):
    return State(status, left * EUR, taken * EUR, "EUR")


def row(action, amount=None, currency=""):
    return Row(action, txid="T", amount_micros=None if amount is None else amount * EUR, currency=currency)


def test_a_row_is_read_with_empty_values_as_missing_ones():
    assert read({"id": NUMBER, "action": "approve", "amount": "", "txid": None}) == Row("approve", UUID(NUMBER))
    given = {
        "txid": " T ",
        "advertiser": "shop",
        "goal": "sale",
        "occurrence": "2",
        "action": "adjust",
        "amount": "12.5",
        "currency": "eur",
    }
    assert read(given | {"reason": "r"}) == Row("adjust", None, "T", "shop", "sale", 2, 12_500_000, "EUR", "r")
    assert read({"txid": "T", "occurrence": 3, "action": "reverse"}) == Row("reverse", None, "T", occurrence=3)
    assert read({"txid": "T", "action": "adjust", "amount": "0"}).amount_micros == 0


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"action": "approve"}, "id or txid is needed"),
        ({"action": "approve", "id": NUMBER, "txid": "T"}, "not both"),
        ({"action": "approve", "id": NUMBER, "goal": "sale"}, "go with txid"),
        ({"action": "approve", "id": "7"}, "id must be the id of a conversion"),
        ({"action": "pay", "txid": "T"}, "action must be one of approve, reject, reverse, adjust"),
        ({"txid": "T"}, "action must be one of"),
        ({"action": "approve", "txid": "T", "amount": "1"}, "amount goes with adjust and reverse"),
        ({"action": "adjust", "txid": "T"}, "adjust needs the new amount"),
        ({"action": "adjust", "txid": "T", "amount": "-1"}, "amount must be a decimal number"),
        ({"action": "adjust", "txid": "T", "amount": "1,50"}, "amount must be a decimal number"),
        ({"action": "adjust", "txid": "T", "amount": "999999999999"}, "amount is larger than"),
        ({"action": "reverse", "txid": "T", "amount": "0.00"}, "must be above 0"),
        ({"action": "adjust", "txid": "T", "amount": 1.5}, "amount must be a string"),
        ({"action": "approve", "txid": "T", "occurrence": "0"}, "occurrence must be a whole number"),
        ({"action": "approve", "txid": "T", "occurrence": True}, "occurrence must be a whole number"),
        ({"action": "approve", "txid": "T", "occurrence": "x"}, "occurrence must be a whole number"),
        ({"action": "approve", "txid": "T", "currency": "EURO"}, "ISO 4217"),
        ({"action": "approve", "txid": "T", "reason": "\x00"}, "no control characters"),
        ({"action": "approve", "txid": "T" * 256}, "at most 255"),
        ({"action": "approve", "txid": "T", "colour": "red"}, "'colour' is not one of"),
    ],
)
def test_a_row_that_cannot_be_read_says_why(values, said):
    with pytest.raises(ValueError, match=said):
        read(values)


@pytest.mark.parametrize(
    ("wanted", "before", "step", "micros", "after"),
    [
        (row("approve"), state("pending"), "approve", 0, state("approved")),
        (row("approve"), state("approved"), None, 0, state("approved")),
        (row("reject"), state("pending"), "reject", 0, state("rejected")),
        (row("reject"), state("rejected"), None, 0, state("rejected")),
        (row("reverse", currency="EUR"), state(), "reverse", 0, state("reversed")),
        (row("reverse"), state("reversed"), None, 0, state("reversed")),
        (row("reverse", 30), state(), "take_back", 30, state("approved", 70, 30)),
        (row("reverse", 30), state("pending"), "take_back", 30, state("pending", 70, 30)),
        (row("reverse", 50), state("approved", 70, 30), "take_back", 20, state("approved", 50, 50)),
        (row("reverse", 30), state("approved", 70, 30), None, 0, state("approved", 70, 30)),
        (row("reverse", 100), state("approved", 70, 30), "reverse", 0, state("reversed", 70, 30)),
        (row("reverse", 100), state("pending"), "reject", 0, state("rejected")),
        (row("reverse", 30), state("reversed"), None, 0, state("reversed")),
        (row("adjust", 80), state(), "adjust", 80, state("approved", 80)),
        (row("adjust", 80), state("pending", 70, 30), "adjust", 80, state("pending", 80)),
        (row("adjust", 100), state("approved", 70, 30), None, 0, state("approved", 70, 30)),
        (row("adjust", 100), state("rejected"), None, 0, state("rejected")),
    ],
)
def test_what_a_row_comes_to(wanted, before, step, micros, after):
    assert done(wanted, before) == Done(step, micros * EUR, after)
    assert done(wanted, after).step is None, "done once, it is done"


@pytest.mark.parametrize(
    ("wanted", "before", "said"),
    [
        (row("approve"), state("rejected"), "only a conversion that is pending can be approved; it is rejected"),
        (row("reject"), state(), "only a conversion that is pending can be rejected; it is approved"),
        (row("reverse"), state("pending"), "only a conversion that is approved can be reversed; it is pending"),
        (row("reverse", 101), state(), "101.00 EUR is more than the order's 100.00 EUR"),
        (row("reverse", 20), state("approved", 70, 30), "30.00 EUR of it is taken back already"),
        (row("adjust", 80), state("reversed"), "is reversed: nothing is owed for it"),
        (row("approve", currency="USD"), state("pending"), "the conversion is in EUR, not in USD"),
        (row("approve"), state("orphan"), "it is an orphan"),
    ],
)
def test_what_cannot_be_done_says_why(wanted, before, said):
    with pytest.raises(ValueError, match=said):
        done(wanted, before)


@pytest.mark.parametrize(
    ("earlier", "later", "said"),
    [
        (row("approve"), row("reject"), "says what is to become of this conversion already"),
        (row("adjust", 80), row("adjust", 70), "says what is to become of this conversion already"),
        (row("reverse", 30), row("adjust", 80), "takes back a part of this conversion; adjust it in another list"),
        (row("adjust", 80), row("reverse", 30), "adjusts this conversion; take back a part of it in another list"),
        (row("adjust", 80), row("reverse"), None),
        (row("approve"), row("adjust", 80), None),
    ],
)
def test_which_two_rows_of_one_conversion_go_together(earlier, later, said):
    assert clash(earlier, later) == said
