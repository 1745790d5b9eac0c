"""What a drill needs of PostgreSQL: a synthetic partner, what was stored of its traffic, and the audit trail."""

from datetime import datetime
from typing import Any
from uuid import UUID

from tracker.adapters import postgres_programme_sql as sql
from tracker.adapters.postgres_pool import Database
from tracker.adapters.postgres_programme import Programme
from tracker.adapters.postgres_programme_keys import PostbackTokens
from tracker.domain import click_id
from tracker.errors import NotFound
from tracker.programme import ADVERTISER, CAMPAIGN, LINK, PARTNER

SLUG = "turnout-drill"
ACTOR = "drill"
PAYOUT = {"type": "fixed", "amount": "0.10", "currency": "EUR"}
TOKENS = """
    SELECT t.slot FROM postback_tokens t JOIN advertisers a ON a.id = t.advertiser_id
    WHERE a.slug = $1 AND t.kind = 'token' AND t.revoked_at IS NULL ORDER BY t.created_at
"""
CLICKS = "SELECT click_id, sub1 FROM clicks WHERE click_id >= $1 AND sub1 LIKE $2 AND method = 'GET'"
ORDERS = """
    SELECT txid, count(*) AS conversions FROM conversions
    WHERE advertiser_id = (SELECT id FROM advertisers WHERE slug = $1) AND goal = 'sale' AND txid LIKE $2 GROUP BY txid
"""


class Drills:
    """Raises StoreUnavailable on an outage."""

    def __init__(self, database: Database, *, link_base: str) -> None:
        self._database = database
        self._programme, self._tokens = Programme(database, link_base=link_base), PostbackTokens(database)

    async def programme(self) -> tuple[str, str]:
        """The synthetic link's slug and a fresh postback token; all made on first use, under `turnout-drill`."""
        things = (
            (ADVERTISER, {"name": "Turnout drill", "currency": "EUR", "domains": []}),
            (CAMPAIGN, {"advertiser": SLUG, "name": "Drill", "destination_url": "https://drill.example/?c={click_id}", "payout": PAYOUT}),
            (PARTNER, {"name": "Drill"}),
            (LINK, {"partner": SLUG, "campaign": SLUG}),
        )
        for thing, body in things:
            try:
                await self._programme.get(thing, SLUG)
            except NotFound:
                await self._programme.create(thing, {"slug": SLUG, **body}, ACTOR)
        return SLUG, await self._token()

    async def _token(self) -> str:
        active = [row["slot"] for row in await self._database.fetch(TOKENS, SLUG)]
        if len(active) > 1:
            await self._tokens.revoke(SLUG, active[0], ACTOR)
        return str((await self._tokens.rotate(SLUG, ACTOR))["postback_token"])

    async def stored(self, tag: str, since: datetime) -> tuple[dict[UUID, str], dict[str, int]]:
        """What is stored of a drill begun at `since`: the request by click id, and how many conversions each order has."""
        floor = UUID(bytes=click_id.compose(int(since.timestamp() * 1000), bytes(click_id.RANDOM_BYTES)))
        clicks = await self._database.fetch(CLICKS, floor, f"{tag}-%")
        orders = await self._database.fetch(ORDERS, SLUG, f"{tag}-%")
        return {row["click_id"]: row["sub1"] for row in clicks}, {row["txid"]: row["conversions"] for row in orders}

    async def remember(self, outcome: dict[str, Any]) -> None:
        """Put the record of a drill into the audit trail."""
        async with self._database.connection() as connection:
            await connection.execute(sql.EVENT, ACTOR, "drill", "installation", outcome["drill"], outcome["does"], None, outcome)
