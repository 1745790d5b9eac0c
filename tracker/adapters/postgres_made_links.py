"""Links that old URLs made: one for each partner and campaign that visitors came by, so that reports and people can name it."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from tracker.adapters.postgres_pool import Connection
from tracker.adapters.postgres_programme import made_slug
from tracker.domain.identify import canonical_pair
from tracker.platforms.profile import Profile

SEEN_MAX, MADE_MAX = 50_000, 5_000  # in one go
NAME_MAX = 255
MAKERS_LOCK = 0x6D616B656C
LOCK = "SELECT pg_advisory_xact_lock($1)"
# Clicks without a link, whose partner and campaign are known by their platform. A creative is part of the pair only where it decides on
# the campaign: else anybody could have links made by thousands.
WANTED = """
    SELECT DISTINCT coalesce(h.source, h.platform) AS source, c.platform, c.old_partner, c.old_offer,
        CASE WHEN o.id IS NOT NULL THEN c.old_creative END AS old_creative, c.partner, c.campaign, c.advertiser
    FROM clicks c
    JOIN tracking_hosts h ON h.host IN (lower(c.host), lower(split_part(c.host, ':', 1))) AND h.platform = c.platform
    LEFT JOIN old_ids o ON c.old_offer IS NULL AND o.source = coalesce(h.source, h.platform) AND o.kind = 'creative'
        AND o.source_id = c.old_creative AND o.campaign_id = c.campaign AND o.status = 'active'
    WHERE c.click_id >= click_id_floor($1) AND c.link IS NULL AND c.partner IS NOT NULL AND c.campaign IS NOT NULL
        AND c.advertiser IS NOT NULL AND c.platform IS NOT NULL
    LIMIT $2
"""
TAKEN = "SELECT source, source_id FROM old_ids WHERE kind = 'pair' AND source = ANY($1::text[]) AND source_id = ANY($2::text[])"
MAKE = """
    WITH made AS (
        INSERT INTO links (slug, name, partner_id, campaign_id, advertiser_id, extra) VALUES ($1, $2, $3, $4, $5, '{"made": "on the fly"}')
        RETURNING id
    ), mapped AS (
        INSERT INTO old_ids (source, kind, source_id, link_id) SELECT $6, 'pair', $7, id FROM made
    )
    INSERT INTO events (actor, action, entity, entity_id, reason) VALUES ('keeper', 'create', 'link', $1, 'an old link made it: ' || $2)
"""


async def make_links(connection: Connection, since: datetime, profile_of: Callable[[str], Profile | None]) -> int:
    """Make the links that clicks since `since` asked for, at most 5,000, and map their pairs to them; how many. One transaction.

    `profile_of` gives the profile of a platform. What is not made now is made at the next call, or by another keeper.
    """
    async with connection.transaction():
        await connection.execute(LOCK, MAKERS_LOCK)
        wanted = _pairs(await connection.fetch(WANTED, since, SEEN_MAX), profile_of)
        sources, pairs = {source for source, _ in wanted}, {pair for _, pair in wanted}
        taken = {tuple(row) for row in await connection.fetch(TAKEN, list(sources), list(pairs))}
        new = [key for key in wanted if key not in taken][:MADE_MAX]
        for source, pair in new:
            row, name = wanted[(source, pair)], f"{source} {pair}"[:NAME_MAX]
            await connection.execute(MAKE, made_slug(), name, row["partner"], row["campaign"], row["advertiser"], source, pair)
        return len(new)


def _pairs(rows: Iterable[Any], profile_of: Callable[[str], Profile | None]) -> dict[tuple[str, str], Any]:
    found: dict[tuple[str, str], Any] = {}
    for row in rows:
        profile = profile_of(row["platform"])
        if profile is not None and row["source"]:
            pair = canonical_pair(profile, row["old_partner"], row["old_offer"], row["old_creative"])
            found.setdefault((row["source"], pair), row)
    return found
