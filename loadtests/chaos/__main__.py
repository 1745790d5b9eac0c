"""`python -m loadtests.chaos --seconds N --seed S [--faults a,b] [--out DIR]`: exit 0 only when every promise held."""

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

import loadtests.chaos.faults  # noqa: F401 - registers all faults
from loadtests.chaos import report
from loadtests.chaos.build import Plan
from loadtests.chaos.episodes import chosen
from loadtests.chaos.processes import HERE, ROOT
from loadtests.chaos.run import Result, run
from loadtests.chaos.servers import postgres_programs, valkey_program
from loadtests.chaos.world import FAULTS, UP_FAULTS

LATER_S = 900.0  # beyond the seconds asked for: start, a last long fault, settling, stop
WIDE = 180  # a table that is cut tells nobody anything
console = Console(stderr=True, highlight=False)


def main(
    seconds: Annotated[float, typer.Option(help="how long faults are injected")] = 60.0,
    seed: Annotated[int, typer.Option(help="decides order and details of the faults, and the load")] = 1,
    faults: Annotated[str, typer.Option(help="names separated by commas, or all, cheap, none; see --list")] = "all",
    out: Annotated[Path, typer.Option(help="where the report goes")] = HERE.parent / "results",
    clicks_per_s: Annotated[float, typer.Option(min=1)] = 300.0,
    orders_per_s: Annotated[float, typer.Option(min=0)] = 8.0,
    least: Annotated[int, typer.Option(help="go on for up to twice the seconds, and fail, while fewer faults really happened")] = 0,
    tree: Annotated[Path, typer.Option(help="source tree of the Turnout under test")] = ROOT,
    pg_bin: Annotated[Path | None, typer.Option(envvar="TEST_PG_BIN", help="PostgreSQL's programs; default: the wheel's")] = None,
    redis_server: Annotated[Path | None, typer.Option(help="redis-server or valkey-server; default: the wheel's")] = None,
    logs: Annotated[Path | None, typer.Option(help="keep logs and ledgers here")] = None,
    up: Annotated[bool, typer.Option("--up", help="`turnout up` with its embedded servers, in place of parts")] = False,
    list_: Annotated[bool, typer.Option("--list", help="show all faults")] = False,
) -> None:
    """Break everything while visitors come and shops report orders; then prove that nothing was lost or doubled."""
    known = UP_FAULTS if up else FAULTS
    if list_:
        for item in known.values():
            typer.echo(f"{item.name:45} {'cheap ' if item.is_cheap else '      '}{(item.work.__doc__ or '').strip().splitlines()[0:1]}")
        return
    try:
        wanted = chosen(faults, known)
    except ValueError as exc:
        console.print(str(exc))
        raise typer.Exit(2) from None
    programs = (pg_bin or postgres_programs(), redis_server or valkey_program())
    plan = Plan(seconds, seed, wanted, tree.resolve(), *programs, clicks_per_s, orders_per_s, logs, up, least)
    result = asyncio.run(_within(plan))
    if result.injected < least:
        result.failures.append(f"only {result.injected} faults really happened, {least} were asked for")
    raise typer.Exit(_show(result, out, seed))


async def _within(plan: Plan) -> Result:
    started = time.monotonic()
    async with asyncio.timeout(plan.seconds + LATER_S):
        return await run(plan, lambda text: console.print(f"{time.monotonic() - started:7.1f}  {text}", markup=False, soft_wrap=True))


def _show(result: Result, out: Path, seed: int) -> int:
    name = f"chaos{'-up' if result.is_up else ''}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-seed{seed}"
    title = f"Chaos run of {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC, seed {seed}"
    text = report.markdown(title, result.facts, result.table, result.failures, result.verdict)
    path = report.write(out, name, text, report.as_json(result.facts, result.table, result.failures, result.verdict))
    table = Table(box=None)
    for column in report.COLUMNS:
        table.add_column(column, no_wrap=True)
    for line in result.table:
        table.add_row(*line.cells())
    Console(stderr=True, width=WIDE).print(table)
    for failure in result.failures:
        console.print(f"FAILED {failure}", style="red", markup=False, soft_wrap=True)
    console.print(f"{result.injected} faults really happened; {path}", markup=False, soft_wrap=True)
    return 1 if result.failures else 0


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    app()
