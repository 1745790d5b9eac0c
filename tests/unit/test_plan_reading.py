"""Payout plans as people write them: every form, every error with the part that it is about, and the way back."""

import json

import pytest

from tracker.domain.plan_reading import LEVELS_MAX, LIST_MAX, SIMPLE, read, read_rate, shared_with, written
from tracker.domain.plans import Bonus, Level, Part, Plan, Rate, Recurring, Rule, Step, Tiers

UNIT = 1_000_000
FIVE = Rate(amount_micros=5 * UNIT)
TEN = Rate(percent_micros=10 * UNIT)
PARTNERS = {"anna": 4, "b-2_c": 5}
SLUGS = {4: "anna", 5: "b-2_c"}


def plan(**parts):
    return {"type": "plan"} | parts


@pytest.mark.parametrize(
    ("value", "rate", "currency"),
    [
        ({"type": "fixed", "amount": "5.00", "currency": "EUR"}, FIVE, "EUR"),
        ({"type": "fixed", "amount": "5.00", "currency": "eur"}, FIVE, "EUR"),
        ({"type": "fixed", "amount": "5.00"}, FIVE, None),
        ({"type": "fixed", "amount": "5", "currency": None}, FIVE, None),
        ({"type": "fixed", "amount": 5}, FIVE, None),
        ({"type": "fixed", "amount": 5.0}, FIVE, None),
        ({"type": "fixed", "amount": " +5.000000 "}, FIVE, None),
        ({"type": "fixed", "amount": "0.0375"}, Rate(amount_micros=37_500), None),
        ({"type": "fixed", "amount": "-0"}, Rate(amount_micros=0), None),
        ({"type": "fixed", "amount": "100000000000"}, Rate(amount_micros=10**17), None),
        ({"type": "percent", "percent": "10"}, TEN, None),
        ({"type": "percent", "percent": 10}, TEN, None),
        ({"type": "percent", "percent": "12.345678"}, Rate(percent_micros=12_345_678), None),
        ({"type": "percent", "percent": "0"}, Rate(percent_micros=0), None),
        ({"type": "percent", "percent": "100"}, Rate(percent_micros=100 * UNIT), None),
        ("5.00 EUR", FIVE, "EUR"),
        ("5EUR", FIVE, "EUR"),
        (" 5 eur\n", FIVE, "EUR"),
        ("5.00", FIVE, None),
        ("10%", TEN, None),
        ("10.0 %", TEN, None),
    ],
)
def test_a_rate_is_read_in_each_of_its_forms(value, rate, currency):
    assert read_rate(value) == (rate, currency)
    assert read(value, {}, currency="USD") == Plan(rate, currency or (None if rate.amount_micros is None else "USD"))


def test_an_amount_without_a_currency_is_in_the_missing_one():
    assert read("5.00", {}, currency="USD") == Plan(FIVE, "USD")
    assert read({"type": "fixed", "amount": "5"}, {}, currency="USD") == Plan(FIVE, "USD")
    assert read("5.00 EUR", {}, currency="USD") == Plan(FIVE, "EUR")


def test_a_percentage_alone_has_no_currency():
    assert read("10%", {}, currency="USD") == Plan(TEN)
    assert read(plan(rate="10%"), {}, currency="USD") == Plan(TEN)


def test_a_plan_of_nothing_earns_nothing():
    assert read(plan(), {}, currency="USD") == Plan(Rate(percent_micros=0))
    assert read(plan(rate=None, currency=None, rules=None, recurring=None, cap=None, tiers=None, split=None), {}) == Plan()


WHOLE = plan(
    rate="10%",
    currency="eur",
    rules=[
        {"goals": ["lead", "signup"], "customer": "new", "rate": "2.50 EUR"},
        {"categories": ["shoes"], "skus": ["A-1", "B"], "rate": {"type": "percent", "percent": "3.5"}},
        {"customer": "returning", "rate": {"type": "fixed", "amount": "1"}},
        {"rate": "0%"},
    ],
    recurring={"rate": "3%", "payments": 12, "months": "24"},
    minimum_order="20",
    cap="100.005",
    tiers={"by": "revenue", "counts": "retroactive", "steps": [{"from": "0", "rate": "11%"}, {"from": "1000.50", "rate": "6 EUR"}]},
    bonuses=[{"conversions": 10, "amount": "50"}, {"conversions": "1000000000", "amount": 0}],
    per_click="0.0375",
    levels=[{"percent": "10"}, {"percent": "1.5", "of": "sale"}, {"percent": "5", "of": "child_payout"}],
    split=[{"partner": "anna", "percent": "33.333333"}, {"partner": "b-2_c", "percent": 66.666667}],
)
READ = Plan(
    rate=TEN,
    currency="EUR",
    rules=(
        Rule(Rate(amount_micros=2_500_000), goals=frozenset({"lead", "signup"}), customer="new"),
        Rule(Rate(percent_micros=3_500_000), categories=frozenset({"shoes"}), skus=frozenset({"A-1", "B"})),
        Rule(Rate(amount_micros=UNIT), customer="returning"),
        Rule(Rate(percent_micros=0)),
    ),
    recurring=Recurring(Rate(percent_micros=3 * UNIT), payments=12, months=24),
    minimum_order_micros=20 * UNIT,
    cap_micros=100_005_000,
    tiers=Tiers("revenue", "retroactive", (Step(0, Rate(percent_micros=11 * UNIT)), Step(1_000_500_000, Rate(amount_micros=6 * UNIT)))),
    bonuses=(Bonus(10, 50 * UNIT), Bonus(10**9, 0)),
    per_click_micros=37_500,
    levels=(Level(10 * UNIT), Level(1_500_000, "sale"), Level(5 * UNIT)),
    split=(Part(4, 33_333_333), Part(5, 66_666_667)),
)
WRITTEN = {
    "type": "plan",
    "rate": {"type": "percent", "percent": "10"},
    "currency": "EUR",
    "rules": [
        {"goals": ["lead", "signup"], "customer": "new", "rate": {"type": "fixed", "amount": "2.50", "currency": "EUR"}},
        {"categories": ["shoes"], "skus": ["A-1", "B"], "rate": {"type": "percent", "percent": "3.5"}},
        {"customer": "returning", "rate": {"type": "fixed", "amount": "1.00", "currency": "EUR"}},
        {"rate": {"type": "percent", "percent": "0"}},
    ],
    "recurring": {"rate": {"type": "percent", "percent": "3"}, "payments": 12, "months": 24},
    "minimum_order": "20.00",
    "cap": "100.005",
    "tiers": {
        "by": "revenue",
        "counts": "retroactive",
        "steps": [
            {"from": "0.00", "rate": {"type": "percent", "percent": "11"}},
            {"from": "1000.50", "rate": {"type": "fixed", "amount": "6.00", "currency": "EUR"}},
        ],
    },
    "bonuses": [{"conversions": 10, "amount": "50.00"}, {"conversions": 10**9, "amount": "0.00"}],
    "per_click": "0.0375",
    "levels": [
        {"percent": "10", "of": "child_payout"},
        {"percent": "1.5", "of": "sale"},
        {"percent": "5", "of": "child_payout"},
    ],
    "split": [{"partner": "anna", "percent": "33.333333"}, {"partner": "b-2_c", "percent": "66.666667"}],
}


def test_a_whole_plan_is_read_part_by_part():
    assert read(WHOLE, PARTNERS) == READ
    assert read(WHOLE, PARTNERS, currency="USD") == READ


def test_a_whole_plan_is_written_as_it_is_kept():
    assert written(READ, SLUGS) == WRITTEN


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (plan(), {"rate": {"type": "percent", "percent": "0"}}),
        ("10%", {"rate": {"type": "percent", "percent": "10"}}),
        ("5 JPY", {"rate": {"type": "fixed", "amount": "5", "currency": "JPY"}, "currency": "JPY"}),
        ("0.5 JPY", {"rate": {"type": "fixed", "amount": "0.5", "currency": "JPY"}, "currency": "JPY"}),
        ("5 KWD", {"rate": {"type": "fixed", "amount": "5.000", "currency": "KWD"}, "currency": "KWD"}),
        (plan(currency="EUR", cap="0"), {"rate": {"type": "percent", "percent": "0"}, "currency": "EUR", "cap": "0.00"}),
        (
            plan(recurring={"rate": "3%"}),
            {"rate": {"type": "percent", "percent": "0"}, "recurring": {"rate": {"type": "percent", "percent": "3"}}},
        ),
        (
            plan(tiers={"by": "conversions", "steps": [{"from": 3, "rate": "3%"}]}),
            {
                "rate": {"type": "percent", "percent": "0"},
                "tiers": {
                    "by": "conversions",
                    "counts": "from_there",
                    "steps": [{"from": "3", "rate": {"type": "percent", "percent": "3"}}],
                },
            },
        ),
        (plan(minimum_order="0", per_click="0", bonuses=[], rules=[], levels=[], split=[]), {"rate": {"type": "percent", "percent": "0"}}),
    ],
)
def test_a_plan_is_written_with_the_parts_that_it_has(value, shown):
    assert written(read(value, {}), {}) == {"type": "plan"} | shown


@pytest.mark.parametrize(
    "value",
    [
        WHOLE,
        plan(),
        "10%",
        "5 EUR",
        "0.000001 JPY",
        plan(rate="5 USD"),
        plan(cap="5", currency="USD"),
        plan(recurring={"rate": "3%", "months": 1}),
        plan(tiers={"by": "conversions", "steps": [{"from": 1, "rate": "1%"}, {"from": 2, "rate": "2 USD"}]}),
    ],
    ids=str,
)
def test_what_is_written_is_read_back_the_same(value):
    found = read(value, PARTNERS)
    assert read(json.loads(json.dumps(written(found, SLUGS))), PARTNERS) == found


@pytest.mark.parametrize(
    "parts",
    [
        {"rate": "5"},
        {"rules": [{"rate": "5"}]},
        {"recurring": {"rate": "5"}},
        {"minimum_order": "5"},
        {"cap": "0"},
        {"tiers": {"by": "conversions", "steps": [{"from": 1, "rate": "5"}]}},
        {"tiers": {"by": "revenue", "steps": [{"from": "0", "rate": "5%"}]}},
        {"bonuses": [{"conversions": 1, "amount": "5"}]},
        {"per_click": "0.01"},
    ],
    ids=str,
)
def test_a_plan_with_an_amount_pays_in_the_currency_that_is_missing(parts):
    assert read(plan(**parts), {}, currency="USD").currency == "USD"
    assert read(plan(**parts, currency="eur"), {}, currency="USD").currency == "EUR"
    with pytest.raises(ValueError, match="must name the currency of its amounts, such as EUR"):
        read(plan(**parts), {})


@pytest.mark.parametrize(
    "parts",
    [
        {"rate": "10%"},
        {"rules": [{"rate": "5%"}]},
        {"recurring": {"rate": "5%"}},
        {"minimum_order": "0"},
        {"tiers": {"by": "conversions", "steps": [{"from": 1, "rate": "5%"}]}},
        {"bonuses": []},
        {"per_click": "0"},
        {"levels": [{"percent": "5"}]},
        {"split": [{"partner": "anna", "percent": "5"}]},
    ],
    ids=str,
)
def test_a_plan_of_percentages_pays_in_the_currency_of_each_sale_unless_it_names_one(parts):
    assert read(plan(**parts), PARTNERS, currency="USD").currency is None
    assert read(plan(**parts, currency="EUR"), PARTNERS, currency="USD").currency == "EUR"


@pytest.mark.parametrize(
    "parts",
    [
        {"rate": "5 EUR"},
        {"rules": [{"rate": "1"}, {"rate": "5 EUR"}]},
        {"recurring": {"rate": "5 EUR"}},
        {"tiers": {"by": "conversions", "steps": [{"from": 1, "rate": "5 EUR"}]}},
        {"rate": "5 EUR", "rules": [{"rate": {"type": "fixed", "amount": "1", "currency": "eur"}}], "currency": "Eur"},
    ],
    ids=str,
)
def test_one_named_currency_is_that_of_the_whole_plan(parts):
    assert read(plan(**parts, cap="100"), {}, currency="USD").currency == "EUR"


def test_lists_may_be_as_long_as_they_say():
    assert len(read(plan(rules=[{"rate": "1%"}] * LIST_MAX), {}).rules) == LIST_MAX
    assert len(read(plan(levels=[{"percent": "1"}] * LEVELS_MAX), {}).levels) == LEVELS_MAX
    assert read(plan(rules=[{"goals": ["x" * 255], "rate": "1%"}]), {}).rules[0].goals == {"x" * 255}


def test_a_split_may_give_all_away_and_no_more():
    halves = [{"partner": "anna", "percent": "50"}, {"partner": "b-2_c", "percent": "50"}]
    assert read(plan(split=halves), PARTNERS).split == (Part(4, 50 * UNIT), Part(5, 50 * UNIT))


COUNT = "must be a whole number from 1 to 1000000000"
DECIMAL = "must be a decimal string such as 5.00"
RATE = f'must be {SIMPLE}, or 5.00 EUR, or 10%, or a plan {{"type":"plan",…}}'
TEXT = "must be an amount such as 5.00 EUR, or a percentage such as 10%"
CURRENCY = "currency must be an ISO 4217 code of three letters, such as EUR"
KNOWN = "known ones are type, rate, currency, rules, recurring, minimum_order, cap, tiers, bonuses, per_click, levels, split"
STEPS = "tiers steps must be one or more, each from more than the one before"


def tiers(*starts, by="conversions"):
    return plan(tiers={"by": by, "steps": [{"from": start, "rate": "1%"} for start in starts]})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        # rates
        (None, RATE),
        (5, RATE),
        ([], RATE),
        ({}, RATE),
        ({"type": "share"}, RATE),
        ({"type": ["fixed"]}, RATE),
        ("", TEXT),
        ("ten", TEXT),
        ("-5 EUR", TEXT),
        ("5 EURO", TEXT),
        ("5 EUR 6", TEXT),
        ("10 % EUR", TEXT),
        ("٥ EUR", TEXT),
        ("1.2.3", f"amount {DECIMAL}"),
        ("5. EUR", f"amount {DECIMAL}"),
        (".5 EUR", f"amount {DECIMAL}"),
        (".%", f"percent {DECIMAL}"),
        ("100.000001%", "percent must be from 0 to 100"),
        ("1.0000001%", "percent must have at most six digits after the point"),
        ("1.0000001", "amount must have at most six digits after the point"),
        ("100000000000.000001 EUR", "amount is larger than 100000000000"),
        ({"type": "fixed"}, f"amount {DECIMAL}"),
        ({"type": "fixed", "amount": True}, f"amount {DECIMAL}"),
        ({"type": "fixed", "amount": "1e3"}, f"amount {DECIMAL}"),
        ({"type": "fixed", "amount": "1,5"}, f"amount {DECIMAL}"),
        ({"type": "fixed", "amount": ["5"]}, f"amount {DECIMAL}"),
        ({"type": "fixed", "amount": float("nan")}, f"amount {DECIMAL}"),
        ({"type": "fixed", "amount": "-0.000001"}, "amount must not be negative"),
        ({"type": "fixed", "amount": "5", "currency": "EURO"}, CURRENCY),
        ({"type": "fixed", "amount": "5", "currency": ""}, CURRENCY),
        ({"type": "fixed", "amount": "5", "currency": 978}, CURRENCY),
        ({"type": "fixed", "amount": "5", "percent": "5"}, "has an unknown part 'percent'; known ones are type, amount, currency"),
        ({"type": "percent", "percent": "5", "amount": "5"}, "has an unknown part 'amount'; known ones are type, percent"),
        ({"type": "percent"}, f"percent {DECIMAL}"),
        ({"type": "percent", "percent": "-1"}, "percent must be from 0 to 100"),
        ({"type": "percent", "percent": "101"}, "percent must be from 0 to 100"),
        # plans
        (plan(rates="5%"), f"has an unknown part 'rates'; {KNOWN}"),
        (plan(zeta=1) | {1: 1}, f"has an unknown part '1'; {KNOWN}"),
        (plan(currency="€"), CURRENCY),
        (plan(currency=5), CURRENCY),
        (plan(rate=plan()), f"rate {RATE}"),
        (plan(rate="x"), f"rate {TEXT}"),
        (plan(rate="101%"), "rate percent must be from 0 to 100"),
        (plan(rate={"type": "fixed", "amount": "5", "currency": "E"}), f"rate {CURRENCY}"),
        (plan(rate="5 USD", currency="EUR"), "must have one currency, not EUR and USD"),
        (plan(rate="5 USD", rules=[{"rate": "4 EUR"}]), "must have one currency, not EUR and USD"),
        (plan(rate="5 USD", recurring={"rate": "4 EUR"}), "must have one currency, not EUR and USD"),
        (
            plan(rate="5 USD", currency="JPY", tiers={"by": "revenue", "steps": [{"from": 1, "rate": "1 EUR"}]}),
            "must have one currency, not EUR and JPY and USD",
        ),
        (plan(minimum_order="-1"), "minimum_order must not be negative"),
        (plan(minimum_order="x"), f"minimum_order {DECIMAL}"),
        (plan(cap="100000000000.01"), "cap is larger than 100000000000"),
        (plan(cap=True), f"cap {DECIMAL}"),
        (plan(per_click="0.0000001"), "per_click must have at most six digits after the point"),
        (plan(per_click="1 EUR"), f"per_click {DECIMAL}"),
        # rules
        (plan(rules={}), "rules must be a list of at most 100"),
        (plan(rules=[{"rate": "1%"}] * 101), "rules must be a list of at most 100"),
        (plan(rules=["5%"]), "rules.0 must be an object with goals, categories, skus, customer, rate"),
        (plan(rules=[{"rate": "1%"}, {}]), f"rules.1 rate {RATE}"),
        (plan(rules=[{"rate": None}]), f"rules.0 rate {RATE}"),
        (
            plan(rules=[{"rate": "1%", "sku": "A"}]),
            "rules.0 has an unknown part 'sku'; known ones are goals, categories, skus, customer, rate",
        ),
        (plan(rules=[{"rate": "1%", "goals": "lead"}]), "rules.0 goals must be a list of at most 100"),
        (
            plan(rules=[{"rate": "1%", "goals": ["lead", ""]}]),
            "rules.0 goals.1 must be a text of 1 to 255 characters, without control characters",
        ),
        (
            plan(rules=[{"rate": "1%", "categories": [1]}]),
            "rules.0 categories.0 must be a text of 1 to 255 characters, without control characters",
        ),
        (
            plan(rules=[{"rate": "1%", "skus": ["x" * 256]}]),
            "rules.0 skus.0 must be a text of 1 to 255 characters, without control characters",
        ),
        (plan(rules=[{"rate": "1%", "skus": ["x"] * 101}]), "rules.0 skus must be a list of at most 100"),
        (plan(rules=[{"rate": "1%", "customer": "old"}]), "rules.0 customer must be one of new, returning"),
        (plan(rules=[{"rate": "1%", "customer": ["new"]}]), "rules.0 customer must be one of new, returning"),
        # recurring
        (plan(recurring="3%"), "recurring must be an object with rate, payments, months"),
        (plan(recurring={}), f"recurring rate {RATE}"),
        (plan(recurring={"rate": "3%", "years": 1}), "recurring has an unknown part 'years'; known ones are rate, payments, months"),
        (plan(recurring={"rate": "3%", "payments": 0}), f"recurring payments {COUNT}"),
        (plan(recurring={"rate": "3%", "payments": True}), f"recurring payments {COUNT}"),
        (plan(recurring={"rate": "3%", "payments": "3.0"}), f"recurring payments {COUNT}"),
        (plan(recurring={"rate": "3%", "months": 2.5}), f"recurring months {COUNT}"),
        (plan(recurring={"rate": "3%", "months": 1_000_000_001}), f"recurring months {COUNT}"),
        (plan(recurring={"rate": "3%", "months": "-1"}), f"recurring months {COUNT}"),
        # tiers
        (plan(tiers=[]), "tiers must be an object with by, counts, steps"),
        (plan(tiers={}), "tiers by must be one of conversions, revenue"),
        (plan(tiers={"by": "clicks"}), "tiers by must be one of conversions, revenue"),
        (plan(tiers={"by": "revenue", "counts": "ever"}), "tiers counts must be one of retroactive, from_there"),
        (plan(tiers={"by": "revenue", "step": []}), "tiers has an unknown part 'step'; known ones are by, counts, steps"),
        (plan(tiers={"by": "revenue"}), STEPS),
        (tiers(), STEPS),
        (tiers(3, 3), STEPS),
        (tiers(1, 5, 4), STEPS),
        (tiers("10.00", "9.99", by="revenue"), STEPS),
        (plan(tiers={"by": "revenue", "steps": {}}), "tiers steps must be a list of at most 100"),
        (plan(tiers={"by": "revenue", "steps": [5]}), "tiers steps.0 must be an object with from, rate"),
        (plan(tiers={"by": "revenue", "steps": [{"from": "5"}]}), f"tiers steps.0 rate {RATE}"),
        (
            plan(tiers={"by": "revenue", "steps": [{"from": "5", "to": 6}]}),
            "tiers steps.0 has an unknown part 'to'; known ones are from, rate",
        ),
        (tiers(0), f"tiers steps.0 from {COUNT}"),
        (tiers(1, "2.5"), f"tiers steps.1 from {COUNT}"),
        (tiers("-1", by="revenue"), "tiers steps.0 from must not be negative"),
        (tiers(None, by="revenue"), f"tiers steps.0 from {DECIMAL}"),
        # bonuses
        (plan(bonuses={}), "bonuses must be a list of at most 100"),
        (plan(bonuses=[5]), "bonuses.0 must be an object with conversions, amount"),
        (plan(bonuses=[{"amount": "5"}]), f"bonuses.0 conversions {COUNT}"),
        (plan(bonuses=[{"conversions": 5}]), f"bonuses.0 amount {DECIMAL}"),
        (plan(bonuses=[{"conversions": 5, "amount": "-5"}]), "bonuses.0 amount must not be negative"),
        (plan(bonuses=[{"conversion": 5}]), "bonuses.0 has an unknown part 'conversion'; known ones are conversions, amount"),
        # levels
        (plan(levels={}), "levels must be a list of at most 99"),
        (plan(levels=[{"percent": "1"}] * 100), "levels must be a list of at most 99"),
        (plan(levels=["5%"]), "levels.0 must be an object with percent, of"),
        (plan(levels=[{}]), f"levels.0 percent {DECIMAL}"),
        (plan(levels=[{"percent": "1"}, {"percent": "101"}]), "levels.1 percent must be from 0 to 100"),
        (plan(levels=[{"percent": "1", "of": "parent"}]), "levels.0 of must be one of sale, child_payout"),
        (plan(levels=[{"percent": "1", "level": 2}]), "levels.0 has an unknown part 'level'; known ones are percent, of"),
        # split
        (plan(split={}), "split must be a list of at most 100"),
        (plan(split=["anna"]), "split.0 must be an object with partner, percent"),
        (plan(split=[{"percent": "5"}]), "split.0 partner must be the slug of a partner"),
        (plan(split=[{"partner": 4, "percent": "5"}]), "split.0 partner must be the slug of a partner"),
        (plan(split=[{"partner": "Anna", "percent": "5"}]), "split.0 partner must be the slug of a partner"),
        (plan(split=[{"partner": "nobody", "percent": "5"}]), "split.0 partner must be the slug of a partner"),
        (plan(split=[{"partner": "anna"}]), f"split.0 percent {DECIMAL}"),
        (plan(split=[{"partner": "anna", "percent": "100.1"}]), "split.0 percent must be from 0 to 100"),
        (plan(split=[{"partner": "anna", "part": "5"}]), "split.0 has an unknown part 'part'; known ones are partner, percent"),
        (plan(split=[{"partner": "anna", "percent": "5"}] * 2), "split names a partner twice"),
        (
            plan(split=[{"partner": "anna", "percent": "50"}, {"partner": "b-2_c", "percent": "50.000001"}]),
            "split must be 100 percent at most",
        ),
    ],
    ids=lambda value: str(value)[:60],
)
def test_an_error_names_the_part_and_says_what_is_allowed(value, message):
    with pytest.raises(ValueError, match=r"must|unknown|twice|larger") as caught:
        read(value, PARTNERS, currency="EUR")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "number", ["5.000000000000000000000000000001", "0.999999999999999999999999999999", "99999999999.00000000000000000001"]
)
def test_digits_beyond_the_millionth_are_refused_however_many(number):
    with pytest.raises(ValueError, match="amount must have at most six digits after the point"):
        read(f"{number} EUR", {})


def test_a_percentage_a_little_above_a_hundred_is_refused():
    with pytest.raises(ValueError, match="percent must"):
        read("100.000000000000000000000000000001%", {})


@pytest.mark.parametrize("currency", ["ﬃ", "ßa", "ıII", "EUR\n", "ΕUR"])
def test_a_currency_is_three_letters_of_ascii(currency):
    with pytest.raises(ValueError, match="currency must be an ISO 4217 code"):
        read(plan(rate="5", currency=currency), {})


@pytest.mark.parametrize(
    ("value", "slugs"),
    [
        (WRITTEN, ["anna", "b-2_c"]),
        (WHOLE, ["anna", "b-2_c"]),
        (plan(), []),
        ({"type": "percent", "percent": "10"}, []),
        ("10%", []),
        (None, []),
    ],
    ids=["written", "whole", "without a split", "simple", "text", "nothing"],
)
def test_those_a_plan_is_split_with_are_told_before_it_is_read(value, slugs):
    assert shared_with(value) == slugs
