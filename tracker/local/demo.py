"""`turnout up --demo`: a small programme, made through the API, and a trickle of visitors and orders through the front doors.

Everything goes the way of real traffic; nothing is written past it. The programme's slugs begin with `demo-`.
"""

import http.client
import json
import logging
import os
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from tracker.errors import StoreUnavailable
from tracker.settings import Settings

log = logging.getLogger(__name__)

CLICKS_A_SECOND = 2.0
ORDER_RATIO = 0.05
ANSWER_TIMEOUT_S = 10.0
OLD_HOST = "go.old-brand.example"

BROWSERS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36 Edg/141.0.0.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (iPad; CPU OS 17_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.7 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
)
LANGUAGES = ("de-DE,de;q=0.9,en;q=0.7", "en-US,en;q=0.9", "fr-FR,fr;q=0.9", "nl-NL,nl;q=0.8")
REFERRERS = ("https://reviews.example/best-shoes", "https://newsletter.example/", "https://video.example/watch?v=1", "")

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
LINKS: tuple[dict[str, Any], ...] = tuple(
    {"slug": f"{partner['slug']}-{campaign['slug'].removeprefix('demo-')}", "partner": partner["slug"], "campaign": campaign["slug"]}
    for partner in PARTNERS[1:]
    for campaign in CAMPAIGNS
)
COUPON = {"code": "DEMO10", "partner": "demo-coupons", "campaign": "demo-spring"}
ALIASES: tuple[dict[str, Any], ...] = (
    {"url": f"https://{OLD_HOST}/aff_c?offer_id=12&aff_id=1004", "link": "demo-blog-spring"},
    {"url": f"https://{OLD_HOST}/t/summer-sale", "link": "demo-mail-outlet"},
)


@dataclass(frozen=True, slots=True)
class Door:
    """One of our HTTP front doors, on this machine."""

    host: str
    port: int

    def ask(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (names in lower case) and body. OSError when nobody answers."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=ANSWER_TIMEOUT_S)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()


class Demo:
    """The demo programme of one installation; its postback tokens are kept in `DATA_DIR/demo.json`, mode 600."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._front = Door(settings.host, settings.redirector_port)
        self._tracker = Door(settings.host, settings.tracker_port)
        self._kept = settings.directory.root / "demo.json"
        self._tokens: dict[str, str] = json.loads(self._kept.read_text()) if self._kept.exists() else {}
        self._random = random.Random()  # noqa: S311 - which browser visits next is no secret

    def make_programme(self) -> None:
        """Make what is missing of it; a second run makes nothing."""
        for thing in ADVERTISERS:
            made = self._create("advertisers", thing)
            if made is not None:
                self._tokens[thing["slug"]] = made["postback_token"]
                self._keep_tokens()
        for plural, things in (
            ("campaigns", CAMPAIGNS),
            ("partners", PARTNERS),
            ("links", LINKS),
            ("coupons", (COUPON,)),
            ("aliases", ALIASES),
        ):
            for thing in things:
                self._create(plural, thing)

    def _create(self, plural: str, thing: dict[str, Any]) -> dict[str, Any] | None:
        status, _, body = self._tracker.ask("POST", f"/api/v1/{plural}", thing, {"Authorization": f"Bearer {_admin_key(self._settings)}"})
        if status == 409:
            return None
        if status != 201:
            raise StoreUnavailable(f"demo: POST /api/v1/{plural} answered {status}: {body[:200]!r}")
        made: dict[str, Any] = json.loads(body)
        return made

    def _keep_tokens(self) -> None:
        with open(os.open(self._kept, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(self._tokens, file)

    def visit(self) -> str | None:
        """One visitor follows one link, old or new; the click id the shop would see."""
        choice = self._random.random()
        link = self._random.choice(LINKS)
        headers = {"User-Agent": self._random.choice(BROWSERS), "Accept-Language": self._random.choice(LANGUAGES)}
        headers["Referer"] = self._random.choice(REFERRERS)
        path = f"/c/{link['slug']}?sub1=post-{self._random.randrange(1, 20)}"
        if choice < 0.15:
            old = urlsplit(self._random.choice(ALIASES)["url"])
            headers["Host"], path = OLD_HOST, old.path + ("?" + old.query if old.query else "")
        elif choice < 0.17:
            path = "/c/no-such-link"
        _, answer, _ = self._front.ask("GET", path, headers=headers)
        return answer.get("x-click-id") if choice >= 0.17 else None

    def order(self, click_id: str) -> None:
        """The shop reports an order of the click; one in ten is reported twice, as shops do."""
        advertiser = self._random.choice(ADVERTISERS)["slug"]
        amount = f"{self._random.randrange(900, 18000) / 100:.2f}"
        fields = {"token": self._tokens[advertiser], "click_id": click_id, "txid": f"D{time.time_ns() // 1_000_000}", "amount": amount}
        for _ in range(2 if self._random.random() < 0.1 else 1):
            self._tracker.ask("GET", f"/postback?{urlencode(fields)}")

    def run(self) -> None:
        """Visitors and orders until the process is ended; an outage is waited out."""
        while True:
            try:
                click_id = self.visit()
                if click_id and self._tokens and self._random.random() < ORDER_RATIO:
                    time.sleep(1.0)
                    self.order(click_id)
            except (OSError, http.client.HTTPException) as exc:
                log.info("demo.waiting", extra={"error": str(exc)})
            time.sleep(self._random.expovariate(CLICKS_A_SECOND))

    def page(self) -> str:
        """Lines to copy and paste."""
        front = f"http://{self._front.host}:{self._front.port}"
        tracker = f"http://{self._tracker.host}:{self._tracker.port}"
        key = f"$(cat {Path(self._settings.directory.admin_key)})"
        token = self._tokens.get("demo-shoes", "TOKEN")
        return f"""
A visitor follows a link (the shop gets the click id):
  curl -i -A '{BROWSERS[0]}' '{front}/c/demo-blog-spring?sub1=hello'
An old link goes on working:
  curl -i -A '{BROWSERS[0]}' -H 'Host: {OLD_HOST}' '{front}/aff_c?offer_id=12&aff_id=1004'
The shop reports an order, twice (put the X-Click-Id of a click above in place of CLICK_ID; the second answer says duplicate):
  curl '{tracker}/postback?token={token}&click_id=CLICK_ID&txid=ORDER-1&amount=49.90&currency=EUR'
What it came to:
  curl -H "Authorization: Bearer {key}" '{tracker}/api/v1/reports?from={_today()}&to={_today()}&group_by=partner'
The books:
  curl -H "Authorization: Bearer {key}" '{tracker}/api/v1/audit'
Metrics:
  curl '{front}/-/metrics' '{tracker}/metrics' 'http://{self._settings.host}:{self._settings.worker_metrics_port}/metrics'
"""


def _today() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())


def _admin_key(settings: Settings) -> str:
    return settings.admin_key.get_secret_value() if settings.admin_key else settings.directory.admin_key.read_text().strip()


def run(settings: Settings) -> int:
    """Make the programme, print the page, send the traffic. Ends with the signal that ends `up`."""
    demo = Demo(settings)
    demo.make_programme()
    sys.stdout.write(demo.page())
    sys.stdout.flush()
    demo.run()
    return 0
