"""From a request to its answer and its record: the redirect on one screen."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from redirector import pages
from redirector.limits import Flood, FloodLimiter
from redirector.mint import mint
from redirector.request import Request
from tracker import wire
from tracker.adapters.countries import CountryLookup
from tracker.adapters.lmdb_routes import RouteTable
from tracker.click_record import BOT, DAY_US, NOT_A_VISIT, RATE_LIMITED, VALID, Visitor, click_record, secret_of, verdict_of
from tracker.domain import addresses, click_id, resolve
from tracker.domain.addresses import Network
from tracker.domain.destination import destination, labels_of
from tracker.platforms.replies import answer_to

RULE_VERSION = 2  # of the verdict below; a changed rule gets the next number, old clicks keep theirs
_METHODS = frozenset((b"GET", b"HEAD", b"POST"))


class Answer(msgspec.Struct, gc=False):
    """What goes back. `record` None: nothing to record (the hard flood limit, a method that is no click, the anchor page).

    `resolved` names platform and outcome where an old platform's link was asked for. A `body` goes back in place of a redirect.
    """

    status: int
    location: bytes
    click_id: bytes
    outcome: str
    record: wire.Record | None
    resolved: tuple[str, str] | None = None
    body: bytes = b""
    content_type: str = pages.HTML

    @property
    def is_flooded(self) -> bool:
        """Not recorded because of the hard flood limit."""
        return self.record is None and not self.click_id and self.status in (302, 404)


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
        return _in_old_words(found, answer) if found.reading is not None and found.reading.answer else answer

    def _today(self, now_us: int) -> str:
        day_number = now_us // DAY_US
        if day_number != self._day_number:
            self._day_number, self._day = day_number, datetime.fromtimestamp(now_us / 1e6, UTC).strftime("%Y-%m-%d")
        return self._day


def _verdict(found: resolve.Resolution, verdict: str, flood: Flood) -> str:
    """What the request says of its visitor, in the light of what it asks for."""
    if found.missing == resolve.NO_CLICK:
        return NOT_A_VISIT
    if verdict == BOT and found.reading is not None and found.reading.answer:
        verdict = VALID  # a partner's server reports somebody's click: that it is no browser says nothing of the visitor
    return RATE_LIMITED if verdict == VALID and flood is Flood.LABELLED else verdict


def _answer(location: bytes, click_id: bytes, outcome: str, record: wire.Record | None, resolved: tuple[str, str] | None) -> Answer:
    if location:
        return Answer(302, location, click_id, outcome, record, resolved)
    return Answer(404, b"", click_id, outcome, record, resolved, pages.NOT_FOUND)


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
