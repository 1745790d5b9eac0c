"""The skeleton of a URL: what stays the same from click to click, so that URLs which nothing resolves fall into few heaps. Pure."""

import re
from typing import Final
from urllib.parse import quote, unquote_to_bytes

SHAPE_MAX: Final = 200  # characters of a shape
PATH_MAX: Final = 120  # characters of its path: parameter names tell more than the tail of a deep path
PART_MAX: Final = 40  # characters of a segment or of a parameter's name
NAMES_MAX: Final = 12
MORE: Final = "..."
LOOKED_AT_BYTES: Final = 8192  # of the target: longer ones are attacks or pasted pages
_SAFE: Final = "!$'()*,;:@=+[]{}"  # beside letters, digits and -._~; braces that are no placeholder go with _FOREIGN_BRACE
_WORD_MIN: Final = 5  # shorter tokens of letters and digits are parts of names: c1, sub2, p1
_KEY_MIN: Final = 16  # with dashes inside, shorter ones are read piece by piece
_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]{0,20}://[^/?#]*+")
_TOKEN = re.compile(
    r"\{(?:n|uuid|hex|key)\}"
    r"|(?<![0-9A-Za-z])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![0-9A-Za-z])"
    r"|%[0-9A-F]{2}"
    r"|[0-9A-Za-z]++"
)
_HEX = re.compile(r"[0-9a-f]{8,}|[0-9A-F]{8,}")
_NUMBERED_WORD = re.compile(r"[A-Za-z]?[a-z]{2,}[0-9]{1,2}")  # click2, sub10: the name of a script or a parameter
_DASHED_KEY = re.compile(rf"(?=.*[a-z])(?=.*[A-Z])(?=.*[0-9])[A-Za-z0-9_-]{{{_KEY_MIN},}}")
_FOREIGN_BRACE = re.compile(r"\{(?!(?:n|uuid|hex|key)\})|(?<!\{n)(?<!\{uuid)(?<!\{hex)(?<!\{key)\}")
_UNIT = re.compile(r"%[0-9A-F]{2}|\{[a-z]+\}|.")


def shape_of(target: bytes) -> str:
    """The shape of a request target: its path with ids as `{n}`, `{uuid}`, `{hex}` or `{key}`, and its parameters' names, sorted.

    `/aff_c?offer_id=1&aff_id=2` and any other offer of any other partner are `/aff_c?aff_id&offer_id`. Ids are found between
    punctuation too: `/click-10-20` is `/click-{n}-{n}`. A parameter without `=` is a value as often as a name, so ids are taken out
    of it as of a segment.

    Returns:
        1 to 200 characters of printable ASCII, the same for the same bytes for ever; more than 12 names, or more than fit, end in
        `...`. Host and fragment are not in it. The shape of a path is its own shape. Never raises; O(len), 8 KB are looked at.
    """
    path, _, query = _origin_form(target).partition(b"?")
    shape = _cut("/".join(map(_part, path.split(b"/"))), PATH_MAX)
    names = _names(query)
    return shape + "?" + _listed(names, SHAPE_MAX - len(shape) - 1) if names else shape


def _origin_form(target: bytes) -> bytes:
    """Path and query alone; a path begins with a slash, whatever came."""
    target = target[:LOOKED_AT_BYTES].partition(b"#")[0]
    absolute = _ABSOLUTE.match(target)
    rest = target[absolute.end() :] if absolute else target
    return rest if rest.startswith(b"/") else b"/" + rest


def _names(query: bytes) -> set[str]:
    """The names of parameters, as they are shown."""
    found = set()
    for pair in query.split(b"&"):
        name, is_pair, _ = pair.partition(b"=")
        if name:
            found.add(_cut(_quoted(name), PART_MAX) if is_pair else _part(name))
    return found


def _listed(names: set[str], room: int) -> str:
    """`names` in order, joined; ends in `...` when there are too many, or too long ones."""
    listed = ""
    shown = sorted(names - {MORE})
    for name in shown[:NAMES_MAX]:
        longer = f"{listed}&{name}" if listed else name
        if len(longer) > room - len(MORE) - 1:
            break
        listed = longer
    if MORE not in names and listed.count("&") + 1 == len(shown) and listed:
        return listed
    return f"{listed}&{MORE}" if listed else MORE


def _part(raw: bytes) -> str:
    """A segment, or a parameter without a value: what looks like an id is named by its kind."""
    text = _quoted(raw)
    if _DASHED_KEY.fullmatch(text):
        return "{key}"
    return _cut(_TOKEN.sub(lambda match: _kind(match[0]), text), PART_MAX)


def _quoted(raw: bytes) -> str:
    """Percent-decoded and encoded again, so that one spelling is left; braces stand for themselves in placeholders only."""
    text = quote(unquote_to_bytes(raw), safe=_SAFE)
    return _FOREIGN_BRACE.sub(lambda match: "%7B" if match[0] == "{" else "%7D", text) if "{" in text or "}" in text else text


def _kind(token: str) -> str:
    if token.isdigit():
        return "{n}"
    if not token.isalnum():  # a placeholder, an escape, or a uuid
        return token if token[0] in "{%" else "{uuid}"
    if token.isalpha():
        return token
    if _HEX.fullmatch(token):
        return "{hex}"
    return token if len(token) < _WORD_MIN or _NUMBERED_WORD.fullmatch(token) else "{key}"


def _cut(text: str, room: int) -> str:
    """`text` shortened to `room` characters, never inside an escape or a placeholder."""
    if len(text) <= room:
        return text
    return text[: next(match.start() for match in _UNIT.finditer(text) if match.end() > room)]
