"""`turnout platforms list|read`: the platform profiles, and what they read in old URLs. Needs no server."""

import json as jsonlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from tracker.cli import run, show
from tracker.errors import RejectedInput

if TYPE_CHECKING:
    from tracker.platforms.platforms import Platforms
    from tracker.platforms.reading import Reading

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout")]
Url = Annotated[str | None, typer.Argument(metavar="URL", show_default=False)]
Named = Annotated[str | None, typer.Option("--platform", metavar="NAME", help="default: as the host tells", show_default=False)]
File = Annotated[
    Path | None,
    typer.Option("--file", metavar="F.jsonl", help='lines {"url","platform"?}; a JSON line out for each', show_default=False),
]
LINE_MAX_BYTES = 1 << 20


def add_to(app: typer.Typer) -> None:
    """Add `platforms list` and `platforms read`."""
    group = typer.Typer(no_args_is_help=True)
    app.add_typer(group, name="platforms", help="Profiles of old platforms, and what they read in a URL.")
    group.command("list")(list_all)
    group.command("read")(read)


def read(url: Url = None, platform: Named = None, file: File = None, json: Json = False) -> None:
    """What a profile reads in an old URL: partner, offer, sub ids, destination, conversion."""
    if (url is None) == (file is None):
        raise RejectedInput("invalid_argument", "give either a URL or --file F.jsonl")
    if file is not None:
        read_file(file, platform)
    elif url is not None:
        read_one(url, platform, as_json=json)


def list_all(json: Json = False) -> None:
    """The platforms whose links Turnout reads; TURNOUT_PLATFORMS_DIR adds more."""
    from tracker.platforms.loader import describe

    rows = [describe(source) for source in _platforms()]
    if json:
        show.as_json({"items": rows, "next_cursor": None})
    else:
        shown = [{name: value for name, value in row.items() if name != "sub_ids"} for row in rows]
        show.table([{**row, "kinds": ", ".join(row["kinds"]), "hosts": _shortened(row["hosts"])} for row in shown])


def _shortened(hosts: list[str]) -> str:
    return ", ".join(hosts[:3]) + (f" and {len(hosts) - 3} more" if len(hosts) > 3 else "")


def read_one(url: str, platform: str | None, *, as_json: bool) -> None:
    """Print what `url` says, by `platform` or else by the platform that its host tells."""
    from tracker.platforms.reading import as_dict

    reading = _read(_platforms(), url, platform)
    if as_json:
        show.as_json(as_dict(reading))
    else:
        show.record(_for_people(reading))


def _for_people(reading: "Reading") -> dict[str, Any]:
    from tracker.platforms.reading import as_dict

    if reading.platform is None:
        return {"platform": "none: no profile has this host; --platform NAME reads it as one of that platform"}
    if reading.kind is None:
        return {"platform": reading.platform, "kind": "none: this is no URL of that platform"}
    told = {name: value for name, value in as_dict(reading).items() if value not in (None, {})}
    return {**told, "certain": "yes" if reading.is_certain else "no: " + "; ".join(reading.doubts)}


def read_file(path: Path, platform: str | None) -> None:
    """Print a JSON line for each line of `path`; RejectedInput names the first line that is none."""
    from tracker.platforms.reading import as_dict

    platforms = _platforms()
    for number, row in _rows(path):
        where = f"{path} line {number}"
        named = row.get("platform")
        if not isinstance(row.get("url"), str) or not isinstance(named, str | None):
            raise RejectedInput("invalid_file", f'{where} must be a JSON object {{"url": text, "platform": text or null}}')
        reading = _read(platforms, row["url"], platform or (None if named == "none" else named) or None, where)
        sys.stdout.write(orjson.dumps(as_dict(reading)).decode() + "\n")


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, _object(line, f"{path} line {number}")
    except OSError as exc:
        raise RejectedInput("invalid_file", f"{path} cannot be read: {exc.strerror}") from exc


def _object(line: bytes, where: str) -> dict[str, Any]:
    if len(line) > LINE_MAX_BYTES:
        raise RejectedInput("invalid_file", f"{where} is longer than 1 MB")
    try:
        row = jsonlib.loads(line)
    except (ValueError, RecursionError):
        raise RejectedInput("invalid_file", f"{where} is not JSON") from None
    if not isinstance(row, dict):
        raise RejectedInput("invalid_file", f"{where} is not a JSON object")
    return row


def _read(platforms: "Platforms", url: str, platform: str | None, where: str = "") -> "Reading":
    if platform is not None and platforms.source(platform) is None:
        prefix = f"{where}: " if where else ""
        raise RejectedInput("invalid_platform", f"{prefix}there is no platform {platform!r}; turnout platforms list names them")
    return platforms.read_url(url, platform)


def _platforms() -> "Platforms":
    from tracker.platforms.loader import load
    from tracker.platforms.platforms import Platforms

    directory = run.settings().platforms_dir
    loaded = load(Path(directory) if directory else None)
    for problem in loaded.problems:
        sys.stderr.write(f"warning: {' '.join(str(problem).split())}\n")
    return Platforms(loaded.sources)
