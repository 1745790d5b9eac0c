"""A month of visits and orders, planned day by day: the same for the same day, whenever and however often it is asked for. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from random import Random
from urllib.parse import urlencode

from tracker.domain import click_id
from tracker.local.demo_crowd import BOTS, COUNTRIES, DESKTOPS, HABITS, HOURS, PHONES, TABLETS, Country, Habits
from tracker.local.demo_programme import ADVERTISER_OF, ALIAS_TARGETS, CAMPAIGNS, COUPON, OLD_HOST, link_slug

SEED = "turnout demo 1"  # another one makes another month
DAYS = 30
CLICKS_A_DAY = 250  # on a usual day, all partners together
NEW_HOST = "go.demo.example"
BOT_RATIO, PREFETCH_RATIO, HEAD_RATIO = 0.06, 0.03, 0.01
UNKNOWN_RATIO = 0.02  # of all clicks: nobody's links
ALIAS_RATIO = 0.3  # of the clicks of a link that has an alias
TABLET_RATIO = 0.06
UNKNOWN = ((NEW_HOST, "/c/no-such-link"), (OLD_HOST, "/t/winter-sale"), (OLD_HOST, "/aff_c?offer_id=12&aff_id=1999"))
HOUSEHOLDS = 400  # a country: some come twice a day
PRICES = {"demo-spring": (64.0, 0.45), "demo-outlet": (31.0, 0.4), "demo-novels": (18.0, 0.5)}  # median, spread of the logarithm
COUPON_RATIO = 0.15  # of the coupon site's orders: the code was typed, no click id came along
PENDING_RATIO, REVERSED_RATIO, TWICE_RATIO = 0.15, 0.05, 0.04
HOLD = timedelta(days=7)  # a pending order is approved or rejected so much later
DELAY_MEAN_S = 5 * 3600.0  # from click to order
DELAY_MAX_S = 5 * 86_400.0  # below every attribution window
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of the past, as it would have come in."""

    at_us: int
    click_id: bytes
    method: str
    host: str
    target: str
    address: str
    country: str
    language: str
    user_agent: str
    referrer: str
    is_prefetch: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """One postback of the past. `at` is Unix time in seconds, also its `ts`; `fields` are the rest of what the shop sends."""

    at: int
    advertiser: str
    fields: dict[str, str]

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from others: order and status."""
        return self.fields["txid"], self.fields["status"]


@dataclass(frozen=True, slots=True)
class Month:
    """What happened in some days, in order of time."""

    visits: list[Visit]
    reports: list[Report]


def month(first: date, until: datetime) -> Month:
    """All of the UTC days from `first` on that happened before `until`, an aware UTC instant."""
    visits, reports = list[Visit](), list[Report]()
    for number in range((until.date() - first).days + 1):
        day = _Day(first + timedelta(days=number))
        visits += day.visits
        reports += day.reports
    end_s = until.timestamp()
    return Month(
        sorted((visit for visit in visits if visit.at_us < end_s * 1_000_000), key=lambda visit: visit.click_id),
        sorted((report for report in reports if report.at < end_s), key=lambda report: (report.at, report.key)),
    )


class _Day:
    """One UTC day, with the reports, some of them later, of its clicks."""

    def __init__(self, day: date) -> None:
        self._random = Random(f"{SEED} {day.isoformat()}")  # noqa: S311 - the same month each time is the point
        self._day = day
        self._starts_at_s = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
        self.visits: list[Visit] = []
        self.reports: list[Report] = []
        for partner, habits in HABITS.items():
            expected = CLICKS_A_DAY * habits.share * habits.weekdays[day.weekday()]
            for _ in range(round(expected * self._random.uniform(0.88, 1.12))):
                self._visit(partner, habits)
        for _ in range(round(CLICKS_A_DAY * UNKNOWN_RATIO)):
            self._lost_visit()

    def _visit(self, partner: str, habits: Habits) -> None:
        random = self._random
        campaign = random.choices(CAMPAIGNS, habits.campaigns)[0]["slug"]
        host, target = self._target(partner, campaign, habits)
        chance = random.random()
        if chance < BOT_RATIO:
            self._add(host, target, COUNTRIES[2], random.choice(BOTS), "")
            return
        method, is_prefetch = "GET", chance < BOT_RATIO + PREFETCH_RATIO
        if BOT_RATIO + PREFETCH_RATIO <= chance < BOT_RATIO + PREFETCH_RATIO + HEAD_RATIO:
            method = "HEAD"
        visit = self._add(host, target, self._country(), self._browser(habits.mobile_ratio), habits.referrer, method, is_prefetch)
        if method == "GET" and not is_prefetch and random.random() < habits.order_ratio:
            self._order(visit, partner, campaign)

    def _lost_visit(self) -> None:
        host, target = self._random.choice(UNKNOWN)
        self._add(host, target, self._country(), self._browser(0.5), "")

    def _target(self, partner: str, campaign: str, habits: Habits) -> tuple[str, str]:
        random, slug = self._random, link_slug(partner, campaign)
        if slug in ALIAS_TARGETS and random.random() < ALIAS_RATIO:
            return OLD_HOST, ALIAS_TARGETS[slug]
        labels = {f"sub{number}": random.choice(values) for number, values in enumerate(habits.subs, 1) if values}
        if partner == "demo-coupons":
            labels["ref"] = f"cp{random.randrange(10**8):08d}"
        return NEW_HOST, f"/c/{slug}?{urlencode(labels)}"

    def _country(self) -> Country:
        return self._random.choices(COUNTRIES, [country.share for country in COUNTRIES])[0]

    def _browser(self, mobile_ratio: float) -> str:
        chance = self._random.random()
        kind = PHONES if chance < mobile_ratio else TABLETS if chance < mobile_ratio + TABLET_RATIO else DESKTOPS
        return self._random.choice(kind)

    def _add(
        self, host: str, target: str, country: Country, user_agent: str, referrer: str, method: str = "GET", is_prefetch: bool = False
    ) -> Visit:
        random = self._random
        hour = (random.choices(range(24), HOURS)[0] - country.hours_ahead) % 24
        at_ms = (self._starts_at_s + hour * 3600) * 1000 + random.randrange(3_600_000)
        home = COUNTRIES.index(country) * HOUSEHOLDS + random.randrange(HOUSEHOLDS)
        visit = Visit(
            at_us=at_ms * 1000,
            click_id=click_id.compose(at_ms, random.randbytes(click_id.RANDOM_BYTES)),
            method=method,
            host=host,
            target=target,
            address=f"2001:db8:{home:x}::1",  # of the block that documents may use: nobody lives there
            country=country.code,
            language=country.language,
            user_agent=user_agent,
            referrer=referrer,
            is_prefetch=is_prefetch,
        )
        self.visits.append(visit)
        return visit

    def _order(self, visit: Visit, partner: str, campaign: str) -> None:
        random = self._random
        at = visit.at_us // 1_000_000 + 60 + int(min(random.expovariate(1 / DELAY_MEAN_S), DELAY_MAX_S))
        median, spread = PRICES[campaign]
        fields = {
            "txid": f"DEMO-{self._day:%Y%m%d}-{len(self.reports) + 1:03d}",
            "amount": f"{median * random.lognormvariate(0, spread):.2f}",
        }
        if partner == COUPON["partner"] and campaign == COUPON["campaign"] and random.random() < COUPON_RATIO:
            fields["coupon"] = COUPON["code"]
        else:
            fields["click_id"] = click_id.to_text(visit.click_id).decode()
        self.reports += self._reports(at, ADVERTISER_OF[campaign], fields)

    def _reports(self, at: int, advertiser: str, fields: dict[str, str]) -> Iterator[Report]:
        """The shop's first word on an order, now and then twice, and what it says of it later."""
        random = self._random
        first = "pending" if random.random() < PENDING_RATIO else "approved"
        for _ in range(2 if random.random() < TWICE_RATIO else 1):
            yield Report(at, advertiser, fields | {"status": first})
        if first == "pending":
            later = "approved" if random.random() < 0.8 else "rejected"
            yield Report(at + HOLD // timedelta(seconds=1), advertiser, fields | {"status": later})
        elif random.random() < REVERSED_RATIO:
            yield Report(at + random.randrange(2, 9) * DAY_S, advertiser, fields | {"status": "reversed"})
