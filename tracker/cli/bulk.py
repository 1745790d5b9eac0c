"""`turnout conversions import FILE.csv`: a list of approvals, rejections, reversals and adjustments, all of it or nothing."""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tracker.cli import run, show
from tracker.cli.links import progress
from tracker.csv_text import as_csv
from tracker.domain.bulk_rows import COLUMNS
from tracker.errors import EXIT_USAGE, RejectedInput
from tracker.payouts.bulk import BadRows, Unreadable

TIMEOUT_S = 3600.0
SHOWN_MAX = 50  # bad rows and changes on the terminal; --json and --result have all
CUT_OFF: Any = object()  # in place of a cell that a line does not have
RESULT = (
    *("row", "id", "txid", "action", "result", "status_before", "status_after", "amount_before", "amount_after", "currency"),
    *("payout_before", "payout_after", "payout_currency", "problem"),
)


def read(path: Path) -> list[tuple[int, Any]]:
    """The rows with their lines. RejectedInput `invalid_file` when it is no such CSV."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval=CUT_OFF, strict=True)
            _check_header(reader.fieldnames or ())
            return [(reader.line_num, _values(row)) for row in reader]
    except OSError as exc:
        raise RejectedInput("invalid_file", f"{path} cannot be read: {exc.strerror}") from exc
    except (csv.Error, UnicodeDecodeError) as exc:
        raise RejectedInput("invalid_file", f"{path} is not a CSV file in UTF-8: {exc}") from exc


def _check_header(names: Sequence[str]) -> None:
    unknown, given = set(names) - set(COLUMNS), set(names)
    if unknown:
        what = f"has an unknown column {min(unknown)!r}"
    elif twice := [name for name in names if names.count(name) > 1]:
        what = f"has the column {min(twice)!r} twice"
    elif "action" not in given or not given & {"id", "txid"}:
        what = "has no column action, or neither id nor txid"
    else:
        return
    raise RejectedInput("invalid_file", f"the file {what}; columns are {', '.join(COLUMNS)}")


def _values(row: dict[str | Any, Any]) -> dict[str, Any] | Unreadable:
    """A row that is longer or shorter than the header was cut or shifted: what is missing is not what was left empty."""
    if None in row:
        return Unreadable("more cells than the header has")
    if any(value is CUT_OFF for value in row.values()):
        return Unreadable("fewer cells than the header has")
    return row


def import_file(path: Path, *, reason: str, is_dry: bool, result: Path | None, as_json: bool) -> int:
    """Do what `path` says; returns the exit code: 0 done, 2 when rows were bad: then nothing is changed."""
    rows = read(path)

    async def work(database: Any, _: Any) -> dict[str, Any]:
        from tracker.payouts.bulk import Bulk

        with progress(len(rows), "rows") as moved:
            actor, why = run.ACTOR, reason or f"list {path.name}"
            return await Bulk(database).run(rows, actor, reason=why, is_dry=is_dry, timeout_s=TIMEOUT_S, progress=moved)

    try:
        found = run.with_database(work)
    except BadRows as bad:
        _tell_bad(bad, result, as_json=as_json)
        return EXIT_USAGE
    _write(result, found["rows"])
    if as_json:
        show.as_json(found)
    else:
        _tell(found)
    return 0


def _tell_bad(bad: BadRows, result: Path | None, *, as_json: bool) -> None:
    problems = [{"row": number, "result": "bad", "problem": text} for number, text in bad.problems]
    _write(result, problems)
    if as_json:
        show.as_json({"bad": [{"line": one["row"], "problem": one["problem"]} for one in problems]})
        return
    for one in problems[:SHOWN_MAX]:
        sys.stderr.write(f"line {one['row']}: {one['problem']}\n")
    if len(problems) > SHOWN_MAX:
        sys.stderr.write(f"… and {len(problems) - SHOWN_MAX} more bad rows\n")
    sys.stderr.write(f"nothing was changed: {len(problems)} rows are bad\n")


def _tell(found: dict[str, Any]) -> None:
    changes = [_line(row) for row in found["rows"] if row["result"] == "changed"]
    if found["dry_run"]:
        show.table(changes[:SHOWN_MAX], empty="nothing would change")
        if len(changes) > SHOWN_MAX:
            sys.stdout.write(f"… and {len(changes) - SHOWN_MAX} more\n")
    if found["partners"]:
        show.table(found["partners"])
    would = "would be " if found["dry_run"] else ""
    sys.stdout.write(f"{found['changed']} conversions {would}changed, {found['unchanged']} unchanged\n")


def _line(row: dict[str, Any]) -> dict[str, Any]:
    def move(name: str) -> str:
        before, after = row[f"{name}_before"], row[f"{name}_after"]
        return str(before) if before == after else f"{before} → {after}"

    return {
        "line": row["row"],
        "txid": row["txid"],
        "action": row["action"],
        "status": move("status"),
        "amount": f"{move('amount')} {row['currency']}",
        "payout": f"{move('payout')} {row['payout_currency']}",
    }


def _write(result: Path | None, rows: list[dict[str, Any]]) -> None:
    if result is None:
        return
    try:
        result.write_text(as_csv(RESULT, ([row.get(name) for name in RESULT] for row in rows)), encoding="utf-8", newline="")
    except OSError as exc:
        raise RejectedInput("invalid_result", f"{result} cannot be written ({exc.strerror}); what was imported is imported") from exc
