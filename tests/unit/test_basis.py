"""What payouts are worked out from: kept and read back, reports added up and taken back, months counted."""

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest

from tracker.domain.basis import Basis, Report, in_proportion, less, read, sale_of, whole_months, worked_out, written
from tracker.domain.money import MICROS
from tracker.domain.plans import Earned, Item, Level, Part, Plan, Rate, Share

EUR = MICROS
ADA, BOB = 1, 2


def percent(number):
    return Rate(percent_micros=number * MICROS)


@pytest.mark.parametrize(
    ("basis", "kept"),
    [
        (Basis(), {}),
        (Basis(customer="new"), {"customer": "new"}),
        (Basis(payment=1), {"payment": 1}),
        (Basis(payment=3, months=2), {"payment": 3, "months": 2}),
        (Basis(exchange=Fraction("1.0831")), {"exchange": "1.0831"}),
        (Basis(exchange=Fraction(1)), {"exchange": "1"}),
        (Basis(exchange=Fraction("0.5")), {"exchange": "0.5"}),
        (Basis(exchange=Fraction(162)), {"exchange": "162"}),
        (Basis(exchange=Fraction(2000, 2181)), {"exchange": "2000/2181"}),
        (Basis(upline=()), {"upline": []}),
        (Basis(upline=(4, 5)), {"upline": [4, 5]}),
        (Basis(reports=(Report(EUR, {"tax": "1.00"}),)), {"reports": [{"amount_micros": EUR, "details": {"tax": "1.00"}}]}),
    ],
)
def test_what_is_kept_reads_back(basis, kept):
    assert written(basis, Earned((), "EUR"), ADA) == kept
    assert read(kept) == basis


def test_how_it_came_about_is_kept_beside_it():
    shares = (Share(ADA, 1, EUR, "EUR"),)
    assert written(Basis(), Earned(shares, "EUR", ("10 %",)), ADA) == {"reasons": ["10 %"]}
    assert written(Basis(), Earned(shares, "EUR"), BOB) == {"is_shared": True}
    assert written(Basis(), Earned((*shares, Share(BOB, 2, EUR, "EUR")), "EUR"), ADA) == {"is_shared": True}
    assert written(Basis(), Earned((), "EUR", has_no_rate=True), ADA) == {"has_no_rate": True}


def test_a_sale_has_the_items_of_its_details_and_what_the_shop_says_of_the_customer():
    details = {"items": [{"sku": "A", "category": "shoes", "quantity": "1.5", "price": "9.95"}, {"price": "2"}, {}]}
    sale = sale_of(Report(20 * EUR, details), "EUR", "sale", Basis(customer="new", payment=2, months=3, exchange=Fraction(2)))
    assert sale.items == (
        Item("A", "shoes", Decimal("1.5"), Fraction(14_925_000)),
        Item("", "", Decimal(1), Fraction(2 * EUR)),
        Item("", "", Decimal(1), Fraction(0)),
    )
    assert (sale.amount_micros, sale.customer, sale.payment, sale.months, sale.exchange) == (20 * EUR, "new", 2, 3, 2)
    assert sale_of(Report(0, {"customer_type": "returning"}), "EUR", "sale", Basis(customer="new")).customer == "returning"
    assert (sale_of(Report(0, {}), "EUR", "sale", Basis()).customer, sale_of(Report(0, {}), "EUR", "lead", Basis()).payment) == ("", 1)


@pytest.mark.parametrize(
    ("amount", "percentage", "currency", "expected"),
    [
        (49_900_000, 10, "EUR", 4_990_000),
        (10_250_000, 10, "EUR", 1_020_000),  # 1.025: half to even
        (10_350_000, 10, "EUR", 1_040_000),  # 1.035: half to even
        (1_005_000_000, 10, "JPY", 100_000_000),  # 100.5 yen: half to even
        (1_015_000_000, 10, "JPY", 102_000_000),
        (1_000, 10, "KWD", 0),
        (10_005_000, 10, "KWD", 1_000_000),  # 1.0005: half to even at three digits
        (0, 50, "EUR", 0),
    ],
)
def test_a_percentage_is_rounded_half_even_at_the_minor_unit(amount, percentage, currency, expected):
    found = worked_out(Plan(percent(percentage)), (Report(amount, {}),), currency, "sale", ADA, Basis())
    assert (found.micros, found.currency) == (expected, currency)


def test_a_fixed_payout_keeps_its_micros_and_its_own_currency():
    found = worked_out(Plan(Rate(amount_micros=1000), "EUR"), (Report(99 * EUR, {}),), "USD", "sale", ADA, Basis())
    assert (found.micros, found.currency) == (1000, "EUR")


def test_each_report_of_an_order_earns_by_itself():
    plan = Plan(Rate(amount_micros=5 * EUR), "EUR", split=(Part(BOB, 20 * MICROS),), levels=(Level(10 * MICROS),))
    found = worked_out(plan, (Report(10 * EUR, {}), Report(20 * EUR, {})), "EUR", "sale", ADA, Basis(upline=(7,)))
    assert found.shares == (Share(ADA, 1, 8 * EUR, "EUR"), Share(BOB, 1, 2 * EUR, "EUR"), Share(7, 2, EUR, "EUR"))
    assert found.reasons == ("report 1: 5.00 EUR", "report 2: 5.00 EUR")


def test_a_report_without_a_rate_is_told_of_the_whole_order():
    plan = Plan(percent(10), "EUR")
    found = worked_out(plan, (Report(10 * EUR, {}), Report(EUR, {})), "USD", "sale", ADA, Basis())
    assert (found.shares, found.has_no_rate) == ((), True)


@pytest.mark.parametrize(
    ("amounts", "taken", "left"),
    [([10], 4, [6]), ([10, 20], 5, [10, 15]), ([10, 20], 20, [10]), ([10, 20], 25, [5]), ([10, 0, 20], 25, [5, 0]), ([10], 10, [])],
)
def test_what_is_taken_back_is_of_the_last_reports(amounts, taken, left):
    reports = [Report(amount * EUR, {}) for amount in amounts]
    assert less(reports, taken * EUR) == tuple(Report(amount * EUR, {}) for amount in left)


def test_shares_that_nobody_can_work_out_anew_go_down_in_proportion():
    shares = (Share(ADA, 1, 1_000_000, "EUR"), Share(BOB, 1, 10_000, "EUR"))
    assert in_proportion(shares, 1, 3) == (Share(ADA, 1, 330_000, "EUR"),)


@pytest.mark.parametrize(
    ("first", "at", "months"),
    [
        ("2026-01-31T12:00", "2026-01-31T12:00", 0),
        ("2026-01-31T12:00", "2026-02-28T23:00", 0),
        ("2026-01-31T12:00", "2026-03-01T00:00", 1),
        ("2026-01-15T12:00", "2026-02-15T11:59", 0),
        ("2026-01-15T12:00", "2026-02-15T12:00", 1),
        ("2025-11-15T12:00", "2026-02-14T12:00", 2),
        ("2025-02-15T12:00", "2026-02-15T12:00", 12),
    ],
)
def test_months_are_counted_when_they_are_over(first, at, months):
    assert whole_months(*(datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (first, at))) == months
