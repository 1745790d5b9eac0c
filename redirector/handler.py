"""From a request to its answer and its record: the redirect on one screen."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from redirector.limits import Flood, FloodLimiter
from redirector.mint import mint
from redirector.request import Request
from tracker import wire
from tracker.adapters.countries import CountryLookup
from tracker.adapters.lmdb_routes import RouteTable
from tracker.click_record import DAY_US, RATE_LIMITED, VALID, Visitor, click_record, secret_of, verdict_of
from tracker.domain import addresses, click_id, resolve
from tracker.domain.addresses import Network
from tracker.domain.destination import destination, read_labels

RULE_VERSION = 1  # of the verdict below; a changed rule gets the next number, old clicks keep theirs
_METHODS = frozenset((b"GET", b"HEAD", b"POST"))


class Answer(msgspec.Struct, gc=False):
    """What goes back. `record` None: nothing to record (the hard flood limit, a method that is no click)."""

    status: int
    location: bytes
    click_id: bytes
    outcome: str
    record: wire.Record | None


NOT_A_CLICK = Answer(405, b"", b"", "method", None)


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
        address = addresses.client_address(request.peer, request.forwarded_for, self._trusted)
        flood = self._limiter.judge(addresses.network(address), found.link_id, now_us // 1_000_000)
        labels = read_labels(request.target)
        if flood is Flood.COUNTED_ONLY:
            nobody = Visitor(address, "", request.user_agent, request.language, request.referrer)
            location = destination(found, labels, b"", lambda: nobody.macros(time.time(), _random()))
            return Answer(302 if location else 404, location, b"", found.outcome, None)
        visitor = Visitor(address, self._countries.country(address), request.user_agent, request.language, request.referrer)
        text_id = click_id.to_text(raw_id)
        location = destination(found, labels, text_id, lambda: visitor.macros(time.time(), _random()))
        method = request.method.decode("latin-1")
        verdict = verdict_of(method, visitor, is_prefetch=request.is_prefetch)
        if flood is Flood.LABELLED and verdict == VALID:
            verdict = RATE_LIMITED
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
        return Answer(302 if location else 404, location, text_id, found.outcome, record)

    def _today(self, now_us: int) -> str:
        day_number = now_us // DAY_US
        if day_number != self._day_number:
            self._day_number, self._day = day_number, datetime.fromtimestamp(now_us / 1e6, UTC).strftime("%Y-%m-%d")
        return self._day


def _random() -> bytes:
    return mint()[0][-4:]
