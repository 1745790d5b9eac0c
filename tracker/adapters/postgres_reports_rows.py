"""From sums by group to the rows and totals of a report: merged, derived, sorted, cut. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeAlias

from tracker.adapters.postgres_reports_question import CLICK_METRICS, IN_CURRENCY, IN_PAYOUT_CURRENCY, Question
from tracker.domain import money

Values = dict[str, Any]
Key = tuple[str | None, ...]
Pair = tuple[str | None, str | None]  # currencies: of revenue, of payout
Sums = tuple[int, int, int]  # conversions, micros of revenue, micros of payout
Measure: TypeAlias = int | Fraction | None
NOTHING: Sums = (0, 0, 0)
NO_CLICKS = dict.fromkeys(CLICK_METRICS, 0)


@dataclass(slots=True)
class Group:
    """The sums of one group: of clicks, and of conversions and money by pair of currencies."""

    clicks: dict[str, int] = field(default_factory=lambda: dict(NO_CLICKS))
    money: dict[Pair, Sums] = field(default_factory=dict)

    def earn(self, pair: Pair, sums: Sums) -> None:
        """Add conversions and their money, in these currencies."""
        before = self.money.get(pair, NOTHING)
        self.money[pair] = (before[0] + sums[0], before[1] + sums[1], before[2] + sums[2])

    def lines(self, key: Key = ()) -> list["Line"]:
        """A line for each pair of currencies, in their order; one when there is none."""
        pairs = sorted(self.money, key=lambda pair: (pair[0] or "", pair[1] or "")) or [(None, None)]
        return [Line(key, pair, self.clicks, self.money.get(pair, NOTHING)) for pair in pairs]


@dataclass(frozen=True, slots=True)
class Line:
    """What a row is made of: a group in one pair of currencies. `clicks` are those of the whole group."""

    key: Key
    pair: Pair
    clicks: Mapping[str, int]
    sums: Sums

    def measure(self, metric: str) -> Measure:
        """The exact value of a metric, money in micros; None: divided by 0."""
        conversions, revenue, payout = self.sums
        if metric in CLICK_METRICS:
            return self.clicks[metric]
        if metric == "cr":
            return _divided(conversions, self.clicks["clicks"])
        if metric == "epc":
            return _divided(payout, self.clicks["clicks"])
        if metric == "aov":
            return _divided(revenue, conversions)
        return {"conversions": conversions, "revenue": revenue, "payout": payout}[metric]

    def shown(self, metrics: Sequence[str], *, with_clicks: bool = True) -> Values:
        """The metrics as a report tells them; without clicks when another row of the group has them."""
        shown: Values = {}
        for name in metrics:
            if name in CLICK_METRICS:
                shown[name] = self.clicks[name] if with_clicks else 0
            elif name in IN_CURRENCY:
                shown |= {name: _amount(self.measure(name), self.pair[0]), "currency": self.pair[0]}
            elif name in IN_PAYOUT_CURRENCY:
                shown |= {name: _amount(self.measure(name), self.pair[1]), "payout_currency": self.pair[1]}
            else:
                shown[name] = _ratio(self.measure(name)) if name == "cr" else self.measure(name)
        return shown


def _divided(part: int, whole: int) -> Fraction | None:
    return Fraction(part, whole) if whole else None


def _amount(micros: Measure, currency: str | None) -> str | None:
    """Rounded half even to a millionth."""
    return None if micros is None else money.format_micros(round(micros), currency or "")


def _ratio(value: Measure) -> str | None:
    if value is None:
        return None
    micros = round(value * money.MICROS)
    return f"{micros // money.MICROS}.{micros % money.MICROS:06d}"


def shape(question: Question, clicks: Iterable[Mapping[str, Any]], conversions: Iterable[Mapping[str, Any]]) -> Values:
    """`{"rows", "totals"}` from the rows of the two statements; with `totals_by_currency` and `rows_left_out` where they apply.

    A group whose money is of several currencies has a row for each; the first of them has the group's clicks and the others
    have 0, so that sums of rows are right. What is divided by clicks is divided by those of the group in all of them. Totals are
    those of the whole, whatever the limit.
    """
    groups: dict[Key, Group] = {}
    for row in clicks:
        groups[_key(question, row)] = Group({name: int(row[name] or 0) for name in CLICK_METRICS})
    for row in conversions:
        pair, sums = _money(question, row)
        groups.setdefault(_key(question, row), Group()).earn(pair, sums)
    lines = [line for key, group in groups.items() for line in group.lines(key)]
    found: Values = {"rows": list(_rows(question, _ordered(question, lines)))} | _totals(question, groups.values())
    return found | ({"rows_left_out": len(lines) - question.limit} if len(lines) > question.limit else {})


def _key(question: Question, row: Mapping[str, Any]) -> Key:
    return tuple(row[name] for name in question.group_by)


def _money(question: Question, row: Mapping[str, Any]) -> tuple[Pair, Sums]:
    """A currency that is not asked for splits no row."""
    pair = (
        row["currency"] if IN_CURRENCY & set(question.metrics) else None,
        row["payout_currency"] if IN_PAYOUT_CURRENCY & set(question.metrics) else None,
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
        yield dict(zip(question.group_by, line.key, strict=True)) | line.shown(question.metrics, with_clicks=line.key not in told)
        told.add(line.key)


def _totals(question: Question, groups: Iterable[Group]) -> Values:
    total = Group()
    for group in groups:
        for name, count in group.clicks.items():
            total.clicks[name] += count
        for pair, sums in group.money.items():
            total.earn(pair, sums)
    lines = total.lines()
    if len(lines) == 1:
        return {"totals": lines[0].shown(question.metrics)}
    together = Line((), (None, None), total.clicks, (sum(line.sums[0] for line in lines), 0, 0))
    plain = [name for name in question.metrics if name not in IN_CURRENCY | IN_PAYOUT_CURRENCY]
    earned = [name for name in question.metrics if name not in CLICK_METRICS]
    return {"totals": together.shown(plain), "totals_by_currency": [line.shown(earned) for line in lines]}
