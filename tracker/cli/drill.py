"""`turnout drill`: prove on this machine that a failure loses nothing."""

import asyncio

from rich.console import Console
from rich.table import Table

from tracker.adapters.postgres_drill import Drills
from tracker.adapters.postgres_pool import database
from tracker.cli import show
from tracker.drill.faults import DRILLS, Drill
from tracker.drill.run import Outcome, drill, keep
from tracker.errors import EXIT_FAILED, RejectedInput
from tracker.settings import Settings


def run(settings: Settings, name: str | None, *, seconds: float, rate: int, as_json: bool) -> int:
    """Run the drill `name` (None: list them); 0 when nothing was lost or doubled, else 1. The record stays below `DATA_DIR/drills`."""
    if name is None:
        _list(as_json=as_json)
        return 0
    if name not in DRILLS:
        raise RejectedInput("unknown_drill", f"there is no drill {name!r}; drills are {', '.join(DRILLS)}", field="NAME")
    _check(settings, rate)
    outcome = asyncio.run(_drill(settings, DRILLS[name], seconds, rate))
    path = keep(outcome, settings.directory.drills)
    if as_json:
        show.as_json(outcome.as_dict())
    else:
        _tell(outcome, str(path))
    return 0 if outcome.is_good else EXIT_FAILED


def _check(settings: Settings, rate: int) -> None:
    if settings.flood_limit and rate > settings.flood_limit:
        raise RejectedInput(
            "invalid_rate",
            f"--rate must not be above TURNOUT_FLOOD_LIMIT ({settings.flood_limit}): clicks above it are labelled",
            field="rate",
        )


async def _drill(settings: Settings, chosen: Drill, seconds: float, rate: int) -> Outcome:
    async with database(settings.dsn, name="drill", size=2) as opened:
        return await drill(settings, Drills(opened, link_base=settings.link_base), chosen, seconds=seconds, rate=rate)


def _list(*, as_json: bool) -> None:
    (show.as_json if as_json else show.table)([{"name": one.name, "does": one.does} for one in DRILLS.values()])


def _tell(outcome: Outcome, path: str) -> None:
    table = Table(title=f"{outcome.drill}: {outcome.does}", title_justify="left", show_header=False)
    rows = (
        ("clicks redirected", f"{outcome.redirected} of {outcome.asked}"),
        ("connections cut", outcome.cut),
        ("other answers", outcome.refused or 0),
        ("slowest redirect", f"{outcome.slowest_ms} ms"),
        ("clicks stored, lost, doubled", f"{outcome.stored}, {len(outcome.lost)}, {outcome.doubled}"),
        ("orders accepted, lost, doubled", f"{outcome.orders}, {len(outcome.orders_lost)}, {outcome.orders_doubled}"),
        ("orders the shop gave up", len(outcome.orders_given_up)),
        ("all stored after the fault", "never" if outcome.recovered_s is None else f"{outcome.recovered_s} s"),
    )
    for name, value in rows:
        table.add_row(name, str(value))
    console = Console()
    console.print(table)
    verdict = "[green]nothing lost, nothing doubled[/]" if outcome.is_good else "[red]not good[/]"
    console.print(f"{verdict}; record: {path}", soft_wrap=True)
