"""`turnout conversions`: decide anew on what nobody earned by yet."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from tracker.cli import run, show

conversions = typer.Typer(help="Conversions: parked and orphan ones, matched by hand.", no_args_is_help=True)


@conversions.callback()
def everything() -> None:
    """Conversions: parked and orphan ones, matched by hand."""


@conversions.command()
def match(
    txid: Annotated[str | None, typer.Option(help="only this order", show_default=False)] = None,
    advertiser: Annotated[str | None, typer.Option(metavar="SLUG", help="only this advertiser's", show_default=False)] = None,
    since: Annotated[int | None, typer.Option(metavar="DAYS", min=1, max=3650, help="how far back", show_default=False)] = None,
    reason: Annotated[str | None, typer.Option(help="for the audit trail", show_default=False)] = None,
    json: Annotated[bool, typer.Option("--json", help="JSON on stdout")] = False,
) -> None:
    """Try parked postbacks at once, and decide anew on orphan conversions. What an interrupted call has done is done."""
    start = None if since is None else (datetime.now(UTC) - timedelta(days=since)).isoformat()
    given = {"txid": txid, "advertiser": advertiser, "since": start, "reason": reason}

    async def work(database: Any, _: Any) -> dict[str, Any]:
        from tracker.matching import Matching

        matching, done, cursor = Matching(database), Counter[str](), None
        while True:
            made = await matching.match(given | {"cursor": cursor}, run.ACTOR)
            cursor = made.pop("next_cursor")
            done.update(made)
            if cursor is None:
                return dict(done)
            typer.echo(_told(done), err=True)

    made = run.with_database(work)
    if json:
        show.as_json(made)
    else:
        typer.echo(_told(made))


def _told(done: dict[str, Any]) -> str:
    return (
        f"{done['attributed']} of {done['looked_at']} postbacks are attributed, {done['repeated']} repeat what is known, "
        f"{done['still_open']} are still open"
    )
