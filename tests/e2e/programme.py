"""A programme that a test makes for itself, under names that nobody else has; at its end it is archived, and nothing else is touched."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tests.e2e.deployment import Deployment
from tests.wait import wait_until_sync

LIVE_S = 30  # a change is live within two seconds; a deployment on a busy machine gets more time before a test calls that an error


@dataclass(frozen=True)
class Programme:
    """Advertiser (EUR, 10 %), campaign, partner and link, all with the same slug; `shop` is where the link leads."""

    turnout: Deployment
    slug: str
    token: str
    began_at: datetime

    @property
    def shop(self):
        return f"https://{self.slug}.example/"

    def click(self, parameters=""):
        """Click id and destination of one click that counts."""
        status, headers, _ = self.turnout.visit(f"/c/{self.slug}{parameters}")
        assert (status, headers["Cache-Control"]) == (302, "no-store")
        return headers["X-Click-Id"], headers["Location"]

    def leads_to_the_shop(self, path, **headers):
        """HEAD, so that no question is counted. The installation may have a fallback: a 302 alone says nothing."""
        return (self.turnout.visit(path, method="HEAD", **headers)[1]["Location"] or "").startswith(self.shop)

    def wait_until_live(self, path=None, **headers):
        wait_until_sync(lambda: self.leads_to_the_shop(path or f"/c/{self.slug}", **headers), within_s=LIVE_S, because="it is live")

    def reported(self, group_by):
        """What the report says of the partner. A day more on both sides: the test may cross midnight, and clocks differ."""
        first, last = ((at + timedelta(days=days)).date() for at, days in ((self.began_at, -1), (datetime.now(UTC), 1)))
        return self.turnout.api(f"/reports?from={first}&to={last}&group_by={group_by}&filter[partner]={self.slug}")["rows"]

    def archive(self):
        for kind in ("links", "campaigns", "partners", "advertisers"):
            self.turnout.api(f"/{kind}/{self.slug}", {"status": "archived"}, method="PATCH")


def make_programme(turnout):
    began_at = datetime.now(UTC)
    slug = f"e2e-{secrets.token_hex(8)}"
    made = turnout.api("/advertisers", {"slug": slug, "name": "End to end", "currency": "EUR", "domains": [f"{slug}.example"]})
    payout = {"type": "percent", "percent": "10"}
    to = f"https://{slug}.example/"
    turnout.api("/campaigns", {"slug": slug, "advertiser": slug, "name": "End to end", "destination_url": to, "payout": payout})
    turnout.api("/partners", {"slug": slug, "name": "End to end", "email": "e2e@partners.example", "parent": None})
    turnout.api("/links", {"slug": slug, "partner": slug, "campaign": slug, "destination_url": None})
    return Programme(turnout, slug, made["postback_token"], began_at)
