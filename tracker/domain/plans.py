"""Payout plans: what a sale earns its partner, those above and those beside, by the terms in force. Pure.

Percentages are exact until the end: one rounding for each share, half even at the minor unit of its currency. Fixed
amounts keep their micros. What is split is never more and never less than the whole.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from typing import Final, Literal

from tracker.domain import money

By = Literal["conversions", "revenue"]
Counting = Literal["retroactive", "from_there"]
LevelOf = Literal["sale", "child_payout"]
EARNER: Final = 1  # level of the partner who brought the sale, and of those it shares with


@dataclass(frozen=True, slots=True)
class Rate:
    """What a sale, or a part of it, earns: `percent_micros` of its amount, or `amount_micros` for each (of an item: each piece)."""

    percent_micros: int | None = None
    amount_micros: int | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """A rate for sales, or items of sales, of which all conditions hold; an empty condition always does."""

    rate: Rate
    goals: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()
    skus: frozenset[str] = frozenset()
    customer: Literal["", "new", "returning"] = ""

    @property
    def is_of_items(self) -> bool:
        """Whether it looks at items, not at the sale as a whole."""
        return bool(self.categories or self.skus)


@dataclass(frozen=True, slots=True)
class Recurring:
    """The rate of a customer's second and further payments, for that many of all payments and months since the first; 0: no limit."""

    rate: Rate
    payments: int = 0
    months: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """From this many conversions, or this much revenue in micros, on: another base rate."""

    start: int
    rate: Rate


@dataclass(frozen=True, slots=True)
class Tiers:
    """Base rates by what a partner brought a campaign in a calendar month; `steps` ascend."""

    by: By
    counts: Counting
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Bonus:
    """Once a month, when a partner has that many conversions."""

    conversions: int
    amount_micros: int


@dataclass(frozen=True, slots=True)
class Level:
    """What the partner above earns: `percent_micros` of the sale, or of what the partner right below it gets."""

    percent_micros: int
    of: LevelOf = "child_payout"


@dataclass(frozen=True, slots=True)
class Part:
    """Another partner's part of what a sale earns."""

    partner: int
    percent_micros: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The terms of one time. `currency`: of all its amounts and payouts; None where it has no amounts: then each sale's own.

    `rules`: the first that holds gives the rate, for each item on its own; else `rate`. `minimum_order_micros`: below it a sale
    earns nothing. `cap_micros`: the most one sale earns at the first level. `per_click_micros`: for each counted click.
    `levels[0]` is of the partner's parent, and so on upward.
    """

    rate: Rate = Rate(percent_micros=0)
    currency: str | None = None
    rules: tuple[Rule, ...] = ()
    recurring: Recurring | None = None
    minimum_order_micros: int = 0
    cap_micros: int | None = None
    tiers: Tiers | None = None
    bonuses: tuple[Bonus, ...] = ()
    per_click_micros: int = 0
    levels: tuple[Level, ...] = ()
    split: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """A line of an order: what its pieces cost together, exact, and how many they are."""

    sku: str = ""
    category: str = ""
    quantity: Decimal = Decimal(1)
    total_micros: Fraction = Fraction(0)


@dataclass(frozen=True, slots=True)
class Sale:
    """A conversion as far as its payout goes by it.

    `customer`: new or returning, "" when nobody knows. `payment`: which of the customer's payments this is, from 1; `months`: whole
    months since the first. `exchange`: what one unit of `currency` is in the plan's, None when there is no rate of the day.
    """

    amount_micros: int
    currency: str
    goal: str = "sale"
    items: tuple[Item, ...] = ()
    customer: Literal["", "new", "returning"] = ""
    payment: int = 1
    months: int = 0
    exchange: Fraction | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """What one partner gets of a sale. Level 1 brought it or shares in it, 2 is the parent of who brought it, and so on."""

    partner: int
    level: int
    micros: int
    currency: str


@dataclass(frozen=True, slots=True)
class Earned:
    """The shares of a sale, level 1 first, none of nothing; `reasons` say how they came about, for people.

    `has_no_rate`: the sale's currency could not be turned into the plan's, so its percentages came to nothing.
    """

    shares: tuple[Share, ...]
    currency: str
    reasons: tuple[str, ...] = field(default=(), compare=False)
    has_no_rate: bool = False

    @property
    def micros(self) -> int:
        """What the first level gets together."""
        return sum(share.micros for share in self.shares if share.level == EARNER)


def earned(plan: Plan, sale: Sale, partner: int, upline: Sequence[int] = ()) -> Earned:
    """What `sale` earns `partner`, those who share with it, and `upline`: its parent, that one's parent, and so on.

    Where the first level earns nothing nobody does.
    """
    currency, reasons, amount = plan.currency or sale.currency, list[str](), _Amount(amount_in(plan, sale))
    first = _first_level(plan, sale, amount, currency, reasons)
    above = _above(plan, first, amount, currency, upline) if first else []
    shares = (*_parts(plan, first, currency, partner), *above)
    if amount.is_missed:
        reasons.append(f"no rate of the day from {sale.currency} to {currency}")
    return Earned(tuple(share for share in shares if share.micros), currency, tuple(reasons), amount.is_missed)


def at_base(plan: Plan, rate: Rate) -> Plan:
    """`plan` with another base rate: that of a tier."""
    return replace(plan, rate=rate)


def amount_in(plan: Plan, sale: Sale) -> Fraction | None:
    """The sale's amount in micros of the plan's currency, exact; None when there is no rate."""
    if plan.currency in (None, sale.currency):
        return Fraction(sale.amount_micros)
    return None if sale.exchange is None else sale.amount_micros * sale.exchange


@dataclass(slots=True)
class _Amount:
    """The sale's amount in the plan's currency, or none; then it is remembered that somebody asked for it."""

    micros: Fraction | None
    is_missed: bool = False

    def is_below(self, minimum_micros: int) -> bool:
        """What is not known is not enough."""
        self.is_missed = self.is_missed or (self.micros is None and minimum_micros > 0)
        return minimum_micros > 0 and (self.micros is None or self.micros < minimum_micros)

    def percent(self, percent_micros: Fraction) -> Fraction:
        """That percentage of it, in micros, exact; 0 of what is not known."""
        self.is_missed = self.is_missed or (self.micros is None and percent_micros != 0)
        return (self.micros or Fraction(0)) * percent_micros / money.PERCENT_MICROS


def _first_level(plan: Plan, sale: Sale, amount: _Amount, currency: str, reasons: list[str]) -> int:
    """What the first level gets together, in micros."""
    if amount.is_below(plan.minimum_order_micros):
        minimum = f"below the minimum order of {money.format_micros(plan.minimum_order_micros, currency)} {currency}"
        reasons.extend([] if amount.is_missed else [minimum])
        return 0
    if limit := _limit(plan.recurring, sale):
        reasons.append(limit)
        return 0
    micros = _by_rates(plan, sale, amount, currency, reasons)
    if plan.cap_micros is not None and micros > plan.cap_micros:
        reasons.append(f"no more than {money.format_micros(plan.cap_micros, currency)} {currency} for a sale")
        return plan.cap_micros
    return micros


def _limit(recurring: Recurring | None, sale: Sale) -> str:
    """Why a further payment of a customer earns no more; "" when it does."""
    if recurring is None or sale.payment == 1:
        return ""
    if recurring.payments and sale.payment > recurring.payments:
        return f"payment {sale.payment} of the customer: {recurring.payments} earn"
    if recurring.months and sale.months >= recurring.months:
        return f"{sale.months} months after the customer's first payment: {recurring.months} months earn"
    return ""


@dataclass(slots=True)
class _Worth:
    """What rates come to: `percent` of parts of the whole order added up, and amounts."""

    percent: Fraction = Fraction(0)
    fixed: Fraction = Fraction(0)

    def add(self, rate: Rate, part: Fraction, pieces: Fraction) -> None:
        self.percent += part * (rate.percent_micros or 0)
        self.fixed += pieces * (rate.amount_micros or 0)


def _by_rates(plan: Plan, sale: Sale, amount: _Amount, currency: str, reasons: list[str]) -> int:
    """What the rates come to: percentages added up and then rounded, amounts to the micro."""
    worth = _Worth()
    rest = _add_items(plan, sale, worth, currency, reasons) if _looks_at_items(plan, sale) else Fraction(1)
    if rest is not None:
        base, why = _base(plan, sale)
        reasons.append(f"{why}{_words(base, currency)}")
        worth.add(base, rest, Fraction(1))
    return money.round_half_even(amount.percent(worth.percent), currency) + round(worth.fixed)


def _add_items(plan: Plan, sale: Sale, worth: _Worth, currency: str, reasons: list[str]) -> Fraction | None:
    """Add what items earn by rules of their own; returns the part of the order that is left for the base rate, None when no item is."""
    rest = list[Fraction]()
    for number, (item, part) in enumerate(_by_weight(sale.items), start=1):
        place, rule = _rule_of(plan, sale, item)
        if rule is None:
            rest.append(part)
            continue
        reasons.append(f"item {number}, rule {place}: {_words(rule.rate, currency)}")
        worth.add(rule.rate, part, Fraction(item.quantity))
    return sum(rest, Fraction(0)) if rest else None


def _looks_at_items(plan: Plan, sale: Sale) -> bool:
    is_further = plan.recurring is not None and sale.payment > 1
    return bool(sale.items) and not is_further and any(rule.is_of_items for rule in plan.rules)


def _by_weight(items: Sequence[Item]) -> list[tuple[Item, Fraction]]:
    """Each item with its part of the order; equal parts where no item has a price."""
    whole = sum(item.total_micros for item in items)
    return [(item, Fraction(item.total_micros) / whole if whole else Fraction(1, len(items))) for item in items]


def _base(plan: Plan, sale: Sale) -> tuple[Rate, str]:
    """The rate of the sale as a whole, or of what no rule for items takes; and words for why."""
    if plan.recurring and sale.payment > 1:
        return plan.recurring.rate, f"payment {sale.payment} of the customer: "
    for number, rule in enumerate(plan.rules, start=1):
        if not rule.is_of_items and _holds(rule, sale):
            return rule.rate, f"rule {number}: "
    return plan.rate, ""


def _rule_of(plan: Plan, sale: Sale, item: Item) -> tuple[int, Rule | None]:
    """The rule for items that an item falls under, and its place; None when a rule for the whole sale comes before, or none holds."""
    for place, rule in enumerate(plan.rules, start=1):
        if not _holds(rule, sale):
            continue
        if not rule.is_of_items:
            break
        if (not rule.categories or item.category in rule.categories) and (not rule.skus or item.sku in rule.skus):
            return place, rule
    return 0, None


def _holds(rule: Rule, sale: Sale) -> bool:
    return (not rule.goals or sale.goal in rule.goals) and rule.customer in ("", sale.customer)


def _words(rate: Rate, currency: str) -> str:
    if rate.percent_micros is not None:
        return f"{money.format_micros(rate.percent_micros, 'JPY')} %"
    return f"{money.format_micros(rate.amount_micros or 0, currency)} {currency}"


def _parts(plan: Plan, micros: int, currency: str, partner: int) -> list[Share]:
    """The first level, divided. Each part ends where the rounded sum of percentages ends, so that nothing is lost or made."""
    found, taken, percent = list[Share](), 0, 0
    unit = money.coin(currency)
    for part in plan.split:
        percent += part.percent_micros
        exact = Fraction(micros * percent, money.PERCENT_MICROS)
        end = money.round_half_even(exact, currency) if micros % unit == 0 else round(exact)
        found.append(Share(part.partner, EARNER, end - taken, currency))
        taken = end
    rest = Share(partner, EARNER, micros - taken, currency)
    return _merged([rest, *found])


def _merged(shares: Iterable[Share]) -> list[Share]:
    """One share a partner: who shares with itself brought the sale too."""
    sums: dict[int, Share] = {}
    for share in shares:
        known = sums.get(share.partner)
        sums[share.partner] = replace(share, micros=share.micros + (known.micros if known else 0))
    return list(sums.values())


def _above(plan: Plan, first: int, amount: _Amount, currency: str, upline: Sequence[int]) -> list[Share]:
    found, below = list[Share](), first
    for number, (level, partner) in enumerate(zip(plan.levels, upline, strict=False), start=EARNER + 1):
        percent = Fraction(level.percent_micros)
        exact = amount.percent(percent) if level.of == "sale" else below * percent / money.PERCENT_MICROS
        below = money.round_half_even(exact, currency)
        found.append(Share(partner, number, below, currency))
    return found
