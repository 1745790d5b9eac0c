"""Clicks and conversions as they are stored, each once, read again and again from PostgreSQL.

A row becomes visible when its transaction commits, and neither ids nor times tell that order: a click of an earlier id may commit
later, minutes later after an outage. So each look reads some time back, and what was shown is remembered for as long as it can turn
up again. Every read of `clicks` is bound by click id, and so touches few partitions.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from tracker.adapters.postgres_pool import Connection, Database
from tracker.domain import click_id, money
from tracker.errors import NotFound

Values = dict[str, Any]
CLICK, CONVERSION = "click", "conversion"
KINDS = (CLICK, CONVERSION)
RECENT = (timedelta(hours=1), timedelta(days=1), timedelta(days=7))  # how far back the last ones are looked for, in turn
SHORT_REACH = timedelta(minutes=1)  # ids that every look reads again
LONG_REACH = timedelta(minutes=15)  # ids that a look reads again every LONG_EVERY: what was stored long after its click
LONG_EVERY = timedelta(seconds=10)
TRANSACTION_MAX = timedelta(seconds=60)  # from `stored_at`, a transaction's start, to its commit; a writer gives up after 30
PAGE = 1000  # rows of one query
TIMEOUT_S = 30.0

_CLICKS = """
    SELECT c.click_id AS id, c.clicked_at AS at, c.stored_at, p.slug AS partner, m.slug AS campaign, l.slug AS link,
        c.country, c.device, c.os, c.browser, c.outcome, c.verdict, c.counted, c.is_unique, c.host, c.url, c.redirected_to,
        c.referrer, c.ip, c.ref, c.sub1, c.sub2, c.sub3, c.sub4, c.sub5, c.sub6, c.sub7, c.sub8, c.sub9, c.sub10
    FROM clicks c LEFT JOIN partners p ON p.id = c.partner LEFT JOIN campaigns m ON m.id = c.campaign
    LEFT JOIN links l ON l.id = c.link
    WHERE c.click_id > $1 AND ($2::bigint IS NULL OR c.partner = $2) AND ($3::bigint IS NULL OR c.campaign = $3)
      AND ($4::bigint IS NULL OR c.link = $4)
"""
_CONVERSIONS = """
    SELECT c.id, c.converted_at AS at, c.created_at AS stored_at, p.slug AS partner, m.slug AS campaign, l.slug AS link,
        c.country, c.device, c.os, c.browser, c.status, c.txid, c.goal, c.attribution, c.click_id, c.amount_micros,
        trim(c.currency) AS currency, c.payout_micros, trim(c.payout_currency) AS payout_currency
    FROM conversions c LEFT JOIN partners p ON p.id = c.partner LEFT JOIN campaigns m ON m.id = c.campaign
    LEFT JOIN links l ON l.id = c.link
    WHERE c.id > $1 AND ($2::bigint IS NULL OR c.partner = $2) AND ($3::bigint IS NULL OR c.campaign = $3)
      AND ($4::bigint IS NULL OR c.link = $4)
"""
LAST_CLICKS = f"{_CLICKS} ORDER BY c.click_id DESC LIMIT $5"
LAST_CONVERSIONS = f"{_CONVERSIONS} ORDER BY c.id DESC LIMIT $5"
STORED_CLICKS = f"{_CLICKS} AND c.stored_at >= $5 ORDER BY c.click_id LIMIT $6"
STORED_CONVERSIONS = f"{_CONVERSIONS} AND c.created_at >= $5 ORDER BY c.id LIMIT $6"
LAST = {CLICK: LAST_CLICKS, CONVERSION: LAST_CONVERSIONS}
STORED = {CLICK: STORED_CLICKS, CONVERSION: STORED_CONVERSIONS}
NOW = "SELECT clock_timestamp()"
NUMBERS = {
    "partner": "SELECT id FROM partners WHERE slug = $1",
    "campaign": "SELECT id FROM campaigns WHERE slug = $1",
    "link": "SELECT id FROM links WHERE slug = $1",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """What is asked for: kinds, and ids of a partner, campaign and link (None: all)."""

    kinds: tuple[str, ...] = KINDS
    partner: int | None = None
    campaign: int | None = None
    link: int | None = None

    @property
    def numbers(self) -> tuple[int | None, int | None, int | None]:
        return self.partner, self.campaign, self.link


async def choose(database: Database, kinds: Iterable[str], slugs: dict[str, str | None]) -> Choice:
    """The choice by slugs of a partner, campaign and link; NotFound when there is no such thing."""
    numbers = dict[str, int | None]()
    for name, slug in slugs.items():
        if slug is None:
            continue
        row = await database.fetchrow(NUMBERS[name], slug)
        if row is None:
            raise NotFound(f"unknown_{name}", f"there is no {name} {slug[:80]!r}", field=name)
        numbers[name] = row["id"]
    return Choice(tuple(kinds), **numbers)


class Tail:
    """The last events, then those stored since, each once.

    An event that is stored more than 15 minutes after its click, while `fresh` is called regularly, is not told. Remembered are the
    ids of what was stored in the last minute and a bit.
    """

    def __init__(self, database: Database, choice: Choice) -> None:
        self._database, self._choice = database, choice
        self._shown: dict[UUID, datetime] = {}  # when it was stored, by id
        self._looked_at: datetime | None = None
        self._looked_far_at: datetime | None = None

    @property
    def remembered(self) -> int:
        """How many ids it remembers."""
        return len(self._shown)

    async def last(self, count: int) -> list[Values]:
        """The last `count` events of the last seven days, oldest first; what is stored afterwards is told by `fresh`."""
        async with self._database.connection(TIMEOUT_S) as connection:
            now = await connection.fetchval(NOW)
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                found = [event for kind in self._choice.kinds for event in await self._last(connection, kind, now, count)]
                self._shown = {row["id"]: row["stored_at"] for row in await self._stored(connection, now, now, LONG_REACH)}
        self._looked_at = self._looked_far_at = now
        return sorted(found, key=_order)[-count:] if count else []

    async def _last(self, connection: Connection, kind: str, now: datetime, count: int) -> list[Values]:
        rows: list[Any] = []
        for reach in RECENT:
            rows = await connection.fetch(LAST[kind], click_id.floor(now - reach), *self._choice.numbers, count)
            if len(rows) >= count:
                break
        return [_event(kind, dict(row)) for row in rows]

    async def fresh(self) -> list[Values]:
        """What was stored since the last call (or `last`), in order of time. StoreUnavailable: nothing is lost, call again."""
        async with self._database.connection(TIMEOUT_S) as connection:
            now = await connection.fetchval(NOW)
            looked_at, far_at = self._looked_at or now, self._looked_far_at or now
            is_far = now - far_at >= LONG_EVERY
            rows = await self._stored(connection, far_at if is_far else looked_at, far_at, LONG_REACH if is_far else SHORT_REACH)
        new = [row for row in rows if row["id"] not in self._shown]
        self._shown.update((row["id"], row["stored_at"]) for row in new)
        self._looked_at = now
        if is_far:
            self._looked_far_at = now
            self._shown = {number: at for number, at in self._shown.items() if at >= now - TRANSACTION_MAX}
        return sorted((_event(row.pop("kind"), row) for row in new), key=_order)

    async def _stored(self, connection: Connection, since: datetime, far_at: datetime, reach: timedelta) -> list[Values]:
        """Rows with ids from `reach` before `since` on that may have committed since `far_at`, page by page."""
        found = list[Values]()
        for kind in self._choice.kinds:
            after = click_id.floor(since - reach)
            while True:
                rows = await connection.fetch(STORED[kind], after, *self._choice.numbers, far_at - TRANSACTION_MAX, PAGE)
                found += [{"kind": kind, **row} for row in rows]
                if len(rows) < PAGE:
                    break
                after = rows[-1]["id"]
        return found


def _order(event: Values) -> tuple[datetime, str]:
    return event["at"], event["id"]


def _event(kind: str, row: Values) -> Values:
    """A row as it is told: kind and time first, ids and money as the API writes them."""
    stored_at = row.pop("stored_at")
    facts = {"kind": kind, "at": row.pop("at"), "stored_at": stored_at}
    if kind == CLICK:
        return facts | row | {"id": _text(row["id"])}
    amount, payout = row.pop("amount_micros"), row.pop("payout_micros")
    return (
        facts
        | row
        | {
            "id": str(row["id"]),
            "click_id": _text(row["click_id"]) if row["click_id"] else None,
            "amount": money.format_micros(amount, row["currency"]),
            "payout": money.format_micros(payout, row["payout_currency"]),
        }
    )


def _text(number: UUID) -> str:
    return click_id.to_text(number.bytes).decode("ascii")
