"""What the route publisher reads from PostgreSQL: the change feed, the rows it names, whole tables, and checksums.

The feed (`route_changes`) becomes visible in the order of its ids, because its writers hold an advisory lock from the
first id they draw to their commit; so `id > last` misses nothing. NOTIFY is only a nudge.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
from msgspec import DecodeError, json, msgpack

from tracker.adapters.lmdb_route_store import CHECKSUM_MODULUS, Sum
from tracker.domain.routes import (
    AliasRoute,
    CampaignRoute,
    HostRoute,
    Installation,
    Kind,
    LinkRoute,
    OldIdRoute,
    PartnerRoute,
    Route,
    TokenRoute,
)
from tracker.errors import StoreUnavailable

log = logging.getLogger(__name__)

CHANNEL: Final = "turnout_routes"
CONNECT_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 60.0  # a page or a checksum of millions of rows on a slow disk
SECRET_BYTES = 32

# A missing table or database is one that is not there yet: the schema is applied by somebody else at start.
OUTAGE = (
    OSError, TimeoutError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError, asyncpg.TransactionRollbackError, asyncpg.InterfaceError,
    asyncpg.InternalClientError, asyncpg.InvalidCatalogNameError, asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.UndefinedTableError, asyncpg.ReadOnlySQLTransactionError,
)  # fmt: skip

IDENTITY = """
    SELECT (SELECT system_identifier FROM pg_control_system()) || '/'
        || (SELECT timeline_id FROM pg_control_checkpoint()) || '/' || oid FROM pg_database WHERE datname = current_database()
"""
DRAWN = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM route_changes_id_seq"
NEWEST = "SELECT coalesce(max(id), 0) FROM route_changes"
CHANGES = "SELECT id, entity, entity_id FROM route_changes WHERE id > $1 ORDER BY id LIMIT $2"
MAKE_VISITOR_KEY = "INSERT INTO installation (key, value) VALUES ('visitor_secret', $1) ON CONFLICT (key) DO NOTHING"
VISITOR_KEY = "SELECT value FROM installation WHERE key = 'visitor_secret'"


def _ms(column: str) -> str:
    return f"CASE WHEN isfinite({column}) THEN floor(extract(epoch FROM {column}) * 1000)::bigint END"


# One subquery a kind: `id` first, `revision` last, the columns between in the order of the struct's fields.
LINKS = f"""SELECT id, slug, campaign_id, partner_id, advertiser_id, creative, destination_url, fallback_url, status,
    {_ms("expires_at")}, rules::text, revision FROM links"""  # noqa: S608 - constants
ALIASES = "SELECT id, host, match_key, link_id, advertiser_id, status, revision FROM aliases"
CAMPAIGNS = f"""SELECT c.id, c.slug, c.advertiser_id, c.destination_url, c.fallback_url, c.click_id_param, c.status,
    {_ms("c.starts_at")} AS starts_at, {_ms("c.expires_at")} AS expires_at, a.domains, a.status AS advertiser_status,
    c.rules::text, c.revision + a.revision AS revision FROM campaigns c JOIN advertisers a ON a.id = c.advertiser_id"""  # noqa: S608 - constants
PARTNERS = "SELECT id, slug, status, revision FROM partners"
HOSTS = """SELECT id, host, kind, platform, fallback_url, forward_to, state, advertiser_id, settings::text,
    coalesce(source, '') AS source, revision FROM tracking_hosts"""
OLD_IDS = """SELECT id, source, kind, source_id, partner_id, campaign_id, link_id, creative, revision FROM old_ids
    WHERE status = 'active'"""
TOKENS = """SELECT t.id, t.advertiser_id, t.kind, t.token_hash, a.currency, a.slug, a.status, t.slot, a.settings::text, t.secret,
    t.revision + a.revision AS revision FROM postback_tokens t JOIN advertisers a ON a.id = t.advertiser_id
    WHERE t.revoked_at IS NULL"""


def _link(r: Sequence[Any]) -> Route:
    return LinkRoute(
        link_id=r[0], slug=r[1], campaign_id=r[2], partner_id=r[3], advertiser_id=r[4], creative=r[5],
        destination=r[6], fallback=r[7], status=r[8], expires_at_ms=r[9], rules=_object(r[10]), revision=r[11],
    )  # fmt: skip


def _alias(r: Sequence[Any]) -> Route:
    return AliasRoute(alias_id=r[0], host=r[1], match_key=r[2], link_id=r[3], advertiser_id=r[4], status=r[5], revision=r[6])


def _campaign(r: Sequence[Any]) -> Route:
    return CampaignRoute(
        campaign_id=r[0], slug=r[1], advertiser_id=r[2], destination=r[3], fallback=r[4], click_id_param=r[5],
        status=r[6], starts_at_ms=r[7], expires_at_ms=r[8], domains=tuple(filter(None, r[9])), advertiser_status=r[10],
        rules=_object(r[11]), revision=r[12],
    )  # fmt: skip


def _partner(r: Sequence[Any]) -> Route:
    return PartnerRoute(partner_id=r[0], slug=r[1], status=r[2], revision=r[3])


def _host(r: Sequence[Any]) -> Route:
    return HostRoute(
        host_id=r[0], host=r[1], kind=r[2], platform=r[3], fallback=r[4], forward_to=r[5], state=r[6],
        advertiser_id=r[7], settings=_object(r[8]), source=r[9], revision=r[10],
    )  # fmt: skip


def _token(r: Sequence[Any]) -> Route:
    return TokenRoute(
        token_id=r[0], advertiser_id=r[1], kind=r[2], token_hash=r[3], currency=r[4], advertiser_slug=r[5],
        advertiser_status=r[6], slot=r[7], settings=_object(r[8]), secret=r[9], revision=r[10],
    )  # fmt: skip


def _old_id(r: Sequence[Any]) -> Route:
    return OldIdRoute(
        old_id=r[0], source=r[1], kind=r[2], source_id=r[3], partner_id=r[4], campaign_id=r[5], link_id=r[6], creative=r[7], revision=r[8],
    )  # fmt: skip


# In the order of a rebuild: what a link needs comes before it.
KINDS: dict[bytes, tuple[str, Callable[[Sequence[Any]], Route]]] = {
    Kind.HOST: (HOSTS, _host),
    Kind.TOKEN: (TOKENS, _token),
    Kind.CAMPAIGN: (CAMPAIGNS, _campaign),
    Kind.PARTNER: (PARTNERS, _partner),
    Kind.LINK: (LINKS, _link),
    Kind.ALIAS: (ALIASES, _alias),
    Kind.OLD_ID: (OLD_IDS, _old_id),
}
ENTITIES = {
    "links": Kind.LINK,
    "aliases": Kind.ALIAS,
    "old_ids": Kind.OLD_ID,
    "campaigns": Kind.CAMPAIGN,
    "partners": Kind.PARTNER,
    "tracking_hosts": Kind.HOST,
    "postback_tokens": Kind.TOKEN,
}
OF_ADVERTISERS = (Kind.CAMPAIGN, Kind.TOKEN)  # these carry columns of their advertiser, so its change is theirs


@dataclass(frozen=True, slots=True)
class Changes:
    """A stretch of the feed: its last id, the ids it names by kind and of advertisers, and whether more may follow."""

    last_id: int
    by_kind: Mapping[bytes, set[int]]
    advertisers: set[int]
    is_full: bool


class RouteSource:
    """One connection to PostgreSQL. Every method raises StoreUnavailable on an outage; the source is then done for."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def connect(cls, dsn: str, nudge: Callable[[], None]) -> AsyncIterator["RouteSource"]:
        """Connect and listen: `nudge` is called after each change, at once, most of the time."""
        with outages("connect"):
            connection = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S, command_timeout=COMMAND_TIMEOUT_S)
        try:
            with outages("listen"):
                await connection.add_listener(CHANNEL, lambda *_: nudge())
            yield cls(connection)
        finally:
            connection.terminate()  # never waits for a server that hangs

    async def identity(self) -> str:
        """Which database this is: system identifier, timeline and database oid. Differs after a restore elsewhere."""
        with outages("identity"):
            return str(await self._connection.fetchval(IDENTITY))

    async def drawn(self) -> int:
        """The highest feed id ever drawn; a table that is ahead of it is of another history."""
        with outages("feed"):
            return int(await self._connection.fetchval(DRAWN))

    async def changes(self, after_id: int, limit: int) -> Changes:
        """The next changes behind `after_id`, at most `limit`; none: `last_id` is `after_id`."""
        with outages("feed"):
            found = await self._connection.fetch(CHANGES, after_id, limit)
        by_kind: dict[bytes, set[int]] = {}
        advertisers: set[int] = set()
        for _, entity, entity_id in found:
            if entity == "advertisers":
                advertisers.add(entity_id)
            elif entity in ENTITIES:
                by_kind.setdefault(ENTITIES[entity], set()).add(entity_id)
        return Changes(found[-1][0] if found else after_id, by_kind, advertisers, len(found) == limit)

    async def current(self, changes: Changes) -> tuple[list[Route], list[tuple[bytes, int]]]:
        """The rows named as they are now, those of the advertisers with them, and (kind, id) of what is gone."""
        routes: list[Route] = []
        gone: list[tuple[bytes, int]] = []
        for kind in KINDS:
            ids = changes.by_kind.get(kind, set())
            if kind in OF_ADVERTISERS and (ids or changes.advertisers):
                where = "id = ANY($1) OR advertiser_id = ANY($2)"
                found = await self._rows(kind, where, list(ids), list(changes.advertisers))
            elif ids:
                found = await self._rows(kind, "id = ANY($1)", list(ids))
            else:
                continue
            routes += found
            gone += [(kind, row_id) for row_id in ids - {route.row_id for route in found}]
        return routes, gone

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[int]:
        """One consistent view for `page` and `sums`; gives the last feed id that is in it (0 when the feed is empty)."""
        transaction = self._connection.transaction(isolation="repeatable_read", readonly=True)
        with outages("snapshot"):
            await transaction.start()
            newest = int(await self._connection.fetchval(NEWEST))
        yield newest  # on any error the caller lets go of the connection, and the transaction with it
        with outages("snapshot"):
            await transaction.rollback()

    async def page(self, kind: bytes, after_id: int, limit: int) -> list[Route]:
        """The next rows of a kind in the order of their ids."""
        return await self._rows(kind, "id > $1 ORDER BY id LIMIT $2", after_id, limit)

    async def sums(self) -> dict[bytes, Sum]:
        """Count and checksum of each kind that has rows, as `RouteStore.sums` makes them."""
        sums: dict[bytes, Sum] = {}
        for kind, (view, _) in KINDS.items():
            query = f"SELECT count(*), sum(id * 1000003 + revision * 31) % {CHECKSUM_MODULUS} FROM ({view}) x"  # noqa: S608 - constants
            with outages("sums"):
                row = await self._connection.fetchrow(query)
            if row is not None and row[0]:
                sums[kind] = Sum(row[0], int(row[1]))
        return sums

    async def installation(self, fallback: str | None) -> Installation:
        """The installation's row; its secret is made here when there is none yet."""
        with outages("installation"):
            secret = await self._connection.fetchval(VISITOR_KEY)
            if secret is None:
                await self._connection.execute(MAKE_VISITOR_KEY, secrets.token_hex(SECRET_BYTES))
                secret = await self._connection.fetchval(VISITOR_KEY)
        return Installation(fallback=fallback or None, visitor_secret=secret)

    async def _rows(self, kind: bytes, where: str, *arguments: Any) -> list[Route]:
        view, build = KINDS[kind]
        with outages("rows"):
            found = await self._connection.fetch(f"SELECT * FROM ({view}) x WHERE {where}", *arguments)  # noqa: S608 - constants
        return [build(tuple(row)) for row in found]


@contextmanager
def outages(doing: str) -> Iterator[None]:
    """Turn the driver's outages into StoreUnavailable."""
    try:
        yield
    except (*OUTAGE, asyncio.IncompleteReadError) as exc:
        raise StoreUnavailable(f"postgres: {doing}: {exc or type(exc).__name__}") from exc


def _object(text: str) -> dict[str, Any]:
    """A jsonb object; what cannot be published (numbers beyond 64 bits) is left out rather than stopping the feed."""
    if text == "{}":
        return {}
    try:
        value = json.decode(text)
        msgpack.encode(value)
    except (DecodeError, OverflowError, RecursionError, ValueError) as exc:
        log.warning("routes.unpublishable_json", extra={"reason": str(exc)})
        return {}
    return value if isinstance(value, dict) else {}
