"""Payout runs in PostgreSQL: made, approved, cancelled, shown. Each step is one transaction, with its row of `events`.

A run and its statements are there as a whole or not at all: whoever was killed in the middle begins anew and finds nothing half done.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from tracker.adapters import postgres_payouts_sql as sql
from tracker.adapters.postgres_pool import Connection, Database
from tracker.adapters.postgres_programme import UNSTORABLE, Row, Values, read_cursor
from tracker.adapters.postgres_programme_sql import EVENT
from tracker.crash import crash_at
from tracker.domain import money, statements
from tracker.errors import Conflict, NotFound, RejectedInput

RUN_TIMEOUT_S = 600.0  # enough for some millions of entries
LOCK_SPACE = 0x7061796F  # "payo"
AMOUNTS = ("opening", "lines", "payment", "closing")
COUNTS = ("carried", "due", "exported", "paid", "failed", "returned")
FIELDS_OF = {"period_from": "from", "minimum_micros": "minimum", "needs_approval": "two_person"}
STATUSES = {"run": ("draft", "approved", "cancelled"), "statement": COUNTS}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A run as it is asked for; days are both included, `minimum_micros` of `currency`."""

    period_from: date
    period_to: date
    currency: str
    minimum_micros: int
    hold_days: int
    needs_approval: bool
    reason: str = ""

    @property
    def cutoff(self) -> date:
        return statements.cutoff(self.period_to, self.hold_days)


async def make(database: Database, wanted: Wanted, actor: str) -> tuple[str, bool]:
    """Make the run and its statements, and pay unless somebody has to approve first. The same again returns what is there.

    Returns the run's slug, and whether it is new. Conflict `run_differs`, `draft_open`, `later_run`.
    """

    async def work(connection: Connection) -> tuple[str, bool]:
        if existing := await _existing(connection, wanted):
            return existing, False
        slug, number = await _insert(connection, wanted, actor)
        crash_at("payouts.run_made")
        await _settle(connection, wanted, number, actor)
        if not wanted.needs_approval:
            await _pay(connection, number, slug, actor)
        shown = await _one(connection, slug)
        await connection.execute(EVENT, actor, "create", "payout-run", slug, wanted.reason, None, shown)
        crash_at("payouts.before_commit")
        return slug, True

    made = await database.transaction(work, timeout_s=RUN_TIMEOUT_S)
    crash_at("payouts.after_commit")
    return made


async def foresee(database: Database, wanted: Wanted) -> list[Values]:
    """What `make` would put on statements now; writes nothing. Conflict as `make`, and `run_exists` when it was made already."""

    async def work(connection: Connection) -> list[Values]:
        if existing := await _existing(connection, wanted):
            raise Conflict("run_exists", f"the run {existing} is there already; see: turnout payouts show {existing}", field="period_to")
        rows = await connection.fetch(sql.FORESEEN, wanted.currency, wanted.cutoff, timeout=RUN_TIMEOUT_S)
        return [_foreseen(row, wanted) for row in rows]

    return await database.transaction(work, timeout_s=RUN_TIMEOUT_S)


async def approve(database: Database, run: str, *, reason: str, actor: str) -> None:
    """Pay what a draft's statements say. Conflict `same_person` for whoever made it, `cancelled`; the same again changes nothing."""

    async def work(connection: Connection) -> None:
        found = await locked_run(connection, run)
        if found["status"] == "approved":
            return
        if found["status"] == "cancelled":
            raise Conflict("cancelled", f"the run {run} is cancelled; make it anew", field="run")
        if found["created_by"] == actor:
            raise Conflict("same_person", f"{actor} made the run {run}; somebody else must approve it", field="run")
        await _pay(connection, found["id"], run, actor)
        await connection.execute(EVENT, actor, "approve", "payout-run", run, reason, {"status": "draft"}, {"status": "approved"})
        crash_at("payouts.before_approval")

    await database.transaction(work, timeout_s=RUN_TIMEOUT_S)


async def cancel(database: Database, run: str, *, reason: str, actor: str) -> None:
    """Take a draft back: its entries are open again, its statements were never there. Conflict `approved`."""

    async def work(connection: Connection) -> None:
        found = await locked_run(connection, run)
        if found["status"] == "cancelled":
            return
        if found["status"] == "approved":
            raise Conflict("approved", f"the run {run} is approved; mark payments that did not arrive as failed or returned", field="run")
        before = await _one(connection, run)
        await connection.execute(sql.RELEASE, found["id"], timeout=RUN_TIMEOUT_S)
        await connection.execute(sql.DROP_STATEMENTS, found["id"], timeout=RUN_TIMEOUT_S)
        await connection.execute(sql.CANCEL, found["id"], actor)
        await connection.execute(EVENT, actor, "cancel", "payout-run", run, reason, before, {"status": "cancelled"})
        crash_at("payouts.before_cancel")

    await database.transaction(work, timeout_s=RUN_TIMEOUT_S)


async def listed(database: Database, *, limit: int, cursor: str | None, filters: Mapping[str, str]) -> Values:
    """Runs, newest first: `{"items", "next_cursor"}`. Filters: `status`, `currency`."""
    status = _filtered(filters, "run", ("status", "currency"))
    rows = await database.fetch(sql.RUN_PAGE, read_cursor(cursor), limit + 1, status, filters.get("currency"))
    return {"items": [_run(row) for row in rows[:limit]], "next_cursor": str(rows[limit - 1]["id"]) if len(rows) > limit else None}


async def show(database: Database, run: str, *, limit: int, cursor: str | None, filters: Mapping[str, str]) -> Values:
    """A run with a page of its `statements`, and `next_cursor`. Filter: `status`. NotFound `unknown_run`."""
    status = _filtered(filters, "statement", ("status",))
    after = read_cursor(cursor)
    async with database.connection() as connection:
        shown = await _one(connection, run)
        rows = await connection.fetch(sql.STATEMENT_PAGE, run, after, limit + 1, status)
    page = [_statement(row) for row in rows[:limit]]
    return shown | {"statements": page, "next_cursor": str(rows[limit - 1]["id"]) if len(rows) > limit else None}


async def statement(database: Database, run: str, partner: str) -> Values:
    """A partner's statement with its `lines`, the payment apart from them. NotFound `unknown_run`, `unknown_statement`."""
    async with database.connection() as connection:
        row = None if _is_unstorable(run, partner) else await connection.fetchrow(sql.STATEMENT_OF, run, partner)
        if row is None:
            await _one(connection, run)
            raise NotFound("unknown_statement", f"the run {run} has no statement of {partner[:80]!r}", field="partner")
        lines = await connection.fetch(sql.LINES, row["id"], row["payment_entry_id"])
    head = {name: row[name] for name in ("run", "run_status", "period_from", "period_to")}
    entries = await asyncio.to_thread(_entries, lines, row["currency"])  # many must not hold up whoever else asks
    return head | _statement(row) | {"paid_on": row["paid_on"], "entries": entries}


async def locked_run(connection: Connection, run: str) -> Values:
    """The run, held against all other changes until the transaction ends. NotFound `unknown_run`."""
    row = None if _is_unstorable(run) else await connection.fetchrow(sql.LOCKED_RUN, run)
    if row is None:
        raise _unknown(run)
    return dict(row)


def amounts(row: Row, currency: str) -> Values:
    """Opening, lines, payment and closing as decimal strings."""
    return {name: money.format_micros(row[f"{name}_micros"], currency) for name in AMOUNTS}


async def _existing(connection: Connection, wanted: Wanted) -> str | None:
    """The slug of the run of this very period, made with the same words. Waits for whoever makes one in this currency."""
    await connection.execute(sql.LOCK, LOCK_SPACE, wanted.currency, timeout=RUN_TIMEOUT_S)
    if there := await connection.fetchrow(sql.RUN_OF_PERIOD, wanted.currency, wanted.period_to):
        for name in ("period_from", "minimum_micros", "hold_days", "needs_approval"):
            if there[name] != getattr(wanted, name):
                field = FIELDS_OF.get(name, name)
                raise Conflict("run_differs", f"the run {there['slug']} is there already, with another {field}", field=field)
        return str(there["slug"])
    newest = await connection.fetchrow(sql.NEWEST_RUN, wanted.currency)
    if newest and newest["status"] == "draft":
        raise Conflict("draft_open", f"approve or cancel the draft {newest['slug']} first", field="currency")
    if newest and newest["period_to"] > wanted.period_to:
        raise Conflict("later_run", f"the run {newest['slug']} is of a later period; what is open is for the next one", field="period_to")
    return None


async def _insert(connection: Connection, wanted: Wanted, actor: str) -> tuple[str, int]:
    before = await connection.fetchval(sql.RUNS_BEFORE, wanted.currency, wanted.period_to)
    slug = statements.run_slug(wanted.currency, wanted.period_to, int(before) + 1)
    number = await connection.fetchval(
        sql.INSERT_RUN,
        slug,
        wanted.period_from,
        wanted.period_to,
        wanted.currency,
        wanted.minimum_micros,
        wanted.hold_days,
        wanted.needs_approval,
        wanted.reason,
        actor,
    )
    return slug, int(number)


async def _settle(connection: Connection, wanted: Wanted, number: int, actor: str) -> None:
    """Statements, their lines, and what comes of them."""
    await connection.execute(sql.STATEMENTS, wanted.currency, wanted.cutoff, number, actor, timeout=RUN_TIMEOUT_S)
    crash_at("payouts.statements_made")
    await connection.execute(sql.TAKE, number, wanted.cutoff, timeout=RUN_TIMEOUT_S)
    crash_at("payouts.lines_taken")
    rows = await connection.fetch(sql.SUMS, number, timeout=RUN_TIMEOUT_S)
    settled = [_settlement(row, wanted) for row in rows]
    columns = (
        [row["id"] for row in rows],
        [row["lines_micros"] for row in rows],
        [one.payment_micros for one in settled],
        [one.closing_micros for one in settled],
        [one.status for one in settled],
    )
    await connection.execute(sql.SETTLE, *columns, timeout=RUN_TIMEOUT_S)


def _settlement(row: Row, wanted: Wanted) -> statements.Settlement:
    minimum, currency = wanted.minimum_micros, wanted.currency
    return statements.settle(row["opening_micros"], row["lines_micros"], minimum_micros=minimum, currency=currency)


async def _pay(connection: Connection, number: int, run: str, actor: str) -> None:
    """Book the payments: from now on they are owed no more, and each is a line of its statement."""
    reason = f"payout run {run}"
    await connection.execute(sql.APPROVE, number, actor)
    booked = await connection.fetch(sql.PAY, number, datetime.now(UTC).date(), reason, actor, timeout=RUN_TIMEOUT_S)
    statement_of = {row["partner_id"]: row["id"] for row in await connection.fetch(sql.PAID, number, timeout=RUN_TIMEOUT_S)}
    pairs = [row["id"] for row in booked], [statement_of[row["partner_id"]] for row in booked]
    await connection.execute(sql.SET_PAYMENTS, *pairs, timeout=RUN_TIMEOUT_S)
    await connection.execute(sql.PAYMENTS_ARE_TAKEN, number, timeout=RUN_TIMEOUT_S)
    crash_at("payouts.paid")


async def _one(connection: Connection, run: str) -> Values:
    row = None if _is_unstorable(run) else await connection.fetchrow(sql.RUN_BY_SLUG, run)
    if row is None:
        raise _unknown(run)
    return _run(row)


def _unknown(run: str) -> NotFound:
    return NotFound("unknown_run", f"there is no payout run {run[:80]!r}", field="run")


def _is_unstorable(*names: str) -> bool:
    return any(UNSTORABLE.search(name) for name in names)


def _filtered(filters: Mapping[str, str], what: str, allowed: Sequence[str]) -> str | None:
    for name, value in filters.items():
        if name not in allowed:
            raise RejectedInput("invalid_filter", f"{what}s can be filtered by {', '.join(allowed)}", field=name)
        if UNSTORABLE.search(value):
            raise RejectedInput("invalid_filter", "filters must not contain NUL or broken characters", field=name)
    status = filters.get("status")
    if status is not None and status not in STATUSES[what]:
        raise RejectedInput("invalid_filter", f"the status of a {what} is one of {', '.join(STATUSES[what])}", field="status")
    return status


def _run(row: Row) -> Values:
    currency = row["currency"]
    names = ("run", "status", "period_from", "period_to", "currency", "hold_days", "reason")
    who = ("created_at", "created_by", "approved_at", "approved_by", "cancelled_at", "cancelled_by")
    shown = {name: row[name] for name in (*names, *who)}
    shown |= {"minimum": money.format_micros(row["minimum_micros"], currency), "two_person": row["needs_approval"]}
    shown["taken_to"] = statements.cutoff(row["period_to"], row["hold_days"])
    counts = {"statements": row["statements"], "batches": row["batches"] or 0, "unpaid_batches": row["unpaid_batches"] or []}
    counts |= {name: row[name] for name in COUNTS}
    return shown | {"totals": counts | amounts(row, currency) | {"currency": currency}}


def _statement(row: Row) -> Values:
    names = ("partner", "name", "currency", "status", "batch", "reference", "reason", "changed_at", "changed_by")
    return {name: row[name] for name in names} | amounts(row, row["currency"]) | {"details": shown_details(row["details"])}


def shown_details(details: Mapping[str, Any] | None) -> Values | None:
    """Where somebody is paid, numbers masked."""
    if details is None:
        return None
    return {name: statements.masked(value) if name in ("iban", "account") else value for name, value in details.items()}


def _foreseen(row: Row, wanted: Wanted) -> Values:
    settled = _settlement(row, wanted)
    whole = dict(row) | {"payment_micros": settled.payment_micros, "closing_micros": settled.closing_micros}
    shown = {"partner": row["partner"], "name": row["name"], "currency": wanted.currency, "status": settled.status}
    return shown | amounts(whole, wanted.currency) | {"has_details": row["has_details"]}


def _entries(lines: Sequence[Row], currency: str) -> list[Values]:
    return [_line(line, currency) for line in lines]


def _line(row: Row, currency: str) -> Values:
    shown = {name: row[name] for name in ("id", "effective_on", "at", "kind", "txid", "campaign", "reason")}
    return shown | {"amount": money.format_micros(row["amount_micros"], currency), "currency": currency}
