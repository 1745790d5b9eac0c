"""Imports of old clicks: where they are from, rows in batches, and the way back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from tracker.adapters.postgres_conversions_sql import REOPEN_BY_CLICK
from tracker.adapters.postgres_pool import Connection, Database
from tracker.adapters.postgres_programme_sql import EVENT
from tracker.domain.old_click_rows import OldClick

TIMEOUT_S = 60.0
UNDO_TIMEOUT_S = 600.0
HOST = "SELECT host, source, platform, settings FROM tracking_hosts WHERE host = $1"
SOURCE = """
    SELECT host, source, platform, settings FROM tracking_hosts WHERE coalesce(nullif(source, ''), platform) = $1 AND platform IS NOT NULL
    ORDER BY id LIMIT 1
"""
IMPORT = """
    INSERT INTO old_clicks (source, import_batch, grade, old_click_id, clicked_at, old_partner, old_offer, old_creative, facts)
    SELECT $1, $2, 'raw', r.old_click_id, r.clicked_at, r.old_partner, r.old_offer, r.old_creative, r.facts::jsonb
    FROM unnest($3::text[], $4::timestamptz[], $5::text[], $6::text[], $7::text[], $8::text[])
      AS r(old_click_id, clicked_at, old_partner, old_offer, old_creative, facts)
    ORDER BY r.old_click_id, r.clicked_at, r.old_offer
    ON CONFLICT (source, old_click_id, clicked_at, coalesce(old_offer, '')) DO NOTHING RETURNING old_click_id
"""
# Reports of a source that wait for what was imported now, or for somebody who says whose it is.
TRY_AGAIN = "UPDATE old_reports SET next_try_at = now() WHERE state = 'waiting' AND next_try_at > now() AND source = $1"
SOURCE_OF_BATCH = "SELECT after ->> 'source' FROM events WHERE entity = 'old_clicks' AND entity_id = $1 AND action = 'import' LIMIT 1"
SPAN = "SELECT min(clicked_at) AS since, count(*) AS clicks FROM old_clicks WHERE source = $1 AND import_batch = $2"
# A conversion by an imported click has the click's time, and no click of ours; its postback has the click's id, or the visitor's cookie.
UNDO = """
    WITH used AS MATERIALIZED (
        SELECT c.clicked_at, lower(n.name) AS name FROM conversions c JOIN postbacks p ON p.postback_id = c.postback_id
        CROSS JOIN LATERAL (
            SELECT p.click_id AS name UNION SELECT substr(v.visit, 5) FROM unnest(p.visits) AS v(visit) WHERE v.visit LIKE 'old:%'
        ) n
        WHERE c.converted_at >= $3 AND c.clicked_at >= $3 AND c.click_id IS NULL AND n.name <> ''
    )
    DELETE FROM old_clicks o WHERE o.source = $1 AND o.import_batch = $2
      AND NOT EXISTS (SELECT FROM used u WHERE u.clicked_at = o.clicked_at AND u.name = lower(o.old_click_id))
"""


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose ids a host's links have: its source, its platform, and what its settings say."""

    source: str
    platform: str
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Begins:
    """What the audit trail keeps of a batch: who imported it, and from where."""

    actor: str
    after: dict[str, Any]


class _Undone(Exception):
    """A dry run is rolled back; it carries what would have been stored."""

    def __init__(self, stored: int) -> None:
        super().__init__(stored)
        self.stored = stored


async def origin_of(database: Database, *, host: str | None, source: str | None) -> Origin | None:
    """The origin that a registered host has, or one whose ids are of `source`; None: there is no such host."""
    async with database.connection() as connection:
        row = await connection.fetchrow(HOST, host) if host is not None else await connection.fetchrow(SOURCE, source)
    return Origin(row["source"] or row["platform"] or "", row["platform"] or "", row["settings"]) if row else None


async def store(
    database: Database, batch: str, source: str, clicks: Sequence[OldClick], *, begins: Begins | None = None, is_dry: bool = False
) -> int:
    """Store those that are new, in one transaction, and have orders tried that wait for them; how many these are. `begins`: these are
    the first of the batch, which the audit trail keeps with them. Dry: nothing stays."""

    async def work(connection: Connection) -> int:
        columns = [
            *([getattr(click, name) for click in clicks] for name in ("click_id", "clicked_at", "partner", "offer", "creative")),
            [orjson.dumps(click.facts).decode() for click in clicks],
        ]
        new = await connection.fetch(IMPORT, source, batch, *columns)
        if is_dry:
            raise _Undone(len(new))
        if begins:
            await connection.execute(EVENT, begins.actor, "import", "old_clicks", batch, "", None, begins.after)
        await connection.execute(REOPEN_BY_CLICK, [row["old_click_id"].lower() for row in new])
        return len(new)

    try:
        return await database.transaction(work, timeout_s=TIMEOUT_S)
    except _Undone as undone:
        return undone.stored


async def try_again(database: Database, source: str) -> None:
    """Have reports read again that wait for what a source's ids mean."""
    async with database.connection(TIMEOUT_S) as connection:
        await connection.execute(TRY_AGAIN, source)


async def undo(database: Database, batch: UUID, *, actor: str) -> tuple[int, int] | None:
    """Take the rows of a batch away that no conversion used; how many went and stayed. None: there was no such batch."""

    async def work(connection: Connection) -> tuple[int, int] | None:
        source = await connection.fetchval(SOURCE_OF_BATCH, str(batch))
        if source is None:
            return None
        there = await connection.fetchrow(SPAN, source, str(batch))
        since, clicks = there or (None, 0)
        gone = int((await connection.execute(UNDO, source, str(batch), since)).rpartition(" ")[2]) if clicks else 0
        stay = clicks - gone
        await connection.execute(EVENT, actor, "undo", "old_clicks", str(batch), "", None, {"removed": gone, "used": stay})
        return gone, stay

    return await database.transaction(work, timeout_s=UNDO_TIMEOUT_S)
