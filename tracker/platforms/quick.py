"""The short way for the targets that most clicks have: plain characters, exact names, each once. Pure.

`read_plain` answers exactly as `reader.read_any` does, or not at all; tests compare the two on every example and on
random ones. It exists for the redirector's hot path: a usual link costs a third of the long way.
"""

import re
from typing import Final

from tracker.platforms import forms
from tracker.platforms.compiled import DESTINATION, FIELDS, IDS_END, OWN, RENAMED_RANK, SLOTS, SUB, CompiledShape, Group, Role, Source
from tracker.platforms.pairs import PARAMETERS_MAX
from tracker.platforms.reading import Conversion, Reading
from tracker.platforms.values import decoded, text

_PLAIN: Final = re.compile(rb"(/[A-Za-z0-9._~/-]*+)(?:\?([A-Za-z0-9._~=&%+:/{}-]*+))?")
_MAYBE_CHARACTER: Final = re.compile("%[Cc]2")
# As `values.is_plain`: nothing to decode, no macro, nothing to trim.
_ID: Final = re.compile(r"(?!OPTIONAL|REPLACE|TRANSACTION|CLICK|INSERT|YOUR)[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?").fullmatch
_UNSET: Final = (None,) * SLOTS
_CONVERSION: Final = FIELDS[DESTINATION + 1 :]
_Pairs = list[tuple[str, str]]


def read_plain(source: Source, target: bytes) -> Reading | None:
    """The reading of a plain target; None: take the long way."""
    match = _PLAIN.fullmatch(target)
    if match is None:
        return None
    path, query = match.groups()
    pairs = _pairs(query) if query else []
    if pairs is None:
        return None
    if source.mistyped_report(path) is not None:
        return None
    for group in source.static.get(path) or source.patterns:
        gate = group.gate
        if gate is not None and not any(name.lower() in gate for name, _ in pairs):
            continue
        if group.style in ("fragment", "parentheses"):  # a plain target has neither
            continue
        found = None
        if group.pattern.literal is None:
            found = group.pattern.exact.fullmatch(path)
            if found is None:
                continue
        return None if group.page or group.style != "query" else _of_group(source, group, found, pairs)
    return None


def _pairs(query: bytes) -> _Pairs | None:
    """Names and values; None when a name or a pair is not plain."""
    told = query.decode("ascii")
    if "%" in told and _MAYBE_CHARACTER.search(told):
        return None
    made = []
    for pair in told.split("&"):
        name, equals, value = pair.partition("=")
        if not equals or not name or "%" in name or "+" in name:
            return None
        made.append((name, value))
    return made if len(made) <= PARAMETERS_MAX else None


def _of_group(source: Source, group: Group, match: "re.Match[bytes] | None", pairs: _Pairs) -> Reading | None:
    shape = group.shapes[0]
    if len(group.shapes) > 1 or shape.is_conditional:
        if any(name.lower() in group.deciding for name, _ in pairs) or group.default is None:
            chosen = _chosen(group, pairs)
            if chosen is None:
                return None
            shape = chosen
        else:
            shape = group.default
    if shape.is_slow:
        return None
    values: list[str | None] = list(_UNSET)
    if match is not None and not _take_path(shape, group, match, values):
        return None
    return _filled(source, shape, group, pairs, values)


def _chosen(group: Group, pairs: _Pairs) -> CompiledShape | None:
    """The shape that fits names as they are spelled here; None when one is spelled otherwise or comes twice."""
    found: dict[bytes, bytes] = {}
    for name, value in pairs:
        key = name.encode()
        if key in found or (key not in group.names and key.lower() in group.folded):
            return None
        found[key] = value.encode()
    return next((shape for shape in group.shapes if shape.fits(found)), None)


def _take_path(shape: CompiledShape, group: Group, match: "re.Match[bytes]", values: list[str | None]) -> bool:
    for number, field in enumerate(group.pattern.fields):
        value = match[f"g{number}"].decode("ascii")
        role = shape.path_roles.get(field)
        if role is None or not _ID(value) or not _is_free(role, value):
            return False
        values[role.code] = value
    return True


def _is_free(role: Role, value: str) -> bool:
    """No form has to look at the value, or the one that has would leave it as it is."""
    return role.form is None or (role.form is forms.upper and value == value.upper())


def _filled(source: Source, shape: CompiledShape, group: Group, pairs: _Pairs, values: list[str | None]) -> Reading | None:
    roles, ids = shape.quick_roles, _ID
    sub_ids: dict[str, str] = {}
    unknown: list[str] = []
    for name, value in pairs:
        role = roles.get(name)
        if role is None:
            if name not in group.names_text and not _take_unknown(name, value, shape, group, sub_ids, unknown):
                return None
            continue
        code, field, rank, form = role
        if code == OWN or (code < SLOTS and not value):
            continue
        if code == SUB and form is None and field not in sub_ids:
            sub_ids[field] = _text(value)
        elif code < IDS_END and form is None and values[code] is None and rank < RENAMED_RANK and ids(value):
            values[code] = value
        elif not _take_rest(role, value, shape, values):
            return None
    return _reading(source, shape, values, sub_ids, unknown)


def _take_unknown(name: str, value: str, shape: CompiledShape, group: Group, sub_ids: dict[str, str], unknown: list[str]) -> bool:
    """Drop or keep a parameter that the profile does not know; False: it may know it in another spelling."""
    if name.lower() in group.folded_text or (group.prefixes and name.encode().startswith(group.prefixes)):
        return False
    if shape.keeps_others:
        if name in sub_ids:
            return False
        unknown.append(name)
        sub_ids[name] = _text(value)
    return True


def _take_rest(role: Role, value: str, shape: CompiledShape, values: list[str | None]) -> bool:
    """Destinations and what a conversion reports; False: there is more to it."""
    code = role.code
    if role.form is not None or code >= SLOTS or values[code] is not None or role.rank >= RENAMED_RANK:
        return False
    if code == DESTINATION:
        found = shape.to_destination(value.encode())
        values[code] = None if found is None else text(found)
        return found is not None
    if code < DESTINATION or not _ID(value):
        return False
    values[code] = value
    return True


def _text(value: str) -> str:
    return text(decoded(value.encode())) if "%" in value or "+" in value else value


def _reading(source: Source, shape: CompiledShape, values: list[str | None], sub_ids: dict[str, str], unknown: list[str]) -> Reading | None:
    if source.has_maps and source.mapped(values[:IDS_END]) != tuple(values[:IDS_END]):
        return None
    conversion = None
    if shape.is_conversion:
        told = {field: value for field, value in zip(_CONVERSION, values[DESTINATION + 1 :], strict=True) if value}
        conversion = Conversion(**told)
    return Reading(
        platform=source.platform,
        kind=shape.kind,
        partner_id=values[0],
        offer_id=values[1],
        creative_id=values[2],
        click_id=values[3],
        link_key=values[4],
        destination=values[DESTINATION],
        sub_ids=sub_ids,
        conversion=conversion,
        shape=shape.name,
        answer=shape.answer,
        others=tuple(unknown),
    )
