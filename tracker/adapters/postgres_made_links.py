"""Links that old URLs made: one for each partner and campaign that visitors came by, so that reports and people can name it."""

from datetime import datetime

from tracker.adapters.postgres_pool import Connection
from tracker.adapters.postgres_programme import made_slug
from tracker.domain.identify import MADE, OURS, made_id

MADE_MAX = 1_000  # in one go: whoever writes URLs decides which partners and campaigns come together
MAKERS_LOCK = 0x6D616B656C
LOCK = "SELECT pg_advisory_xact_lock($1)"
WANTED = """
    SELECT w.partner, w.campaign, m.advertiser_id AS advertiser, p.slug || ' - ' || m.slug AS name FROM (
        SELECT DISTINCT c.partner, c.campaign FROM clicks c
        WHERE c.click_id >= click_id_floor($1) AND c.link IS NULL AND c.platform IS NOT NULL AND c.counted AND c.outcome = 'ok'
    ) w JOIN partners p ON p.id = w.partner JOIN campaigns m ON m.id = w.campaign
    WHERE NOT EXISTS (SELECT FROM old_ids o WHERE o.source = $2 AND o.kind = $3 AND o.source_id = w.partner || '/' || w.campaign)
    LIMIT $4
"""
MAKE = """
    WITH made AS (
        INSERT INTO links (slug, name, partner_id, campaign_id, advertiser_id, extra) VALUES ($1, $2, $3, $4, $5, '{"made": "on the fly"}')
        RETURNING id
    ), mapped AS (
        INSERT INTO old_ids (source, kind, source_id, link_id) SELECT $6, $7, $8, id FROM made
    )
    INSERT INTO events (actor, action, entity, entity_id, reason) VALUES ('keeper', 'create', 'link', $1, 'old links made it: ' || $2)
"""


async def make_links(connection: Connection, since: datetime) -> int:
    """Make the links that counted clicks since `since` asked for, at most 1,000; how many. One transaction, one maker at a time."""
    async with connection.transaction():
        await connection.execute(LOCK, MAKERS_LOCK)
        wanted = await connection.fetch(WANTED, since, OURS, MADE, MADE_MAX)
        for row in wanted:
            key = made_id(row["partner"], row["campaign"])
            names = (made_slug(), row["name"], row["partner"], row["campaign"], row["advertiser"])
            await connection.execute(MAKE, *names, OURS, MADE, key)
        return len(wanted)
