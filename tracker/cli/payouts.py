"""`turnout payouts`: settle a period, look at statements, hand files to the bank, say what became of each payment."""

import os
import secrets
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tracker.cli import run as running
from tracker.cli import show as showing
from tracker.errors import RejectedInput

payouts = typer.Typer(help="Payout runs and partners' statements.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="such as eur-2026-10-31")]
Partner = Annotated[str | None, typer.Option(metavar="SLUG", help="only this partner's payment", show_default=False)]
OnePartner = Annotated[str, typer.Option(metavar="SLUG", help="whose payment")]
Reason = Annotated[str, typer.Option(help="for the audit trail")]
Reference = Annotated[str, typer.Option(help="the bank's")]
Output = Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="default stdout", show_default=False)]
COLUMNS = ("partner", "opening", "lines", "payment", "closing", "currency", "status", "batch", "reference", "reason")
ENTRY_COLUMNS = ("effective_on", "kind", "txid", "campaign", "reason", "amount")
FORMATS = ("json", "html", "csv")
PAGE = 1000


@payouts.callback()
def everything() -> None:
    """Payout runs and partners' statements."""


def person() -> str:
    """`cli:` and the account that runs the command, as the system knows it: the environment is not asked."""
    import pwd

    number = os.getuid()
    try:
        return f"cli:{pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"cli:{number}"


def _payouts(database: Any, settings: Any) -> Any:
    from tracker.payouts.runs import Payouts

    return Payouts(database, settings)


async def _whole(opened: Any, name: str) -> dict[str, Any]:
    """A run with all its statements."""
    shown: dict[str, Any] = await opened.show(name, limit=PAGE)
    while cursor := shown["next_cursor"]:
        page = await opened.show(name, limit=PAGE, cursor=cursor)
        shown |= {"statements": shown["statements"] + page["statements"], "next_cursor": page["next_cursor"]}
    return shown


@payouts.command("run")
def make(
    period: Annotated[str | None, typer.Option(metavar="MONTH", help="such as 2026-10", show_default=False)] = None,
    first: Annotated[str | None, typer.Option("--from", metavar="DAY", help="in place of --period", show_default=False)] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="DAY", help="included; before today (UTC)", show_default=False)] = None,
    currency: Annotated[str | None, typer.Option(help="such as EUR; a run is of one currency", show_default=False)] = None,
    minimum: Annotated[str | None, typer.Option(metavar="AMOUNT", help="less is carried over", show_default="0")] = None,
    hold_days: Annotated[int, typer.Option(metavar="DAYS", min=0, max=365, help="entries of the last so many days wait")] = 0,
    two_person: Annotated[bool, typer.Option("--two-person", help="somebody else must approve it")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be paid")] = False,
    reason: Reason = "",
    json: Json = False,
) -> None:
    """Settle a period in a currency: a statement for each partner. The same again is the same run."""
    body = {"period": period, "from": first, "to": last, "currency": currency, "minimum": minimum, "hold_days": hold_days}
    body |= {"two_person": two_person, "dry_run": dry_run, "reason": reason}

    async def work(database: Any, settings: Any) -> Any:
        opened = _payouts(database, settings)
        made, is_new = await opened.run(body, person())
        return (made if dry_run else await _whole(opened, made["run"])), is_new

    made, is_new = running.with_database(work)
    if json:
        showing.as_json(made)
        return
    _table(made["statements"])
    if dry_run and not made["period_is_over"]:
        typer.echo("the period is not over: more may come, and it cannot be paid yet", err=True)
    if not dry_run:
        _tell(made, "is made" if is_new else "was made before")


@payouts.command("list")
def list_runs(
    limit: Annotated[int, typer.Option(min=1, max=PAGE)] = 100,
    cursor: Annotated[str | None, typer.Option(help="next_cursor of the page before")] = None,
    json: Json = False,
) -> None:
    """Payout runs, newest first."""
    page = running.with_database(lambda database, settings: _payouts(database, settings).listed(limit=limit, cursor=cursor))
    if json:
        showing.as_json(page)
        return
    names = ("run", "status", "minimum", "hold_days", "created_by", "approved_by")
    rows = [{name: row[name] for name in names} | _counts(row) for row in page["items"]]
    showing.table(rows, empty="no payout runs")
    if page["next_cursor"]:
        typer.echo(f"more: --cursor {page['next_cursor']}", err=True)


@payouts.command()
def show(
    run: Run,
    partner: Partner = None,
    form: Annotated[str, typer.Option("--format", help="json, csv, and html for one partner's", show_default="a table")] = "",
    output: Output = None,
    json: Json = False,
) -> None:
    """A run and its statements, or one partner's statement with every entry."""
    form = "json" if json else form
    if form and form not in FORMATS:
        raise RejectedInput("invalid_format", f"--format must be one of {', '.join(FORMATS)}")
    if form == "html" and partner is None:
        raise RejectedInput("invalid_format", "--format html is for one --partner")

    async def work(database: Any, settings: Any) -> Any:
        opened = _payouts(database, settings)
        return await (_whole(opened, run) if partner is None else opened.statement(run, partner))

    found = running.with_database(work)
    if form in ("html", "csv"):
        _write(_file(found, form, whole=partner is None), output)
    elif form == "json":
        showing.as_json(found)
    elif partner is None:
        _table(found["statements"])
        _tell(found, f"is {found['status']}")
    else:
        showing.table(
            [{name: entry[name] for name in ("effective_on", "kind", "txid", "campaign", "amount")} for entry in found["entries"]]
        )
        _table([found])


@payouts.command()
def approve(run: Run, reason: Reason = "", json: Json = False) -> None:
    """Pay what a draft says; by another account than the one that made it."""
    _change(run, "approve", {"reason": reason}, json)


@payouts.command()
def cancel(run: Run, reason: Reason = "", json: Json = False) -> None:
    """Take a draft back, as if it had never been."""
    _change(run, "cancel", {"reason": reason}, json)


@payouts.command("mark-paid")
def mark_paid(
    run: Run,
    partner: Partner = None,
    batch: Annotated[int | None, typer.Option(min=1, help="only this file's payments", show_default=False)] = None,
    reference: Reference = "",
    reason: Reason = "",
    json: Json = False,
) -> None:
    """Payments were made: one, those of a batch, or all that were exported (all due, when none was)."""
    _change(run, "mark-paid", {"partner": partner, "batch": batch, "reference": reference, "reason": reason}, json)


@payouts.command("mark-failed")
def mark_failed(run: Run, partner: OnePartner, reference: Reference = "", reason: Reason = "", json: Json = False) -> None:
    """A payment was not made; it is due again in the next run."""
    _change(run, "mark-failed", {"partner": partner, "reference": reference, "reason": reason}, json)


@payouts.command("mark-returned")
def mark_returned(run: Run, partner: OnePartner, reference: Reference = "", reason: Reason = "", json: Json = False) -> None:
    """A payment came back; it is due again in the next run."""
    _change(run, "mark-returned", {"partner": partner, "reference": reference, "reason": reason}, json)


@payouts.command()
def export(
    run: Run,
    form: Annotated[str, typer.Option("--format", help="sepa (pain.001, EUR) or csv")] = "sepa",
    output: Output = None,
    batch: Annotated[int | None, typer.Option(min=1, help="an earlier file again", show_default=False)] = None,
    renew: Annotated[bool, typer.Option("--renew", help="a new file of what is unpaid in --batch, of which a payment failed")] = False,
    execution_on: Annotated[str | None, typer.Option(metavar="DAY", help="when the bank pays; default today", show_default=False)] = None,
) -> None:
    """The due payments as a file for the bank; with nothing new the last file again."""
    body = {"format": form, "batch": batch, "renew": renew, "execution_on": execution_on}
    file = running.with_database(lambda database, settings: _payouts(database, settings).export(run, body, person()))
    _write(file.content, output)
    typer.echo(f"batch {file.batch} of {run}: {file.payments} payments", err=True)
    if file.other_batches:
        listed = ", ".join(map(str, file.other_batches))
        typer.echo(f"unpaid too, in other files: batch {listed}; one that nobody has: --batch N", err=True)
    if file.left_due:
        typer.echo(f"no account, not in any file: {', '.join(file.left_due)}; see: turnout payouts details PARTNER --iban …", err=True)


@payouts.command()
def details(
    partner: Annotated[str, typer.Argument(metavar="PARTNER")],
    method: Annotated[str | None, typer.Option(help="sepa, bank, paypal or other", show_default=False)] = None,
    name: Annotated[str | None, typer.Option(help="whose account it is", show_default=False)] = None,
    iban: Annotated[str | None, typer.Option(show_default=False)] = None,
    bic: Annotated[str | None, typer.Option(show_default=False)] = None,
    account: Annotated[str | None, typer.Option(help="where there is no IBAN", show_default=False)] = None,
    forget: Annotated[bool, typer.Option("--forget")] = False,
    json: Json = False,
) -> None:
    """Where a partner is paid: shown, set as a whole, or forgotten."""
    given = {"method": method, "name": name, "iban": iban, "bic": bic, "account": account}
    body = {key: value for key, value in given.items() if value is not None}
    if body and forget:
        raise RejectedInput("invalid_forget", "--forget goes alone")

    async def work(database: Any, settings: Any) -> Any:
        opened = _payouts(database, settings)
        if forget:
            await opened.drop_details(partner, person())
            return {"partner": partner}
        return await (opened.set_details(partner, body, person()) if body else opened.details(partner))

    found = running.with_database(work)
    (showing.as_json if json else showing.record)(found)


def _change(run: str, action: str, body: dict[str, Any], as_json: bool) -> None:
    changed = running.with_database(lambda database, settings: _payouts(database, settings).change(run, action, body, person()))
    if as_json:
        showing.as_json(changed)
    elif "changed" in changed:
        typer.echo(f"{changed['changed']} payments of {run} are marked")
    else:
        _tell(changed, f"is {changed['status']}")


def _table(statements: list[dict[str, Any]]) -> None:
    rows = [{name: row[name] for name in COLUMNS if name in row} for row in statements]
    showing.table(rows, empty="no statements: nobody has anything new, or a balance")


def _counts(run: dict[str, Any]) -> dict[str, Any]:
    return {name: run["totals"][name] for name in ("statements", "payment", "currency")}


def _tell(run: dict[str, Any], what: str) -> None:
    totals = _counts(run)
    line = f"{run['run']} {what}: {totals['statements']} statements, payments {totals['payment']} {totals['currency']}"
    typer.echo(line + ("; it waits for approval" if run["status"] == "draft" else ""))


def _file(found: dict[str, Any], form: str, *, whole: bool) -> bytes:
    from tracker.payouts import statement_page

    if whole:
        return statement_page.run_as_csv(found["statements"]).encode()
    return (statement_page.as_html if form == "html" else statement_page.as_csv)(found).encode()


def _write(content: bytes, output: Path | None) -> None:
    if output is None:
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
        return
    try:
        _replace(output.resolve(), content)
    except OSError as exc:
        raise RejectedInput("invalid_output", f"{output} cannot be written ({exc.strerror}); nothing is lost, ask again") from exc


def _replace(path: Path, content: bytes) -> None:
    """Write a file that only its owner reads, as a whole or not at all; what is no file, such as a pipe, is just written to."""
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    draft = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
