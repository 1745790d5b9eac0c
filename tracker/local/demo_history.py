"""The demo's month of history, sent the way of real traffic with its own times: clicks through a journal, the stream and the click
writer, so that the books hold them (node `demo`); orders by postback, with their `ts` and a parameter `demo`.

Sent once an installation: a row of `installation` says from which instant the month counts back, and whether all is sent. Ended
half-way by anything, it goes on with what is missing: the month is the same whenever it is planned, its click ids and txids too.
"""

import asyncio
import http.client
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import orjson

from tracker import wire
from tracker.adapters import partitions
from tracker.adapters.journal.recording import Recording, RecordingOptions
from tracker.adapters.lmdb_routes import RouteTable
from tracker.adapters.postgres_pool import Database, database
from tracker.crash import crash_at
from tracker.domain import click_id
from tracker.domain.urls import host_key, target_key
from tracker.errors import StoreUnavailable, TransientError
from tracker.journals import click_journal
from tracker.local import demo_plan
from tracker.local.demo_plan import Report, Visit
from tracker.local.demo_programme import ADVERTISERS, ALIAS_TARGETS, LINKS, OLD_HOST
from tracker.local.demo_records import record_of
from tracker.local.door import Door
from tracker.route_table import route_table
from tracker.settings import Settings

log = logging.getLogger(__name__)

NODE = "demo"
RETRY_S = 2.0
POLL_S = 0.2
ROUTES_WITHIN_S = 30.0  # then links that are not published are nobody's
SETTLED_WITHIN_S = 120.0  # taking over a killed process's journal takes up to a minute; after that repeats are just duplicates
COVERED_WITHIN_S = 30.0
NOTED_AFTER_S = 1.2  # a journal's housekeeping notes each second what is covered
SHIP_WITHIN_S = 4.0  # at the end; `up` gives us five seconds, and what is left in the journal is shipped by the redirector
CHUNK = 100  # clicks that are journaled together, and the most that a kill leaves `unrecorded` in the books

BEGIN = "INSERT INTO installation (key, value) VALUES ('demo_history', $1) ON CONFLICT (key) DO NOTHING"
STATE = "SELECT value FROM installation WHERE key = 'demo_history'"
FINISH = "UPDATE installation SET value = $1, updated_at = now() WHERE key = 'demo_history'"
STORED = "SELECT click_id FROM clicks WHERE click_id >= $1 AND click_id < $2 AND node = 'demo'"
REPORTED = """
    SELECT p.txid, p.status FROM postbacks p JOIN advertisers a ON a.id = p.advertiser_id
    WHERE a.slug = ANY($1) AND p.txid LIKE 'DEMO-%'
"""
UNSETTLED = """
    SELECT count(*) AS boots FROM boots
    WHERE node = 'demo' AND kind = 'clicks'
      AND (closed_seq IS NULL OR NOT int8multirange(int8range(1, closed_seq + 1)) <@ (covered + lost))
"""


@dataclass(frozen=True, slots=True)
class Span:
    """What history there is to be: the UTC days from `first` on, up to the instant `until`."""

    first: date
    until: datetime

    @property
    def ids(self) -> tuple[UUID, UUID]:
        """Bounds of its click ids, the upper one excluded."""
        start = datetime.combine(self.first, time(), UTC)
        return click_id.floor(start), click_id.floor(self.until + timedelta(milliseconds=1))


async def send(settings: Settings, tokens: dict[str, str], stop: asyncio.Event) -> None:
    """Send what is missing of the month, if anything is; an outage is waited out. Returns early when `stop` is set.

    Args:
        tokens: postback tokens by advertiser; orders of an advertiser without one are left out.
    """
    while not stop.is_set():
        try:
            async with database(settings.dsn, name="demo history", size=2) as opened:
                await _History(settings, tokens, opened, stop).send()
                return
        except (TransientError, OSError, http.client.HTTPException) as exc:
            log.info("demo_history.waiting", extra={"error": str(exc)})
            await _pause(stop, RETRY_S)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


class _History:
    """One attempt at sending it."""

    def __init__(self, settings: Settings, tokens: dict[str, str], opened: Database, stop: asyncio.Event) -> None:
        self._settings, self._tokens, self._database, self._stop = settings, tokens, opened, stop
        self._tracker = Door(settings.host, settings.tracker_port)

    async def send(self) -> None:
        span = await self._begin()
        if span is None:
            return
        month = await asyncio.to_thread(demo_plan.month, span.first, span.until)
        await self._settle()
        stored = {row["click_id"].bytes for row in await self._database.fetch(STORED, *span.ids)}
        missing = [visit for visit in month.visits if visit.click_id not in stored]
        log.info("demo_history.sending", extra={"clicks": len(missing), "stored": len(stored), "first": span.first.isoformat()})
        if missing:
            await self._record(missing)
            await self._settle()
        await self._report(month.reports)
        if not self._stop.is_set():
            await self._write(FINISH, _state(span.until, is_sent=True))
            log.info("demo_history.sent", extra={"clicks": len(month.visits), "postbacks": len(month.reports)})

    async def _begin(self) -> Span | None:
        """What is to be sent; None: it is sent. The first call decides the instant that the month ends at."""
        await self._write(BEGIN, _state(datetime.now(UTC), is_sent=False))
        row = await self._database.fetchrow(STATE)
        state: dict[str, Any] = orjson.loads(row["value"]) if row else {"is_sent": True}
        if state["is_sent"]:
            return None
        until = datetime.fromisoformat(state["until"])
        async with self._database.connection() as connection:
            await partitions.ensure(connection, datetime.now(UTC).date())
            floor = await partitions.retention_floor(connection)
        kept_days = self._settings.click_retention_days or demo_plan.DAYS
        first = max(until.date() - timedelta(days=demo_plan.DAYS), datetime.now(UTC).date() - timedelta(days=kept_days), floor or date.min)
        return Span(first, until)

    async def _write(self, statement: str, state: str) -> None:
        async with self._database.connection() as connection:
            await connection.execute(statement, state)

    async def _settle(self) -> None:
        """Until PostgreSQL has all that was ever journaled here, or it takes too long."""
        for _ in range(int(SETTLED_WITHIN_S / POLL_S)):
            row = await self._database.fetchrow(UNSETTLED)
            if self._stop.is_set() or row is None or not row["boots"]:
                return
            await _pause(self._stop, POLL_S)
        log.warning("demo_history.not_settled")

    # -- clicks

    async def _record(self, visits: Sequence[Visit]) -> None:
        table = route_table(self._settings)
        recording = Recording(_options(self._settings))
        await self._await_routes(table)
        await recording.start()
        try:
            for start in range(0, len(visits), CHUNK):
                if self._stop.is_set():
                    return
                await _journal(recording, [record_of(table, visit, self._settings.ip_mode) for visit in visits[start : start + CHUNK]])
                crash_at("demo_history.journaled")
            await self._await_covered(recording)
        finally:
            await recording.stop(SHIP_WITHIN_S)
            table.close()

    async def _await_covered(self, recording: Recording) -> None:
        """Until PostgreSQL has all of it and the journal says so, or it takes too long: so nobody ships it again."""
        for _ in range(int(COVERED_WITHIN_S / POLL_S)):
            if self._stop.is_set():
                return
            if not recording.shipper.uncovered(0.0)[0]:
                await _pause(self._stop, NOTED_AFTER_S)
                return
            await _pause(self._stop, POLL_S)

    async def _await_routes(self, table: RouteTable) -> None:
        """Until the links and aliases of the programme are published, or it takes too long."""
        for _ in range(int(ROUTES_WITHIN_S / POLL_S)):
            table.refresh()
            links = all(table.get_link(link["slug"].encode()) for link in LINKS)
            old_host = host_key(OLD_HOST.encode())
            if self._stop.is_set() or (links and all(table.alias(old_host, target_key(old.encode())) for old in ALIAS_TARGETS.values())):
                return
            await _pause(self._stop, POLL_S)
        log.warning("demo_history.links_not_published")

    # -- orders

    async def _report(self, reports: Sequence[Report]) -> None:
        slugs = [advertiser["slug"] for advertiser in ADVERTISERS]
        known = {(row["txid"], row["status"]) for row in await self._database.fetch(REPORTED, slugs)}
        for report in reports:
            if self._stop.is_set():
                return
            if report.advertiser in self._tokens and report.key not in known:
                await asyncio.to_thread(self._post, report)
                crash_at("demo_history.reported")

    def _post(self, report: Report) -> None:
        fields = {"token": self._tokens[report.advertiser], "ts": str(report.at), "demo": "1", **report.fields}
        status, _, body = self._tracker.ask("GET", f"/postback?{urlencode(fields)}")
        if status >= 500:
            raise StoreUnavailable(f"demo: the postback of {report.fields['txid']} was answered {status}")
        if status not in (200, 202):
            log.warning("demo_history.postback_refused", extra={"txid": report.fields["txid"], "status": status, "body": str(body[:200])})


def _state(until: datetime, *, is_sent: bool) -> str:
    value: dict[str, Any] = {"until": until.isoformat(timespec="milliseconds"), "is_sent": is_sent}
    return orjson.dumps(value).decode()


async def _journal(recording: Recording, records: Sequence[wire.Record]) -> None:
    """Return when all are written."""
    await asyncio.gather(*map(recording.record, records))


def _options(settings: Settings) -> RecordingOptions:
    # nobody waits for an answer: written means written
    return replace(click_journal(settings), node=NODE, ack="journal", deadline_s=0.0)
