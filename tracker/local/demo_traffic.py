"""A trickle of visitors and orders through the front doors, for as long as the demo runs."""

import http.client
import logging
import random
import time
from typing import Any
from urllib.parse import urlencode

from tracker.local.demo_crowd import BROWSERS, COUNTRIES, HABITS
from tracker.local.demo_programme import ADVERTISER_OF, ALIAS_TARGETS, LINKS, OLD_HOST
from tracker.local.door import Door
from tracker.settings import Settings

log = logging.getLogger(__name__)

CLICKS_A_SECOND = 2.0
ORDER_RATIO = 0.05
ALIAS_RATIO, UNKNOWN_RATIO, TWICE_RATIO = 0.15, 0.02, 0.1
ORDER_AFTER_S = 1.0
LINK_BY_SLUG = {link["slug"]: link for link in LINKS}


class Traffic:
    """Visitors of the demo programme, on this machine."""

    def __init__(self, settings: Settings, tokens: dict[str, str]) -> None:
        self._front, self._tracker = Door(settings.host, settings.redirector_port), Door(settings.host, settings.tracker_port)
        self._tokens = tokens
        self._random = random.Random()  # noqa: S311 - which browser visits next is no secret

    def run(self) -> None:
        """Visitors and orders until the process is ended; an outage is waited out."""
        while True:
            try:
                self._visit()
            except (OSError, http.client.HTTPException) as exc:
                log.info("demo_traffic.waiting", extra={"error": str(exc)})
            time.sleep(self._random.expovariate(CLICKS_A_SECOND))

    def _visit(self) -> None:
        """One visitor follows one link, old or new; one in twenty buys."""
        choice, headers = self._random.random(), self._headers()
        if choice < UNKNOWN_RATIO:
            self._front.ask("GET", "/c/no-such-link", headers=headers)
            return
        if choice < UNKNOWN_RATIO + ALIAS_RATIO:
            slug, path = self._random.choice([*ALIAS_TARGETS.items()])
            headers["Host"] = OLD_HOST
        else:
            slug = self._random.choice(LINKS)["slug"]
            path = f"/c/{slug}?{self._labels(slug)}"
        _, answer, _ = self._front.ask("GET", path, headers=headers)
        if "x-click-id" in answer and self._random.random() < ORDER_RATIO:
            time.sleep(ORDER_AFTER_S)
            self._order(answer["x-click-id"], LINK_BY_SLUG[slug])

    def _headers(self) -> dict[str, str]:
        habits = self._random.choice([*HABITS.values()])
        return {
            "User-Agent": self._random.choice(BROWSERS),
            "Accept-Language": self._random.choice(COUNTRIES).language,
            "Referer": habits.referrer,
        }

    def _labels(self, slug: str) -> str:
        subs = HABITS[LINK_BY_SLUG[slug]["partner"]].subs
        return urlencode({f"sub{number}": self._random.choice(values) for number, values in enumerate(subs, 1) if values})

    def _order(self, click_id: str, link: dict[str, Any]) -> None:
        """The shop reports an order of the click; one in ten is reported twice, as shops do."""
        token = self._tokens.get(ADVERTISER_OF[link["campaign"]])
        if token is None:
            return
        amount = f"{self._random.randrange(900, 18000) / 100:.2f}"
        txid = f"D{time.time_ns() // 1_000_000}"
        fields = {"token": token, "click_id": click_id, "txid": txid, "amount": amount, "demo": "1"}
        for _ in range(2 if self._random.random() < TWICE_RATIO else 1):
            self._tracker.ask("GET", f"/postback?{urlencode(fields)}")
