"""Read an old URL: the platform's source, the host and the raw request target in, a `Reading` out. Pure and total.

Linear in the target; targets above `TARGET_MAX_BYTES` and parameters beyond `PARAMETERS_MAX` are not read.
"""

import re
from typing import Final

from tracker.domain.urls import split_absolute
from tracker.platforms import pairs, quick
from tracker.platforms.compiled import (
    ANCHOR,
    CLICK_ID,
    CODES,
    DERIVED_RANK,
    DESTINATION,
    FIELDS,
    HINT,
    IDS_END,
    LINK_KEY,
    NO_RANK,
    RENAMED_RANK,
    SLOTS,
    SUB,
    SUB_PREFIX,
    CompiledShape,
    Group,
    Role,
    Source,
)
from tracker.platforms.pairs import Found
from tracker.platforms.reading import Conversion, RawIds, Reading
from tracker.platforms.values import decoded, is_plain, is_unfilled, text

TARGET_MAX_BYTES: Final = 65_536  # the redirector takes no longer heads
REPAIRED = "damaged link was repaired"
_DAMAGE = re.compile(rb"[\x00-\x20\"<>\x7f]|&(?:amp;|#)", re.IGNORECASE)
_WRAPPING = re.compile(rb"[\r\n\t\x00]+")
_ENTITY = re.compile(rb"&(?:(?:amp;)++|#0{0,4}38;|#x0{0,4}26;)", re.IGNORECASE)
_UNRESERVED = re.compile(rb"%(2[DdEe]|3\d|4[1-9A-Fa-f]|5[0-9AaFf]|6[1-9A-Fa-f]|7[0-9AaEe])")
_SLASHES = re.compile(rb"/{2,}+")
_NUMBER_AND_JUNK = re.compile(rb"(-?[0-9]+)(?:\.*+[\s()<>\"',;:!?\[\]].*|\.++)?", re.DOTALL)
_NO_VALUES: Final = (None,) * SLOTS
_NO_RANKS: Final = (NO_RANK,) * SLOTS


def read(source: Source, host: bytes, target: bytes, scheme: bytes = b"https") -> Reading:
    """What `target` says at `source`.

    Args:
        source: the platform as this operator has it; its hosts are not looked at.
        host: the Host header as received; ids stand in it on ClickBank, and an on-page link's destination needs it.
        target: the raw request target, path and query, with a fragment if a stored URL has one.
        scheme: of the page, for destinations that are the page itself.

    Returns:
        The reading; `kind` None when no shape of the platform fits. Never raises, whatever the bytes.
    """
    if len(target) > TARGET_MAX_BYTES:
        return Reading(platform=source.platform, doubts=("longer than 64 KB",))
    if _DAMAGE.search(target):
        target = _tidied(target)
    if not target.startswith(b"/"):
        host, target = split_absolute(host, target)
    plain = quick.read_plain(source, target)
    if plain is not None:
        return plain
    return read_any(source, host, target, scheme)


def read_any(source: Source, host: bytes, target: bytes, scheme: bytes = b"https") -> Reading:
    """`read` without its short way for plain targets, which `quick.read_plain` answers just so."""
    request = _Request(source, host, target, scheme)
    found = request.mistyped() or request.first(source.static.get(request.path) or source.patterns) or request.repaired()
    return found or Reading(platform=source.platform)


def _tidied(target: bytes) -> bytes:
    """Without the line breaks of wrapped text, blanks and brackets around it, and the entities of a page's source."""
    target = _WRAPPING.sub(b"", target).strip(b" \x0b\x0c\x7f").rstrip(b"<>\"'")
    return _ENTITY.sub(b"&", target)


class _Request:
    """One target on its way through the groups of shapes."""

    __slots__ = ("fragment", "host", "mark", "path", "query", "scheme", "source")

    def __init__(self, source: Source, host: bytes, target: bytes, scheme: bytes) -> None:
        self.source, self.host, self.scheme = source, host, scheme
        self.fragment = b""
        if b"#" in target:
            target, mark, fragment = target.partition(b"#")
            self.fragment = mark + fragment
        self.path, self.mark, self.query = target.partition(b"?")

    def first(self, groups: tuple[Group, ...], *, fold: bool = False, doubt: str = "") -> Reading | None:
        """The reading of the first shape that fits."""
        for group in groups:
            match: re.Match[bytes] | None = None
            pattern = group.pattern
            if fold or pattern.literal is None:
                match = (pattern.folded if fold else pattern.exact).fullmatch(self.path)
                if match is None:
                    continue
            found = self._take_apart(group, match)
            if found is None:
                continue
            for shape in group.shapes:
                if shape.fits(found.values):
                    in_host = self._fields_of_host(shape)
                    if in_host is not None:
                        return self._built(shape, group, match, found, in_host, doubt)
        return None

    def mistyped(self) -> Reading | None:
        """A report whose path is right but for doubled slashes or case: a shape that takes any path must not have it before that."""
        tidy = self.source.mistyped_report(self.path)
        if tidy is None:
            return None
        has_other_case = tidy not in self.source.static and self.source.is_case_exact
        own, self.path = self.path, tidy
        doubt = "path in another case" if has_other_case else REPAIRED if tidy != own else ""
        reading = self.first(self.source.folded[tidy.lower()], fold=True, doubt=doubt)
        if reading is None:
            self.path = own
        return reading

    def repaired(self) -> Reading | None:
        """Try the path decoded and without doubled slashes, without regard to case, and as the last of two pasted URLs."""
        plain = _SLASHES.sub(b"/", _UNRESERVED.sub(lambda match: bytes((int(match[1], 16),)), self.path))
        if plain != self.path and b"://" not in self.path:
            self.path = plain
            reading = self.first(self.source.static.get(plain) or self.source.patterns, doubt=REPAIRED)
            if reading is not None:
                return reading
        doubt = "path in another case" if self.source.is_case_exact else ""
        groups = self.source.folded.get(self.path.lower()) or self.source.patterns
        return self.first(groups, fold=True, doubt=doubt) or self._last_of_two()

    def _last_of_two(self) -> Reading | None:
        before, scheme, inner = self.path.rpartition(b"://")
        host, slash, path = inner.partition(b"/")
        if not scheme or host.lower() != self.host.lower() or not before:
            return None
        self.path = slash + path
        return self.first(self.source.static.get(self.path) or self.source.patterns, doubt="two links pasted into one")

    def _take_apart(self, group: Group, match: "re.Match[bytes] | None") -> Found | None:
        style = group.style
        if style == "query":
            return pairs.from_query(self.query, group)
        if style == "parentheses":
            return pairs.from_parentheses(self.query, group) if pairs.is_parentheses(self.query) else None
        if style == "fragment":
            return pairs.from_query(self.fragment[1:], group) if len(self.fragment) > 1 else None
        rest = ((match["rest"] or b"") if match else b"") + self.mark + self.query
        return pairs.from_pairs(rest, group) if style == "pairs" else pairs.from_segments(rest, group)

    def _fields_of_host(self, shape: CompiledShape) -> dict[str, bytes] | None:
        """Fields that are labels of the host; None when the shape wants another host."""
        if shape.host is None and not shape.hosts:
            return {}
        host = self.host.partition(b":")[0].rstrip(b".").lower()
        if shape.hosts and not any(host == name.encode() or host.endswith(b"." + name.encode()) for name in shape.hosts):
            return None
        if shape.host is None:
            return {}
        match = shape.host.fullmatch(host)
        return None if match is None else dict(zip(shape.host_fields, match.groups(), strict=True))

    def _built(
        self, shape: CompiledShape, group: Group, match: "re.Match[bytes] | None", found: Found, in_host: dict[str, bytes], doubt: str
    ) -> Reading:
        filling = _Filling(shape, self.source, found)
        for doubt_found in (doubt, shape.doubt):
            if doubt_found:
                filling.doubts.append(doubt_found)
        filling.take_parameters()
        if match is not None:
            for number, field in enumerate(group.pattern.fields):
                filling.take_part(field, match[f"g{number}"], shape)
        for field, value in in_host.items():
            filling.take_part(field, value, shape)
        if found.others:
            filling.take_others()
        values = filling.values
        destination = values[DESTINATION]
        if destination is not None and found.takes_rest and self.fragment:
            destination += self.fragment
        if filling.fragment and destination is not None:
            destination = destination.partition(b"#")[0] + b"#" + filling.fragment
        if shape.page:
            destination = self._page(shape, group, match)
        return filling.reading(destination)

    def _page(self, shape: CompiledShape, group: Group, match: "re.Match[bytes] | None") -> bytes | None:
        """The page itself without the platform's own parameters; None where the host is not known."""
        if not self.host:
            return None
        path, kept, fragment = self.path or b"/", self.query, self.fragment
        if shape.page == "cut" and match is not None:
            parts = match.groupdict()
            path = (parts.get("lead") or b"") + b"/" + (parts.get("rest") or b"")
        if shape.style == "fragment":
            fragment = b""
        elif kept:
            kept = b"&".join(pair for pair in kept.split(b"&") if pair and not _is_own(pair, shape, group))
        return b"".join((self.scheme, b"://", self.host, path, b"?" if kept else b"", kept, fragment))


def _is_own(pair: bytes, shape: CompiledShape, group: Group) -> bool:
    name = pair.partition(b"=")[0]
    known = group.known(name)
    return (known in shape.roles and known not in shape.stays) if known is not None else bool(name) and name.startswith(shape.prefixes)


class _Filling:
    """The fields of a reading while they are filled: the best-ranked value of each that is one."""

    __slots__ = ("doubts", "found", "fragment", "hints", "ranks", "shape", "source", "sub_ids", "unknown", "values")

    def __init__(self, shape: CompiledShape, source: Source, found: Found) -> None:
        self.shape, self.source, self.found = shape, source, found
        self.values: list[bytes | None] = list(_NO_VALUES)
        self.ranks = list(_NO_RANKS)
        self.sub_ids: dict[str, str] = {}
        self.hints: dict[str, str] = {}
        self.unknown: list[str] = []
        self.doubts = found.doubts
        self.fragment = b""

    def take_parameters(self) -> None:
        """Every parameter that the shape has a role for."""
        roles, is_form = self.shape.roles, self.found.is_form
        for name, raw in self.found.values.items():
            role = roles.get(name)
            if role is None:
                continue
            code = role[0]
            if code == SUB:
                if not self.sub_ids.get(role[1]):
                    self._put_sub(role, decoded(raw, is_form=is_form))
            elif raw and code < SLOTS:
                if role[3] is None and (code == DESTINATION or (code < IDS_END and is_plain(raw))):
                    self._put(code, role[2], raw)
                else:
                    self._put_formed(role, name, decoded(raw, is_form=is_form), raw)
            elif raw:
                self._take_aside(role, raw)

    def _take_aside(self, role: Role, raw: bytes) -> None:
        if role.code == HINT:
            self.hints[role.name] = text(decoded(raw, is_form=self.found.is_form))
        elif role.code == ANCHOR:
            self.fragment = decoded(raw, is_form=False)

    def take_part(self, field: str, raw: bytes | None, shape: CompiledShape) -> None:
        """A part of the path or the host."""
        if not raw:
            return
        value = decoded(raw, is_form=False)
        role = shape.path_roles.get(field)
        if role is not None:
            self._put_formed(role, b"", value, raw)
        elif field.startswith(SUB_PREFIX):
            self.sub_ids.setdefault(field.removeprefix(SUB_PREFIX), text(value))

    def take_others(self) -> None:
        """Names that begin as the profile says; and, where it keeps them, those that it does not know."""
        prefixes = self.shape.prefixes
        for raw_name, raw in self.found.others:
            is_known = raw_name.startswith(prefixes)
            name = text(decoded(raw_name))
            if is_known or self.shape.keeps_others:
                if not self.sub_ids.get(name):
                    self.sub_ids[name] = text(decoded(raw, is_form=self.found.is_form))
                if not is_known and name not in self.unknown:
                    self.unknown.append(name)

    def _put_sub(self, role: Role, value: bytes) -> None:
        if role[3] is not None:
            value = role[3](value).get("", value)
        self.sub_ids[role[1]] = text(value)

    def _put_formed(self, role: Role, name: bytes, value: bytes, raw: bytes) -> None:
        """A value, or the several things that its form finds in it."""
        code, field, rank, form = role
        if form is None:
            self._put(code, rank, raw if code == DESTINATION else value)
            return
        if is_unfilled(value):
            return
        for part, content in form(value).items():
            if not part or part == field:
                same = raw if code == DESTINATION else content
                if not part and content != value and content.lower() == value.lower():
                    self.doubts.append("id in another case")
                self._put(code, rank, same)
            elif part == "=":
                self._put(code, rank, name + b"=" + content)
            elif part.startswith(SUB_PREFIX):
                self.sub_ids.setdefault(part.removeprefix(SUB_PREFIX), text(content))
            else:
                self._put(CODES[part], rank + DERIVED_RANK, content)

    def _put(self, code: int, rank: int, value: bytes) -> None:
        if rank >= self.ranks[code] or not value:
            return
        if code == DESTINATION:
            judged = self.shape.to_destination(value)
        elif code < IDS_END:
            judged = self._id(code, value)
        else:
            judged = None if is_unfilled(value) else value.strip()
        if judged:
            self._set(code, rank, judged)

    def _set(self, code: int, rank: int, value: bytes) -> None:
        self.values[code], self.ranks[code] = value, rank
        if RENAMED_RANK <= rank < DERIVED_RANK:
            self.doubts.append("renamed parameter")

    def _id(self, code: int, value: bytes) -> bytes | None:
        """An id without the blanks and the punctuation that a paste left; None for a macro that nobody replaced."""
        if is_plain(value):
            return value
        if is_unfilled(value):
            return None
        clean = value.strip()
        if code == CLICK_ID:
            return clean
        if self.source.is_numeric and code != LINK_KEY:
            number = _NUMBER_AND_JUNK.fullmatch(clean)
            clean = number[1] if number else _trimmed(clean)
        else:
            clean = _trimmed(clean)
        if clean != value:
            self.doubts.append(REPAIRED)
        return clean

    def reading(self, destination: bytes | None) -> Reading:
        """The values as a reading."""
        shape, values = self.shape, self.values
        ids = tuple(None if value is None else text(value) for value in values[:IDS_END])
        raw = RawIds(*values[:IDS_END])
        mapped = self.source.mapped(ids) if self.source.has_maps else ids
        is_broken = mapped != ids or any(
            value is not None and value != found.encode() for value, found in zip(values, ids, strict=False) if found
        )
        partner, offer, creative, click, key = mapped
        conversion = None
        if shape.is_conversion:
            told = {FIELDS[code]: text(value) for code in range(DESTINATION + 1, SLOTS) if (value := values[code])}
            conversion = Conversion(**told)
        return Reading(
            platform=self.source.platform,
            kind=shape.kind,
            partner_id=partner,
            offer_id=offer,
            creative_id=creative,
            sub_ids=self.sub_ids,
            destination=None if destination is None else text(destination),
            click_id=click,
            link_key=key,
            conversion=conversion,
            broken=raw if is_broken else None,
            shape=shape.name,
            answer=shape.answer,
            hints=self.hints,
            others=tuple(self.unknown),
            doubts=tuple(dict.fromkeys(self.doubts)) if self.doubts else (),
        )


def _trimmed(value: bytes) -> bytes:
    """Without the punctuation of the sentence that a link stood in: `2002).` is 2002, `a(b)` stays."""
    has_brackets = b"(" in value or b"[" in value
    return value.rstrip(b".,;:!>\"'" if has_brackets else b".,;:!>\"')]")
