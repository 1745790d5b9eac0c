"""Terms of payout: rows that are only added to. A later one goes before an earlier one, from its time on; nothing is ever closed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tracker.adapters.postgres_pool import Connection, Database
from tracker.adapters.postgres_programme_sql import EVENT
from tracker.domain import money, plan_reading
from tracker.errors import NotFound
from tracker.programme import Money

Values = dict[str, Any]
COLUMNS = ("payout_type", "amount_micros", "percent_micros", "currency", "plan")
# Known from the moment on at which it is written: `now()` is when the transaction began.
ADD = """
    INSERT INTO terms (campaign_id, goal_id, partner_id, effective_from, effective_to, payout_type, amount_micros, percent_micros,
        currency, plan, actor, version, created_at)
    SELECT $1::bigint, $2::bigint, $3::bigint, CASE WHEN $12 THEN '-infinity'::timestamptz ELSE coalesce($4, clock_timestamp()) END,
        coalesce($5::timestamptz, 'infinity'), $6::text, $7::bigint, $8::bigint, $9::char(3), $10::jsonb, $11::text,
        1 + coalesce(max(version), 0), clock_timestamp()
    FROM terms WHERE campaign_id = $1 AND goal_id IS NOT DISTINCT FROM $2 AND partner_id IS NOT DISTINCT FROM $3
    RETURNING id
"""
CURRENCY_OF = "SELECT trim(a.currency) FROM advertisers a JOIN campaigns c ON c.advertiser_id = a.id WHERE c.id = $1"
PARTNERS = "SELECT slug, id FROM partners WHERE slug = ANY($1::text[])"
CAMPAIGN = "SELECT id FROM campaigns WHERE slug = $1 FOR NO KEY UPDATE"
GOAL = "SELECT id FROM goals WHERE slug = $1 AND campaign_id = $2 FOR NO KEY UPDATE"
PARTNER = "SELECT id FROM partners WHERE slug = $1"
LISTED = """
    SELECT t.id, m.slug AS campaign, g.slug AS goal, p.slug AS partner, t.payout_type, t.amount_micros, t.percent_micros,
        trim(t.currency) AS currency, t.plan, nullif(t.effective_from, '-infinity') AS effective_from,
        nullif(t.effective_to, 'infinity') AS effective_to, t.version, t.actor, t.created_at
    FROM terms t JOIN campaigns m ON m.id = t.campaign_id LEFT JOIN goals g ON g.id = t.goal_id LEFT JOIN partners p ON p.id = t.partner_id
    WHERE t.id > $1 AND ($3::text IS NULL OR m.slug = $3) AND ($4::text IS NULL OR p.slug = $4) AND ($5::text IS NULL OR g.slug = $5)
      AND ($6::bigint IS NULL OR m.advertiser_id = $6) AND ($7::bigint IS NULL OR t.id = $7)
    ORDER BY t.id LIMIT $2
"""


@dataclass(frozen=True, slots=True)
class Whose:
    """What terms are of: a campaign, and perhaps one goal or one partner of it. Ids."""

    campaign: int
    goal: int | None = None
    partner: int | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Terms that somebody asks for, things by their slugs. `start` None: from now on; `end` None: until further notice."""

    campaign: str
    goal: str | None
    partner: str | None
    payout: Money | None
    start: datetime | None = None
    end: datetime | None = None


async def kept(connection: Connection, campaign: int, payout: Money | None) -> Values:
    """A payout as the columns of `terms`: amounts without a currency are in the advertiser's, and a plan is written out.

    NotFound `unknown_partner` names who it is to be split with.
    """
    if payout is None:
        return dict.fromkeys(COLUMNS) | {"payout_type": "none", "plan": {}}
    columns: Values = {name: getattr(payout, name) for name in COLUMNS}
    if payout.payout_type == "percent":
        return columns
    currency = payout.currency or str(await connection.fetchval(CURRENCY_OF, campaign))
    if payout.payout_type == "fixed":
        return columns | {"currency": currency}
    partners = await _partners(connection, plan_reading.shared_with(payout.plan))
    plan = plan_reading.read(payout.plan, partners, currency=currency)
    slugs = {number: slug for slug, number in partners.items()}
    return columns | {"currency": plan.currency, "plan": plan_reading.written(plan, slugs)}


async def _partners(connection: Connection, slugs: Sequence[str]) -> dict[str, int]:
    found = {row["slug"]: row["id"] for row in await connection.fetch(PARTNERS, list(slugs))} if slugs else {}
    if missing := [slug for slug in slugs if slug not in found]:
        raise NotFound("unknown_partner", f"payout is split with {missing[0]!r}, and there is no such partner", field="payout")
    return found


def shown(columns: Mapping[str, Any]) -> Values | None:
    """A payout as people write it, of the columns of `terms`; None: none."""
    kind, currency = columns["payout_type"], columns["currency"] or ""
    if kind == "fixed":
        return {"type": "fixed", "amount": money.format_micros(columns["amount_micros"], currency), "currency": currency}
    if kind == "percent":
        return {"type": "percent", "percent": money.format_micros(columns["percent_micros"], "JPY")}
    return dict(columns["plan"]) if kind == "plan" else None


async def add(
    connection: Connection,
    whose: Whose,
    columns: Values,
    actor: str,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    since_ever: bool = False,
) -> int:
    """A row of terms, the last version of its kind; returns its id. The caller holds the row of the goal or campaign."""
    values = [columns[name] for name in COLUMNS]
    numbers = (whose.campaign, whose.goal, whose.partner)
    return int(await connection.fetchval(ADD, *numbers, start, end, *values, actor, since_ever))


async def make(database: Database, wanted: Wanted, *, actor: str, reason: str) -> Values:
    """Add terms, and tell the audit trail; returns them as `listed` shows them. NotFound `unknown_campaign`, `…goal`, `…partner`."""

    async def work(connection: Connection) -> Values:
        campaign = await _find(connection, CAMPAIGN, "campaign", wanted.campaign)
        goal = await _find(connection, GOAL, "goal", wanted.goal, campaign) if wanted.goal else None
        partner = await _find(connection, PARTNER, "partner", wanted.partner) if wanted.partner else None
        columns = await kept(connection, campaign, wanted.payout)
        number = await add(connection, Whose(campaign, goal, partner), columns, actor, start=wanted.start, end=wanted.end)
        made = _listed(await connection.fetchrow(LISTED, 0, 1, None, None, None, None, number))
        await connection.execute(EVENT, actor, "create", "terms", str(number), reason, None, made)
        return made

    return await database.transaction(work)


async def _find(connection: Connection, statement: str, name: str, slug: str, *more: int) -> int:
    number = await connection.fetchval(statement, slug, *more)
    if number is None:
        raise NotFound(f"unknown_{name}", f"there is no {name} {slug[:80]!r}", field=name)
    return int(number)


async def listed(
    database: Database, *, after: int, limit: int, campaign: str | None, partner: str | None, goal: str | None, advertiser_id: int | None
) -> list[Values]:
    """At most `limit` rows of terms after an id, oldest first; those of closed times too. Slugs limit what is shown."""
    rows = await database.fetch(LISTED, after, limit, campaign, partner, goal, advertiser_id, None)
    return [_listed(row) for row in rows]


def _listed(row: Any) -> Values:
    told = {name: value for name, value in dict(row).items() if name not in COLUMNS}
    return told | {"payout": shown(row)}
