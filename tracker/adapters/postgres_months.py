"""What months earn beyond their sales - tiers, bonuses, clicks - worked out anew and booked by the difference."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from tracker.adapters.postgres_plans import Terms, sold_of, terms_at, terms_by_id
from tracker.adapters.postgres_pool import Connection
from tracker.domain import months
from tracker.domain.months import ClickDay, Earner, MonthSale

LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"
# Campaigns with plans that look at months; those of `month_earnings` had one, and what was booked by it stays right.
CAMPAIGNS = """
    SELECT DISTINCT campaign_id FROM terms WHERE payout_type = 'plan' AND plan ?| ARRAY['tiers', 'bonuses', 'per_click']
    UNION SELECT campaign_id FROM month_earnings
"""
CHANGED = """
    SELECT DISTINCT c.campaign, date_trunc('month', c.converted_at AT TIME ZONE 'UTC')::date AS month
    FROM ledger_entries l JOIN conversions c ON c.id = l.conversion_id
    WHERE l.at >= $1 AND l.kind <> 'tiers' AND c.campaign = ANY($2::bigint[])
"""
SALES = """
    SELECT c.id, c.partner, c.campaign, c.advertiser_id, c.goal, c.converted_at, c.status, c.amount_micros, trim(c.currency) AS currency,
        c.customer, c.details, c.basis, c.terms_id
    FROM conversions c JOIN terms t ON t.id = c.terms_id
    WHERE c.campaign = $1 AND c.converted_at >= $2 AND c.converted_at < $3 AND c.status IN ('pending', 'approved')
      AND t.payout_type = 'plan' AND t.plan ?| ARRAY['tiers', 'bonuses']
"""
CLICKS = """
    SELECT partner, day, sum(clicks)::bigint AS clicks FROM daily_stats WHERE campaign = $1 AND day >= $2 AND day < $3
    GROUP BY partner, day HAVING sum(clicks) > 0
"""
PER_CLICK = "SELECT EXISTS (SELECT FROM terms WHERE campaign_id = $1 AND payout_type = 'plan' AND plan ? 'per_click')"
BOOKED = """
    SELECT partner_id, kind, status, trim(currency) AS currency, amount_micros FROM month_earnings WHERE campaign_id = $1 AND month = $2
"""
BOOK = """
    INSERT INTO month_earnings (campaign_id, month, partner_id, kind, status, currency, amount_micros)
    SELECT $1, $2, * FROM unnest($3::bigint[], $4::text[], $5::text[], $6::text[], $7::bigint[])
    ON CONFLICT (campaign_id, month, partner_id, kind, status, currency)
    DO UPDATE SET amount_micros = month_earnings.amount_micros + excluded.amount_micros, updated_at = now()
"""
ENTER = """
    INSERT INTO ledger_entries (effective_on, account, partner_id, advertiser_id, campaign_id, kind, status, amount_micros, currency,
        reason, actor)
    SELECT $2, 'partner', r.partner, m.advertiser_id, m.id, r.kind, r.status, r.amount, r.currency, $8, $9
    FROM unnest($3::bigint[], $4::text[], $5::text[], $6::text[], $7::bigint[]) AS r(partner, kind, status, currency, amount), campaigns m
    WHERE m.id = $1
"""
Line = tuple[Earner, str]  # who gets it and for what, and its status in the ledger


@dataclass(frozen=True, slots=True)
class Month:
    """A campaign's calendar month, UTC."""

    campaign: int
    first: date

    @property
    def end(self) -> date:
        """The first day of the next."""
        return (self.first + timedelta(days=32)).replace(day=1)

    @property
    def bounds(self) -> tuple[datetime, datetime]:
        """From the first of these instants until before the other."""
        return _midnight(self.first), _midnight(self.end)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def month_of(at: datetime | date, *, back: int = 0) -> date:
    """The first day of the month of `at`, or of one that many months before."""
    day = at.astimezone(UTC).date() if isinstance(at, datetime) else at
    for _ in range(back):
        day = day.replace(day=1) - timedelta(days=1)
    return day.replace(day=1)


async def campaigns(connection: Connection) -> list[int]:
    """Campaigns whose months are looked at."""
    return [row["campaign_id"] for row in await connection.fetch(CAMPAIGNS)]


async def changed(connection: Connection, since: datetime, among: list[int]) -> set[Month]:
    """The months of conversions for which something was booked since then."""
    rows = await connection.fetch(CHANGED, since, among)
    return {Month(row["campaign"], row["month"]) for row in rows}


async def settle(connection: Connection, month: Month, *, actor: str, only_clicks: bool = False) -> int:
    """Book what a month earns now less what was booked for it, as part of the caller's transaction; returns how many entries.

    Entries count for the month's last day, whenever they are booked. One at a time for each month. With `only_clicks` its sales are
    not looked at: there may be very many.
    """
    await connection.execute(LOCK, f"month {month.campaign} {month.first}")
    owed = await worked_out(connection, month, only_clicks=only_clicks)
    for line, micros in (await _booked(connection, month)).items():
        owed[line] -= micros if line[0].kind == "clicks" or not only_clicks else 0
    lines = [(line, micros) for line, micros in sorted(owed.items(), key=_order) if micros]
    if not lines:
        return 0
    columns = (
        [earner.partner for (earner, _), _ in lines],
        [earner.kind for (earner, _), _ in lines],
        [status for (_, status), _ in lines],
        [earner.currency for (earner, _), _ in lines],
        [micros for _, micros in lines],
    )
    await connection.execute(BOOK, month.campaign, month.first, *columns)
    reason = f"the month {month.first:%Y-%m} as a whole"
    await connection.execute(ENTER, month.campaign, month.end - timedelta(days=1), *columns, reason, actor)
    return len(lines)


def _order(item: tuple[Line, int]) -> tuple[Any, ...]:
    (earner, status), _ = item
    return earner.partner, earner.kind, earner.currency, status


async def _booked(connection: Connection, month: Month) -> dict[Line, int]:
    rows = await connection.fetch(BOOKED, month.campaign, month.first)
    return {(Earner(row["partner_id"], row["kind"], row["currency"]), row["status"]): row["amount_micros"] for row in rows}


async def worked_out(connection: Connection, month: Month, *, only_clicks: bool = False) -> Counter[Line]:
    """What a month earns now, in micros. What only sales bring that are not approved yet is pending; clicks are approved."""
    found = Counter[Line]()
    if not only_clicks:
        rows = await connection.fetch(SALES, month.campaign, *month.bounds)
        plans = {number: await terms_by_id(connection, number) for number in sorted({row["terms_id"] for row in rows})}
        sales = [(row["partner"], row["status"], _sale(row, terms)) for row in rows if (terms := plans[row["terms_id"]])]
        found = await asyncio.to_thread(of_sales, sales)  # a hundred thousand sales take seconds
    if await connection.fetchval(PER_CLICK, month.campaign):
        found.update(await of_clicks(connection, month))
    return found


def of_sales(sales: Iterable[tuple[int, str, MonthSale]]) -> Counter[Line]:
    """What a campaign's sales of a month, each with its partner and status, earn beyond themselves."""
    of_partner = defaultdict[int, list[tuple[MonthSale, bool]]](list)
    for partner, status, sale in sales:
        of_partner[partner].append((sale, status == "approved"))
    found = Counter[Line]()
    for partner, theirs in of_partner.items():
        approved = months.of_sales(partner, (sale for sale, is_approved in theirs if is_approved))
        whole = months.of_sales(partner, (sale for sale, _ in theirs))
        for earner in {*approved, *whole}:
            found[earner, "approved"] += approved[earner]
            found[earner, "pending"] += whole[earner] - approved[earner]
    return found


def _sale(row: Any, terms: Terms) -> MonthSale:
    sold, basis = sold_of(row)
    return MonthSale(sold.conversion_id, sold.at, terms.plan, sold.currency, sold.goal, sold.reports, basis)


async def of_clicks(connection: Connection, month: Month, *, known_at: datetime | None = None) -> Counter[Line]:
    """What a month's clicks earn, by the terms in force when each day began, as they were known then (None: now)."""
    of_partner = defaultdict[int, list[ClickDay]](list)
    for row in await connection.fetch(CLICKS, month.campaign, month.first, month.end):
        terms = await terms_at(connection, month.campaign, row["partner"], "", _midnight(row["day"]), known_at=known_at)
        if terms:
            of_partner[row["partner"]].append(ClickDay(row["day"], row["clicks"], terms.plan))
    found = Counter[Line]()
    for partner, days in of_partner.items():
        for earner, micros in months.of_clicks(partner, days).items():
            found[earner, "approved"] += micros
    return found
