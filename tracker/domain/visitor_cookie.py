"""The visitor's cookie: which clicks brought this browser here, signed, so that nobody makes one but the tracker. Pure."""

import hmac
import re
from typing import Final

NAME: Final = "turnout_visitor"
PARAMETER: Final = "cookie"  # what a store's server passes it on by
CLICKS_MAX: Final = 5
MAX_AGE_S: Final = 90 * 24 * 3600
_PURPOSE: Final = b"turnout visitor cookie"
_VERSION: Final = "1"
_SIGNATURE_BYTES: Final = 16
_CLICK: Final = "[0-7][0-9a-hjkmnp-tv-z]{25}"
_VALUE: Final = re.compile(rf"{_VERSION}\.({_CLICK}(?:-{_CLICK}){{0,{CLICKS_MAX - 1}}})\.([0-9a-f]{{{2 * _SIGNATURE_BYTES}}})", re.ASCII)


def derive(visitor_key: bytes) -> bytes:
    """The key of cookies, from the installation's visitor key: whoever has one of them cannot tell the other uses of it."""
    return hmac.digest(visitor_key, _PURPOSE, "sha256")


def read(value: str, key: bytes) -> tuple[str, ...]:
    """The click ids in a cookie, newest first, 5 at most; `()` for what is damaged, forged, or of another version."""
    match = _VALUE.fullmatch(value)
    if match is None or not hmac.compare_digest(_signature(match[1], key), match[2]):
        return ()
    return tuple(match[1].split("-"))


def with_click(value: str, key: bytes, click_id: str) -> str:
    """The cookie `value` with one more click in front; one that it has moves there. `click_id`: the 26 characters of `click_id.to_text`."""
    earlier = [known for known in read(value, key) if known != click_id]
    clicks = "-".join([click_id, *earlier][:CLICKS_MAX])
    return f"{_VERSION}.{clicks}.{_signature(clicks, key)}"


def _signature(clicks: str, key: bytes) -> str:
    return hmac.digest(key, f"{_VERSION}.{clicks}".encode(), "sha256")[:_SIGNATURE_BYTES].hex()
