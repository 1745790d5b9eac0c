"""`turnout tee`: what is passed on to old platforms, and what they answered."""

from typing import Annotated, Any

import typer

from tracker.cli import run, show

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout")]
Host = Annotated[str | None, typer.Option(help="only what came to this host", show_default=False)]
COLUMNS = ("postback_id", "received_at", "state", "url", "tries", "our_status", "their_status", "agrees", "error", "report_state")
URL_MAX = 100

tee = typer.Typer(help="Reports passed on to the old platform, and what it answered.", no_args_is_help=True)


@tee.command("list")
def list_all(
    state: Annotated[str | None, typer.Option(help="waiting, delivered or given_up", show_default=False)] = None,
    differences: Annotated[bool, typer.Option("--differences", help="Only where the two answers differ")] = False,
    host: Host = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    json: Json = False,
) -> None:
    """Newest first."""
    filters = {"state": state or "", "host": host or "", "differences": "true" if differences else ""}
    found = run.with_database(lambda database, settings: _tee(database, settings).listed(filters, limit=limit))
    if json:
        show.as_json(found)
        return
    rows = [{name: row[name] for name in COLUMNS} | {"url": row["url"][:URL_MAX]} for row in found["items"]]
    show.table(rows, empty="nothing was passed on")


@tee.command("show")
def show_one(postback_id: Annotated[str, typer.Argument(metavar="ID")], json: Json = False) -> None:
    """One report, with both answers."""
    found = run.with_database(lambda database, settings: _tee(database, settings).shown(postback_id))
    (show.as_json if json else show.record)(found)


@tee.command("retry")
def retry(
    host: Host = None,
    differences: Annotated[bool, typer.Option("--differences", help="What was answered differently, not what was given up")] = False,
    reason: Annotated[str | None, typer.Option(help="for the audit trail", show_default=False)] = None,
    json: Json = False,
) -> None:
    """Have what was given up sent again, to where its host forwards today."""
    body: dict[str, Any] = {name: value for name, value in (("host", host), ("reason", reason)) if value is not None}
    body["differences"] = differences

    async def work(database: Any, settings: Any) -> dict[str, Any]:
        desk, retried = _tee(database, settings), 0
        while True:
            made = await desk.retry(body, run.ACTOR)
            retried, body["before"] = retried + made["retried"], made["before"].isoformat()
            if made["is_complete"]:
                return {"retried": retried}

    made = run.with_database(work)
    if json:
        show.as_json(made)
    else:
        typer.echo(f"{made['retried']} reports are sent again by turnout work postbacks")


def _tee(database: Any, settings: Any) -> Any:
    from tracker.route_table import profiles
    from tracker.tee import Tee

    return Tee(database, profiles(settings))
