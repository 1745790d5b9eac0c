"""The command line. Every command imports what it needs when it runs, so that no process loads another part's drivers."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from tracker import errors
from tracker.cli import (
    balances,
    coverage,
    old_clicks,
    old_reports,
    orphans,
    payouts,
    platforms,
    preview,
    programme,
    rates,
    reports,
    run,
    show,
    tee,
    terms,
)
from tracker.cli import conversions as matching
from tracker.errors import BadConfiguration, RejectedInput, TransientError, TurnoutError

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout")]
DataDir = Annotated[str | None, typer.Option("--data-dir", metavar="DIR", help="Sets TURNOUT_DATA_DIR", show_default=False)]
Fd = Annotated[int | None, typer.Option("--fd", help="Listening socket that was inherited", show_default=False)]
WORKERS = ("clicks", "conversions", "routes", "keeper", "postbacks", "all")

app = typer.Typer(name="turnout", no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None)
serve = typer.Typer(no_args_is_help=True)
db = typer.Typer(no_args_is_help=True)
key = typer.Typer(no_args_is_help=True)
app.add_typer(serve, name="serve", help="Run one part, for real deployments.")
app.add_typer(db, name="db", help="The database schema.")
app.add_typer(key, name="key", help="API keys.")
platforms.add_to(app)
things = programme.add_to(app)
app.add_typer(orphans.orphans, name="orphans")
app.add_typer(old_clicks.old_clicks, name="old-clicks")
app.add_typer(old_reports.old_reports, name="old-report")
app.add_typer(tee.tee, name="tee")
app.add_typer(rates.rates, name="rates")
app.add_typer(matching.conversions, name="conversions")
app.add_typer(payouts.payouts, name="payouts")
app.add_typer(terms.terms, name="terms")
things["campaign"].command("recompute")(terms.recompute)
things["campaign"].command("payout-preview")(preview.payout_preview)


@app.callback()
def everything(data_dir: DataDir = None) -> None:
    """Turnout: a self-hosted click and conversion tracker for affiliate programmes."""
    run.set_data_dir(data_dir)


@app.command()
def up(
    demo: Annotated[bool, typer.Option("--demo", help="With a demo programme")] = False,
    data_dir: DataDir = None,
    redirector_workers: Annotated[int, typer.Option("--redirector-workers", min=1, max=256)] = 1,
) -> None:
    """The whole of Turnout on this machine; prints `ready` when all parts answer."""
    run.set_data_dir(data_dir)
    settings = _start()
    import asyncio

    from tracker.local import up as local

    raise typer.Exit(asyncio.run(local.run(settings, redirector_workers=redirector_workers, demo=demo)))


@serve.command("redirector")
def serve_redirector(fd: Fd = None) -> None:
    """The public edge: redirects."""
    settings = _start()
    from redirector import app as redirector

    raise typer.Exit(redirector.serve(settings, fd))


@serve.command("tracker")
def serve_tracker(fd: Fd = None) -> None:
    """API, postbacks, pixel, reports."""
    settings = _start()
    from tracker.api import app as tracker

    raise typer.Exit(tracker.serve(settings, fd))


@app.command()
def work(names: Annotated[list[str], typer.Argument(metavar="NAME…", help=", ".join(WORKERS))]) -> None:
    """Run workers."""
    for name in names:
        if name not in WORKERS:
            raise RejectedInput("invalid_worker", f"there is no worker {name!r}; workers are {', '.join(WORKERS)}")
    settings = _start()
    from workers import run as workers

    raise typer.Exit(workers.work(settings, names))


def _start() -> Any:
    from tracker.cli import logs
    from tracker.local import child

    child.die_with_parent()
    settings = run.settings()
    logs.set_up(settings)
    return settings


@db.command("upgrade")
def db_upgrade() -> None:
    """Bring the schema up to date; harmless to repeat."""
    from tracker.adapters import schema

    async def revision(database: Any, _: Any) -> Any:
        return await database.revision()

    run.with_database(revision)  # an outage is told in one line here, not as a trace from inside the schema tool
    schema.upgrade(run.settings().dsn)
    typer.echo(schema.newest())


@db.command("current")
def db_current(json: Json = False) -> None:
    """The schema's revision, and the one that this version needs; exit 1 when they differ."""
    from tracker.adapters import schema

    async def work(database: Any, _: Any) -> Any:
        return await database.revision()

    current, newest = run.with_database(work), schema.newest()
    if json:
        show.as_json({"current": current, "newest": newest})
    else:
        typer.echo(current or "none")
    if current != newest:
        typer.echo(f"the schema is {current or 'missing'}, this version needs {newest}; run: turnout db upgrade", err=True)
        raise typer.Exit(errors.EXIT_FAILED)


@db.command("url")
def db_url(json: Json = False) -> None:
    """The connection string in use."""
    dsn = run.settings().dsn
    if json:
        show.as_json({"url": dsn})
    else:
        typer.echo(dsn)


def _keys(database: Any) -> Any:
    from tracker.adapters.postgres_programme_keys import Keys

    return Keys(database)


@key.command("create")
def key_create(
    role: Annotated[str, typer.Option(help="admin, operator, viewer or advertiser")],
    advertiser: Annotated[str | None, typer.Option(metavar="SLUG", help="for the role advertiser", show_default=False)] = None,
    name: Annotated[str, typer.Option(help="who or what uses it")] = "",
    json: Json = False,
) -> None:
    """Make a key; it is shown this once."""
    made = run.with_database(lambda database, _: _keys(database).create(role, advertiser=advertiser, name=name, actor=run.ACTOR))
    if json:
        show.as_json(made)
    else:
        typer.echo(made["key"])


@key.command("list")
def key_list(json: Json = False) -> None:
    """All keys, without their secrets."""
    found = run.with_database(lambda database, _: _keys(database).listed())
    if json:
        show.as_json({"items": found, "next_cursor": None})
    else:
        show.table([{"number": row["id"], **row} for row in found], empty="no keys; the first one is in DATA_DIR/admin.key")


@key.command("revoke")
def key_revoke(number: Annotated[str, typer.Argument(metavar="NUMBER", help="see: turnout key list")], json: Json = False) -> None:
    """Make a key useless, within 2 seconds."""
    revoked = run.with_database(lambda database, _: _keys(database).revoke(number, run.ACTOR))
    if json:
        show.as_json(revoked)
    else:
        typer.echo(f"key {number} is revoked")


@things["link"].command("import")
def link_import(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="columns slug, partner, campaign, destination_url, creative …")],
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Write the good rows even when others are bad")] = False,
    json: Json = False,
) -> None:
    """Import many links at once; every bad row is reported with its line, and nothing is written when there is one."""
    from tracker.cli import links

    raise typer.Exit(links.import_file(file, skip_bad=skip_bad, as_json=json))


app.command()(reports.report)
balances.add_to(app)


@app.command()
def tail(
    clicks: Annotated[bool, typer.Option("--clicks", help="Only clicks")] = False,
    conversions: Annotated[bool, typer.Option("--conversions", help="Only conversions")] = False,
    partner: Annotated[str | None, typer.Option("--partner", metavar="SLUG", show_default=False)] = None,
    campaign: Annotated[str | None, typer.Option("--campaign", metavar="SLUG", show_default=False)] = None,
    link: Annotated[str | None, typer.Option("--link", metavar="SLUG", show_default=False)] = None,
    count: Annotated[int, typer.Option("-n", min=0, max=10_000, help="how many of the last to begin with")] = 10,
    json: Annotated[bool, typer.Option("--json", help="A JSON object a line on stdout")] = False,
) -> None:
    """The last clicks and conversions, then each new one as it is stored, until Ctrl-C."""
    from tracker.cli import tail as tailing

    kinds = tuple(name for name, is_asked in (("click", clicks), ("conversion", conversions)) if is_asked == (clicks or conversions))
    slugs = {"partner": partner, "campaign": campaign, "link": link}
    raise typer.Exit(tailing.tail(run.settings(), kinds, slugs, count, as_json=json))


@app.command()
def drill(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="none: list the drills", show_default=False)] = None,
    seconds: Annotated[float, typer.Option(min=3, max=3600, help="a third before the fault, a third with it, a third after")] = 15,
    rate: Annotated[int, typer.Option(min=1, max=500, help="clicks a second")] = 20,
    json: Json = False,
) -> None:
    """Break something of `turnout up` on this machine under synthetic traffic, and count what was lost (0)."""
    from tracker.cli import drill as drilling

    raise typer.Exit(drilling.run(run.settings(), name, seconds=seconds, rate=rate, as_json=json))


@app.command()
def explain(
    url: Annotated[str, typer.Argument(metavar="URL")],
    platform: Annotated[str | None, typer.Option(help="take a host that is not registered as one of this platform")] = None,
    source: Annotated[str | None, typer.Option(help="whose ids stand in its links; the platform's name when missing")] = None,
    json: Json = False,
) -> None:
    """Which rule resolves a URL, and where its visitor would land; records nothing."""
    from tracker.cli import explain as explaining

    raise typer.Exit(explaining.explain(run.settings(), url, json, platform, source) or 0)


coverage.add_to(app)


@app.command()
def audit(
    json: Json = False,
    close: Annotated[str | None, typer.Option("--close", metavar="BOOT", help="close a silent boot whose journal is gone for good")] = None,
    reason: Annotated[str, typer.Option("--reason", help="why, for the audit trail")] = "",
) -> None:
    """The books: exit 0 balanced or in flight, 1 unbalanced, 3 unknown."""
    from tracker.cli import books

    if close is not None:
        raise typer.Exit(books.close(run.settings(), close, reason))
    raise typer.Exit(books.audit(run.settings(), as_json=json))


@app.command()
def doctor(json: Json = False) -> None:
    """Check versions, durability, disk, clocks; says what to change."""
    from tracker.cli import books

    raise typer.Exit(books.doctor(run.settings(), as_json=json))


@app.command()
def drain(directory: Annotated[str, typer.Argument(metavar="DIR")], json: Json = False) -> None:
    """Ship a dead node's journal: DIR is its data directory, or the journal folder of it."""
    from tracker.cli import salvage

    raise typer.Exit(salvage.drain(run.settings(), directory, as_json=json))


@app.command()
def replay(since: Annotated[str, typer.Option(metavar="WHEN", help="a time, or an age such as 2h")], json: Json = False) -> None:
    """Ship the kept journal of this machine again; harmless."""
    from tracker.cli import salvage

    raise typer.Exit(salvage.replay(run.settings(), since, as_json=json))


@app.command("demo-traffic", hidden=True)
def demo_traffic() -> None:
    """The demo programme and its visitors; `turnout up --demo` runs it."""
    settings = _start()
    from tracker.local import demo

    raise typer.Exit(demo.run(settings))


def exit_code(error: TurnoutError) -> int:
    """The one table from our errors to exit codes."""
    if isinstance(error, BadConfiguration):
        return errors.EXIT_CONFIGURATION
    if isinstance(error, RejectedInput):
        return errors.EXIT_USAGE
    return errors.EXIT_CANNOT_TELL if isinstance(error, TransientError) else errors.EXIT_FAILED


def main() -> None:
    """Run the command in `sys.argv`; what goes wrong is one line on stderr, with a traceback only at TURNOUT_LOG_LEVEL=debug."""
    try:
        _refuse_unreadable(sys.argv[1:])
        app()
    except TurnoutError as exc:
        _fail(str(exc), exit_code(exc))
    except BrokenPipeError:  # `turnout … | head`
        sys.stderr.close()
        sys.exit(0)
    except Exception as exc:
        if os.environ.get("TURNOUT_LOG_LEVEL", "").lower() == "debug":
            raise
        _fail(f"a bug of ours: {type(exc).__name__}: {exc}; TURNOUT_LOG_LEVEL=debug shows where", errors.EXIT_FAILED)


def _refuse_unreadable(arguments: list[str]) -> None:
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise RejectedInput("invalid_argument", f"the argument {argument!a} is not valid UTF-8") from None


def _fail(message: str, code: int) -> NoReturn:
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    sys.exit(code)
