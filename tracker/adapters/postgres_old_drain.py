"""How much of old platforms' past still counts, as PostgreSQL knows it, and the end of what counts no more."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

from tracker.adapters.postgres_identify import Snapshot
from tracker.adapters.postgres_old_clicks import Ids, meanings
from tracker.adapters.postgres_pool import Connection, Database
from tracker.domain.drain import Heap, Remaining, remaining

TIMEOUT_S = 120.0
LOOK_BACK_DAYS = 90  # of rates, of ages, and of what stays beyond its window
AGES_MAX = 5_000
DROPPED = 5_000  # rows a transaction
# Each source by one step in the index, however many clicks it has.
SOURCES = """
    WITH RECURSIVE s AS (
        (SELECT source FROM old_clicks ORDER BY source LIMIT 1)
        UNION ALL SELECT (SELECT o.source FROM old_clicks o WHERE o.source > s.source ORDER BY o.source LIMIT 1) FROM s
        WHERE s.source IS NOT NULL
    )
    SELECT s.source, coalesce(h.platform, s.source) AS platform FROM s LEFT JOIN LATERAL (
        SELECT platform FROM tracking_hosts WHERE coalesce(nullif(source, ''), platform) = s.source ORDER BY id LIMIT 1
    ) h ON true WHERE s.source IS NOT NULL
"""
WINDOWS = """
    SELECT m.id, m.advertiser_id, greatest(m.attribution_window_days, max(g.attribution_window_days)) AS window_days
    FROM campaigns m LEFT JOIN goals g ON g.campaign_id = m.id GROUP BY m.id
"""
# A click that came through here and is in an export too (its times a minute apart at most) counts once, as the one whose campaign is known.
HEAPS = """
    WITH counted AS (
        SELECT campaign, old_offer, clicked_at FROM old_clicks
        WHERE source = $1 AND clicked_at > now() - make_interval(days => $2) AND grade IS DISTINCT FROM 'raw'
        UNION ALL
        SELECT o.campaign, o.old_offer, o.clicked_at FROM old_clicks o
        WHERE o.source = $1 AND o.clicked_at > now() - make_interval(days => $2) AND o.grade = 'raw' AND NOT EXISTS (
            SELECT FROM old_clicks s
            WHERE s.source = $1 AND s.clicked_at > now() - make_interval(days => $2) - interval '1 minute' AND s.grade IS NULL
              AND s.old_click_id = o.old_click_id
              AND s.clicked_at BETWEEN o.clicked_at - interval '1 minute' AND o.clicked_at + interval '1 minute'
        )
    )
    SELECT campaign, CASE WHEN campaign IS NULL THEN old_offer END AS old_offer,
        greatest(floor(extract(epoch FROM now() - clicked_at) / 86400), 0)::integer AS age_days, count(*) AS clicks,
        max(clicked_at) AS last_at
    FROM counted GROUP BY 1, 2, 3
"""
# Conversions of old clicks, by source. Their reports or cookies name the click; where its case differs nobody is the worse for one less.
CONVERTED = """
    SELECT o.source, count(*) AS conversions, min(c.converted_at) AS first_at
    FROM conversions c JOIN postbacks p ON p.postback_id = c.postback_id JOIN LATERAL (
        SELECT k.source FROM old_clicks k WHERE k.clicked_at = c.clicked_at AND k.old_click_id = ANY(
            p.click_id || ARRAY(SELECT substr(v.visit, 5) FROM unnest(p.visits) AS v(visit) WHERE v.visit LIKE 'old:%')
        ) LIMIT 1
    ) o ON true
    WHERE c.converted_at >= now() - make_interval(days => $1) AND c.clicked_at >= now() - make_interval(days => $1)
      AND c.status <> 'orphan'
    GROUP BY 1
"""
AGES = """
    SELECT extract(epoch FROM converted_at - clicked_at)::float8 / 86400 AS days FROM conversions
    WHERE advertiser_id = $1 AND clicked_at <= converted_at AND converted_at >= now() - make_interval(days => $2)
    ORDER BY converted_at DESC LIMIT $3
"""
LAST_REPORT = """
    SELECT received_at FROM old_reports WHERE source = $1 AND received_at >= now() - make_interval(days => $2)
    ORDER BY received_at DESC LIMIT 1
"""
FIRST_REPORT = "SELECT received_at FROM old_reports WHERE source = $1 ORDER BY received_at LIMIT 1"
DROP = """
    DELETE FROM old_clicks WHERE id = ANY(ARRAY(
        SELECT id FROM old_clicks WHERE source = $1 AND clicked_at < now() - make_interval(days => $2) ORDER BY clicked_at LIMIT $3
    ))
"""


@dataclass(frozen=True, slots=True)
class Rates:
    """What changes slowly: how many conversions came of a source's clicks and when the first, and at what ages those of an advertiser
    came; under None: of all."""

    conversions: Mapping[str, tuple[int, datetime]]
    ages: Mapping[int | None, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of one source, and when its hosts were last told of an order (of the last 90 days)."""

    source: str
    remaining: Remaining
    last_report_at: datetime | None

    def as_dict(self) -> dict[str, Any]:
        """For programs and people."""
        found = asdict(self.remaining)
        return {
            "source": self.source,
            "in_window": found["in_window"],
            "unmapped": found["unmapped"],
            "expected_conversions": None if found["expected"] is None else round(found["expected"], 1),
            "basis": found["basis"],
            "needed_until": found["until"],
            "last_report_at": self.last_report_at,
        }


async def rates(database: Database) -> Rates:
    """Looked up for all sources together."""
    async with database.connection(TIMEOUT_S) as connection:
        conversions = {row["source"]: (row["conversions"], row["first_at"]) for row in await connection.fetch(CONVERTED, LOOK_BACK_DAYS)}
        ages = dict[int | None, Sequence[float]]()
        for advertiser in {row["advertiser_id"] for row in await connection.fetch(WINDOWS)} if conversions else ():
            rows = await connection.fetch(AGES, advertiser, LOOK_BACK_DAYS, AGES_MAX)
            ages[advertiser] = sorted(row["days"] for row in rows)
    ages[None] = sorted(chain.from_iterable(ages.values()))
    return Rates(conversions, ages)


async def left(database: Database, by: Rates, *, source: str | None = None) -> list[Left]:
    """What is left of every source, or of one."""
    async with database.connection(TIMEOUT_S) as connection:
        windows = {row["id"]: row for row in await connection.fetch(WINDOWS)}
        sources = [row for row in await connection.fetch(SOURCES) if source in (None, row["source"])]
        return [await _left(connection, row["source"], row["platform"], windows, by) for row in sources]


async def drop_old(database: Database, source: str) -> int:
    """Take one batch of a source's clicks away whose windows ended more than 90 days ago; how many."""

    async def work(connection: Connection) -> int:
        windows = await connection.fetch(WINDOWS)
        days = _longest({row["id"]: row for row in windows}) + LOOK_BACK_DAYS
        return int((await connection.execute(DROP, source, days, DROPPED)).rpartition(" ")[2])

    return await database.transaction(work, timeout_s=TIMEOUT_S)


async def _left(connection: Connection, source: str, platform: str, windows: Mapping[int, Any], by: Rates) -> Left:
    longest = _longest(windows)
    rows = await connection.fetch(HEAPS, source, max(longest, LOOK_BACK_DAYS))
    offers = list(dict.fromkeys(row["old_offer"] for row in rows if row["campaign"] is None))
    found = await meanings(connection, [Ids(source, platform, None, offer) for offer in offers], Snapshot())
    campaigns = {offer: meaning.campaign for offer, meaning in zip(offers, found, strict=True)}
    heaps = list[Heap]()
    for row in rows:
        number = row["campaign"] or campaigns.get(row["old_offer"])
        campaign = windows.get(number) if number else None
        window = campaign["window_days"] if campaign else longest
        ages = by.ages.get(campaign["advertiser_id"] if campaign else None, ())
        heaps.append(Heap(row["age_days"], window, row["clicks"], row["last_at"], ages, campaign is not None))
    last = await connection.fetchval(LAST_REPORT, source, LOOK_BACK_DAYS)
    conversions, first_at = by.conversions.get(source, (0, None))
    since = min(filter(None, (first_at, await connection.fetchval(FIRST_REPORT, source))), default=None)
    seen_days = min((datetime.now(UTC) - since) / timedelta(days=1), LOOK_BACK_DAYS) if since else 0.0
    return Left(source, remaining(heaps, conversions=conversions, seen_days=seen_days), last)


def _longest(windows: Mapping[int, Any]) -> int:
    return max((row["window_days"] for row in windows.values()), default=30)
