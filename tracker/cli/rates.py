"""`turnout rates`: exchange rates by day, imported from files."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tracker.cli import run, show
from tracker.errors import EXIT_FAILED, RejectedInput

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout")]
COLUMNS = ("day", "currency", "rate", "base", "source")  # those that an import reads
PAGE = 1000

rates = typer.Typer(help="Exchange rates by day.", no_args_is_help=True)


@rates.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="of the ECB (eurofxref.csv, eurofxref-hist.csv), or day,currency,rate")],
    source: Annotated[str, typer.Option(help="who published them; a file of the ECB says it by itself", show_default=False)] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Replace known rates of the same days: reports of then change")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Store nothing, only say what would be")] = False,
    json: Json = False,
) -> None:
    """Import rates, all or none; harmless to repeat. The ECB publishes its files at ecb.europa.eu/stats/eurofxref."""
    content = _content(file)

    async def work(database: Any, _: Any) -> Any:
        return await _rates(database).import_csv(content, run.ACTOR, source=source, replacing=replace, dry_run=dry_run)

    made = run.with_database(work)
    if json:
        show.as_json(made)
        return
    what = "would be stored" if dry_run else "are stored"
    told = f"{made['added']} of {made['rates']} rates of {made['first']} to {made['last']} {what}"
    typer.echo(f"{told}, {made['replaced']} replaced, {made['known']} known already")


@rates.command("list")
def list_all(
    first: Annotated[str, typer.Option("--from", metavar="DAY", help="first day; default 7 days with the last", show_default=False)] = "",
    last: Annotated[str, typer.Option("--to", metavar="DAY", help="last day, included; default today (UTC)", show_default=False)] = "",
    currency: Annotated[str, typer.Option(metavar="CODE", help="only this one", show_default=False)] = "",
    csv: Annotated[bool, typer.Option("--csv", help="CSV on stdout, as an import reads it")] = False,
    json: Json = False,
) -> None:
    """Rates by day: one of the base is so much of the currency."""

    async def work(database: Any, _: Any) -> list[dict[str, Any]]:
        items, cursor = [], None
        while True:
            page = await _rates(database).listed(first=first, last=last, currency=currency, limit=PAGE, cursor=cursor)
            items += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return items

    found = run.with_database(work)
    if csv:
        from tracker.csv_text import as_csv

        sys.stdout.write(as_csv(COLUMNS, ([row[name] for name in COLUMNS] for row in found)))
    elif json:
        show.as_json({"items": found, "next_cursor": None})
    else:
        show.table([{name: row[name] for name in COLUMNS} for row in found], empty="no rates", keep=COLUMNS)


@rates.command("show")
def show_one(
    source: Annotated[str, typer.Argument(metavar="FROM", help="a currency, such as USD")],
    target: Annotated[str, typer.Argument(metavar="TO", help="another")],
    day: Annotated[str, typer.Argument(metavar="DAY", help="such as 2026-11-20, in UTC")],
    json: Json = False,
) -> None:
    """What one unit of a currency is in another for conversions of a day, and by which rates; exit 1 when there is none."""

    async def work(database: Any, _: Any) -> Any:
        return await _rates(database).show(source, target, day)

    found = run.with_database(work)
    if json:
        show.as_json(found)
    if found is None:
        typer.echo(f"no rate from {source} to {target} on {day}, nor on the 7 days before", err=True)
        raise typer.Exit(EXIT_FAILED)
    if not json:
        typer.echo(_told(found))


def _told(found: dict[str, Any]) -> str:
    made_of = ", ".join(f"1 {one['base']} = {one['rate']} {one['currency']} ({one['source']})" for one in found["made_of"])
    why = f", of {found['published']}: {made_of}" if made_of else ""
    return f"1 {found['from']} = {found['rate']} {found['to']} on {found['day']}{why}"


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as exc:
        raise RejectedInput("invalid_file", f"{file} cannot be read: {exc.strerror}") from exc


def _rates(database: Any) -> Any:
    from tracker.payouts.rates import ExchangeRates

    return ExchangeRates(database)
