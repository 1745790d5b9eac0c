"""The visitor's cookie: which clicks brought this browser here, signed, so that nobody makes one but Turnout. Pure.

A click is named by its click id, one of an old platform's by `old_visit` of the id that the platform gave it.
"""

import base64
import hmac
import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Final, Literal

from tracker.domain.urls import allowed_deep_link

NAME: Final = "turnout_visitor"
PARAMETER: Final = "cookie"  # what a store's server passes it on by
CLICKS_MAX: Final = 5
MAX_AGE_S: Final = 90 * 24 * 3600
OLD: Final = "old:"  # the beginning of a visit that an old platform numbered
OLD_ID_MAX_BYTES: Final = 120  # browsers keep 4 KB a cookie
_PURPOSE: Final = b"turnout visitor cookie"
_VERSION: Final = "1"
_SIGNATURE_BYTES: Final = 16
_OLD_MARK: Final = "x"  # no click id begins so
_CLICK: Final = f"(?:[0-7][0-9a-hjkmnp-tv-z]{{25}}|{_OLD_MARK}[a-z2-7]{{2,192}})"
_VALUE: Final = re.compile(rf"{_VERSION}\.({_CLICK}(?:-{_CLICK}){{0,{CLICKS_MAX - 1}}})\.([0-9a-f]{{{2 * _SIGNATURE_BYTES}}})", re.ASCII)

Page = Literal["shop", "other_page", "no_page"]


def page_of(origin: str, referer: str, domains: Collection[str] | None) -> Page:
    """Whose page asks, by what its browser says: one within `domains`, as deep links are, is a shop's; without `domains` (None) any is.

    A page cannot make a browser name another page, only keep it from naming any: that is `no_page`.
    """
    if domains is None:
        return "shop"
    asking = origin or referer
    if not asking:
        return "no_page"
    site = "/".join(asking.split("/", 3)[:3])  # the path may be longer than any link
    return "shop" if allowed_deep_link(site.encode("utf-8", "surrogatepass"), domains) else "other_page"


def derive(visitor_key: bytes) -> bytes:
    """The key of cookies, from the installation's visitor key: whoever has one of them cannot tell the other uses of it."""
    return hmac.digest(visitor_key, _PURPOSE, "sha256")


def old_visit(old_click_id: str) -> str:
    """The name of a visit that an old platform numbered; `""` for an id that is empty or longer than 120 bytes."""
    return OLD + old_click_id if 0 < len(old_click_id.encode("utf-8", "replace")) <= OLD_ID_MAX_BYTES else ""


def read(value: str, key: bytes) -> tuple[str, ...]:
    """The visits in a cookie, newest first, 5 at most; `()` for what is damaged, forged, or of another version."""
    match = _VALUE.fullmatch(value) if value else None
    if match is None or not hmac.compare_digest(_signature(match[1], key), match[2]):
        return ()
    return tuple(filter(None, map(_visit, match[1].split("-"))))


def with_click(value: str, key: bytes, click_id: str) -> str:
    """The cookie `value` with one more visit in front; one that it has moves there.

    `click_id`: the 26 characters of `click_id.to_text`, or an `old_visit`.
    """
    return of_visits([click_id, *(known for known in read(value, key) if known != click_id)], key)


def of_visits(visits: Sequence[str], key: bytes) -> str:
    """A cookie of the first five of `visits`, which are there once each."""
    clicks = "-".join(map(_written, visits[:CLICKS_MAX]))
    return f"{_VERSION}.{clicks}.{_signature(clicks, key)}"


def set_cookie(value: str, *, is_secure: bool) -> str:
    """The `Set-Cookie` of `value`. Browsers send it from another site's page only with SameSite=None, which they take with Secure only."""
    policy = "Secure; HttpOnly; SameSite=None" if is_secure else "HttpOnly; SameSite=Lax"
    return f"{NAME}={value}; Path=/; Max-Age={MAX_AGE_S}; {policy}"


def _written(visit: str) -> str:
    if not visit.startswith(OLD):
        return visit
    return _OLD_MARK + base64.b32encode(visit.removeprefix(OLD).encode("utf-8", "replace")).decode("ascii").rstrip("=").lower()


def _visit(written: str) -> str:
    if not written.startswith(_OLD_MARK):
        return written
    text = written.removeprefix(_OLD_MARK).upper()
    try:
        return OLD + base64.b32decode(text + "=" * (-len(text) % 8)).decode()
    except ValueError:  # signed, so ours; but not of this version
        return ""


def _signature(clicks: str, key: bytes) -> str:
    keyed = _keyed(key).copy()
    keyed.update(f"{_VERSION}.{clicks}".encode())
    return keyed.hexdigest()[: 2 * _SIGNATURE_BYTES]


@lru_cache(maxsize=4)
def _keyed(key: bytes) -> hmac.HMAC:
    """A key made ready: half the time of a signature."""
    return hmac.new(key, digestmod="sha256")
