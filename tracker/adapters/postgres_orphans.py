"""Orphan clicks in PostgreSQL: read in heaps, and attributed when the map is mended.

A row of `clicks` is never changed. An attribution is a row of `click_attributions` and signed rows in the rollups, in one
transaction; orders that wait for such a click are tried again at once.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from tracker.adapters.postgres_clicks import roll_up
from tracker.adapters.postgres_conversions_sql import REOPEN_BY_CLICK
from tracker.adapters.postgres_pool import Connection, Database
from tracker.domain import click_id
from tracker.domain.enrichment import Tally
from tracker.domain.orphans import OrphanUrls
from tracker.errors import Conflict

FIRST = UUID(int=0)
CORRECTIONS_SLOT = -1  # no writer has it, so nobody waits for anybody
HEAPS_MAX = 20_000  # distinct (host, ids) or (host, URL) that are looked at, the most frequent
BATCH = 2_000
TIMEOUT_S = 60.0
ATTRIBUTORS_LOCK = 0x6F727068616E

FIND = """
    SELECT host, max(url) AS url, count(*) FILTER (WHERE counted) AS clicks, count(*) AS total,
        min(clicked_at) AS first_at, max(clicked_at) AS last_at, max(redirected_to) FILTER (WHERE extra ? 'looked_up') AS named
    FROM orphans WHERE click_id >= click_id_floor($1) AND click_id < click_id_floor($2)
    GROUP BY host, platform, old_partner, old_offer, old_creative,
        CASE WHEN coalesce(old_partner, old_offer) IS NULL THEN url END
    ORDER BY 3 DESC, 4 DESC LIMIT $3
"""
CAMPAIGNS = "SELECT slug, destination_url FROM campaigns WHERE status = 'active'"
PAGE = """
    SELECT click_id, clicked_at, host, url, link, partner, campaign, counted, is_unique, old_click_id
    FROM orphans WHERE click_id > $1 AND click_id >= click_id_floor($2) AND click_id < click_id_floor($3) AND NOT truncated
      AND ($4::text[] IS NULL OR old_partner = ANY($4)) AND ($5::text[] IS NULL OR old_offer = ANY($5))
    ORDER BY click_id LIMIT $6
"""
ATTRIBUTE = """
    INSERT INTO click_attributions (click_id, clicked_at, link, partner, campaign, reason, actor)
    SELECT r.*, $6, $7 FROM unnest($1::uuid[], $2::timestamptz[], $3::bigint[], $4::bigint[], $5::bigint[])
      AS r(click_id, clicked_at, link, partner, campaign)
    WHERE NOT EXISTS (SELECT FROM click_attributions a WHERE a.click_id = r.click_id)
    RETURNING click_id
"""
TRY_LOCK = "SELECT pg_try_advisory_xact_lock($1)"
# How the orphans spell an id, as far as its platform could mean the same: by other zeros in front, or another case.
SPELLED = """
    SELECT array_agg(DISTINCT {column}) FROM orphans
    WHERE click_id >= click_id_floor($1) AND click_id < click_id_floor($2) AND lower(ltrim({column}, '0')) = lower(ltrim($3, '0'))
"""
# Where a host's settings map ids, the orphans carry the ids as they came, not those that are mapped.
HAS_ID_MAPS = """
    SELECT EXISTS (SELECT FROM tracking_hosts WHERE coalesce(source, platform) = $1
        AND settings -> 'reading' ?| ARRAY['partner_ids', 'offer_ids', 'creative_ids', 'link_keys'])
"""
EVENT = "INSERT INTO events (actor, action, entity, entity_id, reason, after) VALUES ($1, 'attribute', 'orphans', $2, $3, $4)"


@dataclass(frozen=True, slots=True)
class Owner:
    """To whom an orphan belongs after all. `link` None: a link made on the fly."""

    link: int | None
    partner: int
    campaign: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which orphans: of a time, after a click, and of an old partner or offer in any of these spellings. None: of all."""

    since: datetime
    until: datetime
    after: UUID = FIRST
    old_partners: Sequence[str] | None = None
    old_offers: Sequence[str] | None = None


@dataclass(slots=True)
class Attributed:
    """What was done: clicks looked at and attributed, postbacks that are tried again; `last`: the last click looked at, `is_complete`
    whether there is none after it."""

    looked_at: int = 0
    clicks: int = 0
    postbacks: int = 0
    last: UUID = FIRST
    is_complete: bool = False


Find = Callable[[str, str], Owner | None]


async def found(database: Database, wanted: Wanted) -> list[OrphanUrls]:
    """Orphans of a time, alike ones together, the most frequent first."""
    async with database.connection(TIMEOUT_S) as connection:
        rows = await connection.fetch(FIND, wanted.since, wanted.until, HEAPS_MAX)
    return [OrphanUrls(**dict(row)) for row in rows]


async def destinations(database: Database) -> list[tuple[str, str]]:
    """Slug and destination of every active campaign."""
    async with database.connection(TIMEOUT_S) as connection:
        return [(row["slug"], row["destination_url"]) for row in await connection.fetch(CAMPAIGNS)]


async def attribute(
    database: Database, wanted: Wanted, find: Find, *, reason: str, actor: str, goes_on: Callable[[], bool] = lambda: True
) -> Attributed:
    """Attribute every orphan for which `find` (host, url) names an owner, 2,000 looked at in a transaction, while `goes_on`.

    Interrupted anywhere, what is done is done; go on after `last`. An orphan whose URL was too long to be kept whole stays one: what is
    left of an id could be another's. Conflict `busy` when somebody else attributes; StoreUnavailable.
    """
    done = Attributed(last=wanted.after)
    while not done.is_complete and goes_on():
        await _batch(database, wanted, find, done, reason, actor)
    return done


async def spelled(database: Database, wanted: Wanted, source: str, *, partner: str | None = None, offer: str | None = None) -> Wanted:
    """`wanted`, limited to the orphans that may carry this partner or offer of a source; to none when that cannot be told."""

    async def ways(column: str, value: str | None) -> list[str] | None:
        if not value or not value.isascii():
            return None
        return await connection.fetchval(SPELLED.format(column=column), wanted.since, wanted.until, value) or []

    async with database.connection(TIMEOUT_S) as connection:
        if await connection.fetchval(HAS_ID_MAPS, source):
            return wanted
        return replace(wanted, old_partners=await ways("old_partner", partner), old_offers=await ways("old_offer", offer))


async def _batch(database: Database, wanted: Wanted, find: Find, done: Attributed, reason: str, actor: str) -> None:
    async def work(connection: Connection) -> tuple[int, int, int, UUID]:
        if not await connection.fetchval(TRY_LOCK, ATTRIBUTORS_LOCK):
            raise Conflict("busy", "somebody attributes orphans just now; ask again when that is through")
        page = await connection.fetch(PAGE, done.last, wanted.since, wanted.until, wanted.old_partners, wanted.old_offers, BATCH)
        owners = await asyncio.to_thread(_owners, page, find)
        orphans = [row for row in page if row["click_id"] in owners]
        clicks, postbacks = await _store(connection, orphans, owners, reason, actor) if orphans else (0, 0)
        return len(page), clicks, postbacks, page[-1]["click_id"] if page else done.last

    looked_at, clicks, postbacks, done.last = await database.transaction(work, timeout_s=TIMEOUT_S)
    done.looked_at += looked_at
    done.clicks += clicks
    done.postbacks += postbacks
    done.is_complete = looked_at < BATCH


def _owners(page: Sequence[Any], find: Find) -> dict[UUID, Owner]:
    """Pure computing, some 20 µs a row: in a thread, for the loop has stores to answer."""
    return {row["click_id"]: owner for row in page if (owner := find(row["host"], row["url"])) is not None}


async def _store(connection: Connection, orphans: Sequence[Any], owners: dict[UUID, Owner], reason: str, actor: str) -> tuple[int, int]:
    columns = [
        [row["click_id"] for row in orphans],
        [row["clicked_at"] for row in orphans],
        *([getattr(owners[row["click_id"]], name) for row in orphans] for name in ("link", "partner", "campaign")),
    ]
    new = {row["click_id"] for row in await connection.fetch(ATTRIBUTE, *columns, reason, actor)}
    moved = [row for row in orphans if row["click_id"] in new]
    again = await connection.execute(REOPEN_BY_CLICK, [name for row in moved for name in _names(row)])
    await _move_counts(connection, moved, owners)
    if moved:
        await connection.execute(
            EVENT, actor, str(moved[0]["click_id"]), reason, {"clicks": len(moved), "last": str(moved[-1]["click_id"])}
        )
    return len(moved), int(again.rpartition(" ")[2])


def _names(row: Any) -> list[str]:
    """The spellings under which a store may have named the click."""
    ours = [click_id.to_text(row["click_id"].bytes).decode(), str(row["click_id"]), row["click_id"].hex]
    return [*ours, row["old_click_id"].lower()] if row["old_click_id"] else ours


async def _move_counts(connection: Connection, moved: Sequence[Any], owners: dict[UUID, Owner]) -> None:
    tally = Tally()
    for row in moved:
        owner = owners[row["click_id"]]
        facts = (row["counted"], row["is_unique"])
        tally.add(row["clicked_at"], row["campaign"], row["partner"], row["link"], *facts, sign=-1)
        tally.add(row["clicked_at"], owner.campaign, owner.partner, owner.link, *facts)
    tally.close()
    await roll_up(connection, tally, CORRECTIONS_SLOT)
