"""`turnout terms`, and `turnout campaign recompute`: what partners are paid by, beside the payouts of campaigns and goals."""

from decimal import Decimal
from typing import Annotated, Any

import typer

from tracker.cli import run, show

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout")]
Reason = Annotated[str | None, typer.Option(help="for the audit trail", show_default=False)]
PAYOUT = frozenset(("payout",))

terms = typer.Typer(help="Terms of payout: of partners, for a time, from an earlier day on.", no_args_is_help=True)


@terms.command()
def add(
    campaign: Annotated[str, typer.Option(metavar="SLUG")],
    payout: Annotated[str, typer.Option(help="5.00 EUR or 10%, or a plan as JSON, or @FILE.json; empty: none of their own")],
    partner: Annotated[str | None, typer.Option(metavar="SLUG", help="of this partner alone", show_default=False)] = None,
    goal: Annotated[str | None, typer.Option(metavar="SLUG", help="for this goal alone", show_default=False)] = None,
    effective_from: Annotated[str | None, typer.Option(metavar="WHEN", help="default: now", show_default=False)] = None,
    effective_to: Annotated[str | None, typer.Option(metavar="WHEN", help="default: until further notice", show_default=False)] = None,
    reason: Reason = None,
    json: Json = False,
) -> None:
    """Add terms. They change nothing that is booked: see `turnout campaign recompute`."""
    given = {"campaign": campaign, "goal": goal, "partner": partner, "effective_from": effective_from, "effective_to": effective_to}
    body = run.given(given | {"payout": payout, "reason": reason}, PAYOUT)
    body |= {} if body["payout"] else {"payout": None}
    made = run.with_database(lambda database, _: _book(database).add(body, run.ACTOR))
    (show.as_json if json else show.record)(made)


@terms.command("list")
def list_all(
    campaign: Annotated[str | None, typer.Option(metavar="SLUG", show_default=False)] = None,
    partner: Annotated[str | None, typer.Option(metavar="SLUG", show_default=False)] = None,
    goal: Annotated[str | None, typer.Option(metavar="SLUG", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    cursor: Annotated[str | None, typer.Option(help="next_cursor of the page before", show_default=False)] = None,
    json: Json = False,
) -> None:
    """All terms there ever were, oldest first."""
    filters = {name: value for name, value in (("campaign", campaign), ("partner", partner), ("goal", goal)) if value}
    page = run.with_database(lambda database, _: _book(database).listed(limit=limit, cursor=cursor, filters=filters))
    if json:
        show.as_json(page)
        return
    show.table(page["items"], empty="no terms", keep=("id", "created_at"))
    if page["next_cursor"]:
        typer.echo(f"more: --cursor {page['next_cursor']}", err=True)


def recompute(
    slug: Annotated[str, typer.Argument(metavar="SLUG")],
    first: Annotated[str, typer.Option("--from", metavar="DAY", help="by the time of conversion, in UTC")],
    last: Annotated[str, typer.Option("--to", metavar="DAY", help="included")],
    as_of: Annotated[str | None, typer.Option(metavar="WHEN", help="by terms as known then; default: now", show_default=False)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Book nothing, only say what would be")] = False,
    reason: Reason = None,
    json: Json = False,
) -> None:
    """Work out anew what conversions earn, and book the differences as corrections. What an interrupted call has done is done."""
    body = {"from": first, "to": last, "as_of": as_of, "dry_run": dry_run, "reason": reason}

    async def work(database: Any, _: Any) -> dict[str, Any]:
        from tracker.payouts.recompute import Recomputing

        done: dict[str, Any] = {}
        while not done or done["next_cursor"]:
            page = await Recomputing(database).run(slug, body | {"cursor": done.get("next_cursor")}, run.ACTOR)
            done = _together(done, page) if done else page
        return done

    done = run.with_database(work)
    if json:
        show.as_json(done)
        return
    show.table(done["partners"], empty="nobody is owed anything else")
    what = "would change" if dry_run else "are changed"
    typer.echo(f"{done['changed']} of {done['looked_at']} conversions {what}; {done['without_rate']} have no rate of exchange")


def _together(done: dict[str, Any], page: dict[str, Any]) -> dict[str, Any]:
    """What two calls did."""
    due = dict[tuple[str, str], Decimal]()
    for row in (*done["partners"], *page["partners"]):
        key = (row["partner"], row["currency"])
        due[key] = due.get(key, Decimal(0)) + Decimal(row["difference"])
    partners = [
        {"partner": slug, "difference": f"{sum_:f}", "currency": currency} for (slug, currency), sum_ in sorted(due.items()) if sum_
    ]
    counts = {name: done[name] + page[name] for name in ("looked_at", "changed", "without_rate", "conversions")}
    return page | counts | {"partners": partners}


def _book(database: Any) -> Any:
    from tracker.payouts.terms import TermsBook

    return TermsBook(database)
