"""What sales earn by payout plans: hand-worked cases of `tests/data/payouts.csv`, and what is told beside the shares."""

import csv
import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from tracker.domain import money
from tracker.domain.plan_reading import read
from tracker.domain.plans import (
    Earned,
    Item,
    Level,
    Part,
    Plan,
    Rate,
    Recurring,
    Rule,
    Sale,
    Share,
    at_base,
    earned,
)

with (Path(__file__).parents[1] / "data/payouts.csv").open(newline="", encoding="utf-8") as file:
    CASES = list(csv.DictReader(file))
PARTNERS = {f"p{number}": number for number in range(1, 12)}
NO_RATE = "no rate"
EUR = 1_000_000


def micros(text):
    scaled = Decimal(text) * 1_000_000
    assert scaled == int(scaled), f"{text} is no whole number of millionths"
    return int(scaled)


def item_of(given):
    quantity = Decimal(given.get("quantity", "1"))
    total = quantity * Decimal(given.get("price", "0"))
    return Item(given.get("sku", ""), given.get("category", ""), quantity, micros(str(total)))


def sale_of(case):
    return Sale(
        micros(case["amount"]),
        case["currency"],
        case["goal"],
        tuple(item_of(item) for item in json.loads(case["items"] or "[]")),
        case["customer"],
        int(case["payment"]),
        int(case["months"]),
        Fraction(case["exchange"]) if case["exchange"] else None,
    )


def shares_of(text):
    """`1:1=7.70 EUR; 7:2=3.30 EUR` → {(1, 1): (7700000, "EUR"), …}"""
    found = {}
    for share in filter(None, text.split("; ")):
        who, _, what = share.partition("=")
        partner, level = who.split(":")
        amount, currency = what.split(" ")
        found[int(partner), int(level)] = (micros(amount), currency)
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"].replace(" ", "_"))
def test_a_sale_earns_what_was_worked_out_by_hand(case):
    has_no_rate = case["expected"].startswith(NO_RATE)
    expected = shares_of(case["expected"].removeprefix(NO_RATE).removeprefix("; "))
    plan = read(json.loads(case["plan"]), PARTNERS, currency="EUR")
    found = earned(plan, sale_of(case), 1, [int(partner) for partner in case["upline"].split()])
    assert {(share.partner, share.level): (share.micros, share.currency) for share in found.shares} == expected, case["working"]
    assert found.has_no_rate is has_no_rate
    assert len(found.shares) == len(expected)
    assert [share.level for share in found.shares] == sorted(share.level for share in found.shares)
    assert {currency for _, currency in expected.values()} <= {found.currency}
    assert found.micros == sum(amount for (_, level), (amount, _) in expected.items() if level == 1)


def test_the_cases_are_many_and_each_has_a_name_and_its_working():
    assert len(CASES) >= 100
    assert len({case["case"] for case in CASES}) == len(CASES)
    assert all(case["working"] for case in CASES)


SHOES = Rule(Rate(percent_micros=10 * EUR), categories=frozenset({"shoes"}))
ITEMS = (Item("A", "shoes", Decimal(1), 60 * EUR), Item("B", "hats", Decimal(1), 40 * EUR))


@pytest.mark.parametrize(
    ("plan", "sale", "reasons"),
    [
        (Plan(Rate(percent_micros=10 * EUR)), Sale(EUR, "EUR"), ("10 %",)),
        (Plan(Rate(percent_micros=12_345_678)), Sale(EUR, "EUR"), ("12.345678 %",)),
        (Plan(Rate(amount_micros=37_500), "EUR"), Sale(EUR, "EUR"), ("0.0375 EUR",)),
        (Plan(Rate(amount_micros=5 * EUR), "JPY"), Sale(EUR, "EUR"), ("5 JPY",)),
        (Plan(), Sale(EUR, "EUR"), ("0 %",)),
        (Plan(rules=(Rule(Rate(percent_micros=EUR), frozenset({"lead"})), Rule(Rate()))), Sale(EUR, "EUR"), ("rule 2: 0.00 EUR",)),
        (Plan(Rate(percent_micros=5 * EUR), rules=(SHOES,)), Sale(EUR, "EUR", items=ITEMS), ("item 1, rule 1: 10 %", "5 %")),
        (Plan(Rate(percent_micros=5 * EUR), rules=(SHOES,)), Sale(EUR, "EUR", items=ITEMS[:1]), ("item 1, rule 1: 10 %",)),
        (
            Plan(recurring=Recurring(Rate(percent_micros=3 * EUR))),
            Sale(EUR, "EUR", payment=2),
            ("payment 2 of the customer: 3 %",),
        ),
        (Plan(recurring=Recurring(Rate(), payments=2)), Sale(EUR, "EUR", payment=3), ("payment 3 of the customer: 2 earn",)),
        (
            Plan(recurring=Recurring(Rate(), months=6)),
            Sale(EUR, "EUR", payment=2, months=7),
            ("7 months after the customer's first payment: 6 months earn",),
        ),
        (Plan(currency="EUR", minimum_order_micros=50 * EUR), Sale(EUR, "EUR"), ("below the minimum order of 50.00 EUR",)),
        (
            Plan(Rate(percent_micros=10 * EUR), "EUR", cap_micros=EUR),
            Sale(11 * EUR, "EUR"),
            ("10 %", "no more than 1.00 EUR for a sale"),
        ),
        (Plan(Rate(percent_micros=10 * EUR), "EUR"), Sale(EUR, "USD"), ("10 %", "no rate of the day from USD to EUR")),
        (
            Plan(Rate(percent_micros=10 * EUR), "EUR", minimum_order_micros=EUR),
            Sale(EUR, "USD"),
            ("no rate of the day from USD to EUR",),
        ),
    ],
)
def test_the_reasons_tell_how_the_payout_came_about(plan, sale, reasons):
    assert earned(plan, sale, 1).reasons == reasons


def test_reasons_do_not_make_two_payouts_different():
    assert Earned((), "EUR", ("one",)) == Earned((), "EUR", ("another",))
    assert Earned((), "EUR", has_no_rate=True) != Earned((), "EUR")


def test_what_the_first_level_gets_together_leaves_those_above_out():
    plan = Plan(Rate(amount_micros=EUR), "EUR", levels=(Level(50 * EUR),), split=(Part(4, 25 * EUR),))
    found = earned(plan, Sale(EUR, "EUR"), 1, (7,))
    assert found == Earned((Share(1, 1, 750_000, "EUR"), Share(4, 1, 250_000, "EUR"), Share(7, 2, 500_000, "EUR")), "EUR")
    assert found.micros == EUR
    assert Earned((), "EUR").micros == 0


def test_a_plan_without_a_rate_of_the_day_is_in_its_own_currency_still():
    found = earned(Plan(Rate(percent_micros=EUR), "EUR"), Sale(EUR, "USD"), 1)
    assert (found.shares, found.currency, found.has_no_rate) == ((), "EUR", True)


def test_a_plan_at_the_rate_of_a_tier_differs_in_its_base_rate_only():
    plan = Plan(Rate(percent_micros=EUR), "EUR", rules=(SHOES,), cap_micros=9 * EUR)
    at_tier = at_base(plan, Rate(percent_micros=2 * EUR))
    assert at_tier == Plan(Rate(percent_micros=2 * EUR), "EUR", rules=(SHOES,), cap_micros=9 * EUR)
    assert earned(at_tier, Sale(100 * EUR, "EUR", items=ITEMS), 1).micros == 6_800_000  # 60.00 x 10 % + 40.00 x 2 %
    assert plan.rate == Rate(percent_micros=EUR)


@pytest.mark.parametrize(
    ("exact", "currency", "rounded"),
    [
        (Fraction(15_000), "EUR", 20_000),
        (Fraction(25_000), "EUR", 20_000),
        (Fraction(25_000) + Fraction(1, 10**30), "EUR", 30_000),
        (Fraction(25_000) - Fraction(1, 10**30), "EUR", 20_000),
        (Fraction(500_000), "JPY", 0),
        (Fraction(1_500_000), "JPY", 2_000_000),
        (Fraction(1_500), "KWD", 2_000),
        (Fraction(500), "KWD", 0),
        (Fraction(0), "EUR", 0),
    ],
)
def test_an_exact_amount_is_rounded_half_even_at_the_minor_unit(exact, currency, rounded):
    assert money.round_half_even(exact, currency) == rounded
