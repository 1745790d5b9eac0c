"""From the old platform's cookies and click parameters to our signed cookie: attribution that crosses over with the host name. Pure."""

import re
from collections.abc import Collection, Iterable
from typing import Final

from tracker.domain import visitor_cookie
from tracker.domain.urls import percent_decoded
from tracker.platforms.compiled import Source
from tracker.platforms.profile import Profile
from tracker.platforms.reading import Reading

COOKIES_MAX_BYTES: Final = 16 * 1024  # of the Cookie header are looked at
PASSED_ON_MAX_BYTES: Final = 4096
_OLD_ID: Final = re.compile(r"[^\x00-\x1f\x7f{}<>]+")  # a macro that nobody filled is no id


def cookie_in(header: bytes, name: str) -> bytes:
    """The value of the first cookie of that name in a Cookie header; empty: there is none."""
    wanted = name.encode()
    for pair in header[:COOKIES_MAX_BYTES].split(b";"):
        found, _, value = pair.strip().partition(b"=")
        if found == wanted:
            return value.strip(b' "')
    return b""


def without_ours(header: bytes) -> bytes:
    """A Cookie header as the old platform may have it: without our cookie, in whole cookies, 4 KB at most."""
    kept, size = [], 0
    for pair in filter(None, (pair.strip() for pair in header[:COOKIES_MAX_BYTES].split(b";"))):
        size += len(pair) + 2
        if pair.partition(b"=")[0] != visitor_cookie.NAME.encode() and size <= PASSED_ON_MAX_BYTES:
            kept.append(pair)
    return b"; ".join(kept)


def old_id_in_cookies(profile: Profile, header: bytes) -> str:
    """The click id that a cookie of the platform's own holds, percent-decoded once; `""`: none, or one that no cookie of ours can hold."""
    names = profile.click_id.cookies if header else ()
    return next(filter(None, (_old_id(percent_decoded(cookie_in(header, name))) for name in names)), "")


def old_id_in_url(source: Source, reading: Reading, target: bytes) -> str:
    """The click id that a URL of the old host brings: the one that its shape reads, else a landing parameter that is nobody's sub id."""
    if reading.click_id:
        return _old_id(reading.click_id.encode())
    names = [name.encode() for name in source.landing if name not in reading.sub_ids or name in reading.others]
    if not any(name in target for name in names):
        return ""
    query = target.partition(b"?")[2].partition(b"#")[0]
    found = dict(pair.partition(b"=")[::2] for pair in reversed(query.split(b"&")))
    return next(filter(None, (_old_id(percent_decoded(found.get(name, b"").replace(b"+", b" "))) for name in names)), "")


def without_parameters(url: bytes, names: Collection[str]) -> bytes:
    """`url` without the parameters of its query that are called so: a destination, less the click id of whoever was sent there first."""
    base, mark, fragment = url.partition(b"#")
    path, question, query = base.partition(b"?")
    if not names or not query:
        return url
    pairs = query.split(b"&")
    kept = [pair for pair in pairs if percent_decoded(pair.partition(b"=")[0]).decode("utf-8", "replace") not in names]
    return path + (question + b"&".join(kept) if kept else b"") + mark + fragment


def carried(value: str, key: bytes, old_ids: Iterable[str], click_id: str = "") -> str:
    """Our cookie `value` with `click_id` in front, and behind all others each old id that it has not yet; `""` when nothing is new.

    What the old platform numbered is from before the move, so older than the clicks that are ours.
    """
    known = visitor_cookie.read(value, key)
    visits = [*filter(None, (click_id,)), *known, *filter(None, map(visitor_cookie.old_visit, old_ids))]
    kept = tuple(dict.fromkeys(visits))[: visitor_cookie.CLICKS_MAX]
    if kept == known:
        return ""
    made = ""
    for visit in reversed(kept):
        made = visitor_cookie.with_click(made, key, visit)
    return made


def _old_id(value: bytes) -> str:
    text = value.decode("utf-8", "replace").strip()
    return text if _OLD_ID.fullmatch(text) and visitor_cookie.old_visit(text) else ""
