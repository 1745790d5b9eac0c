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
ID_MIN_BYTES: Final = 6  # shorter ones stand in every URL by chance
_ENDS: Final = re.compile(rb"[/?&=#;]")  # of what an old URL says
_OLD_ID: Final = re.compile(r"[^\x00-\x1f\x7f{}<>]+")  # a macro that nobody filled is no id


def cookie_in(header: bytes, name: str) -> bytes:
    """The value of the first cookie of that name in a Cookie header; empty: there is none."""
    wanted = name.encode()
    for pair in header[:COOKIES_MAX_BYTES].split(b";"):
        found, _, value = pair.strip().partition(b"=")
        if found == wanted:
            return value.strip(b' "')
    return b""


def platforms_own(profile: Profile, header: bytes) -> bytes:
    """A Cookie header as the old platform may have it: the cookies that it sets itself, whole, 4 KB at most. Nobody else's session."""
    names = {name.encode() for name in profile.click_id.cookies}
    kept, size = [], 0
    for pair in (pair.strip() for pair in header[:COOKIES_MAX_BYTES].split(b";")):
        if pair.partition(b"=")[0] in names and size + len(pair) <= PASSED_ON_MAX_BYTES:
            kept.append(pair)
            size += len(pair) + 2
    return b"; ".join(kept)


def old_id_in_cookies(profile: Profile, header: bytes) -> str:
    """The click id that a cookie of the platform's own holds, percent-decoded once; `""`: none, or one that no cookie of ours can hold."""
    names = profile.click_id.cookies if header else ()
    return next(filter(None, (_old_id(percent_decoded(cookie_in(header, name))) for name in names)), "")


def old_id_in_url(source: Source, reading: Reading, target: bytes) -> str:
    """The click id that a URL of the old host brings: the one that its shape reads, else a landing parameter that is nobody's sub id."""
    if reading.click_id:
        return _old_id(reading.click_id.encode())
    named = [name for name in source.landing if name.encode() in target]
    names = [name.encode() for name in named if name not in reading.sub_ids or name in reading.others]
    if not names:
        return ""
    query = target.partition(b"?")[2].partition(b"#")[0]
    found = dict(pair.partition(b"=")[::2] for pair in reversed(query.split(b"&")))
    return next(filter(None, (_old_id(percent_decoded(found.get(name, b"").replace(b"+", b" "))) for name in names)), "")


def without_parameters(url: bytes, names: Collection[str]) -> bytes:
    """`url` without the parameters of its query that are called so."""
    base, mark, fragment = url.partition(b"#")
    path, question, query = base.partition(b"?")
    if not names or not query:
        return url
    pairs = query.split(b"&")
    kept = [pair for pair in pairs if percent_decoded(pair.partition(b"=")[0]).decode("utf-8", "replace") not in names]
    return path + (question + b"&".join(kept) if kept else b"") + mark + fragment


def for_everybody(url: bytes, landing: Collection[str], asked: bytes) -> bytes | None:
    """A destination without the click id of the visitor who was sent there for the URL `asked`; None: nobody can tell what that is.

    The id is what the parameters `landing` bring: these go, and every other parameter with such a value. Without any of them, a query with
    a value that `asked` has not may be an id; so may be what is left of one in path or fragment.
    """
    base, mark, fragment = url.partition(b"#")
    path, question, query = base.partition(b"?")
    pairs = [(pair, *map(percent_decoded, pair.partition(b"=")[::2])) for pair in query.split(b"&")] if query else []
    ids = {value for _, name, value in pairs if name.decode("utf-8", "replace") in landing}
    if not ids:
        return url if {value for _, _, value in pairs} <= {b"", *map(percent_decoded, _ENDS.split(asked))} else None
    kept = [pair for pair, name, value in pairs if name.decode("utf-8", "replace") not in landing and (not value or value not in ids)]
    left = path + (question + b"&".join(kept) if kept else b"") + mark + fragment
    return None if any(len(found) >= ID_MIN_BYTES and found in percent_decoded(left) for found in ids) else left


def carried(value: str, key: bytes, old_ids: Iterable[str], click_id: str = "") -> str:
    """Our cookie `value` with `click_id` in front, and behind all others each old id that it has not yet; `""` when nothing is new.

    What the old platform numbered is from before the move, so older than the clicks that are ours.
    """
    known = visitor_cookie.read(value, key) if value else ()
    visits = [*filter(None, (click_id,)), *known, *filter(None, map(visitor_cookie.old_visit, old_ids))]
    kept = tuple(dict.fromkeys(visits))[: visitor_cookie.CLICKS_MAX]
    return visitor_cookie.of_visits(kept, key) if kept != known else ""


def _old_id(value: bytes) -> str:
    text = value.decode("utf-8", "replace").strip()
    return text if _OLD_ID.fullmatch(text) and visitor_cookie.old_visit(text) else ""
