"""`turnout old-clicks`: clicks that an old platform made: imported from its exports, shown, and until when it is needed for them."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tracker import errors
from tracker.cli import run, show

if TYPE_CHECKING:
    from tracker.adapters.log_files import LogFile

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout")]
Host = Annotated[str | None, typer.Option("--host", metavar="HOST", help="the registered old host whose ids these are")]
Source = Annotated[str | None, typer.Option("--source", metavar="NAME", help="the source of the ids, in place of --host")]
Platform = Annotated[str | None, typer.Option("--platform", metavar="NAME", help="whose export it is, where no host of the source says it")]

old_clicks = typer.Typer(help="Clicks made by an old platform: imported, shown, and how many still count.", no_args_is_help=True)


@old_clicks.command("import")
def import_file(
    file: Annotated[str, typer.Argument(metavar="FILE", help="CSV or JSON lines, plain, .gz or .zst; - is stdin")],
    host: Host = None,
    source: Source = None,
    platform: Platform = None,
    time_zone: Annotated[str, typer.Option("--time-zone", metavar="ZONE", help="of times that name none, such as Europe/Berlin")] = "",
    time_format: Annotated[str, typer.Option("--time-format", metavar="F", help="such as %d/%m/%Y %H:%M; else ISO 8601 or Unix time")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check every row, store none")] = False,
    json: Json = False,
) -> None:
    """Import the clicks of an export. The same rows again change nothing, so that an interrupted import is simply run again."""
    from tracker.adapters.log_files import LogFile
    from tracker.adapters.postgres_deals import new_id
    from tracker.domain.old_click_rows import Times
    from tracker.old_clicks import time_zone as zone_of

    opened, batch = LogFile(file), str(new_id())

    async def work(database: Any, settings: Any) -> dict[str, Any]:
        clicks = _old_clicks(database, settings)
        origin = await clicks.origin(host=host, source=source, platform=platform)
        times = Times(zone_of(time_zone or clicks.zone_of(origin)), time_format)
        with _progress(opened) as moved:
            found = await clicks.load(opened, origin, times=times, batch=batch, actor=run.ACTOR, is_dry=dry_run, moved=moved)
        about = {"batch": None if dry_run else batch, "source": origin.source, "platform": origin.platform, "dry_run": dry_run}
        told: dict[str, Any] = about | found.as_dict()
        return told

    found = run.with_database(work)
    if json:
        show.as_json(found)
    else:
        _tell(found)
    raise typer.Exit(errors.EXIT_FAILED if found["refused"] else 0)


@old_clicks.command("show")
def show_id(
    old_click_id: Annotated[str, typer.Argument(metavar="ID", help="as the old platform spells it")],
    host: Host = None,
    source: Source = None,
    json: Json = False,
) -> None:
    """What is known under an old click id, and to which click an order of now would belong."""

    async def work(database: Any, settings: Any) -> list[dict[str, Any]]:
        clicks = _old_clicks(database, settings)
        of = (await clicks.origin(host=host)).source if host is not None else source
        found: list[dict[str, Any]] = await clicks.shown(old_click_id, of)
        return found

    found = run.with_database(work)
    if json:
        show.as_json({"items": found, "next_cursor": None})
    else:
        show.table(found, empty="no click has this id", keep=("source",))


@old_clicks.command("undo")
def undo(batch: Annotated[str, typer.Argument(metavar="BATCH", help="as the import told it")], json: Json = False) -> None:
    """Take the rows of an import away, but for those that conversions came from."""
    found = run.with_database(lambda database, settings: _old_clicks(database, settings).undo(batch, actor=run.ACTOR))
    if json:
        show.as_json(found)
    else:
        typer.echo(f"{found['removed']} clicks removed; {found['used']} stay, conversions came from them")


@old_clicks.command("remaining")
def remaining(
    source: Annotated[str | None, typer.Option("--source", metavar="NAME", help="only this one")] = None, json: Json = False
) -> None:
    """How many old clicks an order may still belong to, how many orders are to come, and until when the old platform is needed."""

    async def work(database: Any, _: Any) -> list[dict[str, Any]]:
        from tracker.adapters import postgres_old_drain

        rates = await postgres_old_drain.rates(database)
        return [one.as_dict() for one in await postgres_old_drain.left(database, rates, source=source)]

    found = run.with_database(work)
    if json:
        show.as_json({"items": found, "next_cursor": None})
    else:
        show.table(found, empty="no old clicks are known", keep=("source",))


def _old_clicks(database: Any, settings: Any) -> Any:
    from tracker.old_clicks import OldClicks
    from tracker.platforms.loader import Shelf

    return OldClicks(database, Shelf(Path(settings.platforms_dir) if settings.platforms_dir else None))


def _tell(found: dict[str, Any]) -> None:
    for one in found["problems"]:
        sys.stderr.write(f"line {one['line']}: {one['problem']}\n")
    if found["refused"] > len(found["problems"]):
        sys.stderr.write(f"… and {found['refused'] - len(found['problems'])} more refused rows\n")
    for what in ("offers", "partners"):
        if unknown := found[f"unknown_{what}"]:
            ids = ", ".join(f"{name or '(none)'} ({count})" for name, count in unknown.items())
            sys.stdout.write(f"not mapped yet, by clicks: {what} {ids}\n")
    would = "would be " if found["dry_run"] else ""
    sys.stdout.write(
        f"{found['rows']} rows: {found['imported']} {would}imported, {found['already_there']} already there, {found['refused']} refused\n"
    )
    if found["unknown"]:
        sys.stdout.write(f"{found['unknown']} clicks count once their partner and offer are mapped: turnout orphans map\n")
    if found["batch"]:
        sys.stdout.write(f"batch {found['batch']} of source {found['source']}\n")


@contextmanager
def _progress(file: "LogFile") -> Iterator[Callable[[], None]]:
    """A bar of compressed bytes on a terminal, nothing elsewhere; call what it yields now and then."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("clicks", total=file.size_bytes)
        yield lambda: bar.update(task, completed=file.read_bytes)
