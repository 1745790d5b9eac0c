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
MADE: Final = "made"
OURS: Final = "turnout"  # the source of the links that were made: their ids are ours


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


def made_id(partner_id: int, campaign_id: int) -> str:
    """The id of kind `made`: a link that was made for a partner and a campaign of ours."""
    return f"{partner_id}/{campaign_id}"


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
    alike = [spellings(profile, value or "")[-1] for value in (partner, offer, creative)]
    if creative:
        yield pair_id(partner or "", offer or "", creative)
        yield pair_id(*alike)
    if not has_own_campaign:
        yield pair_id(partner or "", offer or "")
        yield pair_id(*alike[:2])


def _mapped(table: OldIds, link_id: int, creative: str) -> Identified:
    link = table.link_by_id(link_id)
    campaign = table.campaign(link.campaign_id) if link else None
    partner = table.partner(link.partner_id) if link else None
    if link is None or campaign is None or partner is None:
        return Identified(missing=LINK)
    return Identified(replace(link, creative=link.creative or creative), campaign, partner)


def _joined(table: OldIds, source: str, profile: Profile, reading: Reading, what: OldIdRoute | None, creative: str) -> Identified:
    whose = _first(table, source, PARTNER, spellings(profile, reading.partner_id or ""))
    partner = table.partner(whose.partner_id) if whose and whose.partner_id is not None else None
    campaign = table.campaign(what.campaign_id) if what and what.campaign_id is not None else None
    missing = [name for name, found in ((PARTNER, partner), (OFFER, campaign)) if found is None]
    if partner is None or campaign is None:
        return Identified(campaign=campaign, missing=" and ".join(missing))
    made = table.old_id(OURS, MADE, made_id(partner.partner_id, campaign.campaign_id))
    link = table.link_by_id(made.link_id) if made is not None and made.link_id is not None else None
    if link is None or (link.partner_id, link.campaign_id) != (partner.partner_id, campaign.campaign_id):
        link = LinkRoute(
            link_id=0, slug="", campaign_id=campaign.campaign_id, partner_id=partner.partner_id, advertiser_id=campaign.advertiser_id
        )
    return Identified(replace(link, creative=link.creative or creative), campaign, partner)


def _first(table: OldIds, source: str, kind: str, spelled: Iterable[str]) -> OldIdRoute | None:
    last = None
    for spelling in spelled:
        if spelling != last and (found := table.old_id(source, kind, spelling)) is not None:
            return found
        last = spelling
    return None
