"""`turnout link import FILE.csv`: many links at once, all or none."""

import csv
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tracker.cli import run, show
from tracker.errors import EXIT_FAILED, RejectedInput
from tracker.programme import LINK

Problem = tuple[int, str]
SHOWN_MAX = 50  # problems on the terminal; --json has all
COLUMNS = frozenset(item.name for item in LINK.fields if item.name != "rules")


def read(path: Path) -> tuple[list[tuple[int, dict[str, Any]]], list[Problem]]:
    """Checked rows with their line numbers, and what is wrong with the others. RejectedInput when the file is no such CSV."""
    rows: list[tuple[int, dict[str, Any]]] = []
    problems: list[Problem] = []
    slugs: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            _check_header(reader.fieldnames)
            for row in reader:
                line = reader.line_num
                try:
                    rows.append((line, _values(row, slugs, line)))
                except RejectedInput as exc:
                    problems.append((line, str(exc)))
    except OSError as exc:
        raise RejectedInput("invalid_file", f"{path} cannot be read: {exc.strerror}") from exc
    except (csv.Error, UnicodeDecodeError) as exc:
        raise RejectedInput("invalid_file", f"{path} is not a CSV file in UTF-8: {exc}") from exc
    return rows, problems


def _check_header(names: Any) -> None:
    missing = {"partner", "campaign"} - set(names or ())
    unknown = set(names or ()) - COLUMNS
    if missing or unknown:
        what = f"has no column {min(missing)!r}" if missing else f"has an unknown column {min(unknown)!r}"
        raise RejectedInput("invalid_file", f"the file {what}; columns are {', '.join(sorted(COLUMNS))}")


def _values(row: dict[str | Any, Any], slugs: dict[str, int], line: int) -> dict[str, Any]:
    if None in row or None in row.values():
        raise RejectedInput("invalid_row", "the row has not as many values as the header")
    values = LINK.reads({name: value for name, value in row.items() if value != ""})
    if "slug" in values and (first := slugs.setdefault(values["slug"], line)) != line:
        raise RejectedInput("slug_taken", f"slug {values['slug']!r} is in line {first} already")
    return values


def import_file(path: Path, *, skip_bad: bool, as_json: bool) -> int:
    """Import `path`; returns the exit code: 0 done, 1 when rows were bad (then nothing is written, unless `skip_bad`)."""
    rows, problems = read(path)

    async def work(database: Any, settings: Any) -> tuple[int, list[Problem]]:
        from tracker.adapters.postgres_programme import Programme

        programme = Programme(database, link_base=settings.link_base)
        with progress(len(rows)) as moved:
            dry = bool(problems) and not skip_bad
            return await programme.import_links(rows, run.ACTOR, skip_bad=skip_bad, dry=dry, progress=moved)

    written, more = run.with_database(work) if rows else (0, [])
    problems = sorted([*problems, *more])
    _report(written, problems, as_json=as_json)
    return EXIT_FAILED if problems else 0


def _report(written: int, problems: list[Problem], *, as_json: bool) -> None:
    if as_json:
        show.as_json({"written": written, "bad": [{"line": line, "problem": text} for line, text in problems]})
        return
    for line, text in problems[:SHOWN_MAX]:
        sys.stderr.write(f"line {line}: {text}\n")
    if len(problems) > SHOWN_MAX:
        sys.stderr.write(f"… and {len(problems) - SHOWN_MAX} more bad rows\n")
    if problems and not written:
        sys.stderr.write("nothing was written; mend these rows, or import the others with --skip-bad\n")
    sys.stdout.write(f"{written} links written, {len(problems)} rows bad\n")


@contextmanager
def progress(total: int, what: str = "links") -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.update(task, advance=count)
