"""From what an old URL says to the link of ours that it means. Pure: the id maps are given.

An id map leads from an id in the links of one source to a partner, a campaign, a creative or a whole link. A link that nobody
made is joined on the fly from a known partner and a known campaign.
"""

from collections.abc import Iterable
from typing import Final, Protocol
from urllib.parse import quote

from msgspec import Struct
from msgspec.structs import replace

from tracker.domain.routes import CampaignRoute, LinkRoute, OldIdRoute, PartnerRoute
from tracker.platforms.profile import Profile
from tracker.platforms.reading import Reading
from tracker.platforms.spellings import spellings

PARTNER: Final = "partner"
OFFER: Final = "offer"
CREATIVE: Final = "creative"
LINK: Final = "link"
PAIR: Final = "pair"
KINDS: Final = (PARTNER, OFFER, CREATIVE, LINK, PAIR)


class OldIds(Protocol):
    """The published rows as identifying needs them. Synchronous, no network."""

    def old_id(self, source: str, kind: str, source_id: str) -> OldIdRoute | None:
        """What an id of a source means."""

    def link_by_id(self, link_id: int) -> LinkRoute | None:
        """A link."""

    def campaign(self, campaign_id: int) -> CampaignRoute | None:
        """A campaign."""

    def partner(self, partner_id: int) -> PartnerRoute | None:
        """A partner."""


class Identified(Struct, frozen=True, gc=False):
    """What an old URL names. `link` has the id 0 and no slug when it was joined on the fly; None: `missing` says what nobody knows
    (`link`, `partner`, `offer`, `partner and offer`), and `campaign` is there if the offer is known."""

    link: LinkRoute | None = None
    campaign: CampaignRoute | None = None
    partner: PartnerRoute | None = None
    missing: str = ""


def pair_id(partner: str, offer: str, creative: str = "") -> str:
    """The id of kind `pair`: partner, offer and, if there is one, creative, `/` between them, each percent-encoded."""
    parts = (partner, offer, creative) if creative else (partner, offer)
    return "/".join(quote(part, safe=" ~:@!$&'()*+,;=") for part in parts)


def canonical_pair(profile: Profile, partner: str | None, offer: str | None, creative: str | None) -> str:
    """The pair of a link that was made on the fly: ids as their platform compares them, so that 042 and 42 share one."""
    return pair_id(*(spellings(profile, value or "")[-1] for value in (partner, offer, creative)))


def identify(table: OldIds, source: str, profile: Profile, reading: Reading) -> Identified:
    """The link that a reading of `source` means: by its key, by the pair of its ids, else on the fly.

    A link that names no offer means the campaign of its creative (CAKE, Post Affiliate Pro), if the map has one; else the id `""` is
    looked up, under which a source has the one campaign of links that name none. The same goes for a partner.
    """
    creative_id = reading.creative_id
    shown = _first(table, source, CREATIVE, spellings(profile, creative_id)) if creative_id else None
    decides = shown if shown is not None and shown.campaign_id is not None and reading.offer_id is None else None
    creative = shown.creative if shown is not None and shown.creative is not None else creative_id or ""
    route = _first(table, source, LINK, spellings(profile, reading.link_key)) if reading.link_key else None
    if route is None and (reading.partner_id or reading.offer_id):
        route = _first(table, source, PAIR, _pairs(profile, reading, has_own_campaign=decides is not None))
    if route is not None and route.link_id is not None:
        return _mapped(table, route.link_id, creative)
    if reading.link_key and not (reading.partner_id or reading.offer_id):
        return Identified(missing=LINK)
    what = decides or _first(table, source, OFFER, spellings(profile, reading.offer_id or ""))
    return _joined(table, source, profile, reading, what, creative)


def _pairs(profile: Profile, reading: Reading, *, has_own_campaign: bool) -> Iterable[str]:
    """The pairs to look up. `has_own_campaign`: the creative decides, so a pair without it would be another campaign's."""
    partner, offer, creative = reading.partner_id, reading.offer_id, reading.creative_id
    if creative:
        yield pair_id(partner or "", offer or "", creative)
        yield canonical_pair(profile, partner, offer, creative)
    if not has_own_campaign:
        yield pair_id(partner or "", offer or "")
        yield canonical_pair(profile, partner, offer, None)


def _mapped(table: OldIds, link_id: int, creative: str) -> Identified:
    link = table.link_by_id(link_id)
    campaign = table.campaign(link.campaign_id) if link else None
    partner = table.partner(link.partner_id) if link else None
    if link is None or campaign is None or partner is None:
        return Identified(missing=LINK)
    return Identified(link if link.creative or not creative else replace(link, creative=creative), campaign, partner)


def _joined(table: OldIds, source: str, profile: Profile, reading: Reading, what: OldIdRoute | None, creative: str) -> Identified:
    whose = _first(table, source, PARTNER, spellings(profile, reading.partner_id or ""))
    partner = table.partner(whose.partner_id) if whose and whose.partner_id is not None else None
    campaign = table.campaign(what.campaign_id) if what and what.campaign_id is not None else None
    missing = [name for name, found in ((PARTNER, partner), (OFFER, campaign)) if found is None]
    if partner is None or campaign is None:
        return Identified(campaign=campaign, missing=" and ".join(missing))
    link = LinkRoute(
        link_id=0, slug="", campaign_id=campaign.campaign_id, partner_id=partner.partner_id, advertiser_id=campaign.advertiser_id,
        creative=creative,
    )  # fmt: skip
    return Identified(link, campaign, partner)


def _first(table: OldIds, source: str, kind: str, spelled: Iterable[str]) -> OldIdRoute | None:
    last = None
    for spelling in spelled:
        if spelling != last and (found := table.old_id(source, kind, spelling)) is not None:
            return found
        last = spelling
    return None
