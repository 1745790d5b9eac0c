"""`turnout conversions`: decide anew on what nobody earned by yet; import lists of approvals."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from tracker.cli import run, show

conversions = typer.Typer(help="Conversions: matched by hand, and changed by lists.", no_args_is_help=True)


@conversions.callback()
def everything() -> None:
    """Conversions: matched by hand, and changed by lists."""


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


@conversions.command("import")
def import_list(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="columns id or txid (advertiser, goal, occurrence), action, amount …")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what it would come to")] = False,
    reason: Annotated[str, typer.Option(help="of rows without one, for the audit trail", show_default="the file's name")] = "",
    result: Annotated[Path | None, typer.Option(metavar="OUT.csv", help="what became of each row", show_default=False)] = None,
    json: Annotated[bool, typer.Option("--json", help="JSON on stdout")] = False,
) -> None:
    """Approve, reject, reverse or adjust conversions by a list: all of it, or nothing where one row is bad (exit 2)."""
    from tracker.cli import bulk

    raise typer.Exit(bulk.import_file(file, reason=reason, is_dry=dry_run, result=result, as_json=json))


def _told(done: dict[str, Any]) -> str:
    return (
        f"{done['attributed']} of {done['looked_at']} postbacks are attributed, {done['repeated']} repeat what is known, "
        f"{done['still_open']} are still open"
    )
