"""What a month earns beyond its sales: tiers, bonuses, clicks. The figures are worked out by hand beside each case."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from uuid import UUID

import pytest

from tracker.domain.basis import Basis, Report
from tracker.domain.months import Clicks, Earner, MonthSale, of_clicks, of_sales
from tracker.domain.plans import Bonus, Level, Part, Plan, Rate, Rule, Step, Tiers

EUR = 1_000_000
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
TEN, TWELVE, FIFTEEN = (Rate(percent_micros=percent * EUR) for percent in (10, 12, 15))


def percent_plan(by="conversions", counts="from_there", *, steps=((3, TWELVE), (4, FIFTEEN)), **parts):
    return Plan(TEN, tiers=Tiers(by, counts, tuple(Step(start, rate) for start, rate in steps)), **parts)


def month(plan, *amounts, currency="EUR", goal="sale", basis=Basis()):  # noqa: B008 - never changed
    return [
        MonthSale(UUID(int=number), NOVEMBER + timedelta(days=number), plan, currency, goal, (Report(amount, {}),), basis)
        for number, amount in enumerate(amounts)
    ]


def tiers(micros, partner=1, currency="EUR"):
    return {Earner(partner, "tiers", currency): micros}


def test_from_there_each_sale_earns_by_its_own_place():
    # 100 each: the third at 12 % (2.00 more), the fourth and fifth at 15 % (5.00 more each)
    assert of_sales(1, month(percent_plan(), *[100 * EUR] * 5)) == tiers(12 * EUR)


def test_retroactive_all_sales_earn_by_the_tier_that_the_month_reached():
    # five of them: 15 % for all, 5.00 more each
    assert of_sales(1, month(percent_plan(counts="retroactive"), *[100 * EUR] * 5)) == tiers(25 * EUR)


def test_nothing_below_the_first_step():
    assert of_sales(1, month(percent_plan(), 100 * EUR, 100 * EUR)) == {}
    assert of_sales(1, []) == {}


def test_revenue_counts_the_sale_that_reaches_the_step():
    # 60, 120, 180: the second reaches 100 (2 % of 60 = 1.20), the third too
    plan = percent_plan("revenue", steps=((100 * EUR, TWELVE),))
    assert of_sales(1, month(plan, *[60 * EUR] * 3)) == tiers(2_400_000)
    # 1.8 % … retroactive: 2 % of 180 = 3.60
    plan = percent_plan("revenue", "retroactive", steps=((100 * EUR, TWELVE),))
    assert of_sales(1, month(plan, *[60 * EUR] * 3)) == tiers(3_600_000)


def test_revenue_in_another_currency_counts_at_its_rate_and_not_without_one():
    plan = percent_plan("revenue", steps=((100 * EUR, TWELVE),), currency="EUR")
    # 2 × 60 USD at 0.9 = 54 + 54: the second reaches 100; 12 % of 54.00 = 6.48, 10 % = 5.40
    assert of_sales(1, month(plan, 60 * EUR, 60 * EUR, currency="USD", basis=Basis(exchange=Fraction(9, 10)))) == tiers(1_080_000)
    assert of_sales(1, month(plan, 600 * EUR, 600 * EUR, currency="USD")) == {}


def test_the_order_in_which_sales_are_told_does_not_matter():
    sales = month(percent_plan(), 10 * EUR, 20 * EUR, 30 * EUR, 40 * EUR)
    # the third, 30.00: 0.60 more; the fourth, 40.00: 2.00 more
    assert of_sales(1, sales) == of_sales(1, reversed(sales)) == tiers(2_600_000)


def test_each_sale_is_rounded_for_itself():
    # 10 % of 0.15 is 0.015 → 0.02 (half even), 12 % is 0.018 → 0.02: no difference
    plan = percent_plan(steps=((1, TWELVE),))
    assert of_sales(1, month(plan, *[150_000] * 4)) == {}


def test_reports_of_an_order_that_add_up_are_one_sale():
    # 60 + 60 reach 100 with the first sale: 12 % of each report is 7.20, 10 % 6.00
    plan = percent_plan("revenue", steps=((100 * EUR, TWELVE),))
    (sale,) = month(plan, 60 * EUR)
    assert of_sales(1, [replace(sale, reports=sale.reports * 2)]) == tiers(2_400_000)


def test_a_rule_of_its_own_is_no_tier():
    plan = percent_plan(steps=((1, TWELVE),), rules=(Rule(Rate(percent_micros=5 * EUR), goals=frozenset({"lead"})),))
    assert of_sales(1, month(plan, 100 * EUR, goal="lead")) == {}


def test_those_above_and_beside_get_their_part_of_a_tier():
    plan = percent_plan(steps=((1, TWELVE),), levels=(Level(10 * EUR),), split=(Part(7, 50 * EUR),))
    (sale,) = month(plan, 100 * EUR, basis=Basis(upline=(9,)))
    # 12.00 instead of 10.00: half of 2.00 each; 10 % of 2.00 for the parent
    assert of_sales(1, [sale]) == tiers(EUR) | tiers(EUR, 7) | tiers(200_000, 9)


def test_a_lower_tier_takes_back():
    plan = percent_plan(steps=((2, Rate(percent_micros=8 * EUR)),))
    assert of_sales(1, month(plan, 100 * EUR, 100 * EUR)) == tiers(-2 * EUR)


def test_each_bonus_that_is_reached_is_paid_once():
    plan = Plan(TEN, "EUR", bonuses=(Bonus(2, 5 * EUR), Bonus(3, 20 * EUR), Bonus(4, 100 * EUR)))
    assert of_sales(1, month(plan, *[EUR] * 3)) == {Earner(1, "bonus", "EUR"): 25 * EUR}


def test_a_bonus_is_that_of_the_sale_that_reaches_it():
    before, after = Plan(TEN, "EUR", bonuses=(Bonus(1, 5 * EUR), Bonus(2, 50 * EUR))), Plan(TEN, "EUR", bonuses=(Bonus(2, 7 * EUR),))
    (first,), (_, second) = month(before, EUR), month(after, EUR, EUR)
    assert of_sales(1, [second, first]) == {Earner(1, "bonus", "EUR"): 12 * EUR}
    plain = month(Plan(TEN), EUR, EUR, EUR)[2]
    assert of_sales(1, [second, first, plain]) == of_sales(1, [second, first])


def test_clicks_earn_by_their_plan_and_keep_their_micros():
    cheap, dear = Plan(currency="EUR", per_click_micros=37_500), Plan(currency="EUR", per_click_micros=50_000)
    # 3 × 0.0375 + 2 × 0.05 = 0.2125
    assert of_clicks(1, [Clicks(3, cheap), Clicks(2, dear), Clicks(9, Plan(TEN))]) == {Earner(1, "clicks", "EUR"): 212_500}
    assert of_clicks(1, [Clicks(0, cheap)]) == {}


def test_amounts_without_a_currency_are_a_bug_in_the_caller():
    with pytest.raises(ValueError, match="has a currency"):
        of_clicks(1, [Clicks(1, Plan(per_click_micros=1))])
