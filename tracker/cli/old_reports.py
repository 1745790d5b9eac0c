"""`turnout old-report`: postbacks and pixels that came to old hosts, and what became of each."""

from typing import Annotated, Any

import typer

from tracker.cli import run, show

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout")]
COLUMNS = ("postback_id", "received_at", "state", "outcome", "platform", "url", "click_id", "offer_id", "partner_id", "reason")
URL_MAX = 100

old_reports = typer.Typer(help="Postbacks and pixels that came to old hosts.", no_args_is_help=True)


@old_reports.command("list")
def list_all(
    state: Annotated[str | None, typer.Option(help="read, waiting, refused or ignored", show_default=False)] = None,
    host: Annotated[str | None, typer.Option(help="only what came to this host", show_default=False)] = None,
    platform: Annotated[str | None, typer.Option(help="only those of this platform", show_default=False)] = None,
    since: Annotated[str | None, typer.Option("--from", metavar="TIME", help="a day or an instant", show_default=False)] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="TIME", help="the same; a day is included", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    cursor: Annotated[str | None, typer.Option(help="next_cursor of the list before", show_default=False)] = None,
    json: Json = False,
) -> None:
    """Newest first."""
    given = {"state": state, "host": host, "platform": platform, "from": since, "to": until}
    filters = {name: value for name, value in given.items() if value}
    found = run.with_database(lambda database, settings: _book(database, settings).listed(filters, limit=limit, cursor=cursor))
    if json:
        show.as_json(found)
        return
    told = [{**row, "url": row["url"][:URL_MAX], "reason": row["reason"] or row["postback_reason"]} for row in found["items"]]
    show.table([{name: row[name] for name in COLUMNS} for row in told], empty="nothing came to old hosts")


@old_reports.command("show")
def show_one(postback_id: Annotated[str, typer.Argument(metavar="ID")], json: Json = False) -> None:
    """One report, with what its host's platform reads in it today."""
    found = run.with_database(lambda database, settings: _book(database, settings).shown(postback_id))
    (show.as_json if json else show.record)(found)


def _book(database: Any, settings: Any) -> Any:
    from tracker.adapters.postgres_old_reports import OldReports
    from tracker.old_reports import OldReportBook
    from tracker.route_table import profiles

    return OldReportBook(database, OldReports(profiles(settings)))
