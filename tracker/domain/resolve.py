"""From a request to what it names and where its visitor goes. Pure: the table and the time are given.

First it is identified: a new link, an exact alias, what the platform profile of the host reads in it, nobody. Then it is routed by
the switch-over state of its host: to the old platform, or to the destination.
"""

import re
from functools import lru_cache
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from tracker.domain.identify import OldIds, identify
from tracker.domain.macros import Template
from tracker.domain.routes import ACTIVE, CampaignRoute, HostRoute, Installation, LinkRoute, PartnerRoute
from tracker.domain.urls import host_key, host_of, percent_decoded, printable, split_absolute, target_key
from tracker.platforms.compiled import Source
from tracker.platforms.reader import read
from tracker.platforms.reading import Reading

OK = "ok"
PAUSED = "paused"
EXPIRED = "expired"
NOT_STARTED = "not_started"
CAPPED = "capped"
UNKNOWN = "unknown"
LINK_PATH = b"/c/"
OLD_HOST = "old"
CLICK, NO_CLICK = "click", "kind"  # what an old URL is read as; what is missing when it is something else
HOST_LOOKED_AT = 512  # bytes of a Host header: no host is longer
FORWARDING = frozenset(("shadow", "rolled_back"))  # states in which a host's visitors go on to the old platform
ANCHOR = b"turnout_anchor="  # the parameter in which the anchor page brings what browsers do not send
ALWAYS_MS = -(1 << 63)
NEVER_MS = 1 << 63
_LINK_TARGET = re.compile(rb"/c/([^/?#]+)(?![^?#])")
_ALL_ACTIVE = (ACTIVE,) * 4


class Resolution(Struct, frozen=True, kw_only=True, gc=False):
    """What a request names, and where its visitor goes. Ids are 0 and slugs empty where nothing was identified.

    `template` is the destination when `outcome` is `ok`, else the fallback; None: a plain 404 page.
    `domains` are the hosts a `url=` deep link may name, empty: none. `host` is the registered host asked for, if any;
    `platform` its profile. `link`, `campaign`, `partner` are the published rows, None where not identified.

    `source` and `reading`: the old platform and what it reads in the target; None on hosts of none. `missing` says what nobody knows
    when the outcome is `unknown`: `host`, `platform` (the host has none that is known), `shape`, `kind` (this is no click), `link`,
    `partner`, `offer` or `partner and offer`. `forward`: the address at the old platform, where the host's visitors still go there.
    `wants_anchor`: the platform writes ids behind a `#`, which only a page can read.
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
    source: Source | None = None
    reading: Reading | None = None
    missing: str = ""
    forward: bytes = b""
    wants_anchor: bool = False

    @property
    def is_report(self) -> bool:
        """A postback, pixel or impression of the host's platform: answered in its words and kept as a report, never a click."""
        return self.missing == NO_CLICK


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


class OldLink(Struct, frozen=True, gc=False):
    """What an old URL means: its link; else what is `missing`, and the campaign if that is known."""

    joined: JoinedRoute | None
    campaign: CampaignRoute | None
    missing: str


class RouteReader(Protocol):
    """The table as resolving needs it. Synchronous, no network; an unreadable table answers as an empty one."""

    def get_link(self, slug: bytes) -> JoinedRoute | None:
        """The link of that very slug."""

    def alias(self, host: str, key: str) -> JoinedRoute | None:
        """The link of an old URL; `host` is `""` for aliases that hold on any host. `is_paused` if the alias is."""

    def host(self, name: str) -> HostRoute | None:
        """A registered host, by `host_key`."""

    def source_of(self, host: HostRoute) -> Source | None:
        """The platform of a registered host, as its operator had it; None when it has none, or one that no profile describes."""

    def old_link(self, host: HostRoute, source: Source, reading: Reading) -> OldLink:
        """`old_link` of this module, remembered."""

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
    name = host_key(host[:HOST_LOOKED_AT])
    bare = name.partition(":")[0]
    registered = table.host(name) or (None if bare == name else table.host(bare))
    joined = None
    if target.startswith(LINK_PATH) and (registered is None or registered.kind != OLD_HOST):
        slug = slug_of(target)
        joined = table.get_link(slug) if slug else None
    if registered is not None:
        return _of_host(table, registered, host, target, joined or find_alias(table, name, bare, target_key(target)), now_ms)
    joined = joined or find_alias(table, name, bare, target_key(target))
    if joined is None:
        missing = "link" if target.startswith(LINK_PATH) else "host"
        return Resolution(outcome=UNKNOWN, template=last_resort(table, None), missing=missing)
    outcome = joined.outcome(now_ms)
    return joined.ready if outcome == OK else _not_ok(table, joined, outcome, None)


def _of_host(table: RouteReader, registered: HostRoute, host: bytes, target: bytes, joined: JoinedRoute | None, now_ms: int) -> Resolution:
    """The same for a registered host."""
    source = table.source_of(registered)
    asked = target
    if source is not None and source.reads_anchors and ANCHOR in target:
        asked = with_anchor(target)
    reading = read(source, host, asked) if source is not None else None
    campaign, missing = None, ""
    if joined is None:
        joined, campaign, missing = _read_link(table, registered, source, reading, target)
    if joined is None:
        found = _unknown(table, registered, campaign, missing)
    else:
        outcome = joined.outcome(now_ms)
        found = joined.ready if outcome == OK else _not_ok(table, joined, outcome, registered)
    wants_anchor = missing == "shape" and source is not None and source.reads_anchors and asked is target
    return replace(
        found,
        host=registered,
        platform=registered.platform,
        advertiser_id=found.advertiser_id or registered.advertiser_id or 0,
        source=source,
        reading=reading,
        forward=forward_address(registered, target),
        wants_anchor=wants_anchor,
    )


def _read_link(
    table: RouteReader, registered: HostRoute, source: Source | None, reading: Reading | None, target: bytes
) -> tuple[JoinedRoute | None, CampaignRoute | None, str]:
    if source is None or reading is None:
        return None, None, "link" if registered.kind != OLD_HOST and target.startswith(LINK_PATH) else "platform"
    if reading.kind is None:
        return None, None, "shape"
    if reading.kind != CLICK:
        return None, None, NO_CLICK
    found = table.old_link(registered, source, reading)
    return found.joined, found.campaign, found.missing


def old_link(table: OldIds, host: HostRoute, source: Source, reading: Reading) -> OldLink:
    """The link that a click of `host` means, joined with its campaign and partner."""
    found = identify(table, host.id_source, source.profile, reading)
    if found.link is None or found.campaign is None or found.partner is None:
        return OldLink(None, found.campaign, found.missing)
    return OldLink(join(found.link, found.campaign, found.partner), found.campaign, "")


def registered_host(table: RouteReader, host: bytes) -> HostRoute | None:
    """The registered host that a Host header names: of that very port, else of any."""
    name = host_key(host[:HOST_LOOKED_AT])
    bare = name.partition(":")[0]
    return table.host(name) or (None if bare == name else table.host(bare))


def forward_address(registered: HostRoute, target: bytes) -> bytes:
    """Where a visitor of `registered` goes at the old platform; empty: nowhere, the host is not there."""
    return old_address(registered, target) if registered.state in FORWARDING else b""


def old_address(registered: HostRoute, target: bytes) -> bytes:
    """The address of `target` at the old platform, path and query as they came; empty: nobody said where that is.

    Never at the host itself: whoever points the old name here and forwards to it would send visitors round in circles.
    """
    if not registered.forward_to:
        return b""
    origin = registered.forward_to.rstrip("/").encode("utf-8", "surrogatepass")
    return b"" if host_of(origin) == registered.host else printable(origin + target)


def with_anchor(target: bytes) -> bytes:
    """The target as the browser had it before the anchor page: with its `#…`, and without that page's parameter."""
    before, found, anchor = target.rpartition(ANCHOR)
    if not found or before[-1:] not in (b"?", b"&"):
        return target
    return before[:-1] + b"#" + percent_decoded(anchor)


def slug_of(target: bytes) -> bytes:
    """The slug in `/c/{slug}`, percent-decoded once; empty when there is none or more path follows it."""
    match = _LINK_TARGET.match(target)
    if match is None:
        return b""
    slug = match[1]
    return percent_decoded(slug)


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


def _not_ok(table: RouteReader, joined: JoinedRoute, outcome: str, registered: HostRoute | None) -> Resolution:
    return replace(joined.ready, outcome=outcome, template=joined.fallback or last_resort(table, registered))


def _unknown(table: RouteReader, registered: HostRoute, campaign: CampaignRoute | None, missing: str) -> Resolution:
    """Nobody to pay. If only the partner is not known, the campaign's fallback comes first, and its destination before a 404 page."""
    if campaign is None:
        return Resolution(outcome=UNKNOWN, template=last_resort(table, registered), missing=missing)
    fallback = compiled(campaign.fallback) if campaign.fallback else last_resort(table, registered)
    return Resolution(
        outcome=UNKNOWN,
        template=fallback or compiled(campaign.destination, campaign.click_id_param),
        campaign_id=campaign.campaign_id,
        advertiser_id=campaign.advertiser_id,
        campaign_slug=campaign.slug,
        campaign=campaign,
        missing=missing,
    )
