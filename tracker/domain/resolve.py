"""From a request to what it names and where its visitor goes. Pure: the table and the time are given.

The order: a new link, an exact alias, (the platform profile of the host), nobody.
"""

import re
from functools import lru_cache
from typing import Protocol
from urllib.parse import unquote_to_bytes

from msgspec import Struct
from msgspec.structs import replace

from tracker.domain.macros import Template
from tracker.domain.routes import ACTIVE, CampaignRoute, HostRoute, Installation, LinkRoute, PartnerRoute
from tracker.domain.urls import host_key, target_key

OK = "ok"
PAUSED = "paused"
EXPIRED = "expired"
NOT_STARTED = "not_started"
CAPPED = "capped"
UNKNOWN = "unknown"
LINK_PATH = b"/c/"
OLD_HOST = "old"
ALWAYS_MS = -(1 << 63)
NEVER_MS = 1 << 63
_LINK_TARGET = re.compile(rb"/c/([^/?#]+)(?![^?#])")
_ALL_ACTIVE = (ACTIVE,) * 4


class Resolution(Struct, frozen=True, kw_only=True, gc=False):
    """What a request names, and where its visitor goes. Ids are 0 and slugs empty where nothing was identified.

    `template` is the destination when `outcome` is `ok`, else the fallback; None: a plain 404 page.
    `domains` are the hosts a `url=` deep link may name, empty: none. `host` is the registered host asked for, if any;
    `platform` its profile. `link`, `campaign`, `partner` are the published rows, None where not identified.
    """

    outcome: str
    template: Template | None
    link_id: int = 0
    campaign_id: int = 0
    partner_id: int = 0
    advertiser_id: int = 0
    creative: str = ""
    link_slug: str = ""
    campaign_slug: str = ""
    partner_slug: str = ""
    click_id_param: str = "click_id"
    domains: tuple[str, ...] = ()
    platform: str | None = None
    host: HostRoute | None = None
    link: LinkRoute | None = None
    campaign: CampaignRoute | None = None
    partner: PartnerRoute | None = None


class JoinedRoute(Struct, frozen=True, kw_only=True, gc=False):
    """A link with its campaign and partner, compiled: the part of a resolution that does not move from click to click.

    `starts_at_ms` inclusive, `expires_at_ms` exclusive. `fallback` is the link's or else the campaign's; None: look
    further. `ready` is the resolution of an ordinary click, made once.
    """

    fallback: Template | None
    is_paused: bool
    starts_at_ms: int
    expires_at_ms: int
    ready: Resolution

    def outcome(self, now_ms: int) -> str:
        """`ok`, or why the link does not lead to its destination: paused before not started before expired."""
        if self.is_paused:
            return PAUSED
        if now_ms < self.starts_at_ms:
            return NOT_STARTED
        return OK if now_ms < self.expires_at_ms else EXPIRED


class RouteReader(Protocol):
    """The table as resolving needs it. Synchronous, no network; an unreadable table answers as an empty one."""

    def get_link(self, slug: bytes) -> JoinedRoute | None:
        """The link of that very slug."""

    def alias(self, host: str, key: str) -> JoinedRoute | None:
        """The link of an old URL; `host` is `""` for aliases that hold on any host. `is_paused` if the alias is."""

    def host(self, name: str) -> HostRoute | None:
        """A registered host, by `host_key`."""

    def installation(self) -> Installation:
        """What holds for the whole installation."""


def join(link: LinkRoute, campaign: CampaignRoute, partner: PartnerRoute, *, is_alias_active: bool = True) -> JoinedRoute:
    """Compile a link with what it belongs to. A few µs, some 15 more for a destination of its own."""
    fallback = link.fallback or campaign.fallback
    states = (link.status, campaign.status, partner.status, campaign.advertiser_status)
    own_end_ms = NEVER_MS if link.expires_at_ms is None else link.expires_at_ms
    end_ms = NEVER_MS if campaign.expires_at_ms is None else campaign.expires_at_ms
    return JoinedRoute(
        fallback=compiled(fallback) if fallback else None,
        is_paused=not is_alias_active or states != _ALL_ACTIVE,
        starts_at_ms=ALWAYS_MS if campaign.starts_at_ms is None else campaign.starts_at_ms,
        expires_at_ms=min(own_end_ms, end_ms),
        ready=Resolution(
            outcome=OK,
            template=compiled(link.destination or campaign.destination, campaign.click_id_param),
            link_id=link.link_id,
            campaign_id=link.campaign_id,
            partner_id=link.partner_id,
            advertiser_id=link.advertiser_id,
            creative=link.creative,
            link_slug=link.slug,
            campaign_slug=campaign.slug,
            partner_slug=partner.slug,
            click_id_param=campaign.click_id_param,
            domains=campaign.domains,
            link=link,
            campaign=campaign,
            partner=partner,
        ),
    )


@lru_cache(maxsize=4096)  # campaigns are few and links many: most links share the template of their campaign
def compiled(text: str, click_id_param: str = "") -> Template:
    """`Template.compile`, remembered. A fallback is compiled without a parameter: no click id is added to it."""
    return Template.compile(text, click_id_param)


def resolve(table: RouteReader, host: bytes, target: bytes, now_ms: int) -> Resolution:
    """What a request names, and where its visitor goes at `now_ms`.

    Args:
        table: the routes.
        host: the Host header as received, possibly empty.
        target: the raw request target, path and query; the absolute form (`http://host/…`) beats `host`.
        now_ms: milliseconds since 1970 UTC.

    Never raises for anything a client can send. A few µs; the parts that need compiling are cached.
    """
    if not target.startswith(b"/"):
        host, target = split_absolute(host, target)
    name = host_key(host)
    bare = name.partition(":")[0]
    registered = table.host(name) or (None if bare == name else table.host(bare))
    joined = None
    if target.startswith(LINK_PATH) and (registered is None or registered.kind != OLD_HOST):
        slug = slug_of(target)
        joined = table.get_link(slug) if slug else None
    if joined is None:
        joined = find_alias(table, name, bare, target_key(target))
    # Here the platform profile of `registered` will read (partner, offer, creative) out of the target.
    if joined is None:
        return _unknown(table, registered)
    outcome = joined.outcome(now_ms)
    if outcome == OK:
        return joined.ready if registered is None else _at(joined.ready, registered)
    template = joined.fallback or last_resort(table, registered)
    return _at(replace(joined.ready, outcome=outcome, template=template), registered)


def slug_of(target: bytes) -> bytes:
    """The slug in `/c/{slug}`, percent-decoded once; empty when there is none or more path follows it."""
    match = _LINK_TARGET.match(target)
    if match is None:
        return b""
    slug = match[1]
    return unquote_to_bytes(slug) if b"%" in slug else slug


def split_absolute(host: bytes, target: bytes) -> tuple[bytes, bytes]:
    """Host and path of a target in absolute form; of any other form (`*`, junk) `host` and the target behind a `/`."""
    scheme, colon, rest = target.partition(b"://")
    if not colon or not scheme.isalpha():
        return host, b"/" + target
    end = min(at for at in (rest.find(b"/"), rest.find(b"?"), rest.find(b"#"), len(rest)) if at >= 0)
    path = rest[end:]
    return rest[:end].rpartition(b"@")[2], path if path.startswith(b"/") else b"/" + path


def find_alias(table: RouteReader, name: str, bare: str, key: str) -> JoinedRoute | None:
    """The link of an old URL: aliases of that very host and port first, then of the host, then of any host."""
    found = table.alias(name, key) if name else None
    if found is None and bare != name:
        found = table.alias(bare, key)
    return found or table.alias("", key)


def last_resort(table: RouteReader, registered: HostRoute | None) -> Template | None:
    """The fallback of the host, else of the installation; None: there is none."""
    text = (registered.fallback if registered else None) or table.installation().fallback
    return compiled(text) if text else None


def _unknown(table: RouteReader, registered: HostRoute | None) -> Resolution:
    template = last_resort(table, registered)
    return _at(Resolution(outcome=UNKNOWN, template=template), registered)


def _at(resolution: Resolution, registered: HostRoute | None) -> Resolution:
    if registered is None:
        return resolution
    advertiser_id = resolution.advertiser_id or registered.advertiser_id or 0
    return replace(resolution, host=registered, platform=registered.platform, advertiser_id=advertiser_id)
