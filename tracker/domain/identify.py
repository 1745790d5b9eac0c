"""From what an old URL says to the link of ours that it means. Pure: the id maps are given.

An id map leads from an id in the links of one source to a partner, a campaign, a creative or a whole link. A link that nobody
made is joined on the fly from a known partner and a known campaign.
"""

from collections.abc import Iterable
from typing import Final, Protocol
from urllib.parse import quote

from msgspec import Struct

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


def identify(table: OldIds, source: str, profile: Profile, reading: Reading) -> Identified:
    """The link that a reading of `source` means: by its key, by the pair of its ids, else on the fly.

    A link that names no offer means the campaign of its creative (CAKE, Post Affiliate Pro), if the map has one; else the id `""` is
    looked up, under which a source has the one campaign of links that name none. The same goes for a partner.
    """
    route = None
    if reading.link_key:
        route = _first(table, source, LINK, spellings(profile, reading.link_key))
    if route is None and (reading.partner_id or reading.offer_id):
        route = _pair(table, source, reading)
    if route is not None and route.link_id is not None:
        return _mapped(table, route.link_id)
    if reading.link_key and not (reading.partner_id or reading.offer_id):
        return Identified(missing=LINK)
    return _joined(table, source, profile, reading)


def _pair(table: OldIds, source: str, reading: Reading) -> OldIdRoute | None:
    partner, offer = reading.partner_id or "", reading.offer_id or ""
    if reading.creative_id:
        found = table.old_id(source, PAIR, pair_id(partner, offer, reading.creative_id))
        if found is not None:
            return found
    return table.old_id(source, PAIR, pair_id(partner, offer))


def _mapped(table: OldIds, link_id: int) -> Identified:
    link = table.link_by_id(link_id)
    campaign = table.campaign(link.campaign_id) if link else None
    partner = table.partner(link.partner_id) if link else None
    if link is None or campaign is None or partner is None:
        return Identified(missing=LINK)
    return Identified(link, campaign, partner)


def _joined(table: OldIds, source: str, profile: Profile, reading: Reading) -> Identified:
    what_shown = _first(table, source, CREATIVE, spellings(profile, reading.creative_id)) if reading.creative_id else None
    what = what_shown if reading.offer_id is None and what_shown is not None and what_shown.campaign_id is not None else None
    what = what or _first(table, source, OFFER, spellings(profile, reading.offer_id or ""))
    whose = _first(table, source, PARTNER, spellings(profile, reading.partner_id or ""))
    partner = table.partner(whose.partner_id) if whose and whose.partner_id is not None else None
    campaign = table.campaign(what.campaign_id) if what and what.campaign_id is not None else None
    missing = [name for name, found in ((PARTNER, partner), (OFFER, campaign)) if found is None]
    if partner is None or campaign is None:
        return Identified(campaign=campaign, missing=" and ".join(missing))
    creative = what_shown.creative if what_shown is not None and what_shown.creative is not None else reading.creative_id or ""
    link = LinkRoute(
        link_id=0, slug="", campaign_id=campaign.campaign_id, partner_id=partner.partner_id, advertiser_id=campaign.advertiser_id,
        creative=creative,
    )  # fmt: skip
    return Identified(link, campaign, partner)


def _first(table: OldIds, source: str, kind: str, spelled: Iterable[str]) -> OldIdRoute | None:
    for spelling in spelled:
        found = table.old_id(source, kind, spelling)
        if found is not None:
            return found
    return None
