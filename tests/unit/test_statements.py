"""Statements: what is paid at the edges, how a payment's status may move, names and days of runs."""

from datetime import date

import pytest

from tracker.domain import statements
from tracker.domain.statements import settle


@pytest.mark.parametrize(
    ("opening", "lines", "minimum", "currency", "payment", "closing", "status"),
    [
        (0, 50_000_000, 50_000_000, "EUR", 50_000_000, 0, "due"),
        (0, 49_999_999, 50_000_000, "EUR", 0, 49_999_999, "carried"),
        (-10_000_000, 60_000_000, 50_000_000, "EUR", 50_000_000, 0, "due"),
        (-10_000_000, 4_000_000, 0, "EUR", 0, -6_000_000, "carried"),
        (0, 0, 0, "EUR", 0, 0, "carried"),
        (5_000_000, -5_000_000, 0, "EUR", 0, 0, "carried"),
        (0, 5_000, 0, "EUR", 0, 5_000, "carried"),  # half a cent, to the even one
        (0, 5_001, 0, "EUR", 10_000, -4_999, "due"),
        (0, 15_000, 0, "EUR", 20_000, -5_000, "due"),
        (0, 25_000, 0, "EUR", 20_000, 5_000, "due"),
        (0, 1_499_999, 0, "JPY", 1_000_000, 499_999, "due"),
        (0, 1_234_567, 0, "KWD", 1_235_000, -433, "due"),
        (0, 1_234_567, 0, "CLF", 1_234_600, -33, "due"),
    ],
)
def test_what_is_paid_and_what_is_carried(opening, lines, minimum, currency, payment, closing, status):
    assert settle(opening, lines, minimum_micros=minimum, currency=currency) == statements.Settlement(payment, closing, status)


@pytest.mark.parametrize(
    ("status", "paid", "failed", "returned"),
    [
        ("carried", None, None, None),
        ("due", "paid", "failed", None),
        ("exported", "paid", "failed", "returned"),
        ("paid", "paid", None, "returned"),
        ("failed", None, "failed", None),
        ("returned", None, None, "returned"),
    ],
)
def test_a_payment_moves_towards_an_end_and_never_back(status, paid, failed, returned):
    assert [statements.marked(status, mark) for mark in ("paid", "failed", "returned")] == [paid, failed, returned]


def test_a_month_has_its_first_and_its_last_day():
    assert statements.month("2028-02") == (date(2028, 2, 1), date(2028, 2, 29))
    assert statements.month("2026-12") == (date(2026, 12, 1), date(2026, 12, 31))
    for wrong in ("2026-13", "2026-00", "2026", "2026-1", "0000-01", "1969-12", "9999-01", ""):
        with pytest.raises(ValueError, match="2026-10"):
            statements.month(wrong)


def test_a_hold_takes_the_last_days_away():
    assert statements.cutoff(date(2026, 10, 31), 0) == date(2026, 10, 31)
    assert statements.cutoff(date(2026, 10, 31), 14) == date(2026, 10, 17)


def test_names_are_the_same_each_time_and_fit_into_a_bank_file():
    assert statements.run_slug("EUR", date(2026, 10, 31), 1) == "eur-2026-10-31"
    assert statements.run_slug("EUR", date(2026, 10, 31), 12) == "eur-2026-10-31-12"
    assert statements.message_id("eur-2026-10-31", 2) == "EUR-2026-10-31-B2"
    assert statements.end_to_end_id("eur-2026-10-31-2", 7) == "EUR-2026-10-31-2-P7"
    assert len(statements.end_to_end_id("eur-2026-10-31-99", 10**15)) <= 35


def test_an_account_is_known_by_its_ends_only():
    assert statements.masked("DE89370400440532013000") == "DE…3000"
    assert statements.masked("12345") == "…"
    assert statements.masked(None) is None
