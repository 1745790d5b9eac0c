"""Verdicts on clicks: what the visitors saw against what PostgreSQL has. Values in, values out; the reading is at the end.

LOST   a 302 was seen, and no row has its click id
DUP    a click id, or a request, that is stored more than once
GHOST  a row that belongs to no request that was answered with that click id, or whose answer is unknown
DRIFT  rollups that differ from a recount of the rows
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from loadtests.chaos.click_ids import to_text
from loadtests.chaos.ledger import UNKNOWN, Visit

PROBE = "probe"  # `sub1` of the harness's own questions, which are in no ledger

ROWS = "SELECT click_id, sub1 FROM clicks"
QUARTERS = """
    WITH told AS (
        SELECT bucket, campaign, partner, link, sum(clicks) AS clicks, sum(unique_clicks) AS uniques, sum(total) AS total
        FROM click_stats GROUP BY 1, 2, 3, 4
    ), counted AS (
        SELECT date_bin('15 minutes', clicked_at, '2000-01-01T00:00:00Z') AS bucket, coalesce(campaign, 0) AS campaign,
            coalesce(partner, 0) AS partner, coalesce(link, 0) AS link, count(*) FILTER (WHERE counted) AS clicks,
            count(*) FILTER (WHERE counted AND is_unique) AS uniques, count(*) AS total
        FROM clicks GROUP BY 1, 2, 3, 4
    )
    SELECT coalesce(sum(abs(coalesce(t.total, 0) - coalesce(c.total, 0)) + abs(coalesce(t.clicks, 0) - coalesce(c.clicks, 0))
        + abs(coalesce(t.uniques, 0) - coalesce(c.uniques, 0))), 0) AS drift
    FROM told t FULL JOIN counted c USING (bucket, campaign, partner, link)
"""
DAYS = """
    WITH told AS (
        SELECT day, campaign, partner, sum(clicks) AS clicks, sum(unique_clicks) AS uniques, sum(total) AS total
        FROM daily_stats GROUP BY 1, 2, 3
    ), counted AS (
        SELECT (clicked_at AT TIME ZONE 'UTC')::date AS day, coalesce(campaign, 0) AS campaign, coalesce(partner, 0) AS partner,
            count(*) FILTER (WHERE counted) AS clicks, count(*) FILTER (WHERE counted AND is_unique) AS uniques, count(*) AS total
        FROM clicks GROUP BY 1, 2, 3
    )
    SELECT coalesce(sum(abs(coalesce(t.total, 0) - coalesce(c.total, 0)) + abs(coalesce(t.clicks, 0) - coalesce(c.clicks, 0))
        + abs(coalesce(t.uniques, 0) - coalesce(c.uniques, 0))), 0) AS drift
    FROM told t FULL JOIN counted c USING (day, campaign, partner)
"""


@dataclass(frozen=True, slots=True)
class Row:
    """A stored click: its id as text, and `sub1`."""

    click_id: str
    sub1: str


@dataclass(slots=True)
class ClickVerdict:
    """Numbers of the visits concerned; ghosts by click id. `unstored`: unknown visits that left no row, which is allowed."""

    lost: list[int] = field(default_factory=list)
    dup: list[int] = field(default_factory=list)
    ghost: list[str] = field(default_factory=list)
    bad: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    hung: list[int] = field(default_factory=list)
    unstored: int = 0


def judge(visits: Mapping[int, Visit], rows: Iterable[Row]) -> ClickVerdict:
    """Compare the ledger of the visitors with the rows of `clicks`."""
    rows = [row for row in rows if row.sub1 != PROBE]
    ids = Counter(row.click_id for row in rows)
    numbers = Counter(_number(row) for row in rows)
    verdict = ClickVerdict()
    for number, visit in visits.items():
        stored = numbers[number]
        if visit.outcome == "ok" and not ids[visit.click_id]:
            verdict.lost.append(number)
        if stored > 1 or (visit.click_id and ids[visit.click_id] > 1):
            verdict.dup.append(number)
        if visit.outcome in UNKNOWN and not stored:
            verdict.unstored += 1
        if visit.outcome in ("bad", "refused", "hung"):
            getattr(verdict, visit.outcome).append(number)
    verdict.ghost = [row.click_id for row in rows if _is_ghost(row, visits)]
    return verdict


def _number(row: Row) -> int:
    return int(row.sub1) if row.sub1.isdigit() else -1


def _is_ghost(row: Row, visits: Mapping[int, Visit]) -> bool:
    visit = visits.get(_number(row))
    if visit is None:
        return True
    return visit.outcome not in UNKNOWN and visit.click_id != row.click_id


async def read_rows(connection: Any) -> list[Row]:
    """All clicks."""
    return [Row(to_text(row["click_id"]), row["sub1"] or "") for row in await connection.fetch(ROWS, timeout=120)]


async def drift(connection: Any) -> int:
    """By how much the rollups differ from a recount in the same snapshot: sum over all buckets and measures."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return int(await connection.fetchval(QUARTERS, timeout=120)) + int(await connection.fetchval(DAYS, timeout=120))
