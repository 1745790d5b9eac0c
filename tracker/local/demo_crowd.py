"""Who visits the demo programme: browsers, countries, and the habits of each partner's readers."""

from dataclasses import dataclass

DESKTOPS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36 Edg/141.0.0.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
)
PHONES = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Mobile Safari/537.36",
)
TABLETS = (
    "Mozilla/5.0 (iPad; CPU OS 17_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.7 Mobile/15E148 Safari/604.1",
)
BOTS = (
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "curl/8.5.0",
)
BROWSERS = (*DESKTOPS, *PHONES, *TABLETS, BOTS[0])


@dataclass(frozen=True, slots=True)
class Country:
    """Where visitors live. `share` is of all; `hours_ahead` of UTC, close enough for a curve; `language` as a browser sends it."""

    code: str
    share: float
    hours_ahead: int
    language: str


COUNTRIES = (
    Country("DE", 0.38, 1, "de-DE"),
    Country("FR", 0.17, 1, "fr-FR"),
    Country("US", 0.15, -5, "en-US"),
    Country("GB", 0.11, 0, "en-GB"),
    Country("NL", 0.09, 1, "nl-NL"),
    Country("AT", 0.06, 1, "de-AT"),
    Country("PL", 0.04, 1, "pl-PL"),
)


@dataclass(frozen=True, slots=True)
class Habits:
    """One partner's readers.

    `share` is of all clicks; `campaigns` the weights of spring, outlet and novels; `mobile_ratio` of visitors with a phone;
    `order_ratio` of valid clicks that buy; `weekdays` the weights of Monday to Sunday; `subs` are values of sub1 and sub2.
    """

    share: float
    campaigns: tuple[float, float, float]
    mobile_ratio: float
    order_ratio: float
    weekdays: tuple[float, ...]
    subs: tuple[tuple[str, ...], tuple[str, ...]]
    referrer: str


_QUIET_MONDAYS = (0.90, 0.94, 0.97, 1.0, 0.98, 1.10, 1.18)
HABITS = {
    "demo-blog": Habits(
        0.42, (0.6, 0.25, 0.15), 0.48, 0.026, _QUIET_MONDAYS,
        (tuple(f"post-{number}" for number in range(1, 20)), ()), "https://reviews.example/best-shoes",
    ),
    "demo-video": Habits(
        0.29, (0.5, 0.2, 0.3), 0.74, 0.014, (0.85, 0.85, 0.9, 0.95, 1.1, 1.25, 1.3),
        (("unboxing", "haul", "top10", "live"), ("description", "pinned")), "https://video.example/watch?v=1",
    ),
    "demo-coupons": Habits(
        0.19, (0.45, 0.45, 0.1), 0.52, 0.062, _QUIET_MONDAYS, (("list", "search"), ()), "https://coupons.example/shoes",
    ),
    "demo-mail": Habits(
        0.10, (0.3, 0.4, 0.3), 0.61, 0.041, (0.3, 2.6, 0.9, 1.9, 0.6, 0.4, 0.3),
        (tuple(f"issue-{number}" for number in range(31, 35)), ("header", "footer")), "https://newsletter.example/",
    ),
}  # fmt: skip
# Clicks by hour of the visitor's own day: nearly nobody at four, a lunch break, most at eight in the evening.
HOURS = (1.3, 0.8, 0.5, 0.3, 0.3, 0.5, 1.2, 2.4, 3.4, 3.9, 4.2, 4.5, 5.0, 4.6, 4.4, 4.5, 4.9, 5.6, 6.6, 7.8, 8.6, 8.0, 5.8, 3.1)
