"""From a request to its answer and its record: the redirect on one screen."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from redirector import pages
from redirector.limits import Flood, FloodLimiter
from redirector.lookup import TARGET_MAX, Question
from redirector.mint import mint
from redirector.request import Request
from tracker import old_hosts, wire
from tracker.adapters.countries import CountryLookup
from tracker.adapters.lmdb_routes import RouteTable
from tracker.adapters.user_agents import parse
from tracker.click_record import BOT, DAY_US, RATE_LIMITED, VALID, Visitor, click_record, secret_of, verdict_of
from tracker.domain import addresses, click_id, resolve
from tracker.domain.addresses import Network
from tracker.domain.destination import destination, labels_of
from tracker.domain.old_reports import LANDING, POSTBACK, OldReport, settings_of
from tracker.domain.routes import HostRoute
from tracker.domain.urls import host_of
from tracker.old_hosts import Asked, Told
from tracker.platforms.compiled import Source
from tracker.platforms.reading import Reading
from tracker.platforms.replies import answer_to

RULE_VERSION = 2  # of the verdict below; a changed rule gets the next number, old clicks keep theirs
_METHODS = frozenset((b"GET", b"HEAD", b"POST"))
_REPORTS = 1 << 62  # beyond all ids of links: what the limiter counts the reports of a host under


class Answer(msgspec.Struct, gc=False):
    """What goes back. `record` None: nothing to record (the hard flood limit, a method that is no click, the anchor page).

    `resolved` names platform and outcome where an old platform's link was asked for. A `body` goes back in place of a redirect.
    `cookie` is a `Set-Cookie`. `question`: the old platform may be asked where the visitor goes. `told`: this is a report and no click;
    it must be safe before the answer leaves, and `refusal` says why it is not kept at all.
    """

    status: int
    location: bytes
    click_id: bytes
    outcome: str
    record: wire.Record | None
    resolved: tuple[str, str] | None = None
    body: bytes = b""
    content_type: str = pages.HTML
    cookie: str = ""
    question: Question | None = None
    told: Told | None = None
    refusal: str = ""

    @property
    def is_flooded(self) -> bool:
        """Not recorded because of the hard flood limit."""
        return self.record is None and not self.click_id and self.told is None and self.status in (302, 404)


NOT_A_CLICK = Answer(405, b"", b"", "method", None)
ANCHOR = Answer(200, b"", b"", "anchor", None, body=pages.ANCHOR_PAGE)


class Handler:
    """Resolves and judges requests. Synchronous, no network; never raises for anything a client can send."""

    def __init__(
        self, table: RouteTable, countries: CountryLookup, limiter: FloodLimiter, *, ip_mode: str, trusted: Sequence[Network]
    ) -> None:
        self._table, self._countries, self._limiter = table, countries, limiter
        self._ip_mode, self._trusted = ip_mode, tuple(trusted)
        self._day, self._day_number = "", 0

    def handle(self, request: Request) -> Answer:
        """The answer to one request, with the record that must be safe before it leaves."""
        if request.method not in _METHODS:
            return NOT_A_CLICK
        raw_id, now_us = mint()
        found = resolve.resolve(self._table, request.host, request.target, now_us // 1000)
        if found.is_report or request.body:
            reading = old_hosts.reading_of(found, request.host, request.target, request.header(b"content-type"), request.body)
            if reading is not None and found.host is not None and found.source is not None:
                return self._reported(found.host, found.source, reading, self._asked(request, raw_id, now_us), found.forward)
        if found.wants_anchor and not found.forward:
            return ANCHOR
        address = addresses.client_address(request.peer, request.forwarded_for, self._trusted)
        which = found.link_id or -found.partner_id  # a link on the fly has no id yet
        flood = self._limiter.judge(addresses.network(address), which, now_us // 1_000_000)
        labels = labels_of(found, request.target)
        resolved = (found.platform, found.outcome) if found.platform and found.source is not None else None
        if flood is Flood.COUNTED_ONLY:
            nobody = Visitor(address, "", request.user_agent, request.language, request.referrer)
            location = destination(found, labels, b"", lambda: nobody.macros(time.time(), _random()))
            return _answer(location, b"", found.outcome, None, resolved)
        visitor = Visitor(address, self._countries.country(address), request.user_agent, request.language, request.referrer)
        text_id = click_id.to_text(raw_id)
        location = destination(found, labels, text_id, lambda: visitor.macros(time.time(), _random()))
        method = request.method.decode("latin-1")
        verdict = _verdict(found, verdict_of(method, visitor, is_prefetch=request.is_prefetch), flood)
        record = click_record(
            found,
            labels,
            visitor,
            click_id=raw_id,
            at_us=now_us,
            method=method,
            host=request.host,
            target=request.target,
            destination=location,
            verdict=verdict,
            rule_version=RULE_VERSION,
            ip_mode=self._ip_mode,
            secret=secret_of(self._table.installation()),
            day=self._today(now_us),
        )
        answer = _answer(location, text_id, found.outcome, record, resolved)
        if found.host is not None:
            self._on_registered_host(answer, found, request)
        return _in_old_words(found, answer) if found.reading is not None and found.reading.answer else answer

    def is_old_host(self, host: bytes) -> bool:
        """Whether `host` is registered, and has a platform that is known: reports may come to it."""
        registered = resolve.registered_host(self._table, host)
        return registered is not None and self._table.source_of(registered) is not None

    def is_click(self, request: Request) -> bool:
        """Whether the target alone is that of a link or of an old click: it is one too when its body cannot be had."""
        found = resolve.resolve(self._table, request.host, request.target, mint()[1] // 1000)
        return bool(found.link_id) or (found.reading is not None and found.reading.kind == resolve.CLICK)

    def seen(self, request: Request) -> OldReport | None:
        """What a shop's page tells of a click (`/-/seen.gif`); None: nothing that could be kept."""
        registered = resolve.registered_host(self._table, request.host)
        source = None if registered is None else self._table.source_of(registered)
        asked = self._asked(request, *mint())
        if registered is None or source is None or asked.is_looking(LANDING) or self._is_flood(asked, registered.host_id):
            return None
        return old_hosts.landed(source, asked, self._table.installation(), self._ip_mode)

    def leads_back(self, location: bytes) -> bool:
        """Whether a URL leads to a host that is registered here."""
        return resolve.registered_host(self._table, host_of(location).encode()) is not None

    def _asked(self, request: Request, report_id: bytes, now_us: int) -> Asked:
        address = addresses.client_address(request.peer, request.forwarded_for, self._trusted)
        return Asked(
            report_id,
            now_us,
            request.method,
            request.host,
            request.target,
            address,
            content_type=request.header(b"content-type"),
            body=request.body,
            user_agent=request.user_agent,
            cookies=request.cookies(),
            is_https=self._is_https(request),
            is_ahead=request.is_prefetch,
        )

    def _is_https(self, request: Request) -> bool:
        proto = request.header(b"x-forwarded-proto").decode("latin-1")
        return addresses.came_by_https(request.scheme, request.peer, proto, self._trusted)

    def _reported(self, route: HostRoute, source: Source, reading: Reading, asked: Asked, forward: bytes) -> Answer:
        """The old platform's answer to a postback, pixel or impression, and the report that must be safe before it leaves."""
        told = old_hosts.told(route, source, reading, asked, self._table.installation(), self._ip_mode, forward)
        reply, body = told.answer, b"" if told.location else told.answer.body
        answer = Answer(told.status, told.location, b"", told.kind, None, body=body, content_type=reply.content_type, told=told)
        # A store's server sends all its orders from one address: postbacks have no limit.
        if told.report is not None and told.kind != POSTBACK and self._is_flood(asked, route.host_id):
            answer.refusal = "flooded"
        elif told.cookie:
            answer.cookie = told.cookie
        return answer

    def _is_flood(self, asked: Asked, host_id: int) -> bool:
        flood = self._limiter.judge(addresses.network(asked.address), _REPORTS + host_id, asked.at_us // 1_000_000)
        return flood is Flood.COUNTED_ONLY

    def _on_registered_host(self, answer: Answer, found: resolve.Resolution, request: Request) -> None:
        """What only visitors of registered hosts get: the cookie, and a question to the old platform where nobody knows the link."""
        if request.method == b"HEAD" or request.is_prefetch or found.host is None or answer.record is None:
            return
        if found.source is not None and found.source.has_cookies:
            answer.cookie = old_hosts.new_cookie(
                found.source,
                self._table.installation(),
                cookies=request.cookies(),
                is_https=self._is_https(request),
                click_id=answer.click_id.decode("ascii") if found.outcome == resolve.OK else "",
                old_click_id=old_hosts.old_id_of_click(found, request.target),
            )
        if found.outcome == resolve.UNKNOWN and request.method == b"GET" and answer.record.verdict == VALID and not found.forward:
            answer.question = _question(found.host, found, request)

    def _today(self, now_us: int) -> str:
        day_number = now_us // DAY_US
        if day_number != self._day_number:
            self._day_number, self._day = day_number, datetime.fromtimestamp(now_us / 1e6, UTC).strftime("%Y-%m-%d")
        return self._day


def _verdict(found: resolve.Resolution, verdict: str, flood: Flood) -> str:
    """What the request says of its visitor, in the light of what it asks for."""
    if verdict == BOT and found.reading is not None and found.reading.answer:
        verdict = VALID  # a partner's server reports somebody's click: that it is no browser says nothing of the visitor
    return RATE_LIMITED if verdict == VALID and flood is Flood.LABELLED else verdict


def _answer(location: bytes, click_id: bytes, outcome: str, record: wire.Record | None, resolved: tuple[str, str] | None) -> Answer:
    if location:
        return Answer(302, location, click_id, outcome, record, resolved)
    return Answer(404, b"", click_id, outcome, record, resolved, pages.NOT_FOUND)


def _question(registered: HostRoute, found: resolve.Resolution, request: Request) -> Question | None:
    """What to ask the old platform; None where the host is not set so, or nobody said where the old platform is."""
    settings = settings_of(registered.settings)
    url = resolve.old_address(registered, request.target) if settings.lookup and len(request.target) <= TARGET_MAX else b""
    if not url:
        return None
    names = frozenset(found.source.landing) if found.source is not None else frozenset()
    agent = parse(request.user_agent.decode("utf-8", "replace"))
    return Question(
        registered.host,
        request.target,
        url,
        settings.lookup_ms / 1000,
        landing=names,
        user_agent=request.user_agent,
        language=request.language,
        device=f"{agent.device} {agent.os}",
    )


def _in_old_words(found: resolve.Resolution, answer: Answer) -> Answer:
    """To a click that a server reports, what the old platform says: the server wants the click id, not a redirect."""
    if found.source is None or found.reading is None or found.outcome != resolve.OK or found.forward:
        return answer
    reply = answer_to(found.source.profile, found.reading, values={"click_id": answer.click_id.decode("ascii")})
    answer.status, answer.location = reply.status, b""
    answer.body, answer.content_type = reply.body, reply.content_type
    return answer


def _random() -> bytes:
    return mint()[0][-4:]
