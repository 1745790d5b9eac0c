"""Profiles made ready to be read: every name in a dictionary, every path an expression. Made once, at load."""

import re
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from tracker.domain.urls import percent_decoded
from tracker.platforms import values
from tracker.platforms.forms import FORMS, Form
from tracker.platforms.pairs import BARE
from tracker.platforms.profile import AS_SHIPPED, Profile, Shape, SourceSettings
from tracker.platforms.templates import PathPattern, compile_host, compile_path

ID_FIELDS: Final = ("partner_id", "offer_id", "creative_id", "click_id", "link_key")
FIELDS: Final = (*ID_FIELDS, "destination", "order_id", "amount", "currency", "status", "goal", "token")
CODES: Final = {name: code for code, name in enumerate(FIELDS)}
CLICK_ID: Final = CODES["click_id"]
LINK_KEY: Final = CODES["link_key"]
IDS_END: Final = len(ID_FIELDS)
DESTINATION: Final = CODES["destination"]
SLOTS: Final = len(FIELDS)
SUB: Final = SLOTS
HINT: Final = SLOTS + 1
OWN: Final = SLOTS + 2
ANCHOR: Final = SLOTS + 3
RENAMED_RANK: Final = 50  # a name seen on installs that renamed the parameter: taken, with a doubt
DERIVED_RANK: Final = 100  # taken out of another parameter's value: only where nothing else says it
NO_RANK: Final = 1000
SUB_PREFIX: Final = "sub."
SUBS_MAX: Final = 10
REF: Final = 0
_OWN_PLACE = re.compile(r"sub([1-9]|10)")
_SLASHES = re.compile(rb"/{2,}+")
_RUN = re.compile(r"(.*?)(\d+)\.\.(\d+)")
_DESTINATIONS: dict[str, Callable[[bytes], bytes | None]] = {
    "absolute": values.destination,
    "relative": values.relative_destination,
    "schemeless": values.schemeless_destination,
}


class Role(NamedTuple):
    """What a parameter is for: the slot (`CODES`, `SUB`, `HINT`, `OWN`, `ANCHOR`), its name there, its rank among rivals (0 first)."""

    code: int
    name: str
    rank: int
    form: Form | None


class CompiledShape:
    """A shape with its parameters' roles. Immutable by convention."""

    def __init__(self, shape: Shape, profile: Profile, settings: SourceSettings) -> None:
        self.name, self.kind, self.style, self.page = shape.name, shape.kind, shape.style, shape.page
        self.answer, self.doubt = shape.answer, shape.doubt
        self.is_conversion = shape.kind in ("postback", "pixel")
        keeps = shape.others == "sub_ids"
        self.keeps_others = keeps if settings.keep_unknown is None else settings.keep_unknown
        self.to_destination = _DESTINATIONS[shape.destination_form]
        self.hosts = shape.hosts
        self.host: re.Pattern[bytes] | None = None
        self.host_fields: tuple[str, ...] = ()
        if shape.host:
            self.host, self.host_fields = compile_host(shape.host)
        spell = _Spelling(profile, settings)
        self.roles: dict[bytes, Role] = {}
        self.prefixes: tuple[bytes, ...] = ()
        self._add_reads(shape, spell)
        anchor = filter(None, (shape.reads.fragment,))
        for code, names in ((ANCHOR, anchor), (HINT, shape.hints), (OWN, shape.own)):
            for name in names:
                self.roles.setdefault(spell.of(name), Role(code, name, 0, None))
        self.path_roles = {field: Role(CODES[field], field, 0, _form(shape.forms.get(f"{{{field}}}"))) for field in FIELDS}
        self.stays = frozenset(map(spell.of, shape.stays))
        self.needs = tuple(tuple(found for name in need.split("|") for found in spell.all(name)) for need in shape.needs)
        self.lacks = tuple(found for name in shape.lacks for found in spell.all(name))
        self.equals = tuple((spell.of(name), value.lower().encode()) for name, value in shape.equals.items())
        deciding = [*(name for name, _ in self.equals), *self.lacks, *(name for need in self.needs for name in need)]
        for decider in deciding:
            self.roles.setdefault(decider, Role(OWN, "", 0, None))

        self.is_conditional = bool(self.needs or self.lacks or self.equals)
        self.is_slow = bool(self.doubt or self.hosts or self.host or self.page)
        self.quick_roles = {name.decode(): role for name, role in self.roles.items()}

    def _add_reads(self, shape: Shape, spell: "_Spelling") -> None:
        for field in FIELDS:
            spec: str = getattr(shape.reads, field)
            for rank, name in enumerate(filter(None, spec.split("|"))):
                self._add(CODES[field], field, name, rank, shape, spell)
        for name in _expanded(shape.reads.sub_ids):
            if name.endswith("*"):
                self.prefixes += (name[:-1].encode(),)
                continue
            first, *others = name.split("|")
            for rank, spelling in enumerate((first, *others)):
                self._add(SUB, first, spelling, rank, shape, spell)

    def _add(self, code: int, field: str, name: str, rank: int, shape: Shape, spell: "_Spelling") -> None:
        form = _form(shape.forms.get(name))
        self.roles.setdefault(spell.of(name), Role(code, field, rank, form))
        for renamed in spell.seen(name):
            self.roles.setdefault(renamed, Role(code, field, rank + RENAMED_RANK, form))

    def fits(self, found: dict[bytes, bytes]) -> bool:
        """The parameters that decide between shapes of one path are as this shape has them."""
        must_have_value = bool(self.page)
        for need in self.needs:
            if not any((found[name] if must_have_value else True) for name in need if name in found):
                return False
        if any(found.get(name) for name in self.lacks):
            return False
        return all(found.get(name, b"").lower() == value for name, value in self.equals)


class Group:
    """Shapes that share a path and a style, so that a target is taken apart once for all of them.

    `gate`: lower-case names, one of which must be there for any of the shapes to fit; None: not known.
    """

    def __init__(self, shapes: list[CompiledShape], pattern: PathPattern) -> None:
        self.shapes, self.pattern = tuple(shapes), pattern
        self.style = shapes[0].style
        self.page = shapes[0].page
        self.names = {name: name for shape in shapes for name in shape.roles}
        folded: dict[bytes, bytes | None] = {}
        for name in self.names:
            folded[name.lower()] = None if name.lower() in folded else name
        self.folded = {name: found for name, found in folded.items() if found is not None}
        roles = [(name, role) for shape in shapes for name, role in shape.roles.items()]
        self.destinations = frozenset(name for name, role in roles if role.code == DESTINATION)
        self.has_bare = BARE in self.names
        self.keeps_others = any(shape.keeps_others for shape in shapes)
        self.prefixes = tuple({prefix for shape in shapes for prefix in shape.prefixes})
        deciders = [
            name
            for shape in shapes
            for name in (*(name for need in shape.needs for name in need), *shape.lacks, *(pair[0] for pair in shape.equals))
        ]
        self.deciding = frozenset(name.decode().lower() for name in deciders)
        self.default = next((shape for shape in shapes if not shape.needs and not any(value for _, value in shape.equals)), None)
        self.names_text = frozenset(name.decode() for name in self.names)
        self.folded_text = frozenset(name.decode() for name in self.folded)
        self.gate: frozenset[str] | None = None
        if self.style == "query" and all(shape.needs for shape in shapes) and not self.has_bare:
            self.gate = frozenset(name.decode().lower() for shape in shapes for name in shape.needs[0])

    def known(self, name: bytes) -> bytes | None:
        """The profile's spelling of `name`: exact, else decoded, else without regard to case if that is unique."""
        found = self.names.get(name)
        if found is None and name:
            if b"%" in name:
                name = percent_decoded(name)
                found = self.names.get(name)
            found = found or self.folded.get(name.lower())
        return found


class Source:
    """A platform as one operator has it: what `reader.read` takes.

    `labels` says where a click's sub ids are recorded: name → 1 to 10 for `sub1` to `sub10`, REF for `ref`. The settings come first,
    then the profile's `ref`, then names that are `sub1` to `sub10` themselves, then the others in the order of the profile, each into the
    next free place. A name beyond ten has none; all of them are kept by their own names beside it.

    `landing`: the parameters that bring the platform's click id to a shop. `has_cookies`: its visitors are known by a cookie on its
    hosts: it has pixels that a browser loads, or cookies of its own.
    """

    def __init__(self, profile: Profile, settings: SourceSettings = AS_SHIPPED) -> None:
        self.profile, self.settings, self.platform = profile, settings, profile.name
        self.is_numeric = profile.ids == "numeric"
        self.is_case_exact = profile.case == "exact"
        self.id_maps: tuple[dict[str, str], ...] = (settings.partner_ids, settings.offer_ids, settings.creative_ids, {}, settings.link_keys)
        self.has_maps = any(self.id_maps)
        self.groups = tuple(_groups(profile, settings))
        self.static = _by_literal(self.groups, fold=False)
        self.folded = _by_literal(self.groups, fold=True)
        self.patterns = tuple(group for group in self.groups if group.pattern.literal is None)
        self._report_paths = frozenset(path for path, groups in self.folded.items() if _is_of_reports(groups[0]))
        self.reads_anchors = any(group.style == "fragment" and group.shapes[0].kind == "click" for group in self.groups)
        self.labels = _labels(profile, settings)
        self.landing = tuple(settings.parameters.get(name, name) for name in profile.click_id.landing)
        self.has_cookies = bool(profile.click_id.cookies) or any(shape.kind == "pixel" for shape in profile.shape)

    def mistyped_report(self, path: bytes) -> bytes | None:
        """`path` without doubled slashes, where in some case it is that of reports alone, and as it came it is no known one."""
        if path in self.static:
            return None
        tidy = _SLASHES.sub(b"/", path) if b"//" in path else path
        return tidy if tidy.lower() in self._report_paths else None

    def mapped(self, ids: Iterable[str | None]) -> tuple[str | None, ...]:
        """The ids as the source's maps have them, in the order of `ID_FIELDS`."""
        return tuple(None if value is None else found.get(value, value) for value, found in zip(ids, self.id_maps, strict=True))


def _is_of_reports(group: Group) -> bool:
    return all(shape.kind != "click" for shape in group.shapes)


def _labels(profile: Profile, settings: SourceSettings) -> dict[str, int]:
    told = {name: REF if place == "ref" else int(place[3:]) for name, place in settings.sub_ids.items()}
    if profile.ref:
        told.setdefault(profile.ref, REF)
    specs = [spec for shape in profile.shape if shape.kind == "click" for spec in shape.reads.sub_ids if not spec.endswith("*")]
    names = [name for name in dict.fromkeys(name.partition("|")[0] for name in _expanded(specs)) if name not in told]
    taken = set(told.values())
    for name in names:
        if (own := _OWN_PLACE.fullmatch(name)) and int(own[1]) not in taken:
            told[name] = int(own[1])
            taken.add(int(own[1]))
    free = iter([place for place in range(1, SUBS_MAX + 1) if place not in taken])
    for name in names:
        if name not in told and (place := next(free, None)) is not None:
            told[name] = place
    return told


class _Spelling:
    """Parameter names as they are at a source."""

    def __init__(self, profile: Profile, settings: SourceSettings) -> None:
        self._here, self._seen = settings.parameters, profile.renamed

    def of(self, name: str) -> bytes:
        return self._here.get(name, name).encode()

    def seen(self, name: str) -> list[bytes]:
        return [] if name in self._here else [found.encode() for found in self._seen.get(name, ())]

    def all(self, name: str) -> list[bytes]:
        return [self.of(name), *self.seen(name)]

    def in_path(self, name: str) -> list[str]:
        return [found.decode() for found in self.all(name)]


def _form(name: str | None) -> Form | None:
    if name is None:
        return None
    if name not in FORMS:
        raise ValueError(f"there is no form {name!r}; forms are {', '.join(sorted(FORMS))}")
    return FORMS[name]


def _expanded(specs: Iterable[str]) -> Iterable[str]:
    for spec in specs:
        run = _RUN.fullmatch(spec)
        yield from (f"{run[1]}{number}" for number in range(int(run[2]), int(run[3]) + 1)) if run else (spec,)


def _groups(profile: Profile, settings: SourceSettings) -> Iterable[Group]:
    """Groups in the order of the profile: shapes next to one another with the same path and style are one."""
    spell = _Spelling(profile, settings)
    base = settings.base_path.rstrip("/")
    open_at: tuple[str, str] | None = None
    shapes: list[CompiledShape] = []
    pattern: PathPattern | None = None
    for shape in profile.shape:
        compiled = CompiledShape(shape, profile, settings)
        for template in shape.path:
            path = settings.paths.get(template, template)
            if open_at == (path, shape.style) and len(shape.path) == 1:
                shapes.append(compiled)
                continue
            if pattern is not None:
                yield Group(shapes, pattern)
            pattern = compile_path(path, spell.in_path, base if template == path else "")
            _check_fields(pattern.fields)
            open_at, shapes = (path, shape.style), [compiled]
    if pattern is not None:
        yield Group(shapes, pattern)


def _check_fields(fields: Iterable[str]) -> None:
    for field in fields:
        if field not in CODES and not field.startswith(SUB_PREFIX):
            raise ValueError(f"there is no field {field!r} to read from a path; fields are {', '.join(FIELDS)}, sub.NAME and _")


def _by_literal(groups: tuple[Group, ...], *, fold: bool) -> dict[bytes, tuple[Group, ...]]:
    """Literal path, with and without a slash at its end → the groups to try, in order."""
    paths: dict[bytes, list[Group]] = {}
    for group in groups:
        if group.pattern.literal is not None:
            literal = group.pattern.literal.lower() if fold else group.pattern.literal
            for path in {literal, literal.rstrip(b"/") + b"/"}:
                paths.setdefault(path, [])
    for path, found in paths.items():
        for group in groups:
            expression = group.pattern.folded if fold else group.pattern.exact
            if expression.fullmatch(path):
                found.append(group)
    return {path: tuple(found) for path, found in paths.items()}
