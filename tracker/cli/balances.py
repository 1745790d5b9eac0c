"""`turnout balances` and `turnout ledger`: what is owed and billed, in sums and entry by entry."""

import sys
from typing import Annotated, Any

import typer

from tracker.cli import run, show
from tracker.errors import RejectedInput

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout")]
Partner = Annotated[str | None, typer.Option(metavar="SLUG", help="only this partner", show_default=False)]
Advertiser = Annotated[str | None, typer.Option(metavar="SLUG", help="only this advertiser", show_default=False)]
Currency = Annotated[str | None, typer.Option(metavar="CODE", help="only this one, such as EUR", show_default=False)]
COLUMNS = (
    *("id", "at", "effective_on", "account", "partner", "advertiser", "campaign", "txid", "conversion_id", "kind", "status"),
    *("amount", "currency", "reason", "actor", "postback_id"),
)
PAGE = 1000


def balances(partner: Partner = None, advertiser: Advertiser = None, currency: Currency = None, json: Json = False) -> None:
    """What each partner is owed and was paid, and what each advertiser is billed, by currency."""
    asked = _given(partner=partner, advertiser=advertiser, currency=currency)
    found = run.with_database(lambda database, _: _balances(database).balances(asked))
    if json:
        show.as_json(found)
        return
    show.table(found["partners"], empty="no partner is owed anything")
    if found["advertisers"]:
        sys.stdout.write("\n")
        show.table(found["advertisers"])


def ledger(
    partner: Partner = None,
    advertiser: Advertiser = None,
    campaign: Annotated[str | None, typer.Option(metavar="SLUG", help="only this campaign", show_default=False)] = None,
    conversion: Annotated[str | None, typer.Option(metavar="ID", help="only this conversion", show_default=False)] = None,
    kind: Annotated[str | None, typer.Option(help="such as payment", show_default=False)] = None,
    status: Annotated[str | None, typer.Option(help="pending or approved", show_default=False)] = None,
    account: Annotated[str | None, typer.Option(help="partner or advertiser", show_default=False)] = None,
    currency: Currency = None,
    start: Annotated[str | None, typer.Option("--from", metavar="WHEN", help="booked since then", show_default=False)] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="WHEN", help="a day is included", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="at most so many, the newest")] = 100,
    json: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="CSV on stdout")] = False,
) -> None:
    """Ledger entries, newest first."""
    if json and csv:
        raise RejectedInput("invalid_csv", "--json or --csv, not both")
    asked = _given(partner=partner, advertiser=advertiser, campaign=campaign, conversion=conversion, kind=kind, status=status)
    asked |= _given(account=account, currency=currency) | _given(**{"from": start, "to": end})
    rows = run.with_database(lambda database, _: _entries(_balances(database), asked, limit))
    if json:
        show.as_json({"items": rows})
    elif csv:
        from tracker.csv_text import as_csv

        sys.stdout.write(as_csv(COLUMNS, ([row[name] for name in COLUMNS] for row in rows)))
    else:
        show.table([{name: row[name] for name in COLUMNS[1:] if not name.endswith("_id")} for row in rows], empty="no entries")


def add_to(app: typer.Typer) -> None:
    """Both commands."""
    app.command()(balances)
    app.command()(ledger)


def _given(**options: str | None) -> dict[str, str]:
    return {name: value for name, value in options.items() if value is not None}


def _balances(database: Any) -> Any:
    from tracker.payouts.balances import Balances

    return Balances(database)


async def _entries(opened: Any, asked: dict[str, str], limit: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    cursor = None
    while len(rows) < limit:
        page = await opened.ledger(asked, limit=min(PAGE, limit - len(rows)), cursor=cursor)
        rows += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    return rows
