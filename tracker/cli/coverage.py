"""`turnout coverage FILE…`: what share of the clicks in the logs of an old host would resolve on this installation. Records nothing."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain, islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tracker import errors
from tracker.cli import coverage_report, run
from tracker.errors import RejectedInput, StoreUnavailable

if TYPE_CHECKING:
    from tracker.adapters.lmdb_routes import RouteTable
    from tracker.adapters.log_files import LogFile
    from tracker.domain.access_logs import LogReader
    from tracker.domain.coverage import Coverage

Files = Annotated[list[str], typer.Argument(metavar="FILE…", help="access logs, plain, .gz or .zst; - is stdin")]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="F",
        help="common, combined, vhost_combined, combined_host, json, alb, cloudfront, w3c, csv; default: as the first lines tell",
        show_default=False,
    ),
]
Host = Annotated[
    str | None,
    typer.Option("--host", metavar="NAME", help="only this host; needed for logs that name none", show_default=False),
]
Platform = Annotated[
    str | None,
    typer.Option("--platform", metavar="NAME", help="read hosts that have no platform yet as ones of this", show_default=False),
]
AllMethods = Annotated[bool, typer.Option("--all-methods", help="not only GET")]
Bots = Annotated[bool, typer.Option("--bots", help="robots count too")]
Top = Annotated[int, typer.Option("--top", min=1, max=10_000, help="rows of each table; --json has all")]
AtLeast = Annotated[
    float | None,
    typer.Option("--at-least", metavar="PERCENT", min=0, max=100, help="exit 1 when a smaller share resolves", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout")]

SAMPLE_LINES = 50  # enough to tell a format by
MOVED_EVERY = 2000  # lines between two steps of the progress bar
OLD_TABLE_S = 300  # a publisher that is alive looks at the table every few seconds


def add_to(app: typer.Typer) -> None:
    """Add `coverage`."""
    app.command("coverage")(coverage)


def coverage(
    files: Files,
    format: Format = None,  # noqa: A002 - the name of the option
    host: Host = None,
    platform: Platform = None,
    all_methods: AllMethods = False,
    bots: Bots = False,
    top: Top = 20,
    at_least: AtLeast = None,
    json: Json = False,
) -> None:
    """What share of the clicks in an old host's access logs would resolve here, and what is missing for the others; records nothing."""
    from tracker.adapters.log_files import LogFile
    from tracker.adapters.user_agents import is_bot
    from tracker.domain.coverage import Coverage
    from tracker.route_table import route_table

    _check_format(format)
    if host is not None and (not host or "/" in host):
        raise RejectedInput("invalid_host", f"--host is the name of a host such as go.brand.example, not {host!r}")
    opened = [LogFile(path) for path in files]
    with closing(route_table(run.settings())) as table:
        _check_table(table)
        counts = Coverage(
            _with_platform(table, platform),
            time.time_ns() // 1_000_000,
            is_bot,
            host=(host or "").encode(),
            all_methods=all_methods,
            with_robots=bots,
        )
        notes = _read_all(opened, counts, format)
    coverage_report.write(counts.as_dict(), notes, top=top, as_json=json)
    raise typer.Exit(_exit_code(counts, at_least))


def _check_format(name: str | None) -> None:
    from tracker.domain.access_logs import FORMATS

    if name is not None and name not in FORMATS:
        raise RejectedInput("invalid_format", f"there is no format {name!r}; formats are {', '.join(FORMATS)}")


def _check_table(table: "RouteTable") -> None:
    """Without a table nothing resolves, which says nothing of the links; an old one is told."""
    table.refresh()
    if not table.is_open:
        raise StoreUnavailable(f"there is no route table at {table.path}; turnout up, or turnout work routes, writes it")
    age_s = table.age_s()
    if age_s > OLD_TABLE_S:
        since = "for ever" if age_s == float("inf") else f"for {age_s / 60:.0f} minutes"
        sys.stderr.write(f"warning: nobody has kept the route table current {since}; is turnout work routes running?\n")


def _with_platform(table: "RouteTable", platform: str | None) -> Any:
    from tracker.domain.with_platform import WithPlatform

    return table if platform is None else WithPlatform(table, platform)


def _read_all(files: "Sequence[LogFile]", counts: "Coverage", name: str | None) -> dict[str, Any]:
    """Count every file; returns which formats they were in, and what went wrong (which is also said on stderr)."""
    formats, warnings = [], []
    with _progress(files) as moved:
        for file in files:
            before = counts.lines
            found, problem = _read(file, counts, name, moved)
            formats.append({"file": file.path, "format": found or None, "lines": counts.lines - before})
            warnings += [text for text in (problem, file.problem) if text]
    for warning in warnings:
        sys.stderr.write(f"warning: {warning}\n")
    return {"files": formats, "warnings": warnings}


def _read(file: "LogFile", counts: "Coverage", name: str | None, moved: Callable[[], None]) -> tuple[str, str]:
    """Count one file; returns its format, `""` when it is none that is known, and what is wrong with it."""
    from tracker.domain.access_logs import LINE_MAX_BYTES, format_of, reader_of

    lines = file.lines(LINE_MAX_BYTES)
    sample = list(islice(lines, SAMPLE_LINES))
    found = name or format_of(sample)
    reader = reader_of(found, sample) if found else _Nothing()
    _check_host(file, reader, sample, counts)
    _count(chain(sample, lines), reader, counts, moved)
    is_known = bool(found) or not sample
    return found, "" if is_known else f"{file.path}: no format that is known; --format NAME says which, see turnout coverage --help"


def _count(lines: Iterator[bytes], reader: "LogReader", counts: "Coverage", moved: Callable[[], None]) -> None:
    from tracker.domain.access_logs import LINE_MAX_BYTES, NOTE
    from tracker.domain.coverage import TOO_LONG, UNREADABLE

    for number, line in enumerate(lines, 1):
        read = reader.read(line) if len(line) <= LINE_MAX_BYTES else None
        if read is None:
            counts.leave_out(UNREADABLE if len(line) <= LINE_MAX_BYTES else TOO_LONG)
        elif read is not NOTE:
            counts.add(read)
        if number % MOVED_EVERY == 0:
            moved()
    moved()


class _Nothing:
    """Reads a file that is in no known format."""

    def read(self, line: bytes) -> None:
        """Nothing."""


def _check_host(file: "LogFile", reader: "LogReader", sample: Sequence[bytes], counts: "Coverage") -> None:
    """RejectedInput when the file names no hosts and the operator neither."""
    from tracker.domain.access_logs import NOTE

    read = [line for line in map(reader.read, sample) if line is not None and line is not NOTE]
    if read and not counts.has_host and not any(line.host for line in read):
        raise RejectedInput("host_needed", f"{file.path} does not say which host was asked; --host NAME says it")


@contextmanager
def _progress(files: "Sequence[LogFile]") -> Iterator[Callable[[], None]]:
    """A bar of compressed bytes on a terminal, nothing elsewhere; call what it yields now and then."""
    from rich.console import Console
    from rich.progress import Progress

    sizes = [file.size_bytes for file in files]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("logs", total=total)
        yield lambda: bar.update(task, completed=sum(file.read_bytes for file in files))


def _exit_code(counts: "Coverage", at_least: float | None) -> int:
    if not counts.clicks:
        sys.stderr.write("error: nothing in there is a click\n")
        return errors.EXIT_FAILED
    if at_least is not None and not counts.reaches(at_least):
        sys.stderr.write(f"error: less than {at_least:g} % of the clicks resolve\n")
        return errors.EXIT_FAILED
    return 0
