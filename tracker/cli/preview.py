"""`turnout campaign payout-preview`: what a changed payout would have come to."""

from typing import Annotated, Any

import typer

from tracker.cli import run, show

PAYOUT = frozenset(("payout",))


def payout_preview(
    slug: Annotated[str, typer.Argument(metavar="SLUG")],
    payout: Annotated[str, typer.Option(help="5.00 EUR or 10%, or a plan as JSON, or @FILE.json; empty: none")],
    month: Annotated[str | None, typer.Option(metavar="YYYY-MM", help="default: the last whole month", show_default=False)] = None,
    goal: Annotated[str | None, typer.Option(metavar="SLUG", help="as the payout of this goal", show_default=False)] = None,
    partner: Annotated[str | None, typer.Option(metavar="SLUG", help="as the payout of this partner", show_default=False)] = None,
    json: Annotated[bool, typer.Option("--json", help="JSON on stdout")] = False,
) -> None:
    """Try a payout on a real month, per partner. Nothing is saved and nothing is booked."""
    value = run.given({"payout": payout}, PAYOUT)["payout"] or None

    async def work(database: Any, _: Any) -> Any:
        from tracker.payouts.preview import Previewing

        return await Previewing(database).run(slug, value, month=month, goal=goal, partner=partner)

    found: dict[str, Any] = run.with_database(work)
    if json:
        show.as_json(found)
        return
    show.table(found["partners"], empty="nobody earned or would earn anything")
    for total in found["totals"]:
        typer.echo(
            f"{found['month']}: {total['booked']} {total['currency']} booked, {total['would_be']} with this payout ({total['difference']})"
        )
    typer.echo(f"{found['conversions']} conversions, {found['without_rate']} without a rate of exchange")
