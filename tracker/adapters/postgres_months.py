"""What months earn beyond their sales - tiers, bonuses, clicks - worked out anew and booked by the difference."""

import asyncio
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from tracker.adapters.postgres_plans import Terms, sold_of, terms_at, terms_by_id
from tracker.adapters.postgres_pool import Connection
from tracker.domain import months
from tracker.domain.months import Clicks, Earner, MonthSale

FETCH_TIMEOUT_S = 300.0  # a month may have very many sales
NO_IDLE_LIMIT = "SET LOCAL idle_in_transaction_session_timeout = 0"  # what a month earns is worked out inside its transaction
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"
CHANGED = "SELECT DISTINCT campaign_id, month FROM month_changes"
# Before the sales are read: who changes one after that notes it again.
TAKE_NOTE = "DELETE FROM month_changes WHERE campaign_id = $1 AND month = $2"
PAID_BY_CLICK = "SELECT DISTINCT campaign_id FROM terms WHERE payout_type = 'plan' AND plan ? 'per_click'"
SALES = """
    SELECT id, partner, campaign, advertiser_id, goal, converted_at, status, amount_micros, trim(currency) AS currency, customer, details,
        basis, terms_id
    FROM conversions
    WHERE campaign = $1 AND converted_at >= $2 AND converted_at < $3 AND status IN ('pending', 'approved') AND terms_id IS NOT NULL
        AND partner IS NOT NULL
"""
# Whole days, by the terms that were in force when they began: `$4` are the times at which terms begin or end.
CLICKS = """
    SELECT partner, width_bucket(day::timestamp AT TIME ZONE 'UTC', $4::timestamptz[]) AS place, sum(clicks)::bigint AS clicks
    FROM daily_stats WHERE campaign = $1 AND day >= $2 AND day < $3 AND partner <> 0
    GROUP BY 1, 2 HAVING sum(clicks) > 0
"""
TIMES = """
    SELECT DISTINCT at FROM terms, LATERAL (VALUES (effective_from), (effective_to)) AS t(at) WHERE campaign_id = $1 AND isfinite(at)
    ORDER BY at
"""
WITH_OWN_TERMS = "SELECT DISTINCT partner_id FROM terms WHERE campaign_id = $1 AND partner_id IS NOT NULL"
BOOKED = """
    SELECT partner_id, kind, status, trim(currency) AS currency, amount_micros FROM month_earnings
    WHERE campaign_id = $1 AND month = $2 AND kind = ANY($3::text[])
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


def month_of(day: date, *, back: int = 0) -> date:
    """The first day of the month of `day`, or of one that many months before."""
    for _ in range(back):
        day = day.replace(day=1) - timedelta(days=1)
    return day.replace(day=1)


async def changed(connection: Connection) -> set[Month]:
    """The months whose sales changed since they were worked out."""
    return {Month(row["campaign_id"], row["month"]) for row in await connection.fetch(CHANGED)}


async def paid_by_click(connection: Connection) -> list[int]:
    """Campaigns that pay for clicks, or did."""
    return [row["campaign_id"] for row in await connection.fetch(PAID_BY_CLICK)]


async def settle_sales(connection: Connection, month: Month, *, actor: str) -> int:
    """Book what a month's tiers and bonuses come to now less what was booked for them, as part of the caller's transaction.

    Returns how many entries were made. They count for the month's last day, whenever they are booked. What only sales bring that are
    not approved yet is pending. One at a time for each month.
    """
    await _lock(connection, month)
    await connection.execute(NO_IDLE_LIMIT)
    await connection.execute(TAKE_NOTE, month.campaign, month.first)
    rows = await connection.fetch(SALES, month.campaign, *month.bounds, timeout=FETCH_TIMEOUT_S)
    plans = {number: await terms_by_id(connection, number) for number in sorted({row["terms_id"] for row in rows})}
    owed = await asyncio.to_thread(lambda: of_sales(_sales(rows, plans)))  # a hundred thousand sales take a minute
    return await _book(connection, month, owed, ["tiers", "bonus"], actor)


async def settle_clicks(connection: Connection, month: Month, *, until: date, actor: str) -> int:
    """The same for a month's clicks of the days before `until`. They are approved at once."""
    await _lock(connection, month)
    return await _book(connection, month, await of_clicks(connection, month, until=until), ["clicks"], actor)


async def _lock(connection: Connection, month: Month) -> None:
    await connection.execute(LOCK, f"month {month.campaign} {month.first}")


async def _book(connection: Connection, month: Month, owed: Counter[Line], kinds: list[str], actor: str) -> int:
    for row in await connection.fetch(BOOKED, month.campaign, month.first, kinds):
        owed[Earner(row["partner_id"], row["kind"], row["currency"]), row["status"]] -= row["amount_micros"]
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


def _sales(rows: Iterable[Any], plans: dict[int, Terms | None]) -> Iterator[tuple[int, str, MonthSale]]:
    for row in rows:
        if terms := plans[row["terms_id"]]:
            sold, basis = sold_of(row)
            sale = MonthSale(sold.conversion_id, sold.at, terms.plan, sold.currency, sold.goal, sold.reports, basis)
            yield row["partner"], row["status"], sale


async def of_clicks(connection: Connection, month: Month, *, until: date, known_at: datetime | None = None) -> Counter[Line]:
    """What a month's clicks of whole days before `until` earn, by the terms as they were known at `known_at` (None: now)."""
    times = await TermsOfTimes.read(connection, month.campaign, known_at=known_at)
    of_partner = defaultdict[int, list[Clicks]](list)
    rows = await connection.fetch(CLICKS, month.campaign, month.first, min(month.end, until), times.times, timeout=FETCH_TIMEOUT_S)
    for row in rows:
        if terms := await times.at_place(row["partner"], "", row["place"]):
            of_partner[row["partner"]].append(Clicks(row["clicks"], terms.plan))
    found = Counter[Line]()
    for partner, clicks in of_partner.items():
        for earner, micros in months.of_clicks(partner, clicks).items():
            found[earner, "approved"] += micros
    return found


@dataclass(slots=True)
class TermsOfTimes:
    """The terms of a campaign, asked for once for each time between two changes, and once for all partners without terms of their own."""

    connection: Connection
    campaign: int
    times: list[datetime]
    _with_own: set[int]
    _known_at: datetime | None
    _found: dict[tuple[int, str, int], Terms | None]

    @classmethod
    async def read(cls, connection: Connection, campaign: int, *, known_at: datetime | None = None) -> "TermsOfTimes":
        """As they were known at `known_at`; None: now."""
        times = [row["at"] for row in await connection.fetch(TIMES, campaign)]
        with_own = {row["partner_id"] for row in await connection.fetch(WITH_OWN_TERMS, campaign)}
        return cls(connection, campaign, times, with_own, known_at, {})

    async def at(self, partner: int, goal: str, at: datetime) -> Terms | None:
        """The terms in force at a time; None: nobody is paid."""
        return await self.at_place(partner, goal, bisect_right(self.times, at))

    async def at_place(self, partner: int, goal: str, place: int) -> Terms | None:
        """The terms in force after that many of `times`."""
        key = partner if partner in self._with_own else 0, goal, place
        if key not in self._found:
            at = self.times[place - 1] if place else (self.times[0] if self.times else datetime.now(UTC)) - timedelta(seconds=1)
            self._found[key] = await terms_at(self.connection, self.campaign, partner, goal, at, known_at=self._known_at)
        return self._found[key]
