"""From a request to its answer and its record: the redirect on one screen."""

import hashlib
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
from tracker.adapters.user_agents import is_bot, parse
from tracker.domain import addresses, click_id, resolve
from tracker.domain.addresses import Network
from tracker.domain.destination import destination, read_labels

RULE_VERSION = 1  # of the verdict below; a changed rule gets the next number, old clicks keep theirs
KIND = "click"
VALID, BOT, PREFETCH, HEAD, RATE_LIMITED = "valid", "bot", "prefetch", "head", "rate_limited"
_METHODS = frozenset((b"GET", b"HEAD", b"POST"))
_VISITOR_KEY_BYTES = 16


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
            location = destination(found, labels, b"", lambda: _visitor(request, ""))
            return Answer(302 if location else 404, location, b"", found.outcome, None)
        country = self._countries.country(address)
        text_id = click_id.to_text(raw_id)
        location = destination(found, labels, text_id, lambda: _visitor(request, country))
        verdict = _verdict(request, flood)
        record = wire.Record(
            click_id=raw_id,
            received_at_us=now_us,
            kind=KIND,
            method=request.method.decode("latin-1"),
            host=request.host,
            target=request.target,
            link_id=found.link_id or None,
            campaign_id=found.campaign_id or None,
            partner_id=found.partner_id or None,
            advertiser_id=found.advertiser_id or None,
            creative=found.creative,
            outcome=found.outcome,
            verdict=verdict,
            rule_version=RULE_VERSION,
            counted=verdict == VALID,
            destination=location,
            ip=addresses.kept(address, self._ip_mode, self._secret(), self._today(now_us)),
            country=country,
            network=addresses.kept_network(address, self._ip_mode),
            user_agent=request.user_agent,
            referrer=request.referrer,
            language=request.language,
            subs=labels.subs,
            ref=labels.ref,
            visitor_key=self._visitor_key(address, request.user_agent, now_us),
            platform=found.platform or "",
        )
        return Answer(302 if location else 404, location, text_id, found.outcome, record)

    def _secret(self) -> bytes:
        # Before the table is there, an empty key: the address then still is what the IP mode makes of it, never more.
        return self._table.installation().visitor_secret.encode() or b"-"

    def _today(self, now_us: int) -> str:
        day_number = now_us // 86_400_000_000
        if day_number != self._day_number:
            self._day_number, self._day = day_number, datetime.fromtimestamp(now_us / 1e6, UTC).strftime("%Y-%m-%d")
        return self._day

    def _visitor_key(self, address: str, user_agent: bytes, now_us: int) -> bytes:
        """A pseudonym of (address, browser) that holds for one UTC day: enough to tell a first click from a repeat."""
        digest = hashlib.blake2b(
            address.encode(), key=self._secret()[:64], digest_size=_VISITOR_KEY_BYTES, salt=b"%016d" % (now_us // 86_400_000_000)
        )
        digest.update(b"\0" + user_agent)
        return digest.digest()


def _verdict(request: Request, flood: Flood) -> str:
    if request.method == b"HEAD":
        return HEAD
    if request.is_prefetch:
        return PREFETCH
    if is_bot(request.user_agent.decode("latin-1")):
        return BOT
    return VALID if flood is Flood.CALM else RATE_LIMITED


def _visitor(request: Request, country: str) -> dict[str, bytes]:
    agent = parse(request.user_agent.decode("utf-8", "replace"))
    return {
        "country": country.encode(),
        "device": agent.device.encode(),
        "os": agent.os.encode(),
        "browser": agent.browser.encode(),
        "language": request.language,
        "timestamp": b"%d" % time.time(),
        "random": mint()[0][-4:].hex().encode(),
    }
