"""From sums by group to the rows and totals of a report: merged, turned into a currency, derived, sorted, cut. Pure."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeAlias

from tracker.adapters.postgres_reports_exchange import Amount, Pair, Sums, Turning, pair_of, together
from tracker.adapters.postgres_reports_question import COUNTS, IN_CURRENCY, IN_PAYOUT_CURRENCY, OF_IMPRESSIONS, Question
from tracker.domain import money
from tracker.domain.exchange import Rates

Values = dict[str, Any]
Key = tuple[str | None, ...]
Measure: TypeAlias = int | Fraction | None
NOTHING: Sums = (0, 0, 0)
NO_CLICKS = dict.fromkeys(COUNTS, 0)


@dataclass(slots=True)
class Group:
    """The sums of one group: of clicks and impressions, and of conversions and money by pair of currencies.

    In one currency, `money` has the conversions, and `turned` the micros of revenue and of payout, each sum by the rate that turns it.
    `unconverted`: micros that could not be turned into the currency of the report, by their own currencies; None in a pair: that part
    could.
    """

    clicks: dict[str, int] = field(default_factory=lambda: dict(NO_CLICKS))
    money: dict[Pair, Sums] = field(default_factory=dict)
    turned: tuple[Counter[Fraction], Counter[Fraction]] = field(default_factory=lambda: (Counter(), Counter()))
    unconverted: dict[Pair, Sums] = field(default_factory=dict)

    def earn(self, pair: Pair, sums: Sums) -> None:
        """Add conversions and their money, in these currencies."""
        _add(self.money, pair, sums)

    def leave(self, pair: Pair, sums: Sums) -> None:
        """Add to what is unconverted."""
        _add(self.unconverted, pair, sums)

    def turn(self, revenue: Mapping[Fraction, int], payout: Mapping[Fraction, int]) -> None:
        """Add micros by the rates that turn them."""
        for mine, more in zip(self.turned, (revenue, payout), strict=True):
            for rate, micros in more.items():
                mine[rate] += micros

    def lines(self, key: Key = (), *, without: Pair = (None, None)) -> list["Line"]:
        """A line for each pair of currencies, in their order; one in the pair `without` when there is none."""
        pairs = sorted(self.money, key=_in_order) or [without]
        return [Line(key, pair, self.clicks, self._sums(pair), self.unconverted) for pair in pairs]

    def _sums(self, pair: Pair) -> Sums:
        sums = self.money.get(pair, NOTHING)
        return (sums[0], together(self.turned[0]), together(self.turned[1])) if any(self.turned) else sums


def _add(money: dict[Pair, Sums], pair: Pair, sums: Sums) -> None:
    before = money.get(pair, NOTHING)
    money[pair] = (before[0] + sums[0], before[1] + sums[1], before[2] + sums[2])


def _in_order(pair: Pair) -> tuple[str, str]:
    return pair[0] or "", pair[1] or ""


@dataclass(frozen=True, slots=True)
class Line:
    """What a row is made of: a group in one pair of currencies. `clicks` are those of the whole group."""

    key: Key
    pair: Pair
    clicks: Mapping[str, int]
    sums: Sums
    unconverted: Mapping[Pair, Sums] = field(default_factory=dict)

    def measure(self, metric: str) -> Measure:
        """The exact value of a metric, money in micros; None: divided by 0."""
        conversions, revenue, payout = self.sums
        if metric in COUNTS:
            return self.clicks[metric]
        if metric == "ctr":
            return _divided(self.clicks["clicks"], self.clicks["impressions"])
        if metric == "cr":
            return _divided(conversions, self.clicks["clicks"])
        if metric == "epc":
            return _divided(payout, self.clicks["clicks"])
        if metric == "aov":
            return _divided(revenue, conversions - sum(sums[0] for pair, sums in self.unconverted.items() if pair[0]))
        return {"conversions": conversions, "revenue": revenue, "payout": payout}[metric]

    def shown(self, question: Question, metrics: Sequence[str] | None = None, *, with_clicks: bool = True) -> Values:
        """The metrics as a report tells them, those of the question without `metrics`; without clicks when another row has them."""
        shown: Values = {}
        for name in question.metrics if metrics is None else metrics:
            if name in COUNTS:
                shown[name] = self.clicks[name] if with_clicks else 0
            elif name in IN_CURRENCY:
                shown |= {name: self._amount(question, name, self.pair[0]), "currency": self.pair[0]}
            elif name in IN_PAYOUT_CURRENCY:
                shown |= {name: self._amount(question, name, self.pair[1]), "payout_currency": self.pair[1]}
            else:
                shown[name] = _ratio(self.measure(name)) if name in ("cr", "ctr") else self.measure(name)
        return shown | ({"unconverted": list(self._unconverted(question))} if question.target else {})

    def _amount(self, question: Question, name: str, currency: str | None) -> str | None:
        """A sum that was turned is rounded to its currency's minor unit, what is divided to a millionth; other sums are as they are."""
        value = self.measure(name)
        is_sum = name in ("revenue", "payout")
        return _amount(
            money.round_half_even(value, question.target) if value is not None and is_sum and question.target else value, currency
        )

    def _unconverted(self, question: Question) -> Iterable[Values]:
        for pair in sorted(self.unconverted, key=_in_order):
            conversions, revenue, payout = self.unconverted[pair]
            shown: Values = {"conversions": conversions}
            if question.has_revenue:
                shown |= {"revenue": _amount(revenue if pair[0] else None, pair[0]), "currency": pair[0]}
            if question.has_payout:
                shown |= {"payout": _amount(payout if pair[1] else None, pair[1]), "payout_currency": pair[1]}
            yield shown


def _divided(part: Amount, whole: int) -> Fraction | None:
    return Fraction(part, whole) if whole else None


def _amount(micros: Measure, currency: str | None) -> str | None:
    """Rounded half even to a millionth."""
    return None if micros is None else money.format_micros(round(micros), currency or "")


def _ratio(value: Measure) -> str | None:
    if value is None:
        return None
    micros = round(value * money.MICROS)
    return f"{micros // money.MICROS}.{micros % money.MICROS:06d}"


def shape(
    question: Question,
    clicks: Iterable[Mapping[str, Any]],
    conversions: Collection[Mapping[str, Any]],
    rates: Rates | None = None,
    impressions: Iterable[Mapping[str, Any]] = (),
) -> Values:
    """`{"rows", "totals"}` from the rows of the statements; with `totals_by_currency` and `rows_left_out` where they apply.

    A group whose money is of several currencies has a row for each; the first of them has the group's clicks and the others
    have 0, so that sums of rows are right. What is divided by clicks is divided by those of the group in all of them. Totals are
    those of the whole, whatever the limit.

    In one currency there is one row for each group, of what `rates` turn into it, each conversion by the rate of its own day; what
    they do not is in the row's `unconverted`, in its own currencies. `missing_rates`: the first 100 days and currencies without
    a rate, where there are such, and `missing_rates_left_out`, how many more there are.
    """
    turning = Turning(question, conversions, rates or Rates(())) if question.target else None
    groups: dict[Key, Group] = {}
    for row in clicks:
        groups[_key(question, row)] = Group({name: int(row.get(name) or 0) for name in COUNTS})
    for row in impressions:
        groups.setdefault(_key(question, row), Group()).clicks["impressions"] = int(row["impressions"] or 0)
    for row in conversions:
        key = _key(question, row)
        group = groups.get(key) or groups.setdefault(key, Group())
        if turning:
            turn(turning, group, row)
        else:
            group.earn(*_money(question, row))
    lines = [line for key, group in groups.items() for line in group.lines(key, without=pair_of(question))]
    found: Values = {"rows": list(_rows(question, _ordered(question, lines)))} | _totals(question, groups.values())
    found |= turning.missing_rates() if turning else {}
    return found | ({"rows_left_out": len(lines) - question.limit} if len(lines) > question.limit else {})


def _key(question: Question, row: Mapping[str, Any]) -> Key:
    return tuple(row[name] for name in question.group_by)


def turn(turning: Turning, group: Group, row: Mapping[str, Any]) -> None:
    """Add a sum of conversions to a group in the currency of the report; what has no rate is left in its own currency."""
    conversions, revenue, payout = int(row["conversions"]), int(row["revenue"]), int(row["payout"])
    of_revenue, of_payout = turning.rates(row)
    group.earn(turning.pair, (conversions, 0, 0))
    group.turn({of_revenue: revenue} if of_revenue else {}, {of_payout: payout} if of_payout else {})
    lacking = row["currency"] if of_revenue is None else None, row["payout_currency"] if of_payout is None else None
    if any(lacking):
        group.leave(lacking, (conversions, revenue if lacking[0] else 0, payout if lacking[1] else 0))


def _money(question: Question, row: Mapping[str, Any]) -> tuple[Pair, Sums]:
    """A currency that is not asked for splits no row."""
    pair = (
        row["currency"] if question.has_revenue else None,
        row["payout_currency"] if question.has_payout else None,
    )
    return pair, (int(row["conversions"]), int(row["revenue"]), int(row["payout"]))


def _ordered(question: Question, lines: list[Line]) -> list[Line]:
    """By `sort`, then by group, then by currencies: a total order. What there is none of is last, whatever the direction."""
    found = sorted(lines, key=lambda line: tuple((value is None, value or "") for value in (*line.key, *line.pair)))
    for name in reversed(question.sort):
        is_down, of = name.startswith("-"), name.removeprefix("-")
        found.sort(key=lambda line, of=of, is_down=is_down: _rank(question, line, of, is_down), reverse=is_down)  # type: ignore[misc] # defaults bind the loop's names
    return found


def _rank(question: Question, line: Line, name: str, is_down: bool) -> tuple[bool, Any]:
    value: Any = line.key[question.group_by.index(name)] if name in question.group_by else line.measure(name)
    empty = "" if name in question.group_by else 0
    return (value is None) != is_down, empty if value is None else value


def _rows(question: Question, lines: Sequence[Line]) -> Iterable[Values]:
    told: set[Key] = set()
    for line in lines[: question.limit]:
        yield dict(zip(question.group_by, line.key, strict=True)) | line.shown(question, with_clicks=line.key not in told)
        told.add(line.key)


def _totals(question: Question, groups: Iterable[Group]) -> Values:
    total = Group()
    for group in groups:
        for name, count in group.clicks.items():
            total.clicks[name] += count
        for pair, sums in group.money.items():
            total.earn(pair, sums)
        total.turn(*group.turned)
        for pair, sums in group.unconverted.items():
            total.leave(pair, sums)
    lines = total.lines(without=pair_of(question))
    if len(lines) == 1:
        return {"totals": lines[0].shown(question)}
    together = Line((), (None, None), total.clicks, (sum(line.sums[0] for line in lines), 0, 0))
    plain = [name for name in question.metrics if name not in IN_CURRENCY | IN_PAYOUT_CURRENCY]
    earned = [name for name in question.metrics if name not in (*COUNTS, *OF_IMPRESSIONS)]
    return {"totals": together.shown(question, plain), "totals_by_currency": [line.shown(question, earned) for line in lines]}
