"""Clicks under the ids that an old platform gave them: those that came through here, those a shop's page told of, and imported ones.

Whoever asks for many ids at once (which parked postbacks may have a click by now) joins `clicks.old_click_id` and
`old_clicks.old_click_id` with `= ANY(ids)`, each table once, where `ids` has each id also in `other_cases` of it, and compares
`lower()` of both sides: a superset of what `find` finds, by index alone.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg

from tracker.adapters import postgres_old_clicks_sql as sql
from tracker.adapters.postgres_identify import Snapshot
from tracker.adapters.postgres_pool import Connection
from tracker.domain.identify import identify
from tracker.domain.old_click_rows import other_cases
from tracker.platforms.loader import Shelf
from tracker.platforms.profile import Profile
from tracker.platforms.reading import Reading

_PROFILES: Final = Shelf()
IDS_OF_A_CLICK: Final = 3  # and of a source, as pages tell them


class Ids(NamedTuple):
    """The old platform's ids of a click. `platform`: by whose rule they are spelled."""

    source: str
    platform: str
    partner: str | None
    offer: str | None
    creative: str | None = None


class Meaning(NamedTuple):
    """Whose a click is. None: nobody knows (yet)."""

    campaign: int | None
    partner: int | None
    link: int | None


async def find(
    connection: Connection,
    *,
    goal: str,
    old_click_id: str,
    advertiser_id: int,
    campaign_id: int | None,
    source: str | None = None,
    at: datetime | None = None,
) -> list[asyncpg.Record]:
    """The clicks of an old id in the advertiser's campaigns, newest first, at most 50, with the columns of `CLICK_BY_ID`.

    Chosen in this order. `source`: whose ids they are; where it has the id, others' clicks of that id are others. `campaign_id`: only
    clicks of it, if there are any. What the old platform exported, while `at` (when the conversion happened; None: now) is inside its
    window, hides what was only seen in URLs: anybody can write those. Of the latter, where several partners have the id, only the clicks
    of who told of it first are found, of those inside their window. `click_id` is ours, None for a click that never came through here;
    `partner` is None where its old id is not mapped yet. An id that nobody knows as it is written counts in other letter case, if only
    one such is known, to the source or else at all.
    """
    asked = (goal, advertiser_id, campaign_id, source, at or datetime.now(UTC))
    found = await _find(connection, old_click_id, *asked)
    if not found and (others := other_cases(old_click_id)):
        rows = await connection.fetch(sql.SPELLED, others)
        spelled = {row["old_click_id"] for row in rows if row["source"] == source} or {row["old_click_id"] for row in rows}
        if len(spelled) == 1:
            found = await _find(connection, spelled.pop(), *asked)
    return found


async def remember_landing(connection: Connection, *, source: str, old_click_id: str, click_id: UUID) -> bool:
    """Keep that the old platform's id means our click, with the click's facts; once, however often it is told.

    False: that click is not stored (yet). `old_click_id` has 1 to 255 characters. Beyond three ids of a source, a click's further ones
    are ignored. Anybody can tell of ids: what is left to who makes clicks of his own is three ids each, and of these only such as the old
    platform did not export and nobody told of before, so ids that are still to be given, where they can be guessed; imports close that.
    """
    return bool(await connection.fetchval(sql.LANDED, source, old_click_id, click_id, IDS_OF_A_CLICK))


async def meanings(connection: Connection, asked: Sequence[Ids], rows: Snapshot | None = None) -> list[Meaning]:
    """Whose clicks with these ids are, by the rules of old links and what the id maps say now; few look-ups for all together."""
    rows = rows or Snapshot()
    while True:  # a row leads to others: an id to a link, that to its campaign
        found = [_meaning(rows, ids) for ids in asked]
        if not await rows.fill(connection):
            return found


async def known(connection: Connection, old_click_id: str, source: str | None, *, now: datetime) -> list[dict[str, Any]]:
    """All that is known under an id, newest first: what was stored, and by slugs what it means now. None: nobody knows (yet).
    `earns`: the click that an order of `now` would belong to, one an advertiser, by what `find` finds."""
    rows = await connection.fetch(sql.KNOWN, old_click_id, source)
    means = await _by_old_ids(connection, old_click_id)
    whose = [[row[name] or getattr(means.get(row["id"]), name, None) for row in rows] for name in Meaning._fields]
    slugs = await connection.fetch(sql.SLUGS, *whose)
    told = [{**row, **found, "earns": False} for row, found in zip(map(dict, rows), map(dict, slugs), strict=True)]
    keys = [(row["clicked_at"], row["click_id"], campaign, partner) for row, campaign, partner in zip(rows, *whose[:2], strict=True)]
    for advertiser in {row.pop("advertiser_id") for row in told} - {None}:
        found = await find(
            connection, goal="sale", old_click_id=old_click_id, advertiser_id=advertiser, campaign_id=None, source=source, at=now
        )
        can = (_key(one) for one in found if one["partner"] and one["clicked_at"] + timedelta(days=one["window_days"]) >= now)
        if (key := next(can, None)) in keys:
            told[keys.index(key)]["earns"] = True
    return told


def profile_of(platform: str) -> Profile:
    """The profile by whose rule ids of a platform are spelled; of an unknown one: as they are."""
    source = _PROFILES.source(platform)
    return source.profile if source else Profile(name=platform, title=platform, klass="takeable", shape=(), example=())


async def _find(
    connection: Connection, old_click_id: str, goal: str, advertiser: int, campaign: int | None, source: str | None, at: datetime
) -> list[asyncpg.Record]:
    means = [
        list(column) for column in zip(*((row, *one) for row, one in (await _by_old_ids(connection, old_click_id)).items()), strict=True)
    ]
    return await connection.fetch(sql.FIND, goal, old_click_id, advertiser, campaign, *(means or [[], [], [], []]), source, at)


def _key(row: asyncpg.Record) -> tuple[Any, ...]:
    return row["clicked_at"], row["click_id"], row["campaign"], row["partner"]


async def _by_old_ids(connection: Connection, old_click_id: str) -> dict[int, Meaning]:
    """What the rows of an id mean now that have not got all of ours, by their row."""
    rows = await connection.fetch(sql.BY_OLD_IDS, old_click_id)
    ids = [Ids(row["source"], row["platform"], row["old_partner"], row["old_offer"], row["old_creative"]) for row in rows]
    return dict(zip((row["id"] for row in rows), await meanings(connection, ids) if ids else (), strict=True))


def _meaning(rows: Snapshot, ids: Ids) -> Meaning:
    reading = Reading(partner_id=ids.partner or None, offer_id=ids.offer or None, creative_id=ids.creative or None)
    found = identify(rows, ids.source, profile_of(ids.platform), reading)
    if found.link is None:
        campaign = found.campaign.campaign_id if found.campaign else None
        return Meaning(campaign, found.partner.partner_id if found.partner else None, None)
    return Meaning(found.link.campaign_id, found.link.partner_id, found.link.link_id or None)
