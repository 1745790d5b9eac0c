"""Laws of payout plans: what is written reads back, and shares are never more or less than what the sale earned."""

import json
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tracker.domain import money
from tracker.domain.plan_reading import read, written
from tracker.domain.plans import Bonus, Item, Level, Part, Plan, Rate, Recurring, Rule, Sale, Step, Tiers, earned

SLUGS = {number: f"partner-{number}" for number in range(1, 7)}
PARTNERS = {slug: number for number, slug in SLUGS.items()}
EARNER, UPLINE = 1, (11, 12, 13, 14, 15)

currencies = st.sampled_from(["EUR", "JPY", "KWD", "CLF"])
small = st.integers(0, 10**5).map(lambda number: number * 5_000)  # half cents up to 500: ties, and orders beside minimum and cap
micros = small | st.integers(0, money.MAX_MICROS)
percents = st.integers(0, 200).map(lambda number: number * money.MICROS // 2) | st.integers(0, money.PERCENT_MICROS)
counts = st.integers(1, 10**9)
by_percent = percents.map(lambda percent: Rate(percent_micros=percent))
by_amount = micros.map(lambda amount: Rate(amount_micros=amount))
words = st.frozensets(st.sampled_from(["sale", "lead", "A", "B", "shoes", "Größe 7 €"]), max_size=2)
customers = st.sampled_from(["", "new", "returning"])
levels = st.lists(st.builds(Level, percents, st.sampled_from(["sale", "child_payout"])), max_size=4).map(tuple)


@st.composite
def splits(draw: st.DrawFn) -> tuple[Part, ...]:
    ends = sorted(draw(st.lists(percents, max_size=3)))
    partners = draw(st.permutations(list(SLUGS)))
    return tuple(Part(partner, end - start) for partner, start, end in zip(partners, [0, *ends], ends, strict=False))


def rules(rates: st.SearchStrategy[Rate]) -> st.SearchStrategy[tuple[Rule, ...]]:
    return st.lists(st.builds(Rule, rates, words, words, words, customers), max_size=3).map(tuple)


@st.composite
def step_plans(draw: st.DrawFn, rates: st.SearchStrategy[Rate]) -> Tiers:
    by = draw(st.sampled_from(["conversions", "revenue"]))
    starts = draw(st.sets(counts if by == "conversions" else micros, min_size=1, max_size=3))
    steps = tuple(Step(start, draw(rates)) for start in sorted(starts))
    return Tiers(by, draw(st.sampled_from(["retroactive", "from_there"])), steps)


@st.composite
def terms(draw: st.DrawFn) -> Plan:
    """What a sale alone goes by. Also without a currency: then percentages only, beside a minimum or a cap."""
    currency = draw(st.none() | currencies)
    rates = by_percent | by_amount if currency else by_percent
    return Plan(
        rate=draw(rates),
        currency=currency,
        rules=draw(rules(rates)),
        recurring=draw(st.none() | st.builds(Recurring, rates, st.integers(0, 5), st.integers(0, 5))),
        minimum_order_micros=draw(st.just(0) | small),
        cap_micros=draw(st.none() | small),
        levels=draw(levels),
        split=draw(splits()),
    )


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """As they can be written: amounts have a currency. Also with what is worked out by month."""
    plan = draw(terms())
    if plan.currency is None:
        return replace(plan, minimum_order_micros=0, cap_micros=None)
    return replace(
        plan,
        tiers=draw(st.none() | step_plans(by_percent | by_amount)),
        bonuses=draw(st.lists(st.builds(Bonus, counts, micros), max_size=2).map(tuple)),
        per_click_micros=draw(st.just(0) | micros),
    )


items = st.lists(
    st.builds(
        Item,
        st.sampled_from(["", "A", "B"]),
        st.sampled_from(["", "shoes", "Größe 7 €"]),
        st.integers(0, 10**8).map(lambda millionths: Decimal(millionths).scaleb(-6)) | st.integers(1, 5).map(Decimal),
        st.just(0) | micros,
    ),
    max_size=3,
).map(tuple)
exchanges = st.none() | st.fractions(Fraction(1, 1000), 1000, max_denominator=10**6)
sales = st.builds(
    Sale, micros, currencies, st.sampled_from(["sale", "lead"]), items, customers, st.integers(1, 6), st.integers(0, 6), exchanges
)


def unit(currency: str) -> int:
    return 10 ** (6 - money.minor_unit(currency))


def exact_amount(plan: Plan, sale: Sale) -> Fraction:
    """Micros of the plan's currency; the sale must have a rate where it needs one."""
    return Fraction(sale.amount_micros) * (1 if plan.currency in (None, sale.currency) else sale.exchange or 0)


@settings(max_examples=50)
@given(plans())
def test_a_plan_survives_being_written_and_read(plan: Plan) -> None:
    kept = json.loads(json.dumps(written(plan, SLUGS)))
    assert read(kept, PARTNERS) == plan
    assert written(read(kept, PARTNERS), SLUGS) == kept


@settings(max_examples=50)
@given(terms(), sales)
def test_no_share_is_negative_or_of_nothing_and_all_are_in_one_currency(plan: Plan, sale: Sale) -> None:
    found = earned(plan, sale, EARNER, UPLINE)
    for share in found.shares:
        assert type(share.micros) is int
        assert share.micros > 0
        assert not money.format_micros(share.micros, share.currency).startswith("-")
        assert share.currency == found.currency == (plan.currency or sale.currency)
    assert len({(share.partner, share.level) for share in found.shares}) == len(found.shares)
    assert [share.level for share in found.shares] == sorted(share.level for share in found.shares)


@settings(max_examples=50)
@given(terms(), sales)
def test_the_shares_of_the_first_level_are_what_it_earned_split_or_not(plan: Plan, sale: Sale) -> None:
    found = earned(plan, sale, EARNER, UPLINE)
    alone = earned(replace(plan, split=()), sale, EARNER, UPLINE)
    assert sum(share.micros for share in found.shares if share.level == 1) == found.micros == alone.micros
    assert [share for share in found.shares if share.level > 1] == [share for share in alone.shares if share.level > 1]
    assert {share.partner for share in alone.shares if share.level == 1} <= {EARNER}
    assert found.micros or not found.shares  # where the first level earns nothing nobody does


@given(micros, currencies, splits())
def test_each_who_shares_gets_the_percentage_to_a_unit(amount: int, currency: str, split: tuple[Part, ...]) -> None:
    assume(all(part.partner != EARNER for part in split))
    found = {
        share.partner: share.micros
        for share in earned(Plan(Rate(amount_micros=amount), currency, split=split), Sale(0, currency), 1).shares
    }
    smallest = unit(currency) if amount % unit(currency) == 0 else 1
    for part in split:
        exact = Fraction(amount * part.percent_micros, money.PERCENT_MICROS)
        assert abs(found.get(part.partner, 0) - exact) <= smallest
        assert found.get(part.partner, 0) % smallest == 0
    assert sum(found.values()) == amount


@settings(max_examples=50)
@given(terms(), sales)
def test_the_cap_and_the_minimum_order_hold(plan: Plan, sale: Sale) -> None:
    found = earned(plan, sale, EARNER, UPLINE)
    if plan.cap_micros is not None:
        assert found.micros <= plan.cap_micros
    if not found.has_no_rate and exact_amount(plan, sale) < plan.minimum_order_micros:
        assert found.shares == ()


@settings(max_examples=50)
@given(terms(), sales, st.randoms(use_true_random=False))
def test_the_order_of_items_does_not_matter(plan: Plan, sale: Sale, random) -> None:
    shuffled = list(sale.items)
    random.shuffle(shuffled)
    assert earned(plan, replace(sale, items=tuple(shuffled)), EARNER, UPLINE) == earned(plan, sale, EARNER, UPLINE)


@settings(max_examples=50)
@given(terms(), sales, st.integers(0, 10**6))
def test_a_line_of_an_order_may_as_well_be_two(plan: Plan, sale: Sale, thousandths: int) -> None:
    first = sale.items[0] if sale.items else Item("A", "shoes")
    first = replace(first, total_micros=first.total_micros + 1)  # without any price parts would be equal, and more with each line
    one = replace(first, quantity=first.quantity / 4, total_micros=first.total_micros * thousandths // 10**6)
    other = replace(first, quantity=first.quantity - one.quantity, total_micros=first.total_micros - one.total_micros)
    whole, parted = (replace(sale, items=(*lines, *sale.items[1:])) for lines in ((first,), (one, other)))
    assert earned(plan, parted, EARNER, UPLINE) == earned(plan, whole, EARNER, UPLINE)


@given(percents, st.none() | currencies, sales)
def test_a_percentage_is_within_half_a_minor_unit_and_payable(percent: int, currency: str | None, sale: Sale) -> None:
    plan = Plan(Rate(percent_micros=percent), currency)
    found = earned(plan, sale, EARNER)
    assume(not found.has_no_rate)
    exact = exact_amount(plan, sale) * percent / money.PERCENT_MICROS
    assert abs(found.micros - exact) * 2 <= unit(found.currency)
    assert found.micros % unit(found.currency) == 0


@given(st.lists(percents, min_size=1, max_size=4), st.none() | currencies, sales)
def test_percentages_of_items_are_together_within_half_a_minor_unit(each: list[int], currency: str | None, sale: Sale) -> None:
    lines = tuple(replace(item, sku=f"sku-{number}") for number, item in enumerate(sale.items))
    by_sku = tuple(Rule(Rate(percent_micros=percent), skus=frozenset({f"sku-{number}"})) for number, percent in enumerate(each))
    plan, sale = Plan(Rate(percent_micros=7_000_001), currency, rules=by_sku), replace(sale, items=lines)
    found = earned(plan, sale, EARNER)
    assume(not found.has_no_rate)
    whole = sum(item.total_micros for item in lines)
    rated = [each[number] if number < len(each) else 7_000_001 for number in range(len(lines))] or [7_000_001]
    parts = [Fraction(item.total_micros, whole) if whole else Fraction(1, len(lines)) for item in lines] or [Fraction(1)]
    exact = exact_amount(plan, sale) * sum(part * percent for part, percent in zip(parts, rated, strict=True)) / money.PERCENT_MICROS
    assert abs(found.micros - exact) * 2 <= unit(found.currency)


@given(by_amount, currencies, levels, micros, currencies, st.fractions(0, 1000, max_denominator=10**6))
def test_each_level_is_within_half_a_minor_unit_of_its_percentage(
    rate: Rate, currency: str, above: tuple[Level, ...], amount: int, sold_in: str, exchange: Fraction
) -> None:
    assume(rate.amount_micros)
    plan, sale = Plan(rate, currency, levels=above), Sale(amount, sold_in, exchange=exchange)
    found = earned(plan, sale, EARNER, UPLINE)
    got = {share.level: share.micros for share in found.shares}
    for number, (level, partner) in enumerate(zip(above, UPLINE, strict=False), start=2):
        basis = exact_amount(plan, sale) if level.of == "sale" else Fraction(got.get(number - 1, 0))
        assert abs(got.get(number, 0) - basis * level.percent_micros / money.PERCENT_MICROS) * 2 <= unit(currency)
        assert got.get(number, 0) % unit(currency) == 0
        assert all(share.partner == partner for share in found.shares if share.level == number)
    assert max(got) <= len(above) + 1


@given(by_amount, currencies, sales)
def test_a_fixed_rate_earns_what_it_says_with_and_without_a_rate_of_the_day(rate: Rate, currency: str, sale: Sale) -> None:
    found = earned(Plan(rate, currency), sale, EARNER)
    assert (found.micros, found.has_no_rate) == (rate.amount_micros, False)
