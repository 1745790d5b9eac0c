"""The demo programme: two advertisers, three campaigns, five partners, twelve links, a coupon, and an old host.

The old host was one of TUNE: its links name offers and affiliates, and two of them are aliases. All is made through the API, as
people make theirs; slugs begin with `demo-`.
"""

import json
import os
from typing import Any

from tracker.errors import StoreUnavailable
from tracker.local.door import Door
from tracker.settings import Settings

OLD_HOST, OLD_SOURCE = "go.old-brand.example", "old-brand"
HOST = {"host": OLD_HOST, "kind": "old", "platform": "tune", "source": OLD_SOURCE}
OLD_IDS: tuple[dict[str, Any], ...] = tuple(
    {"source": OLD_SOURCE, "kind": kind, "source_id": number, target: slug}
    for kind, target, ids in (
        ("offer", "campaign", {"12": "demo-spring", "13": "demo-outlet", "21": "demo-novels"}),
        ("partner", "partner", {"1004": "demo-blog", "1005": "demo-video", "1006": "demo-coupons", "1007": "demo-mail"}),
    )
    for number, slug in ids.items()
)
ADVERTISERS: tuple[dict[str, Any], ...] = (
    {"slug": "demo-shoes", "name": "Shoes & Co", "currency": "EUR", "domains": ["shoes.example"]},
    {"slug": "demo-books", "name": "Book Barn", "currency": "USD", "domains": ["books.example"]},
)
CAMPAIGNS: tuple[dict[str, Any], ...] = (
    {"slug": "demo-spring", "advertiser": "demo-shoes", "name": "Spring shoes", "destination_url": "https://shoes.example/spring",
     "payout": {"type": "percent", "percent": "8"}, "attribution_window_days": 30},
    {"slug": "demo-outlet", "advertiser": "demo-shoes", "name": "Outlet", "destination_url": "https://shoes.example/outlet?src={partner}",
     "payout": {"type": "fixed", "amount": "3.50", "currency": "EUR"}, "attribution_window_days": 14},
    {"slug": "demo-novels", "advertiser": "demo-books", "name": "Novels", "destination_url": "https://books.example/novels",
     "payout": {"type": "percent", "percent": "10"}, "attribution_window_days": 60},
)  # fmt: skip
PARTNERS: tuple[dict[str, Any], ...] = (
    {"slug": "demo-network", "name": "A network", "email": "network@partners.example"},
    {"slug": "demo-blog", "name": "Shoe blog", "email": "blog@partners.example", "parent": "demo-network"},
    {"slug": "demo-video", "name": "Video channel", "email": "video@partners.example", "parent": "demo-network"},
    {"slug": "demo-coupons", "name": "Coupon site", "email": "coupons@partners.example"},
    {"slug": "demo-mail", "name": "Newsletter", "email": "mail@partners.example"},
)


def link_slug(partner: str, campaign: str) -> str:
    """`demo-blog-spring`, from the slugs of a partner and a campaign."""
    return f"{partner}-{campaign.removeprefix('demo-')}"


LINKS: tuple[dict[str, Any], ...] = tuple(
    {"slug": link_slug(partner["slug"], campaign["slug"]), "partner": partner["slug"], "campaign": campaign["slug"]}
    for partner in PARTNERS[1:]
    for campaign in CAMPAIGNS
)
COUPON = {"code": "DEMO10", "partner": "demo-coupons", "campaign": "demo-spring"}
ALIAS_TARGETS = {"demo-blog-spring": "/aff_c?offer_id=12&aff_id=1004", "demo-mail-outlet": "/t/summer-sale"}
ALIASES: tuple[dict[str, Any], ...] = tuple({"url": f"https://{OLD_HOST}{target}", "link": link} for link, target in ALIAS_TARGETS.items())
ADVERTISER_OF = {campaign["slug"]: campaign["advertiser"] for campaign in CAMPAIGNS}


class Programme:
    """The programme of one installation; its postback tokens are kept in `DATA_DIR/demo.json`, mode 600."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tracker = Door(settings.host, settings.tracker_port)
        self._kept = settings.directory.root / "demo.json"
        self.tokens: dict[str, str] = json.loads(self._kept.read_text()) if self._kept.exists() else {}

    def make(self) -> None:
        """Make what is missing of it; a second run makes nothing, whatever ended the first. StoreUnavailable when the API refuses."""
        for thing in ADVERTISERS:
            made = self._create("advertisers", thing)
            if made is None and thing["slug"] not in self.tokens:  # made before, and its token lost: it is shown once
                made = self._create(f"advertisers/{thing['slug']}/rotate-token", {})
            if made is not None:
                self.tokens[thing["slug"]] = made["postback_token"]
                self._keep_tokens()
        plurals = ("campaigns", "partners", "links", "coupons", "aliases", "tracking-hosts", "old-ids")
        for plural, things in zip(plurals, (CAMPAIGNS, PARTNERS, LINKS, (COUPON,), ALIASES, (HOST,), OLD_IDS), strict=True):
            for thing in things:
                self._create(plural, thing)

    def _create(self, path: str, thing: dict[str, Any]) -> dict[str, Any] | None:
        """What was made; None: it is there already."""
        status, _, body = self._tracker.ask("POST", f"/api/v1/{path}", thing, {"Authorization": f"Bearer {_admin_key(self._settings)}"})
        if status == 409:
            return None
        if status != 201:
            raise StoreUnavailable(f"demo: POST /api/v1/{path} answered {status}: {body[:200]!r}")
        made: dict[str, Any] = json.loads(body)
        return made

    def _keep_tokens(self) -> None:
        draft = self._kept.with_name("demo.json.new")
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(self.tokens, file)
        draft.replace(self._kept)


def _admin_key(settings: Settings) -> str:
    return settings.admin_key.get_secret_value() if settings.admin_key else settings.directory.admin_key.read_text().strip()
