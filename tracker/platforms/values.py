"""From raw bytes of a URL to values: decoding, the text rule, unreplaced macros, destinations. Pure, total, linear.

The text rule: a value is decoded as UTF-8; every byte that is none, and NUL, stands in the text as `%XX` (upper-case).
"""

import re

from tracker.domain.urls import percent_decoded

DECODE_MAX = 8  # times a destination is decoded before it is given up
_UNFILLED = re.compile(
    rb"""\{[^{}]{0,80}\}              # {click_id}, ${x[y]}, #{x.y}, {{x}}
      | !!![^!]{1,80}!!!              # Awin
      | \[=[^\[\]]{1,80}=\]           # LinkTrust
      | \[\[\[[^\[\]]{1,80}\]\]\]     # Admitad
      | ^\#[A-Za-z_][\w.]{0,80}\#$    # CAKE, HitPath, Daisycon feeds
      | ^\[[A-Za-z_][\w.]{0,80}\]$
      | ^\([A-Za-z_]{1,80}\)$
      | ^<[A-Za-z_][\w.\ ]{0,80}>$
      | ^%[A-Za-z_][\w.]{2,80}%$
      | ^(?:OPTIONAL|REPLACE(?:_\w{1,40})?|TRANSACTION_ID|CLICK_?ID|INSERT_\w{1,40}|YOUR_\w{1,40})$""",
    re.VERBOSE,
)
# Neither escaped nor a macro nor with a full stop at the end: most ids.
_SAFE_ID = re.compile(rb"(?!OPTIONAL|REPLACE|TRANSACTION|CLICK|INSERT|YOUR)[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?")
_PERCENT_WORD = re.compile(rb"%[A-Za-z_][\w.]{2,80}%")
_WEB = re.compile(rb"https?://(?=[^/?#\\\s])", re.IGNORECASE)
_COLLAPSED = re.compile(rb"(https?:)/(?=[^/%?#\\\s])", re.IGNORECASE)
_HOST_FIRST = re.compile(rb"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+(?::[0-9]{1,5})?(?:[/?#]|$)")
_SCHEME = re.compile(rb"\s*[A-Za-z][A-Za-z0-9+.-]*:")
_BROKEN = re.compile("[\udc80-\udcff\x00]")


def is_plain(raw: bytes) -> bool:
    """`raw` is an id as most are: nothing to decode, no macro, nothing to trim."""
    return _SAFE_ID.fullmatch(raw) is not None


def decoded(raw: bytes, *, is_form: bool = True) -> bytes:
    """`raw` after one percent-decoding; in a form (a query) `+` is a space. `%NAME%` macros stay as they are."""
    if is_form and b"+" in raw:
        raw = raw.replace(b"+", b" ")
    if b"%" not in raw or _PERCENT_WORD.fullmatch(raw):
        return raw
    return percent_decoded(raw)


def text(value: bytes) -> str:
    """`value` by the text rule. Never raises."""
    try:
        found = value.decode("utf-8")
    except UnicodeDecodeError:
        found = value.decode("utf-8", "surrogateescape")
    else:
        if "\0" not in found:
            return found
    return _BROKEN.sub(lambda match: f"%{ord(match[0]) & 0xFF:02X}", found)


def is_unfilled(value: bytes) -> bool:
    """`value` is, or holds, a placeholder that the old platform or the partner's tool should have replaced."""
    return _UNFILLED.search(value) is not None


def starts_as_web(raw: bytes) -> bool:
    """`raw` begins `http://` or `https://` as it is."""
    return _WEB.match(raw) is not None


def destination(raw: bytes) -> bytes | None:
    """The absolute http(s) URL in `raw`, after as few decodings as make it begin so; the rest stays byte for byte.

    Mends the scheme that a proxy collapsed (`https:/x`), takes off blanks and `[[ ]]` around. None: anything else.
    """
    value = raw
    for _ in range(DECODE_MAX):
        value = value.strip(b" \t\r\n")
        if value[:1] == b"[":
            value = value.removeprefix(b"[[").removesuffix(b"]]").strip()
        if _WEB.match(value):
            return value
        if _COLLAPSED.match(value):
            return _COLLAPSED.sub(rb"\1//", value, count=1)
        inner = percent_decoded(value)
        if inner == value:
            return None
        value = inner
    return None


def relative_destination(raw: bytes) -> bytes | None:
    """A path below the shop's own domain, decoded once: never a scheme, another host or a backslash. Absolute http(s) passes."""
    absolute = destination(raw)
    if absolute is not None:
        return absolute
    value = decoded(raw, is_form=False).strip()
    if not value or value.startswith((b"//", b"\\")) or b"\\" in value[:2] or _SCHEME.match(value):
        return None
    return value


def schemeless_destination(raw: bytes) -> bytes | None:
    """`host/path` without a scheme, decoded once, as given; absolute http(s) passes."""
    absolute = destination(raw)
    if absolute is not None:
        return absolute
    value = decoded(raw, is_form=False).strip()
    return value if _HOST_FIRST.match(value) else None
