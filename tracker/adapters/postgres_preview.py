"""What a changed payout would have come to in a real month: tried on its conversions and clicks, and nothing of it kept."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any

from tracker.adapters import postgres_months, postgres_terms
from tracker.adapters.postgres_months import NO_IDLE_LIMIT, Month, TermsOfTimes
from tracker.adapters.postgres_plans import of_same_rate, sold_of, work_out
from tracker.adapters.postgres_pool import Connection, Database
from tracker.adapters.postgres_terms import Wanted, Whose
from tracker.domain import basis as bases
from tracker.domain.months import MonthSale
from tracker.errors import NotFound

TIMEOUT_S = 900.0  # a hundred thousand conversions take minutes
ACTOR = "preview"
SALES = """
    SELECT id, advertiser_id, campaign, partner, goal, converted_at, status, amount_micros, trim(currency) AS currency, customer, details,
        basis, payout_micros, trim(payout_currency) AS payout_currency
    FROM conversions
    WHERE campaign = $1 AND converted_at >= $2 AND converted_at < $3 AND status IN ('pending', 'approved') AND partner IS NOT NULL
        AND source IS NULL
    ORDER BY id
"""
BOOKED = """
    SELECT s.partner_id AS partner, trim(s.currency) AS currency, sum(s.amount_micros)::bigint AS micros
    FROM conversions c JOIN conversion_shares s ON s.conversion_id = c.id
    WHERE c.campaign = $1 AND c.converted_at >= $2 AND c.converted_at < $3 AND c.status IN ('pending', 'approved') AND c.partner IS NOT NULL
        AND c.source IS NULL
    GROUP BY 1, 2
    UNION ALL
    SELECT partner_id, trim(currency), sum(amount_micros)::bigint FROM month_earnings WHERE campaign_id = $1 AND month = $4 GROUP BY 1, 2
"""
WHOSE = """
    SELECT m.id AS campaign, g.id AS goal, p.id AS partner
    FROM campaigns m LEFT JOIN goals g ON g.campaign_id = m.id AND g.slug = $2 LEFT JOIN partners p ON p.slug = $3 WHERE m.slug = $1
"""
# What was changed during the month until further notice, for the time of the trial.
PUT_OFF = """
    UPDATE terms SET effective_from = $5
    WHERE campaign_id = $1 AND goal_id IS NOT DISTINCT FROM $2 AND partner_id IS NOT DISTINCT FROM $3
        AND effective_from >= $4 AND effective_from < $5 AND effective_to = 'infinity'
"""
EVER = datetime(9999, 1, 1, tzinfo=UTC)  # what is tried was written a moment ago
SLUGS = "SELECT id, slug FROM partners WHERE id = ANY($1::bigint[])"
Due = Counter[tuple[int, str]]  # partner, currency → micros


@dataclass(frozen=True, slots=True)
class Preview:
    """What each partner has of the month, and what it would have; by slug and currency, in micros."""

    booked: dict[tuple[str, str], int]
    would_be: dict[tuple[str, str], int]
    conversions: int
    without_rate: int


async def preview(database: Database, wanted: Wanted, first: date) -> Preview:
    """Try `wanted` on the month that begins with `first`. Promotions that were in force go on; nothing is stored.

    NotFound `unknown_campaign`, `unknown_goal`, `unknown_partner`.
    """
    async with database.connection(TIMEOUT_S) as connection:
        transaction = connection.transaction(isolation="repeatable_read")
        await transaction.start()
        try:
            await connection.execute(NO_IDLE_LIMIT)
            return await _tried(connection, wanted, first)
        finally:
            await transaction.rollback()


async def _tried(connection: Connection, wanted: Wanted, first: date) -> Preview:
    whose = await _whose(connection, wanted)
    month = Month(whose.campaign, first)
    booked = Due()
    for row in await connection.fetch(BOOKED, month.campaign, *month.bounds, month.first):
        booked[row["partner"], row["currency"]] += row["micros"]
    await _put_in_force(connection, whose, wanted, month)
    trial = _Trial(connection, await TermsOfTimes.read(connection, month.campaign, known_at=EVER))
    for row in await connection.fetch(SALES, month.campaign, *month.bounds):
        await trial.add(row)
    would_be = await trial.due(month)
    slugs = {row["id"]: row["slug"] for row in await connection.fetch(SLUGS, [partner for partner, _ in booked | would_be])}

    def named(due: Due) -> dict[tuple[str, str], int]:
        return {(slugs[partner], currency): micros for (partner, currency), micros in due.items()}

    return Preview(named(booked), named(would_be), trial.conversions, trial.without_rate)


async def _whose(connection: Connection, wanted: Wanted) -> Whose:
    row = await connection.fetchrow(WHOSE, wanted.campaign, wanted.goal, wanted.partner)
    for name in ("campaign", "goal", "partner"):
        slug = getattr(wanted, name)
        if slug and (row is None or row[name] is None):
            raise NotFound(f"unknown_{name}", f"there is no {name} {slug[:80]!r}", field=name)
    return Whose(**dict(row or {}))


async def _put_in_force(connection: Connection, whose: Whose, wanted: Wanted, month: Month) -> None:
    """For the whole of the month, whatever was changed during it until further notice."""
    columns = await postgres_terms.kept(connection, whose.campaign, wanted.payout)
    start, end = month.bounds
    await connection.execute(PUT_OFF, whose.campaign, whose.goal, whose.partner, start, end)
    await postgres_terms.add(connection, whose, columns, ACTOR, start=start)


def _today() -> date:
    return datetime.now(UTC).date()


@dataclass(slots=True)
class _Trial:
    """The month's conversions, worked out one by one."""

    connection: Connection
    terms: TermsOfTimes
    conversions: int = 0
    without_rate: int = 0
    _due: Due = field(default_factory=Counter)
    _sales: list[tuple[int, str, MonthSale]] = field(default_factory=list)

    async def add(self, row: Any) -> None:
        sold, known = sold_of(row)
        terms = await self.terms.at(sold.partner, sold.goal, sold.at)
        worked = await work_out(self.connection, terms, sold, of_same_rate(known, row, sold, terms))
        self.conversions += 1
        self.without_rate += worked.earned.has_no_rate
        for share in worked.earned.shares:
            self._due[share.partner, share.currency] += share.micros
        if terms:
            basis = replace(bases.read(worked.basis), reports=())
            sale = MonthSale(sold.conversion_id, sold.at, terms.plan, sold.currency, sold.goal, sold.reports, basis)
            self._sales.append((sold.partner, row["status"], sale))

    async def due(self, month: Month) -> Due:
        """What everybody would have, months included."""
        extras = await asyncio.to_thread(postgres_months.of_sales, self._sales)
        extras.update(await postgres_months.of_clicks(self.connection, month, until=_today(), known_at=EVER))
        for (earner, _), micros in extras.items():
            self._due[earner.partner, earner.currency] += micros
        return self._due
