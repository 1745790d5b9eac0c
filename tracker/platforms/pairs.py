"""Names and values out of a query, a fragment, a path or parentheses, with what mail and web pages do to them.

Everything here is linear in its input and looks at no more than `PARAMETERS_MAX` parameters; what follows is not read.
A name counts as known when the group of shapes that is being read knows it: only known names are ever mended.
"""

import re
from collections.abc import Sequence
from typing import Protocol

from tracker.domain.urls import percent_decoded
from tracker.platforms.values import destination, starts_as_web

PARAMETERS_MAX = 200  # CJ and Voluum links carry some 40; more is an attack
BARE = b"?"  # the name of the first parameter without `=`
_ODD = re.compile(rb"[?;\xc2]|%[Cc]2")
_CHARACTER_NAMES = {b"\xa4": b"curren", b"\xb6": b"para", b"\xae": b"reg", b"\xa9": b"copy", b"\xa7": b"sect", b"\xac": b"not"}
_CHARACTER = re.compile(rb"(?:\xc2|%[Cc]2)(\xa4|\xb6|\xae|\xa9|\xa7|\xac|%[Aa][47Ee9Cc]|%[Bb]6)([A-Za-z0-9_.]{0,40})(?==)")
_PARENTHESES = re.compile(rb"[()]")
_FIRST_CALL = re.compile(rb"&?[A-Za-z0-9_.]{1,40}\(")
_PATH_DESTINATION = re.compile(rb"https?(?::|%3a)", re.IGNORECASE)
_GROUP_MARK = re.compile(rb"[\[\]]|%5[bd]", re.IGNORECASE)
_COLON = re.compile(rb":|%3a", re.IGNORECASE)


class Names(Protocol):
    """What reading pairs needs to know of a group of shapes."""

    destinations: frozenset[bytes]
    has_bare: bool
    keeps_others: bool
    prefixes: tuple[bytes, ...]
    names: dict[bytes, bytes]

    def known(self, name: bytes) -> bytes | None:
        """The profile's spelling of a parameter's name; None: it does not know it."""


class Found:
    """Parameters of one URL: known ones by name (the first that is not empty), the others in their order."""

    __slots__ = ("doubts", "is_form", "others", "takes_rest", "values")

    def __init__(self, *, is_form: bool = True) -> None:
        self.values: dict[bytes, bytes] = {}
        self.others: list[tuple[bytes, bytes]] = []
        self.doubts: list[str] = []
        self.is_form = is_form
        self.takes_rest = False


def from_query(query: bytes, group: Names) -> Found:
    """Read `a=1&b=2`; `&` and `;` and a second `?` as section B of the facts has it."""
    found = Found()
    if query:
        pairs = _odd_pairs(query, group, found) if _ODD.search(query) else query.split(b"&", PARAMETERS_MAX)
        if len(pairs) > PARAMETERS_MAX:
            found.doubts.append("more than 200 parameters")
        _walk(pairs, 0, group, found)
    return found


def _walk(pairs: Sequence[bytes], start: int, group: Names, found: Found) -> None:
    names, values, destinations = group.names, found.values, group.destinations
    for at in range(start, min(len(pairs), PARAMETERS_MAX)):
        name, equals, value = pairs[at].partition(b"=")
        key = names.get(name) or group.known(name)
        if key is None or not equals:
            _keep_other(name, equals, value, key, group, found)
        elif not values.get(key):
            values[key] = value
            if key in destinations and (b"?" in value or value[:2] == b"[["):
                end = _end_of_destination(pairs, at, value, group, found)
                if end is not None:
                    values[key] = b"&".join((value, *pairs[at + 1 : end]))
                    found.takes_rest = end >= len(pairs)
                    return _walk(pairs, end, group, found)
    return None


def _keep_other(name: bytes, equals: bytes, value: bytes, key: bytes | None, group: Names, found: Found) -> None:
    if not equals:
        if name and group.has_bare and BARE not in found.values:
            found.values[BARE] = name
        elif key is not None:
            found.values.setdefault(key, b"")
    elif name and (group.keeps_others or name.startswith(group.prefixes)):
        found.others.append((name, value))


def _end_of_destination(pairs: Sequence[bytes], at: int, value: bytes, group: Names, found: Found) -> int | None:
    """Where an unencoded destination ends: before the next parameter that the platform knows and has not got yet."""
    if value.startswith(b"[["):
        return next((end + 1 for end in range(at, len(pairs)) if b"]]" in pairs[end]), None)
    if not starts_as_web(value) and destination(value) is None:
        return None
    for end in range(at + 1, len(pairs)):
        name, equals, _ = pairs[end].partition(b"=")
        key = group.known(name) if equals else None
        if key is not None and not found.values.get(key):
            return end
    return len(pairs)


def _odd_pairs(query: bytes, group: Names, found: Found) -> list[bytes]:
    if b"\xc2" in query or b"%C2" in query or b"%c2" in query:
        query = _CHARACTER.sub(lambda match: _mended_name(match, group), query)
    if b"&" not in query and b";" in query:
        return _merged(query.split(b";", PARAMETERS_MAX), b";", group, found)
    pairs = query.split(b"&", PARAMETERS_MAX)
    if b"?" not in query:
        return pairs
    made: list[bytes] = []
    for number, pair in enumerate(pairs):
        if b"?" not in pair or number == PARAMETERS_MAX:
            made.append(pair)
        elif pair.startswith(b"?"):
            made.extend(_merged(pair[1:].split(b"?", PARAMETERS_MAX), b"?", group, found))
        else:
            name, _, value = pair.partition(b"=")
            is_destination = group.known(name) in group.destinations and destination(value) is not None
            is_whole = is_destination or value.startswith(b"[[")
            made.extend([pair] if is_whole else _merged(pair.split(b"?", PARAMETERS_MAX), b"?", group, found))
    return made


def _merged(parts: list[bytes], separator: bytes, group: Names, found: Found) -> list[bytes]:
    """`parts` split at an unusual separator: those that begin no known parameter are put back where they were."""
    made: list[list[bytes]] = [[parts[0]]]
    for part in parts[1:]:
        name, equals, _ = part.partition(b"=")
        if equals and group.known(name) is not None:
            made.append([part])
        else:
            made[-1].append(part)
    if len(made) > 1:
        found.doubts.append(f"parameters separated by {separator.decode()}")
    return [separator.join(pieces) for pieces in made]


def _mended_name(match: "re.Match[bytes]", group: Names) -> bytes:
    character = percent_decoded(match[1])
    name = _CHARACTER_NAMES[character] + match[2]
    return b"&" + name if group.known(name) is not None else match[0]


def is_parentheses(query: bytes) -> bool:
    """`query` is of the form `p(1)a(2)`."""
    return _FIRST_CALL.match(query) is not None


def from_parentheses(query: bytes, group: Names) -> Found:
    """Read `p(263037)a(2913754)url(http://…)`; parentheses inside a value are balanced, the last may be missing."""
    found = Found()
    depth, start, name, count = 0, 0, b"", 0
    for mark in _PARENTHESES.finditer(query):
        depth += 1 if mark[0] == b"(" else -1
        if mark[0] == b"(" and depth == 1:
            name, start = query[start : mark.start()].strip(b"&;/"), mark.end()
        elif depth == 0:
            _add(name, query[start : mark.start()], group, found)
            start, count = mark.end(), count + 1
        if depth < 0 or count >= PARAMETERS_MAX:
            return found
    if depth > 0:
        _add(name, query[start:], group, found)
    return found


def _add(name: bytes, value: bytes, group: Names, found: Found) -> None:
    key = group.known(name)
    if key is not None and not found.values.get(key):
        found.values[key] = value
    elif key is None and name and (group.keeps_others or name.startswith(group.prefixes)):
        found.others.append((name, value))


def from_pairs(rest: bytes, group: Names) -> Found:
    """Read `camref:x/pubref:y/destination:https://…`, the destination to the very end; groups in brackets are passed over."""
    found = Found(is_form=False)
    at, is_inside = 0, False
    segments = rest.split(b"/", PARAMETERS_MAX)
    for number, segment in enumerate(segments):
        start, at = at, at + len(segment) + 1
        was_inside, is_inside = is_inside, _is_inside_group(segment, is_inside)
        if was_inside or is_inside or _opens_group(segment):
            continue
        name, colon, value = _split_pair(segment)
        key = group.known(name) if colon else None
        if key in group.destinations:
            found.values.setdefault(key or b"", rest[start + len(name) + len(colon) :])
            found.takes_rest = True
            break
        if colon:
            last, mark, query = value.partition(b"?")
            _add(name, last, group, found)
            if mark and number == len(segments) - 1:
                _take_query(query, group, found)
    return found


def _opens_group(segment: bytes) -> bool:
    return segment[:1] == b"[" or segment[:3].lower() == b"%5b"


def _is_inside_group(segment: bytes, is_inside: bool) -> bool:
    """Whether a group is open after `segment`: one opens at a segment's beginning only, and then the last bracket decides."""
    if not is_inside and not _opens_group(segment):
        return False
    marks = _GROUP_MARK.findall(segment)
    return is_inside if not marks else marks[-1].lower() in (b"[", b"%5b")


def _split_pair(segment: bytes) -> tuple[bytes, bytes, bytes]:
    mark = _COLON.search(segment)
    return (segment[: mark.start()], mark[0], segment[mark.end() :]) if mark else (segment, b"", b"")


def from_segments(rest: bytes, group: Names) -> Found:
    """Read `sid/SUB/https://…` or `CID/123/AFID/456`: names and values in turn; a web address takes all that follows."""
    found = Found(is_form=False)
    name: bytes | None = None
    at = 0
    for segment in rest.split(b"/", PARAMETERS_MAX):
        start, at = at, at + len(segment) + 1
        if name is None and group.destinations and _PATH_DESTINATION.match(segment):
            found.values.setdefault(min(group.destinations), rest[start:])
            found.takes_rest = True
            break
        last, mark, _ = segment.partition(b"?")
        if name is None:
            name = last
        else:
            _add(name, last, group, found)
            name = None
        if mark:
            _take_query(rest[start + len(last) + 1 :], group, found)
            break
    return found


def _take_query(query: bytes, group: Names, found: Found) -> None:
    for key, value in from_query(query, group).values.items():
        found.values.setdefault(key, value.replace(b"+", b"%20"))
