"""What comes to a registered old host and is no click: from a request to the report that is kept, the old platform's answer and the cookie.

For the redirector and for the tracker's own port.
"""

import asyncio
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

from tracker import wire
from tracker.adapters.journal.recording import Recording
from tracker.domain import addresses, visitor_cookie
from tracker.domain.cookie_bridge import carried, cookie_in, old_id_in_cookies, old_id_in_url, platforms_own
from tracker.domain.old_reports import KINDS, LANDING, PIXEL, POSTBACK, OldReport, settings_of
from tracker.domain.posted import merged
from tracker.domain.resolve import CLICK, OK, Resolution
from tracker.domain.routes import HostRoute, Installation
from tracker.platforms.compiled import Source
from tracker.platforms.reader import read
from tracker.platforms.reading import Reading
from tracker.platforms.replies import Answer, answer_to

KEEP_BUDGET_S: Final = 2.0  # then neither disk nor Redis has taken it
UNAVAILABLE: Final = Answer(503, "text/plain; charset=utf-8", b"not kept, send it again\n")
SEEN_PATH: Final = b"/-/seen.gif"
SEEN_PARAMETER: Final = b"old_click_id"
REFUSALS: Final = ("too_large", "too_slow", "unavailable", "flooded")  # why a report was not taken
CONTENT_TYPE_MAX: Final = 255  # bytes
PURPOSES: Final = frozenset((b"sec-purpose", b"purpose", b"x-moz", b"x-purpose"))  # headers by which browsers say that they load ahead
_AHEAD: Final = (b"prefetch", b"prerender", b"preview")
# Some platforms answer with a word of the URL (`return=…`), as HTML: a browser that is sent there must not run it.
ANSWER_HEADERS: Final = ((b"x-content-type-options", b"nosniff"), (b"content-security-policy", b"sandbox; default-src 'none'"))


class Asked(msgspec.Struct, gc=False):
    """A request to an old host. `address` is the client's, whole; `cookies` its Cookie header; `at_us` microseconds since 1970.

    `report_id` are 16 random bytes for what is kept of it. `is_ahead`: a browser loads it before anybody wants it.
    """

    report_id: bytes
    at_us: int
    method: bytes
    host: bytes
    target: bytes
    address: str
    content_type: bytes = b""
    body: bytes = b""
    user_agent: bytes = b""
    cookies: bytes = b""
    is_https: bool = False
    is_ahead: bool = False

    def is_looking(self, kind: str) -> bool:
        """Whether it is answered and not kept: HEAD, and an image that is loaded ahead. A postback is an order whatever its headers say."""
        return self.method == b"HEAD" or (self.is_ahead and kind != POSTBACK)


class Told(msgspec.Struct, frozen=True, gc=False):
    """What becomes of a report: the `answer` that is due when it is kept, and `report`; None: nothing is to be kept.

    `cookie` is a `Set-Cookie`, `""` for none. `location`: the old platform's address, to which a browser goes on instead of `answer`.
    """

    platform: str
    kind: str
    answer: Answer
    report: OldReport | None
    cookie: str = ""
    location: bytes = b""

    @property
    def status(self) -> int:
        """The answer's status."""
        return 302 if self.location else self.answer.status

    @property
    def must_be_kept(self) -> bool:
        """Whether it is `UNAVAILABLE` when nothing could keep it: a store sends a postback again, a page's image must not break."""
        return self.kind == POSTBACK


def is_loaded_ahead(value: bytes) -> bool:
    """Whether the value of one of the headers `PURPOSES` says so."""
    return value[:64].lower().startswith(_AHEAD)


def reading_of(found: Resolution, host: bytes, target: bytes, content_type: bytes, body: bytes) -> Reading | None:
    """The report that a request is, its body looked at too; None: it is none, and goes on as `found`."""
    if found.source is None or found.reading is None:
        return None
    if body:
        reading = read(found.source, host, merged(target, content_type, body))
        if reading.kind in KINDS:
            return reading
    return found.reading if found.is_report else None


def told(
    route: HostRoute, source: Source, reading: Reading, asked: Asked, installation: Installation, ip_mode: str, forward: bytes
) -> Told:
    """What becomes of the report `reading` (of `reading_of`) at a registered host.

    `forward` of its resolution: where visitors still go to the old platform, images go on to it, as the browser has the cookies that it
    set there. Postbacks do not: stores' servers want an answer, and the tee passes them on.
    """
    kind = reading.kind or ""
    answer = answer_to(source.profile, reading)
    location = forward if kind != POSTBACK else b""
    if asked.is_looking(kind):
        return Told(source.platform, kind, answer, None, location=location)
    report = _report(kind, source, asked, installation, ip_mode)
    if kind == PIXEL and not forward and asked.cookies and settings_of(route.settings).tee:
        report.cookie = platforms_own(source.profile, asked.cookies)
    cookie = new_cookie(source, installation, cookies=asked.cookies, is_https=asked.is_https) if kind != POSTBACK else ""
    return Told(source.platform, kind, answer, report, cookie, location)


def old_id_of_click(found: Resolution, target: bytes) -> str:
    """The old platform's id in the URL of a click that leads somewhere: to its link, or to the old platform; `""`: none."""
    if found.source is None or found.reading is None or found.reading.kind != CLICK or not (found.outcome == OK or found.forward):
        return ""
    return old_id_in_url(found.source, found.reading, target)


def landed(source: Source, asked: Asked, installation: Installation, ip_mode: str) -> OldReport | None:
    """What a shop's page tells by `/-/seen.gif`: the old platform's id of the newest click of ours; None without both."""
    pairs = (pair.partition(b"=") for pair in asked.target.partition(b"?")[2].split(b"&"))
    stated = next((value for name, _, value in pairs if name == SEEN_PARAMETER), b"")
    old_click_id = unquote_to_bytes(stated.replace(b"+", b" ")).strip()
    report = _report(LANDING, source, asked, installation, ip_mode)
    ours = tuple(visit for visit in report.visits if not visit.startswith(visitor_cookie.OLD))[:1]
    if not ours or not visitor_cookie.old_visit(old_click_id.decode("utf-8", "replace")):
        return None
    report.visits, report.old_click_id = ours, old_click_id
    return report


def new_cookie(
    source: Source, installation: Installation, *, cookies: bytes, is_https: bool, click_id: str = "", old_click_id: str = ""
) -> str:
    """The `Set-Cookie` by which the visitor is found later; `""`: nothing new.

    `click_id` (26 characters) is in it, what the old platform's cookie says, and `old_click_id`: of a URL that a visitor followed.
    That of an image's or a dead URL would be whatever the page's author likes.

    None on hosts whose platform has neither pixels nor cookies, and none while this machine does not know the installation's secret.
    """
    key = _key(installation.visitor_secret)
    if key is None or not source.has_cookies:
        return ""
    value = carried(_ours(cookies), key, (old_id_in_cookies(source.profile, cookies), old_click_id), click_id)
    return visitor_cookie.set_cookie(value, is_secure=is_https) if value else ""


async def is_kept(recording: Recording | None, report: OldReport) -> bool:
    """Record it, and wait until disk or Redis has it, for 2 s at most."""
    if recording is None:
        return False
    try:
        async with asyncio.timeout(KEEP_BUDGET_S):
            await recording.record(wire.Receipt(None, old=report))
    except TimeoutError:
        return False
    return True


def _report(kind: str, source: Source, asked: Asked, installation: Installation, ip_mode: str) -> OldReport:
    key = _key(installation.visitor_secret)
    return OldReport(
        postback_id=asked.report_id,
        received_at_us=asked.at_us,
        kind=kind,
        platform=source.platform,
        method=asked.method.decode("latin-1"),
        host=asked.host,
        target=asked.target,
        content_type=asked.content_type[:CONTENT_TYPE_MAX],
        body=asked.body,
        ip=addresses.kept(asked.address, ip_mode, b"", "") if ip_mode in ("truncate", "full") else "",  # as postbacks keep it
        user_agent=asked.user_agent,
        visits=visitor_cookie.read(_ours(asked.cookies), key) if key is not None else (),
        old_click_id=old_id_in_cookies(source.profile, asked.cookies).encode(),
    )


def _ours(cookies: bytes) -> str:
    return cookie_in(cookies, visitor_cookie.NAME).decode("latin-1") if cookies else ""


@lru_cache(maxsize=4)
def _key(visitor_secret: str) -> bytes | None:
    return visitor_cookie.derive(visitor_secret.encode()) if visitor_secret else None
