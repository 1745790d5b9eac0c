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


@old_reports.command("retry")
def retry(
    postback_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="this one alone", show_default=False)] = None,
    host: Annotated[str | None, typer.Option(help="only what came to this host", show_default=False)] = None,
    since: Annotated[str | None, typer.Option(metavar="WHEN", help="came since that day or instant", show_default=False)] = None,
    reason: Annotated[str | None, typer.Option(help="for the audit trail", show_default=False)] = None,
    json: Json = False,
) -> None:
    """Read what was refused or ignored once more, after a token, a setting or a profile was corrected."""
    given = {"postback_id": postback_id, "host": host, "since": since, "reason": reason}
    body = {name: value for name, value in given.items() if value is not None}

    async def work(database: Any, settings: Any) -> dict[str, Any]:
        book, retried = _book(database, settings), 0
        while True:
            made = await book.retry(body, run.ACTOR)
            retried += made["retried"]
            if made["is_complete"]:
                return {"retried": retried}
            body["cursor"] = str(made["next_cursor"])

    made = run.with_database(work)
    if json:
        show.as_json(made)
    else:
        typer.echo(f"{made['retried']} reports are read again by turnout work conversions")


def _book(database: Any, settings: Any) -> Any:
    from tracker.adapters.postgres_old_reports import OldReports
    from tracker.old_reports import OldReportBook
    from tracker.route_table import profiles

    return OldReportBook(database, OldReports(profiles(settings)))
