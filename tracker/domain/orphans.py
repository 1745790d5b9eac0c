"""Orphan clicks in heaps: what is missing, so that one mapping mends many. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from tracker.domain.cookie_bridge import without_parameters
from tracker.domain.resolve import NO_CLICK, UNKNOWN, Resolution, RouteReader, resolve
from tracker.domain.url_shapes import shape_of
from tracker.domain.urls import host_of

READY = "nothing"  # what is missing of clicks that the map of today would resolve


@dataclass(frozen=True, slots=True)
class OrphanUrls:
    """Orphans that are alike: `clicks` of them count, `total` are all. `url` is one of theirs, `named` where the old platform sent them."""

    host: str
    url: str
    clicks: int
    total: int
    first_at: datetime
    last_at: datetime
    named: str | None = None


@dataclass(slots=True)
class Heap:
    """Orphans that one step would mend. `missing` as in `Resolution`, or `nothing`; `partner` and `offer` are old ids.

    `proposed_destination`: where the old platform sends most of them, when it was asked; `""` else.
    """

    missing: str
    source: str | None
    platform: str | None
    host: str
    partner: str | None
    offer: str | None
    shape: str
    example: str
    clicks: int = 0
    all_clicks: int = 0
    first_seen: datetime | None = None
    last_seen: datetime | None = None
    old_partners: set[str] = field(default_factory=set)
    proposed_destination: str = ""

    def take(self, found: OrphanUrls, old_partner: str | None, named: str) -> None:
        """Count more of them."""
        self.proposed_destination = self.proposed_destination or named
        self.clicks += found.clicks
        self.all_clicks += found.total
        self.first_seen = found.first_at if self.first_seen is None else min(self.first_seen, found.first_at)
        self.last_seen = found.last_at if self.last_seen is None else max(self.last_seen, found.last_at)
        if old_partner:
            self.old_partners.add(old_partner)


def target_of(url: str) -> bytes:
    """The request target as it was resolved, from the `url` of a row of `clicks`."""
    return url.encode("utf-8", "surrogatepass")


def heaps(table: RouteReader, orphans: Iterable[OrphanUrls], now_ms: int) -> list[Heap]:
    """The heaps of `orphans` by what is missing today, those with the most clicks first.

    A partner or an offer that is missing is one heap a source, whatever else its URLs say; an unknown host, platform or shape one a
    shape of URL.
    """
    found: dict[tuple[str | None, ...], Heap] = {}
    for orphan in orphans:
        resolution = resolve(table, orphan.host.encode(), target_of(orphan.url), now_ms)
        heap = _heap(resolution, orphan)
        key = (heap.missing, heap.source or heap.host, heap.partner, heap.offer, heap.shape if heap.partner is heap.offer is None else "")
        partner = resolution.reading.partner_id if resolution.reading else None
        found.setdefault(key, heap).take(orphan, partner, _named(resolution, orphan))
    return sorted(found.values(), key=lambda heap: (-heap.clicks, -heap.all_clicks, heap.host, heap.shape))


def proposed_campaign(destination: str, campaigns: Iterable[tuple[str, str]]) -> str | None:
    """The slug of the only campaign (slug, destination) that leads to the same page, else of the only one that leads to the same host."""
    wanted = _page(destination)
    pages = [(slug, _page(own)) for slug, own in campaigns if wanted[0]]
    for same in ([slug for slug, page in pages if page == wanted], [slug for slug, page in pages if page[0] == wanted[0]]):
        if same:
            return same[0] if len(same) == 1 else None
    return None


def _page(url: str) -> tuple[str, bytes]:
    data = target_of(url)
    return host_of(data), data.partition(b"://")[2].partition(b"?")[0].partition(b"#")[0].partition(b"/")[2].rstrip(b"/")


def _named(resolution: Resolution, orphan: OrphanUrls) -> str:
    """Where the old platform sent them, without the click id that it gave to one of them."""
    if not orphan.named or resolution.source is None:
        return orphan.named or ""
    return without_parameters(target_of(orphan.named), resolution.source.landing).decode("utf-8", "replace")


def _heap(resolution: Resolution, orphan: OrphanUrls) -> Heap:
    missing = resolution.missing if resolution.outcome == UNKNOWN else READY
    reading, registered = resolution.reading, resolution.host
    return Heap(
        missing=missing,
        source=(registered.id_source or None) if registered else None,
        platform=resolution.platform,
        host=orphan.host,
        partner=reading.partner_id if reading and "partner" in missing else None,
        offer=reading.offer_id if reading and "offer" in missing else None,
        shape=shape_of(target_of(orphan.url)),
        example="" if missing == NO_CLICK else orphan.url,  # a store's token stands in it
    )
