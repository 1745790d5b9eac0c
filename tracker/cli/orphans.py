"""`turnout orphans`: clicks that nobody could be paid for, by what is missing, and the mapping that mends it."""

from collections import Counter
from functools import partial
from typing import Annotated, Any

import typer

from tracker.cli import run, show

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout")]
Days = Annotated[int, typer.Option(min=1, max=3650, help="how far back")]
Reason = Annotated[str | None, typer.Option(help="for the audit trail")]
COLUMNS = ("missing", "source", "partner", "offer", "host", "shape", "clicks", "all_clicks", "old_partners", "last_seen", "example")
PROPOSED = ("proposed_destination", "proposed_campaign")  # shown where the old platform was asked
EXAMPLE_MAX = 60

orphans = typer.Typer(help="Orphan clicks: what is missing, and the mapping that mends it.", no_args_is_help=True)


@orphans.command("list")
def list_all(
    days: Annotated[int, typer.Option(min=1, max=366, help="how far back")] = 30,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    json: Json = False,
) -> None:
    """Orphans in heaps by what is missing, those with the most clicks first."""
    found = run.with_database(lambda database, settings: _orphans(database, settings).listed(days=days, limit=limit))
    if json:
        show.as_json(found)
        return
    rows = [{name: row[name] for name in (*COLUMNS, *PROPOSED)} | {"example": row["example"][:EXAMPLE_MAX]} for row in found["items"]]
    show.table(rows, empty="no orphans", keep=COLUMNS)


@orphans.command("map")
def map_id(
    source_id: Annotated[str, typer.Argument(metavar="ID", help="the old id, as it stands in the links")],
    source: Annotated[str, typer.Option(help="the source that the host names, else its platform")],
    kind: Annotated[str, typer.Option(help="partner, offer, creative, link or pair")],
    partner: Annotated[str | None, typer.Option(help="slug")] = None,
    campaign: Annotated[str | None, typer.Option(help="slug")] = None,
    link: Annotated[str | None, typer.Option(help="slug")] = None,
    creative: Annotated[str | None, typer.Option(help="its name")] = None,
    reason: Reason = None,
    json: Json = False,
) -> None:
    """Say what an old id means, and attribute the clicks and orders that waited for it."""
    body = {"source": source, "kind": kind, "source_id": source_id}
    targets = {"partner": partner, "campaign": campaign, "link": link, "creative": creative, "reason": reason}
    body |= {name: value for name, value in targets.items() if value is not None}
    made = run.with_database(lambda database, settings: _orphans(database, settings).map(body, run.ACTOR))
    if json:
        show.as_json(made)
        return
    if made["attributed"] is None:
        typer.echo("mapped, but no orphan was attributed: the route table of this machine has not got it yet (does `turnout work routes`")
        typer.echo("run?), or somebody else attributes just now. Then run: turnout orphans attribute")
        return
    typer.echo(f"mapped; {_told(made['attributed'])}")


@orphans.command()
def attribute(days: Days = 30, reason: Reason = None, json: Json = False) -> None:
    """Attribute every orphan that the map of today resolves. What an interrupted call has done is done."""

    async def work(database: Any, settings: Any) -> dict[str, Any]:
        orphans, done = _orphans(database, settings), Counter[str]()
        cursor = None
        while True:
            made = await orphans.attribute(days=days, cursor=cursor, reason=reason, actor=run.ACTOR)
            cursor = made.pop("next_cursor")
            done.update(made)
            if cursor is None:
                return {**done, "next_cursor": None}
            typer.echo(_told({**done, "next_cursor": None}), err=True)

    made = run.with_database(work)
    (show.as_json if json else lambda found: typer.echo(_told(found)))(made)


def _told(done: dict[str, Any]) -> str:
    rest = "" if done["next_cursor"] is None else "; there are more, run turnout orphans attribute"
    return f"{done['clicks']} of {done['looked_at']} orphan clicks are attributed, {done['postbacks']} postbacks are tried again{rest}"


def _orphans(database: Any, settings: Any) -> Any:
    from tracker.adapters.postgres_programme import Programme
    from tracker.orphans import Orphans
    from tracker.route_table import route_table

    return Orphans(database, Programme(database, link_base=settings.link_base), partial(route_table, settings))
