"""`turnout report`: the report API on the terminal."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer

from tracker.cli import run, show
from tracker.errors import RejectedInput

DAYS = 7  # without --from
GROUP_BY = "partner"
NONE = "(none)"
TOLD_MAX = 5  # rates that are missing


def filter_of(text: str) -> tuple[str, str]:
    """`partner=ada` as a query parameter of the report API."""
    name, found, value = text.partition("=")
    if not found:
        raise RejectedInput("invalid_filter", f"--filter must be NAME=VALUE, got {text!r}")
    return f"filter[{name}]", value


def report(
    first: Annotated[str, typer.Option("--from", metavar="DAY", help="first day; default 7 days with the last", show_default=False)] = "",
    last: Annotated[str, typer.Option("--to", metavar="DAY", help="last day, included; default today", show_default=False)] = "",
    group_by: Annotated[
        str,
        typer.Option(help="at most 5 of partner, campaign, link, advertiser, day, hour, country, device, sub1 … sub10, outcome, verdict"),
    ] = GROUP_BY,
    metrics: Annotated[
        str,
        typer.Option(
            help="of clicks, all_clicks, unique_clicks, conversions, revenue, payout (the default), impressions, cr, ctr, epc, aov",
            show_default=False,
        ),
    ] = "",
    where: Annotated[
        list[str] | None,
        typer.Option("--filter", metavar="NAME=VALUE", help="repeatable; several values with commas, none: NAME=", show_default=False),
    ] = None,
    sort: Annotated[
        str, typer.Option(help="groups and metrics asked for, a minus in front for descending: --sort=-clicks", show_default=False)
    ] = "",
    currency: Annotated[
        str, typer.Option(metavar="CODE", help="turn revenue and payout into it, by the rate of each conversion's day", show_default=False)
    ] = "",
    time: Annotated[str, typer.Option(help="when a conversion stands: conversion, or click, the time of its click")] = "conversion",
    tz: Annotated[str, typer.Option(help="time zone of days and hours")] = "UTC",
    limit: Annotated[str, typer.Option(metavar="N", help="at most so many rows; totals are of all", show_default=False)] = "",
    csv: Annotated[bool, typer.Option("--csv", help="CSV on stdout")] = False,
    json: Annotated[bool, typer.Option("--json", help="JSON on stdout")] = False,
) -> None:
    """Clicks, conversions and money by group; the last 7 days by partner."""
    from tracker.api.report_questions import joined

    asked = {"from": first, "to": last, "group_by": group_by, "metrics": metrics, "sort": sort, "tz": tz, "limit": limit}
    asked |= {"currency": currency, "time": time}
    show_report(asked | joined(map(filter_of, where or ())), as_csv=csv, as_json=json)


def show_report(parameters: Mapping[str, str], *, as_csv: bool, as_json: bool) -> None:
    """Print the report that `parameters`, those of the API, ask for; what it leaves out is said on stderr."""
    from tracker.adapters import postgres_reports
    from tracker.api.report_questions import as_csv as csv_of
    from tracker.api.report_questions import read_question

    question = read_question(parameters, days=DAYS)

    async def work(database: Any, _: Any) -> dict[str, Any]:
        return await postgres_reports.report(database, question)

    found = run.with_database(work)
    if as_csv:
        sys.stdout.write(csv_of(found, question))
    elif as_json:
        show.as_json(found)
    else:
        _table(found, question.group_by)
    for line in _left_out(found):
        sys.stderr.write(f"note: {line}\n")


def _left_out(found: Mapping[str, Any]) -> Iterable[str]:
    if "rows_left_out" in found:
        yield f"{found['rows_left_out']} more rows; totals are of all"
    if missing := found.get("missing_rates"):
        days = ", ".join(f"{one['currency']} on {one['day']}" for one in missing[:TOLD_MAX])
        more = len(missing) - TOLD_MAX + found.get("missing_rates_left_out", 0)
        others = f" and {more} more" if more > 0 else ""
        yield f"no rate for {days}{others}: not in the sums, see unconverted; turnout rates import brings rates"
    if "clicks_kept_from" in found:
        yield f"single clicks are kept since {found['clicks_kept_from']}; earlier ones are not in this report"


def _table(found: Mapping[str, Any], groups: Sequence[str]) -> None:
    """Rows, then totals: one line, and one for each currency when there are several."""
    from rich.console import Console
    from rich.table import Table

    totals = [found["totals"], *found.get("totals_by_currency", ())]
    columns = list(dict.fromkeys((*groups, *(name for line in (*found["rows"], *totals) for name in line))))
    if not any(line.get("unconverted") for line in totals):
        columns = [name for name in columns if name != "unconverted"]
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        is_text = name in groups or name.endswith("currency") or name == "unconverted"
        shown.add_column(name, justify="left" if is_text else "right", overflow="fold")
    for row in found["rows"] if groups else ():
        shown.add_row(*(_cell(row.get(name), NONE if name in groups else "") for name in columns))
    label = {groups[0]: "total"} if groups else {}
    for line in totals:
        shown.add_row(*(_cell((label | line).get(name), "") for name in columns), style="bold")
    width = None if sys.stdout.isatty() else 10_000  # a file is not folded
    Console(soft_wrap=width is not None, width=width, markup=False, highlight=False, emoji=False).print(shown)


def _cell(value: Any, empty: str) -> str:
    """Sub ids come from anybody: what would steer a terminal is not printed."""
    from tracker.api.report_questions import unconverted_text

    text = empty if value is None else unconverted_text(value) if isinstance(value, list) else str(value)
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
