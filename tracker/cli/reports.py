"""`turnout report`: the report API on the terminal."""

import sys
from typing import Any

from tracker.cli import run, show
from tracker.errors import RejectedInput


def filter_of(text: str) -> tuple[str, str]:
    """`partner=ada` as a query parameter of the report API."""
    name, found, value = text.partition("=")
    if not found:
        raise RejectedInput("invalid_filter", f"--filter must be NAME=SLUG, got {text!r}")
    return f"filter[{name}]", value


def show_report(parameters: dict[str, str], *, as_csv: bool, as_json: bool) -> None:
    """Print the report that `parameters`, those of the API, ask for."""
    from tracker.adapters import postgres_reports
    from tracker.api.report_questions import as_csv as csv_of
    from tracker.api.report_questions import read_question

    question = read_question(parameters)

    async def work(database: Any, _: Any) -> dict[str, Any]:
        return await postgres_reports.report(database, question)

    found = run.with_database(work)
    if as_csv:
        sys.stdout.write(csv_of(found, question))
    elif as_json:
        show.as_json(found)
    else:
        label = dict.fromkeys(question.group_by, "") | {next(iter(question.group_by), "total"): "total"}
        totals = [found["totals"], *found.get("totals_by_currency", ())]
        show.table([*found["rows"], *(label | total for total in totals)])
