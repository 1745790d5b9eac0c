"""Verdicts on orders: what the shops were told against conversions and ledger entries."""

from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from loadtests.chaos.click_ids import to_text
from loadtests.chaos.ledger import GOALS, Order

MICROS = 10_000  # of a unit, in a cent
CONVERSIONS = """
    SELECT c.txid, c.goal, c.occurrence, c.status, c.amount_micros, c.payout_micros, c.click_id,
        coalesce(sum(e.amount_micros) FILTER (WHERE e.account = 'partner'), 0)::bigint AS owed_micros,
        coalesce(sum(e.amount_micros) FILTER (WHERE e.account = 'advertiser'), 0)::bigint AS billed_micros
    FROM conversions c LEFT JOIN ledger_entries e ON e.conversion_id = c.id
    GROUP BY c.id
"""
STRAY_ENTRIES = """
    SELECT count(*) AS n FROM ledger_entries e
    WHERE NOT EXISTS (SELECT FROM conversions c WHERE c.id = e.conversion_id)
"""
POSTBACKS = """
    SELECT count(*) FILTER (WHERE outcome = 'parked' AND NOT coalesce(click_id, '') = ANY($1::text[])) AS parked,
        count(*) FILTER (WHERE outcome = 'rejected') AS rejected,
        count(*) FILTER (WHERE outcome = 'conflict') AS conflicts,
        count(*) FILTER (WHERE outcome <> 'parked' AND outcome <> 'rejected' AND conversion_id IS NULL) AS without_conversion
    FROM postbacks
"""


@dataclass(frozen=True, slots=True)
class Conversion:
    """A stored conversion with the sums of its ledger entries."""

    txid: str
    goal: str
    occurrence: int
    status: str
    amount_micros: int
    payout_micros: int
    click_id: str
    owed_micros: int
    billed_micros: int


@dataclass(slots=True)
class Counted:
    """The orders of a goal: reports that were accepted, those without an answer, and how many count by what is stored."""

    orders: int = 0
    reports: int = 0
    unanswered: int = 0
    counted: int = 0


@dataclass(slots=True)
class OrderVerdict:
    """Orders by txid. `wrong`: txid → what is wrong with it. The three sums of money must be equal when nothing else is wrong.

    `miscounted`: orders each report of which counts, and fewer than were accepted or more than were sent do.
    """

    miscounted: dict[str, str] = field(default_factory=dict)
    by_goal: dict[str, Counted] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    ghosts: list[str] = field(default_factory=list)
    wrong: dict[str, str] = field(default_factory=dict)
    expected_micros: int = 0
    payout_micros: int = 0
    owed_micros: int = 0

    @property
    def money_error_micros(self) -> int:
        """The greatest difference between what should be owed, what conversions say, and what the ledger says."""
        sums = (self.expected_micros, self.payout_micros, self.owed_micros)
        return max(sums) - min(sums)


def judge(orders: Mapping[str, Order], conversions: Iterable[Conversion], hopeless: Container[str] = ()) -> OrderVerdict:
    """Compare the ledger of the shops with conversions and their ledger entries. `hopeless`: click ids whose loss is permitted."""
    verdict, stored = OrderVerdict(), defaultdict[str, list[Conversion]](list)
    for conversion in conversions:
        stored[conversion.txid].append(conversion)
        earns = conversion.status in ("pending", "approved")
        verdict.payout_micros += conversion.payout_micros if earns else 0
        verdict.owed_micros += conversion.owed_micros
    verdict.ghosts = [txid for txid in stored if txid not in orders]
    for txid, order in orders.items():
        found = stored.get(txid, [])
        if not found and order.accepted_at is not None and order.click_id not in hopeless:
            verdict.missing.append(txid)
            verdict.expected_micros += 0 if order.is_reversal_accepted else max(order.reports, 1) * order.payout_cents * MICROS
        if len(found) > 1 and GOALS[order.goal] != "always_new":
            verdict.doubled.append(txid)
        if found:
            counted = _count(verdict, order, found)
            verdict.expected_micros += counted * _expected(order, found[0])
            if problem := _problem(order, found, counted):
                verdict.wrong[txid] = problem
        _sum_up(verdict, order, found)
    return verdict


def _said(order: Order, found: list[Conversion]) -> int:
    """How many reports count by what is stored: as many rows, or as many times the amount."""
    if GOALS[order.goal] == "increment":
        return found[0].amount_micros // (order.cents * MICROS) if found else 0
    return len(found)


def _count(verdict: OrderVerdict, order: Order, found: list[Conversion]) -> int:
    """How many reports must count: each that was accepted; one whose answer was lost may, so what is stored decides."""
    if not order.counts_each:
        return 1
    said, least, most = _said(order, found), order.reports, order.reports + order.unanswered
    if not least <= said <= most:
        verdict.miscounted[order.txid] = f"{said} reports count, {least} were accepted, {order.unanswered} had no answer"
    return min(max(said, least), most)


def _sum_up(verdict: OrderVerdict, order: Order, found: list[Conversion]) -> None:
    line = verdict.by_goal.setdefault(order.goal, Counted())
    line.orders += 1
    line.reports += order.reports
    line.unanswered += order.unanswered
    line.counted += _said(order, found)


def _is_reversed(order: Order, conversion: Conversion) -> bool:
    """A reversal that was accepted holds; of one whose answers were all lost nobody can tell, so either is right."""
    return order.is_reversal_accepted or (order.is_reversal_sent and conversion.status == "reversed")


def _expected(order: Order, conversion: Conversion) -> int:
    return 0 if _is_reversed(order, conversion) else order.payout_cents * MICROS


def _problem(order: Order, found: list[Conversion], counted: int) -> str:
    if GOALS[order.goal] == "increment":
        return _problem_of(order, found[0], counted)
    several = found if order.counts_each else found[:1]
    return "; ".join(problem for conversion in several if (problem := _problem_of(order, conversion, 1)))


def _problem_of(order: Order, conversion: Conversion, times: int) -> str:
    is_reversed = _is_reversed(order, conversion)
    facts = {
        "status": (conversion.status, "reversed" if is_reversed else "approved"),
        "goal": (conversion.goal, order.goal),
        "amount": (conversion.amount_micros, times * order.cents * MICROS),
        "payout": (conversion.payout_micros, times * order.payout_cents * MICROS),
        "click": (conversion.click_id, order.click_id),
        "owed": (conversion.owed_micros, times * _expected(order, conversion)),
        "billed": (conversion.billed_micros, 0 if is_reversed else times * order.cents * MICROS),
    }
    return ", ".join(f"{name} is {found}, should be {wanted}" for name, (found, wanted) in facts.items() if found != wanted)


async def read_conversions(connection: Any) -> list[Conversion]:
    """All conversions."""
    names = Conversion.__dataclass_fields__
    rows = [dict(row) for row in await connection.fetch(CONVERSIONS, timeout=120)]
    return [
        Conversion(**{name: row[name] for name in names} | {"click_id": to_text(row["click_id"]) if row["click_id"] else ""})
        for row in rows
    ]


async def read_postbacks(connection: Any, hopeless: Collection[str] = ()) -> dict[str, int]:
    """Postbacks still parked (but those of hopeless clicks), rejected, in conflict, without a conversion; and entries of no conversion."""
    row = await connection.fetchrow(POSTBACKS, list(hopeless), timeout=120)
    return {key: int(value) for key, value in dict(row).items()} | {"stray_entries": int(await connection.fetchval(STRAY_ENTRIES))}
