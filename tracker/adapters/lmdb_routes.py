"""The route table of a host as everybody but its publisher sees it: read-only, through the page cache."""

import logging
import time
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import lmdb
import msgspec

from tracker.adapters.lmdb_environment import MAP_SIZE_BYTES, ROUTES, ROWS, Identity, alive_path, environments, identity_of
from tracker.domain.resolve import JoinedRoute, OldLink, join, old_link
from tracker.domain.routes import (
    ACTIVE,
    ID_BYTES,
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
    decode,
    id_key,
    old_id_key,
    route_key,
)
from tracker.errors import CorruptData
from tracker.platforms.compiled import Source
from tracker.platforms.loader import Shelf
from tracker.platforms.profile import AS_SHIPPED, SourceSettings
from tracker.platforms.reading import Reading

log = logging.getLogger(__name__)

CACHE_ENTRIES = 20_000  # decoded routes of one kind; emptied when full
KEY_MAX, NAME_MAX = 512, 260  # whoever writes URLs and Hosts writes the keys: longer ones are not remembered, no host is longer
SOURCES_MAX = 1000  # compiled platforms of hosts with settings of their own
READING = "reading"  # the part of a host's settings that says what its operator changed on the platform
DOMAINS_EVERY_S = 5.0  # how often all campaigns are read for the domains of their advertisers, at most
LOOK_EVERY_S = 1.0  # how often a reader looks whether a (new) file is there
DIGESTED_ALIASES: Final = Kind.ALIAS + b"\1"  # the beginning of the keys of aliases that are too long to be keys themselves
_MISSING: Final = object()

R = TypeVar("R", bound=Route)
V = TypeVar("V")


class RouteTable:
    """The reading side: the `RouteReader` of `tracker.domain.resolve`, one a process, used from one thread.

    Each look-up is one short read transaction, finished before it returns; what was decoded is kept until the publisher
    commits again (`refresh` sees that). Nothing here raises for a missing, broken or full disk: the table then answers
    as an empty one, tries to open again each second, and goes on serving what it had decoded.
    """

    def __init__(
        self,
        path: Path,
        *,
        fallback: str | None = None,
        platforms: Shelf | None = None,
        map_size_bytes: int = MAP_SIZE_BYTES,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is opened yet. `fallback` is the installation's until the table says otherwise. No `platforms`: no old URL is read."""
        self.path = path
        self.corrupt = 0  # routes that could not be decoded
        self._platforms = platforms
        self._sources: dict[tuple[str, bytes], Source | None] = {}
        self._default = Installation(fallback=fallback or None)
        self._map_size_bytes, self._monotonic = map_size_bytes, monotonic
        self._env: Any = None
        self._routes: Any = None
        self._rows: Any = None
        self._identity: Identity = (0, 0)
        self._txnid = 0
        self._look_at = float("-inf")
        self._installation: Installation | None = None
        self._shop_domains: frozenset[str] | None = frozenset()
        self._domains_at, self._domains_txnid = float("-inf"), -1
        self._forget()

    @property
    def is_open(self) -> bool:
        """Whether there is a table to read."""
        return self._env is not None

    def refresh(self) -> None:
        """Forget what was decoded if the publisher committed since; open the table if that is due. 2 µs."""
        now = self._monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY_S
            self._look()
        if self._env is None:
            return
        # Not info()["last_txnid"]: that comes from the meta page, which moves (and then syncs) before new read transactions
        # see the commit; what is decoded in between would be old, remembered as new, until somebody commits again.
        try:
            with self._env.begin() as txn:
                txnid = txn.id()
        except lmdb.Error:
            log.exception("routes.table_lost")
            self.close()
            return
        if txnid != self._txnid:
            self._forget()
            self._txnid = txnid

    def close(self) -> None:
        """Let go of the file; what was decoded stays."""
        if self._env is not None:
            self._env = None
            environments.release(self._identity)

    def get_link(self, slug: bytes) -> JoinedRoute | None:
        """The link of `slug` with its campaign and partner, compiled."""
        joined = self._links.get(slug, _MISSING)
        if joined is not _MISSING:
            return cast("JoinedRoute | None", joined)
        link = self._read(LinkRoute, route_key(Kind.LINK, slug))
        return self._keep(self._links, slug, self._join(link) if link else None)

    def alias(self, host: str, key: str) -> JoinedRoute | None:
        """The link of an old URL, `is_paused` when the alias is not active; `host` `""` asks for any-host aliases."""
        if len(host) > NAME_MAX or not self._has_aliases(host):
            return None
        joined = self._aliases.get((host, key), _MISSING)
        if joined is not _MISSING:
            return cast("JoinedRoute | None", joined)
        alias = self._read(AliasRoute, route_key(Kind.ALIAS, key.encode(), host.encode()))
        link = self.link_by_id(alias.link_id) if alias else None
        joined = self._join(link, is_alias_active=alias.status == ACTIVE) if alias and link else None
        return self._keep(self._aliases, (host, key), joined)

    def host(self, name: str) -> HostRoute | None:
        """A registered host, by `host_key`."""
        if len(name) > NAME_MAX:
            return None
        host = self._hosts.get(name, _MISSING)
        if host is not _MISSING:
            return cast("HostRoute | None", host)
        return self._keep(self._hosts, name, self._read(HostRoute, route_key(Kind.HOST, name.encode())))

    def source_of(self, host: HostRoute) -> Source | None:
        """The platform of a registered host with that host's settings; compiled once, however often the table is published."""
        if host.platform is None or self._platforms is None:
            return None
        reading = host.settings.get(READING)
        if not reading:
            return self._platforms.source(host.platform)
        row = (host.host, host.revision, host.platform)
        found = self._host_sources.get(row, _MISSING)
        if found is not _MISSING:
            return cast("Source | None", found)
        return self._keep(self._host_sources, row, self._source_with(self._platforms, host.platform, _settings(host, reading)))

    def _source_with(self, platforms: Shelf, platform: str, settings: SourceSettings) -> Source | None:
        key = (platform, msgspec.json.encode(settings))
        if key not in self._sources:
            if len(self._sources) >= SOURCES_MAX:
                self._sources.clear()
            self._sources[key] = platforms.with_settings(platform, settings)
        return self._sources[key]

    def old_link(self, host: HostRoute, source: Source, reading: Reading) -> OldLink:
        """The link that a reading means."""
        key = (source.platform, host.id_source, *reading.ids[:3], reading.link_key)
        found = self._old_links.get(key, _MISSING)
        if found is not _MISSING:
            return cast("OldLink", found)
        return self._keep(self._old_links, key, old_link(self, host, source, reading))

    def old_id(self, source: str, kind: str, source_id: str) -> OldIdRoute | None:
        """What an id of a source means; not remembered, `old_link` is."""
        return self._read(OldIdRoute, old_id_key(source, kind, source_id))

    def installation(self) -> Installation:
        """What holds for the whole installation; before the first publishing, the fallback given to this table."""
        if self._installation is None:
            found = self._read(Installation, self._default.key())
            if found is None:
                return self._default
            self._installation = found
        return self._installation

    def link(self, slug: bytes) -> LinkRoute | None:
        """The published row of a link."""
        return self._read(LinkRoute, route_key(Kind.LINK, slug))

    def link_by_id(self, link_id: int) -> LinkRoute | None:
        """The same by id."""
        row = self._get(self._rows, Kind.LINK + link_id.to_bytes(ID_BYTES, "big"))
        return self._read(LinkRoute, row) if row else None

    def campaign(self, campaign_id: int) -> CampaignRoute | None:
        """The published row of a campaign with its advertiser's part."""
        campaign = self._campaigns.get(campaign_id)
        if campaign is None:
            campaign = self._read(CampaignRoute, id_key(Kind.CAMPAIGN, campaign_id))
            self._keep(self._campaigns, campaign_id, campaign)
        return campaign

    def partner(self, partner_id: int) -> PartnerRoute | None:
        """The published row of a partner."""
        partner = self._partners.get(partner_id)
        if partner is None:
            partner = self._read(PartnerRoute, id_key(Kind.PARTNER, partner_id))
            self._keep(self._partners, partner_id, partner)
        return partner

    def shop_domains(self) -> frozenset[str] | None:
        """What active advertisers with a campaign declare as their domains; None when no advertiser declares any.

        A publishing is seen after five seconds at most. A table that cannot be read says what it said before, at first nothing.
        """
        now = self._monotonic()
        if self._env is not None and self._txnid != self._domains_txnid and now >= self._domains_at + DOMAINS_EVERY_S:
            campaigns = self._all_campaigns()
            if campaigns is not None:
                declared = [campaign for campaign in campaigns if campaign.domains]
                active = frozenset(domain for campaign in declared if campaign.advertiser_status == ACTIVE for domain in campaign.domains)
                self._shop_domains = active if declared else None
                self._domains_at, self._domains_txnid = now, self._txnid
        return self._shop_domains

    def token(self, token_hash: bytes) -> TokenRoute | None:
        """The live postback token or pixel key with that hash."""
        return self._read(TokenRoute, route_key(Kind.TOKEN, token_hash))

    def count(self) -> int:
        """Rows published, of all kinds; 0 without a table."""
        if self._env is None:
            return 0
        try:
            with self._env.begin() as txn:
                return int(txn.stat(self._rows)["entries"])
        except lmdb.Error:
            return 0

    def age_s(self) -> float:
        """Seconds since the publisher last found the table current; infinite when it never did."""
        try:
            return max(0.0, time.time() - alive_path(self.path).stat().st_mtime)
        except OSError:
            return float("inf")

    def _join(self, link: LinkRoute, *, is_alias_active: bool = True) -> JoinedRoute | None:
        campaign, partner = self.campaign(link.campaign_id), self.partner(link.partner_id)
        return join(link, campaign, partner, is_alias_active=is_alias_active) if campaign and partner else None

    def _read(self, kind: type[R], key: bytes) -> R | None:
        data = self._get(self._routes, key)
        return None if data is None else self._decoded(kind, data)

    def _decoded(self, kind: type[R], data: bytes) -> R | None:
        try:
            return decode(kind, data)
        except CorruptData:
            self.corrupt += 1
            log.exception("routes.corrupt_row", extra={"kind": kind.__name__})
            return None

    def _get(self, database: Any, key: bytes) -> bytes | None:
        """The value behind its first 8 bytes: a route in `routes`, a key in `rows`."""
        if self._env is None:
            return None
        try:
            with self._env.begin(db=database) as txn:
                value = txn.get(key)
        except (lmdb.Error, OSError):
            log.exception("routes.table_lost")
            self.close()
            return None
        return value[ID_BYTES:] if value else None

    def _all_campaigns(self) -> list[CampaignRoute] | None:
        """Those that can be read; None when the table cannot."""
        try:
            with self._env.begin(db=self._routes) as txn, txn.cursor() as cursor:
                cursor.set_range(Kind.CAMPAIGN)
                rows = takewhile(lambda row: row[0].startswith(Kind.CAMPAIGN), cursor)
                found = [self._decoded(CampaignRoute, value[ID_BYTES:]) for _, value in rows]
        except (lmdb.Error, OSError):
            log.exception("routes.table_lost")
            self.close()
            return None
        return [campaign for campaign in found if campaign]

    def _has_aliases(self, host: str) -> bool:
        """Whether any old URL of that host is in the table: most hosts have none, and their URLs are all different."""
        known = self._alias_hosts.get(host)
        if known is None:
            known = any(map(self._has_key, (route_key(Kind.ALIAS, b"", host.encode()), DIGESTED_ALIASES)))
            self._keep(self._alias_hosts, host, known)
        return known

    def _has_key(self, beginning: bytes) -> bool:
        """Whether a route's key begins so."""
        if self._env is None:
            return False
        try:
            with self._env.begin(db=self._routes) as txn, txn.cursor() as cursor:
                return bool(cursor.set_range(beginning)) and bytes(cursor.key()).startswith(beginning)
        except (lmdb.Error, OSError):
            log.exception("routes.table_lost")
            self.close()
            return False

    def _keep(self, cache: dict[Any, Any], key: Any, value: V) -> V:
        if self._env is not None and _length(key) <= KEY_MAX:  # what an unreadable table did not say is not remembered
            if len(cache) >= CACHE_ENTRIES:
                cache.clear()
            cache[key] = value
        return value

    def _forget(self) -> None:
        self._links: dict[bytes, Any] = {}
        self._aliases: dict[tuple[str, str], Any] = {}
        self._alias_hosts: dict[str, bool] = {}
        self._host_sources: dict[tuple[str, int, str], Any] = {}
        self._old_links: dict[tuple[str | None, ...], Any] = {}
        self._hosts: dict[str, Any] = {}
        self._campaigns: dict[int, CampaignRoute | None] = {}
        self._partners: dict[int, PartnerRoute | None] = {}
        self._installation = None

    def _look(self) -> None:
        """Open the table if it is not open, or if another file has taken its place."""
        try:
            identity = identity_of(self.path)
        except OSError:
            return
        if self._env is not None and identity == self._identity:
            return
        self.close()
        try:
            self._open()
        except (lmdb.Error, OSError) as exc:  # its publisher may be making it just now
            log.warning("routes.table_not_readable", extra={"path": str(self.path), "reason": str(exc)})
            self.close()
            return
        self._txnid = -1

    def _open(self) -> None:
        self._identity, self._env, found = environments.acquire(self.path, writable=False, map_size_bytes=self._map_size_bytes)
        self._routes, self._rows = found[ROUTES], found[ROWS]


def _length(key: Any) -> int:
    if isinstance(key, tuple):
        return sum(map(_length, key))
    return len(key) if isinstance(key, str | bytes) else 0


def _settings(host: HostRoute, reading: Any) -> SourceSettings:
    """What cannot be read leaves the platform as it is shipped: the API refuses it, so it is from elsewhere."""
    try:
        return msgspec.convert(reading, SourceSettings)
    except (msgspec.ValidationError, ValueError):
        log.exception("routes.unreadable_host_settings", extra={"host": host.host})
        return AS_SHIPPED
