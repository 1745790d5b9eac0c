"""Read profile files. A broken file is refused with its place and the reason, and the others go on."""

import re
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from tracker.platforms.compiled import Source
from tracker.platforms.profile import Profile, SourceSettings

SHIPPED: Final = Path(__file__).parent
_TOML_PLACE = re.compile(r"\s*\(at (?:line (\d+), column \d+|end of document)\)")
_FIELD_PLACE = re.compile(r" - at `\$([^`]*)`$")
_STEP = re.compile(r"\.([A-Za-z_]\w*)|\[(\d+|\.\.\.)\]")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


class Problem(NamedTuple):
    """Why a file was refused. `str()` is one sentence."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file} line {self.line}: {self.reason}"


class Loaded(NamedTuple):
    """Profiles by name, in the order of their names, and what was refused."""

    sources: dict[str, Source]
    problems: tuple[Problem, ...]


def load(directory: Path | None = None) -> Loaded:
    """The profiles that come with Turnout, and those in `directory`, which add to them or take their place by name.

    A file of `directory` that is broken leaves the shipped profile of that name in force. OSError only when the shipped
    files themselves cannot be read.
    """
    problems: list[Problem] = []
    sources = _read_all(sorted(SHIPPED.glob("*.toml")), problems)
    sources |= _read_folder(directory, problems)
    _refuse_shared_hosts(sources, problems)
    return Loaded(dict(sorted(sources.items())), tuple(problems))


class Shelf:
    """The same profiles, each read when it is first asked for: for processes that start often and need few of them.

    Those of `directory` are read at once, for nothing but their content tells their names; `problems` says what was refused.
    """

    def __init__(self, directory: Path | None = None) -> None:
        problems: list[Problem] = []
        self._sources: dict[str, Source | None] = {**_read_folder(directory, problems)}
        self.problems = tuple(problems)

    def source(self, name: str) -> Source | None:
        """The platform of that name; None when there is none."""
        if name not in self._sources:
            if not _NAME.fullmatch(name):
                return None
            self._sources[name] = _read_all([SHIPPED / f"{name}.toml"], []).get(name)
        return self._sources[name]

    def with_settings(self, name: str, settings: SourceSettings) -> Source | None:
        """The platform as one operator has it; compile it once and keep it."""
        source = self.source(name)
        return Source(source.profile, settings) if source is not None else None


def _read_folder(directory: Path | None, problems: list[Problem]) -> dict[str, Source]:
    """The profiles of the operator's own folder, if there is to be one."""
    if directory is None:
        return {}
    if not directory.is_dir():
        problems.append(Problem(str(directory), 0, "there is no such folder of platform profiles"))
        return {}
    return _read_all(sorted(directory.glob("*.toml")), problems)


def _read_all(files: Sequence[Path], problems: list[Problem]) -> dict[str, Source]:
    found: dict[str, Source] = {}
    for file in files:
        try:
            content = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            problems.append(Problem(str(file), 0, f"cannot be read: {exc}"))
            continue
        read = parse(content, str(file))
        if isinstance(read, Problem):
            problems.append(read)
        else:
            found[read.platform] = read
    return found


def parse(content: str, file: str = "profile.toml") -> Source | Problem:
    """One profile, compiled; or why it is refused."""
    try:
        data = tomllib.loads(content)
    except tomllib.TOMLDecodeError as exc:
        place = _TOML_PLACE.search(str(exc))
        line = int(place[1]) if place and place[1] else content.count("\n") + 1
        return Problem(file, line, f"is not TOML: {_TOML_PLACE.sub('', str(exc))}")
    data["klass"] = data.pop("class", None)
    try:
        profile = msgspec.convert(data, Profile)
    except msgspec.ValidationError as exc:
        place = _FIELD_PLACE.search(str(exc))
        steps = place[1] if place else ""
        reason = _FIELD_PLACE.sub("", str(exc)).replace("klass", "class")
        return Problem(file, _line_of(content, steps), f"{reason} at {steps.lstrip('.').replace('klass', 'class') or 'the top'}")
    return _compiled(profile, content, file)


def _compiled(profile: Profile, content: str, file: str) -> Source | Problem:
    if not _NAME.fullmatch(profile.name):
        return Problem(file, _line_of(content, ".name"), f"the name {profile.name!r} must be 1 to 32 of a-z, 0-9, - and _")
    if not profile.shape:
        return Problem(file, 1, "has no [[shape]]")
    try:
        return Source(profile)
    except ValueError as exc:
        number = _broken_shape(profile)
        return Problem(file, _line_of(content, f".shape[{number}]"), f"shape {profile.shape[number].name!r}: {exc}")


def _broken_shape(profile: Profile) -> int:
    for number, shape in enumerate(profile.shape):
        try:
            Source(msgspec.structs.replace(profile, shape=(shape,)))
        except ValueError:
            return number
    return 0


def _line_of(content: str, steps: str) -> int:
    """The line of the value that `steps` (`.shape[2].reads.offer_id`) leads to, as near as the text allows."""
    lines = content.split("\n")
    at = 0
    for key, number in _STEP.findall(steps):
        if key:
            pattern = re.compile(rf"\s*(?:\[\[?\s*(?:[\w.]+\.)?{re.escape(key)}\s*\]?\]|(?:[\w-]+\.)*{re.escape(key)}(?:\.[\w-]+)*\s*=)")
            at = next((line for line in range(at, len(lines)) if pattern.match(lines[line])), at)
            header = lines[at].strip()
        elif number.isdigit() and header.startswith("[["):
            starts = [line for line in range(at, len(lines)) if lines[line].strip() == header]
            at = starts[int(number)] if int(number) < len(starts) else at
    return at + 1


def _refuse_shared_hosts(sources: dict[str, Source], problems: list[Problem]) -> None:
    for name, first, second in _shared_hosts(sources.values()):
        problems.append(Problem(f"{second}.toml", 0, f"the host {name} belongs to {first} already; it goes on to tell {first}"))


def _shared_hosts(sources: Iterable[Source]) -> Iterable[tuple[str, str, str]]:
    owners: dict[tuple[str, str], str] = {}
    for source in sources:
        hosts = source.profile.hosts
        for kind, names in (("exact", (*hosts.exact, *hosts.seen)), ("suffix", hosts.suffix)):
            for name in names:
                owner = owners.setdefault((kind, name), source.platform)
                if owner != source.platform:
                    yield name, owner, source.platform


def describe(source: Source) -> dict[str, Any]:
    """What `turnout platforms list` says of a platform."""
    profile = source.profile
    return {
        "name": profile.name,
        "title": profile.title,
        "class": profile.klass,
        "kinds": sorted({shape.kind for shape in profile.shape}),
        "hosts": [*profile.hosts.exact, *(f"*.{name}" for name in profile.hosts.suffix)],
        "click_id": ", ".join(profile.click_id.landing),
        "sub_ids": {name: f"sub{place}" if place else "ref" for name, place in source.labels.items()},
        "confidence": profile.confidence,
    }
