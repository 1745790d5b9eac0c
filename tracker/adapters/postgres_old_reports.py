"""What comes to old hosts and is no click: read by the profile of its host, and taken as a postback of ours, in the caller's transaction.

A report is kept as it came (`old_reports`) with what became of it; the postback that was read in it has the same id.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from tracker.adapters import postgres_old_clicks, postgres_tee
from tracker.adapters import postgres_old_reports_sql as sql
from tracker.adapters.postgres_conversions import take
from tracker.adapters.postgres_conversions_sql import DROP_REFUSED
from tracker.adapters.postgres_identify import Snapshot, identified
from tracker.adapters.postgres_pool import Connection
from tracker.adapters.postgres_routes import KINDS
from tracker.domain import attribution, click_id
from tracker.domain import old_reports as reports
from tracker.domain.enrichment import BUCKET_MINUTES
from tracker.domain.old_click_rows import other_cases
from tracker.domain.old_reports import OldReport, ReadReport, ReportSettings
from tracker.domain.postback import CLICK_ID_MAX, Advertiser, InvalidPostback, Postback, Verdict, advertiser_of, storable
from tracker.domain.resolve import FORWARDING
from tracker.domain.routes import HostRoute, Kind
from tracker.domain.urls import host_key
from tracker.domain.visitor_cookie import OLD
from tracker.platforms.compiled import Source
from tracker.platforms.loader import Shelf
from tracker.platforms.profile import AS_SHIPPED, SourceSettings
from tracker.platforms.replies import answer_to

log = logging.getLogger(__name__)

READING: Final = "reading"  # the part of a host's settings that `SourceSettings` describes
SOURCES_MAX: Final = 1000
LANDING_WAIT: Final = timedelta(hours=1)
CLICK_WAIT: Final = timedelta(minutes=10)  # for a click that may prove a report
LAST_RETRY: Final = timedelta(minutes=15)  # nobody wakes a report when its offer is mapped
NOBODYS: Final = "nobody knows yet whose order this is: map its offer, or say whose reports come to this host"
NO_ADVERTISER: Final = Advertiser(0, "", "EUR")  # to find out what is wrong with a report before its advertiser is known
Impression = tuple[datetime, int, int, int]  # bucket, campaign, partner, link; 0: not known


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a report: the outcome of the postback that it is, else `waiting`, `refused`, `ignored`, `landing` or `impression`.

    `impression`: what is to be counted, by the caller. `postback` and `verdict`: where it was read as a postback.
    """

    platform: str
    outcome: str
    postback: Postback | None = None
    verdict: Verdict | None = None
    impression: Impression | None = None


@dataclass(slots=True)
class Known:
    """What was read in one transaction, so that a thousand impressions of one banner ask once."""

    rows: Snapshot = field(default_factory=Snapshot)
    hosts: dict[str, HostRoute | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Case:
    """A report at its host. `tries` and `waits_until` of one that waited."""

    report: OldReport
    host: HostRoute | None
    source: Source | None
    found: ReadReport | None
    now: datetime
    tries: int = 0
    waits_until: datetime | None = None

    @property
    def platform(self) -> str:
        return (self.host.platform if self.host else None) or storable(self.report.platform)

    @property
    def id_source(self) -> str:
        return (self.host.id_source if self.host else "") or self.platform

    @property
    def settings(self) -> ReportSettings:
        return reports.settings_of(self.host.settings if self.host else {})


@dataclass(frozen=True, slots=True)
class _State:
    """How a report's row is left. `retry_at` and `until` of one that waits."""

    state: str
    reason: str = ""
    tries: int = 0
    retry_at: datetime | None = None
    until: datetime | None = None


class OldReports:
    """Takes reports as the profiles of their hosts have them."""

    def __init__(self, platforms: Shelf) -> None:
        self._platforms = platforms
        self._sources: dict[tuple[str, bytes], Source | None] = {}

    async def take(self, connection: Connection, report: OldReport, *, now: datetime, known: Known) -> Taken | None:
        """Take a report as part of the caller's transaction. None: it was taken before, and not refused.

        An impression is written nowhere: the caller counts what `Taken.impression` says.
        """
        case = await self._case(connection, report, known, now)
        if report.kind == reports.LANDING:
            return await _land(connection, case)
        kind = (case.found.kind if case.found else None) or report.kind
        if kind == reports.IMPRESSION:
            return Taken(case.platform, "impression", impression=await _seen(connection, case, known))
        is_new = await connection.fetchval(sql.INSERT_REPORT, *_row(case, kind))
        if not is_new and not await connection.fetchval(sql.READ_AGAIN, report.uuid, *_ids(case)):
            return None
        await _pass_on(connection, case)
        return await _decided(connection, case, known) if is_new else await _decided_again(connection, case, known)

    async def retry(self, connection: Connection, row: Mapping[str, Any], *, now: datetime, known: Known) -> Taken:
        """Try a row of `old_reports` that waits once more, as part of the caller's transaction."""
        case = await self._case(connection, report_of(row), known, now, tries=row["tries"], waits_until=row["waits_until"])
        if case.report.kind == reports.LANDING:
            return await _land_again(connection, case)
        return await _decided_again(connection, case, known)

    async def pass_on(self, connection: Connection, report: OldReport, known: Known) -> None:
        """Have the old platform told of a report that PostgreSQL refused, as it is of any other."""
        if report.kind != reports.LANDING:
            await _pass_on(connection, await self._case(connection, report, known, report.received_at))

    async def look(self, connection: Connection, report: OldReport, known: Known) -> tuple[Source | None, ReadReport | None]:
        """The platform of a report's host as its operator has it today, and what that reads in it."""
        case = await self._case(connection, report, known, report.received_at)
        return case.source, case.found

    async def _case(self, connection: Connection, report: OldReport, known: Known, now: datetime, **waited: Any) -> _Case:
        host = await _host_of(connection, report.host, known)
        source = self._source_of(host) if host else None
        is_read = source is not None and report.kind != reports.LANDING
        return _Case(report, host, source, reports.read_report(source, report) if source and is_read else None, now, **waited)

    def _source_of(self, host: HostRoute) -> Source | None:
        settings = host.settings.get(READING) or {}
        key = (host.platform or "", msgspec.json.encode(settings, order="sorted"))
        if key not in self._sources:
            if len(self._sources) >= SOURCES_MAX:
                self._sources.clear()
            self._sources[key] = self._platforms.with_settings(key[0], _reading_settings(host, settings))
        return self._sources[key]


async def count_impressions(connection: Connection, impressions: Mapping[Impression, int], slot: int) -> None:
    """Add to `impression_stats`, in the order of its keys. `slot` (0 … 32767) keeps one writer's rows apart from another's."""
    if counted := sorted(impressions.items()):
        columns: list[list[Any]] = [[key[n] for key, _ in counted] for n in range(4)]
        await connection.execute(sql.IMPRESSIONS, *columns, [slot] * len(counted), [count for _, count in counted])


async def keep_refused(connection: Connection, report: OldReport, reason: str) -> None:
    """Keep a report that PostgreSQL refused, as one that says so; a landing or an impression is in its dead letter alone."""
    if report.kind not in (reports.POSTBACK, reports.PIXEL):
        return
    case = _Case(report, None, None, None, report.received_at)
    await connection.fetchval(sql.INSERT_REPORT, *_row(case, report.kind, "refused", reason))
    await connection.execute(
        sql.REJECT, report.uuid, report.received_at, None, None, "sale", None, "", "", "", {}, storable(report.ip),
        report.kind == reports.PIXEL, None, reason,
    )  # fmt: skip


def report_of(row: Mapping[str, Any]) -> OldReport:
    """The report that a row of `old_reports` holds."""
    return OldReport(
        postback_id=row["postback_id"].bytes,
        received_at_us=round(row["received_at"].timestamp() * 1e6),
        kind=row["kind"],
        platform=row["platform"],
        method=row["method"],
        host=row["host"].encode(),
        target=row["target"],
        content_type=row["content_type"],
        body=row["body"],
        ip=row["ip"],
        user_agent=row["user_agent"],
        visits=tuple(row["visits"]),
        old_click_id=row["old_click_id"],
    )


async def _host_of(connection: Connection, asked: bytes, known: Known) -> HostRoute | None:
    """The registered host, as the redirector finds it: host and port, else the host alone."""
    name = storable(host_key(asked))
    if name not in known.hosts:
        names = list(dict.fromkeys((name, name.partition(":")[0])))
        build = KINDS[Kind.HOST][1]
        found: list[Any] = [build(tuple(row)) for row in await connection.fetch(sql.HOSTS_OF, names)]
        known.hosts[name] = min(found, key=lambda host: names.index(host.host), default=None)
    return known.hosts[name]


def _reading_settings(host: HostRoute, settings: Any) -> SourceSettings:
    try:
        return msgspec.convert(settings, SourceSettings) if settings else AS_SHIPPED
    except (msgspec.ValidationError, ValueError):
        log.exception("old_reports.unreadable_host_settings", extra={"host": host.host})
        return AS_SHIPPED


async def _seen(connection: Connection, case: _Case, known: Known) -> Impression:
    """What an impression counts for; nobody's is counted too."""
    at = case.report.received_at
    bucket = at.replace(minute=at.minute - at.minute % BUCKET_MINUTES, second=0, microsecond=0)
    if case.source is None or case.found is None:
        return bucket, 0, 0, 0
    means = await identified(connection, known.rows, case.id_source, case.source.profile, case.found.reading)
    campaign, partner, link = means.campaign, means.partner, means.link
    return bucket, campaign.campaign_id if campaign else 0, partner.partner_id if partner else 0, link.link_id if link else 0


async def _pass_on(connection: Connection, case: _Case) -> None:
    """Have the old platform told too, where the operator wants that, or still works with it."""
    host, found = case.host, case.found
    if host is None or not host.forward_to or case.source is None or found is None or not _is_passed_on(case, found.kind):
        return
    reply = answer_to(case.source.profile, found.reading)
    await postgres_tee.enqueue(connection, case.report, origin=host.forward_to, source=case.id_source, reply=reply)


def _is_passed_on(case: _Case, kind: str | None) -> bool:
    """In the states in which visitors still go on to the old platform, so does every postback; a pixel's browser goes there itself."""
    still_goes_there = case.host is not None and case.host.state in FORWARDING
    if kind == reports.PIXEL:
        return case.settings.tee and not still_goes_there
    return kind == reports.POSTBACK and (case.settings.tee or still_goes_there)


async def _decided(connection: Connection, case: _Case, known: Known) -> Taken:
    taken, left = await _decide(connection, case, known)
    await _leave(connection, case, left)
    return taken


async def _decided_again(connection: Connection, case: _Case, known: Known) -> Taken:
    """What a report comes to that waited, or was refused: of the refusal nothing stays."""
    await connection.fetchval(DROP_REFUSED, case.report.uuid)
    return await _decided(connection, case, known)


async def _leave(connection: Connection, case: _Case, left: _State) -> None:
    await connection.execute(
        sql.FINISH_REPORT, case.report.uuid, left.state, left.reason, left.tries or case.tries, left.retry_at, left.until, case.platform,
        case.id_source,
    )  # fmt: skip


async def _decide(connection: Connection, case: _Case, known: Known) -> tuple[Taken, _State]:
    source, found = case.source, case.found
    if source is None or found is None or found.kind is None:
        return _plainly(case, "refused", _unreadable(case))
    if reports.status_of(found, case.settings) == "ignored":
        return _plainly(case, "ignored", f"status {found.conversion.status or ''!r:.60} reports no conversion")
    is_proven = await _is_proven(connection, case, found)
    if is_proven is None:
        return Taken(case.platform, "waiting"), _waiting_for_click(case)
    return await _decide_by(connection, case, known, source, found, is_proven=is_proven)


async def _decide_by(
    connection: Connection, case: _Case, known: Known, source: Source, found: ReadReport, *, is_proven: bool
) -> tuple[Taken, _State]:
    means = await identified(connection, known.rows, case.id_source, source.profile, found.reading)
    campaign = means.campaign.campaign_id if means.campaign else None
    partner = means.partner.partner_id if means.partner and found.reading.partner_id else None
    of_campaign = means.campaign.advertiser_id if means.campaign else None
    whose = await _advertiser_of(connection, case, found, of_campaign, is_proven=is_proven)
    goal = await _goal_of(connection, case, found, whose, campaign)
    try:
        postback = reports.postback_of(
            source, case.report, found, whose or NO_ADVERTISER, case.settings, goal=goal, campaign=campaign, partner=partner,
            is_proven=is_proven,
        )  # fmt: skip
    except InvalidPostback as exc:
        await _reject(connection, case, found, whose, goal=goal, campaign=campaign, reason=str(exc))
        return Taken(case.platform, "rejected"), _State("refused", str(exc))
    if postback.unverified and postback.status in attribution.TAKEN_BACK:
        return _plainly(case, "ignored", f"{postback.status} was sent without proof: what a page says takes nothing back")
    if whose is None:
        return await _wait_for_advertiser(connection, case)
    postback = replace(postback, old_source=case.id_source)
    verdict = await take(connection, postback, now=case.now)
    if verdict is None:
        return _plainly(case, "duplicate", "", state="read")
    return Taken(case.platform, verdict.outcome, postback, verdict), _State("read")


def _plainly(case: _Case, outcome: str, reason: str, *, state: str = "") -> tuple[Taken, _State]:
    return Taken(case.platform, outcome), _State(state or outcome, reason)


def _unreadable(case: _Case) -> str:
    if case.host is None:
        return "no old host of this name is registered any more"
    if case.source is None:
        return f"there is no profile of a platform {case.host.platform!r}" if case.host.platform else "this host has no platform any more"
    return f"{case.source.profile.title} has no report of this shape"


async def _is_proven(connection: Connection, case: _Case, found: ReadReport) -> bool | None:
    """Whether the click that a report names may prove it: the old platform's, or ours of its host's links. None: it is not stored yet.

    Ours of other links its visitor knows, and nobody but a shop with a token may speak for those.
    """
    name = storable(found.reading.click_id or "")
    raw = click_id.from_any(name)
    if raw is None or reports.is_right_token(case.settings, found.conversion.token):
        return True
    is_proof: bool | None = await connection.fetchval(sql.CLICKS_SOURCE, UUID(bytes=raw), [name, *other_cases(name)], case.id_source)
    may_come = found.kind == reports.POSTBACK and not case.settings.token_hashes and case.now < case.report.received_at + CLICK_WAIT
    return None if is_proof is None and may_come else bool(is_proof)


def _waiting_for_click(case: _Case) -> _State:
    wait = _waiting(case, "the click is not stored yet", None)
    return replace(wait, retry_at=min(wait.retry_at or case.now, case.report.received_at + CLICK_WAIT))


async def _advertiser_of(
    connection: Connection, case: _Case, found: ReadReport, of_campaign: int | None, *, is_proven: bool
) -> Advertiser | None:
    """Whose order it is: the host's, else that of the offer's campaign, else that of the click's, where that proves anything."""
    number = (case.host.advertiser_id if case.host else None) or of_campaign
    named = found.reading.click_id if is_proven else None
    for visit in (named or "", *(reports.visits_of(case.report) if found.kind == reports.PIXEL else ())):
        number = number or (await _advertiser_of_click(connection, visit, case.id_source) if visit else None)
    row = await connection.fetchrow(sql.ADVERTISER, number) if number else None
    return advertiser_of(number, row["slug"], row["currency"], row["settings"]) if number and row else None


async def _advertiser_of_click(connection: Connection, visit: str, source: str) -> int | None:
    raw = None if visit.startswith(OLD) else click_id.from_any(visit)
    found: int | None = await connection.fetchval(sql.CLICKS_ADVERTISER, UUID(bytes=raw)) if raw else None
    old_id = visit.removeprefix(OLD)
    if found or len(old_id) > CLICK_ID_MAX:
        return found
    rows = await connection.fetch(sql.OLD_CLICKS_ADVERTISERS, storable(old_id), source)
    return rows[0]["advertiser"] if len(rows) == 1 else None


async def _goal_of(connection: Connection, case: _Case, found: ReadReport, whose: Advertiser | None, campaign: int | None) -> str:
    """Our goal: what the operator says, else one with the platform's id of it, else the platform's word, else `sale`."""
    word = found.conversion.goal or ""
    said = case.settings.goals.get(word)
    if said or not word:
        return said or "sale"
    slug = await connection.fetchval(sql.GOAL, case.id_source, storable(word), whose.advertiser_id, campaign) if whose else None
    return str(slug or word)


async def _reject(
    connection: Connection, case: _Case, found: ReadReport, whose: Advertiser | None, *, goal: str, campaign: int | None, reason: str
) -> None:
    said, source = found.conversion, case.source
    number = reports.order_number(source, case.report, found) if source else ""
    await connection.execute(
        sql.REJECT, case.report.uuid, case.report.received_at, whose.advertiser_id if whose else None, storable(number) or None,
        storable(goal)[:64], storable(found.reading.click_id or "") or None, storable(said.amount or ""), storable(said.currency or ""),
        storable(said.status or ""), _shown(found), storable(case.report.ip), found.kind == reports.PIXEL, campaign, reason,
    )  # fmt: skip


def _shown(found: ReadReport) -> dict[str, str]:
    """What a refused report said, without its secrets."""
    said = found.conversion
    names = {"click_id": found.reading.click_id, "old_offer": found.reading.offer_id, "old_partner": found.reading.partner_id}
    names |= {"old_order": said.order_id, "amount": said.amount, "currency": said.currency, "status": said.status, "goal": said.goal}
    return {name: storable(value) for name, value in names.items() if value}


async def _wait_for_advertiser(connection: Connection, case: _Case) -> tuple[Taken, _State]:
    until = case.waits_until
    if until is None:
        days: int = await connection.fetchval(sql.LONGEST_WINDOW_OF_ALL)
        until = case.report.received_at + timedelta(days=days)
    if case.now >= until:
        return _plainly(case, "refused", NOBODYS.replace(" yet", ""))
    return Taken(case.platform, "waiting"), _waiting(case, NOBODYS, until)


def _waiting(case: _Case, reason: str, until: datetime | None) -> _State:
    return _State("waiting", reason, case.tries + 1, case.now + min(attribution.retry_after(case.tries), LAST_RETRY), until)


async def _land(connection: Connection, case: _Case) -> Taken | None:
    """Keep what the old platform calls our click. There is a row only of what waits for its click: this comes with every visitor."""
    if await _remembered(connection, case) is not False:
        return Taken(case.platform, "landing")
    if not await connection.fetchval(sql.INSERT_REPORT, *_row(case, reports.LANDING)):
        return None
    await _leave(connection, case, _waiting(case, "the click is not stored yet", case.report.received_at + LANDING_WAIT))
    return Taken(case.platform, "waiting")


async def _land_again(connection: Connection, case: _Case) -> Taken:
    until = case.waits_until or case.report.received_at + LANDING_WAIT
    if await _remembered(connection, case) is not False:
        taken, left = Taken(case.platform, "landing"), _State("read")
    elif case.now >= until:
        taken, left = _plainly(case, "ignored", "the click was not stored within an hour")
    else:
        taken, left = Taken(case.platform, "waiting"), _waiting(case, "the click is not stored yet", until)
    await _leave(connection, case, left)
    return taken


async def _remembered(connection: Connection, case: _Case) -> bool | None:
    """None: it names no click of ours, or no id of the old platform's."""
    ours = next((raw for visit in case.report.visits if not visit.startswith(OLD) and (raw := click_id.from_any(visit))), None)
    old_id = storable(case.report.old_click_id.decode("utf-8", "replace"))
    if ours is None or not 0 < len(old_id) <= CLICK_ID_MAX:
        return None
    return await postgres_old_clicks.remember_landing(connection, source=case.id_source, old_click_id=old_id, click_id=UUID(bytes=ours))


def _row(case: _Case, kind: str, state: str = "read", reason: str = "") -> Sequence[Any]:
    report = case.report
    host = storable(host_key(report.host))
    return (
        report.uuid, report.received_at, kind, case.platform, case.id_source, host, storable(report.method), report.target,
        report.content_type, report.body, storable(report.ip), report.user_agent, [storable(visit) for visit in report.visits],
        report.old_click_id, *_ids(case), state, reason,
    )  # fmt: skip


def _ids(case: _Case) -> Sequence[str | None]:
    """Of the click, the offer and the partner, as they were read."""
    reading = case.found.reading if case.found else None
    ids = (reading.click_id, reading.offer_id, reading.partner_id) if reading else (None, None, None)
    return [None if value is None else storable(value) for value in ids]
