"""Payments of payout runs in PostgreSQL: where partners are paid, batches for the bank, and what became of each payment."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from tracker.adapters import postgres_payouts_sql as sql
from tracker.adapters.postgres_payouts import RUN_TIMEOUT_S, locked_run, shown_details
from tracker.adapters.postgres_pool import Connection, Database
from tracker.adapters.postgres_programme import UNSTORABLE, Values
from tracker.adapters.postgres_programme_sql import EVENT
from tracker.crash import crash_at
from tracker.domain.statements import MOVES, Mark, end_to_end_id, marked
from tracker.errors import Conflict, NotFound


@dataclass(frozen=True, slots=True)
class Payment:
    """One payment of a batch; `details` say where to."""

    partner: str
    end_to_end_id: str
    amount_micros: int
    details: Values


@dataclass(frozen=True, slots=True)
class Batch:
    """Payments that go to the bank together. A payment is in one batch at a time, and moves only when its batch is renewed."""

    run: str
    number: int
    currency: str
    execution_on: date
    created_at: datetime
    payments: tuple[Payment, ...]


@dataclass(frozen=True, slots=True)
class Exported:
    """A batch, what `render` made of it, the run's other batches that are unpaid, and the partners whose payments are in no batch."""

    batch: Batch
    content: bytes
    other_batches: tuple[int, ...]
    left_due: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Marking:
    """What became of the payment of `partner`, of those of `batch`, or of all of the run."""

    mark_as: Mark
    partner: str | None = None
    batch: int | None = None
    reference: str = ""
    reason: str = ""


async def export(
    database: Database,
    run: str,
    render: Callable[[Batch], bytes],
    *,
    needs_iban: bool,
    number: int | None,
    renew: bool,
    execution_on: date | None,
    actor: str,
) -> Exported:
    """The payments that are due and can be made, as a new batch; without any the last batch once more; or batch `number`.

    A batch with a payment that failed or came back is given out no more: `renew` makes a new batch of what is unpaid in batch `number`.
    What `render` raises leaves everything as it was. Conflict `not_approved`, `nothing_to_export`, `batch_changed`, `batch_unchanged`;
    NotFound `unknown_batch`.
    """

    async def work(connection: Connection) -> Exported:
        found = await locked_run(connection, run)
        _check_approved(found)
        if renew and number:
            chosen = await _renewed_batch(connection, found, number, execution_on, actor)
        else:
            chosen = number or await _new_batch(connection, found, needs_iban, execution_on, actor) or await _last_batch(connection, found)
        batch = await _batch(connection, found, chosen, execution_on)
        content = await asyncio.to_thread(render, batch)
        after = {"batch": chosen, "payments": len(batch.payments), "execution_on": batch.execution_on}
        after |= {"renews": number} if renew else {}
        await connection.execute(EVENT, actor, "export", "payout-run", run, "", None, after)
        left = await connection.fetch(sql.LEFT_DUE, found["id"])
        crash_at("payouts.before_export")
        others = tuple(other for other in await _unpaid_batches(connection, found) if other != chosen)
        return Exported(batch, content, others, tuple(row["slug"] for row in left))

    exported = await database.transaction(work, timeout_s=RUN_TIMEOUT_S)
    crash_at("payouts.after_export")
    return exported


async def mark(database: Database, run: str, marking: Marking, actor: str) -> int:
    """Say what became of a partner's payment, or that those of a batch or of the whole run were made; returns how many that changed.

    The whole run: those exported, in one batch, and when nothing of the run was ever exported, those due. The same again changes
    nothing. A payment that failed or came back is owed again. Conflict `not_approved`, `invalid_status`, `several_batches`; NotFound
    `unknown_run`, `unknown_statement`, `unknown_batch`.
    """
    mark_as, reference, reason = marking.mark_as, marking.reference, marking.reason

    async def work(connection: Connection) -> int:
        found = await locked_run(connection, run)
        _check_approved(found)
        rows = await _to_mark(connection, found, marking)
        if not rows:
            return 0
        numbers = [row["id"] for row in rows]
        if mark_as == "paid":
            await connection.execute(sql.SET_PAID, numbers, actor, reference, reason)
        else:
            booked = f"payment of payout run {run} {mark_as}" + (f": {reason}" if reason else "")
            today = datetime.now(UTC).date()
            for number in numbers:
                await connection.execute(sql.BOOK_RETURN, number, today, booked, actor, mark_as, reference, reason)
        names, before = [f"{run}/{row['partner']}" for row in rows], [row["status"] for row in rows]
        await connection.execute(sql.MARK_EVENTS, actor, f"mark-{mark_as}", reason, mark_as, reference, names, before)
        crash_at("payouts.before_mark")
        return len(rows)

    return await database.transaction(work, timeout_s=RUN_TIMEOUT_S)


async def details(database: Database, partner: str) -> Values:
    """Where a partner is paid, in full. NotFound `unknown_partner`, `no_details`."""
    async with database.connection() as connection:
        row = await _details(connection, partner)
    if row["method"] is None:
        raise NotFound("no_details", f"nothing says where {partner} is paid", field="partner")
    return {name: value for name, value in row.items() if name != "partner_id"}


async def set_details(database: Database, partner: str, given: Values, actor: str) -> Values:
    """Set where a partner is paid by runs made from now on; `given` is checked. The audit trail has it with masked numbers."""

    async def work(connection: Connection) -> None:
        row = await _details(connection, partner)
        values = [given.get(name) for name in ("method", "name", "iban", "bic", "account")]
        await connection.execute(sql.SET_DETAILS, row["partner_id"], *values, actor)
        before = shown_details(_given(row)) if row["method"] else None
        await connection.execute(EVENT, actor, "edit", "payout-details", partner, "", before, shown_details(given))

    await database.transaction(work)
    return await details(database, partner)


async def drop_details(database: Database, partner: str, actor: str) -> None:
    """Forget where a partner is paid; statements of runs that were made keep what they have."""

    async def work(connection: Connection) -> None:
        row = await _details(connection, partner)
        if row["method"] is not None:
            await connection.execute(sql.DROP_DETAILS, row["partner_id"])
            await connection.execute(EVENT, actor, "delete", "payout-details", partner, "", shown_details(_given(row)), None)

    await database.transaction(work)


def _given(row: Values) -> Values:
    return {name: row[name] for name in ("method", "name", "iban", "bic", "account")}


async def _details(connection: Connection, partner: str) -> Values:
    row = None if UNSTORABLE.search(partner) else await connection.fetchrow(sql.DETAILS, partner)
    if row is None:
        raise NotFound("unknown_partner", f"there is no partner {partner[:80]!r}", field="partner")
    return dict(row)


def _check_approved(found: Values) -> None:
    if found["status"] != "approved":
        raise Conflict("not_approved", f"the run {found['slug']} is {'not approved yet' if found['status'] == 'draft' else 'cancelled'}")


async def _new_batch(connection: Connection, found: Values, needs_iban: bool, execution_on: date | None, actor: str) -> int | None:
    """The number of a new batch with all that can be paid; None: nothing can."""
    if not found["needs_approval"]:  # where two persons agreed on a payment, they agreed on its account too
        await connection.execute(sql.FILL_DETAILS, found["id"])
    ids = [row["id"] for row in await connection.fetch(sql.TO_EXPORT, found["id"], not needs_iban)]
    if not ids:
        return None
    return await _insert_batch(connection, found, ids, execution_on, actor)


async def _insert_batch(connection: Connection, found: Values, ids: list[int], execution_on: date | None, actor: str) -> int:
    number = int(await connection.fetchval(sql.LAST_BATCH, found["id"])) + 1
    await connection.execute(sql.INSERT_BATCH, found["id"], number, execution_on or datetime.now(UTC).date(), actor)
    await connection.execute(sql.SET_EXPORTED, found["id"], number, actor, ids)
    return number


async def _renewed_batch(connection: Connection, found: Values, number: int, execution_on: date | None, actor: str) -> int:
    """The number of a new batch with what is unpaid in batch `number`, of which a payment has failed or come back."""
    await _check_batch(connection, found, number)
    rows = await connection.fetch(sql.BATCH_ROWS, found["id"], number)
    if not _came_back(rows):
        raise Conflict("batch_unchanged", f"nothing of batch {number} has failed or come back: export it as it is", field="renew")
    ids = [row["id"] for row in rows if row["status"] == "exported"]
    if not ids:
        others = ", ".join(map(str, await _unpaid_batches(connection, found))) or "none"
        raise Conflict("nothing_to_export", f"nothing of batch {number} is left to pay; unpaid batches: {others}", field="batch")
    return await _insert_batch(connection, found, ids, execution_on, actor)


def _came_back(rows: list[Any]) -> list[str]:
    """Whose payments the run has in its books no more."""
    return [row["partner"] for row in rows if row["status"] in ("failed", "returned")]


async def _unpaid_batches(connection: Connection, found: Values) -> list[int]:
    return [row["batch"] for row in await connection.fetch(sql.UNPAID_BATCHES, found["id"])]


async def _check_batch(connection: Connection, found: Values, number: int) -> Any:
    row = await connection.fetchrow(sql.BATCH, found["id"], number)
    if row is None:
        raise NotFound("unknown_batch", f"the run {found['slug']} has no batch {number}", field="batch")
    return row


async def _last_batch(connection: Connection, found: Values) -> int:
    number = int(await connection.fetchval(sql.LAST_BATCH, found["id"]))
    if not number:
        left = [row["slug"] for row in await connection.fetch(sql.LEFT_DUE, found["id"])]
        why = f"no account that can be paid so is known of {', '.join(left[:20])}" if left else "nobody is paid by it"
        raise Conflict("nothing_to_export", f"the run {found['slug']} has no payment that can be made so: {why}")
    return number


async def _batch(connection: Connection, found: Values, number: int, execution_on: date | None) -> Batch:
    if execution_on is not None:
        await connection.execute(sql.MOVE_BATCH, found["id"], number, execution_on)
    row = await _check_batch(connection, found, number)
    rows = await connection.fetch(sql.BATCH_ROWS, found["id"], number)
    if came_back := _came_back(rows):
        raise Conflict(
            "batch_changed",
            f"payments of batch {number} failed or came back and are paid by the next run: {', '.join(came_back[:20])}. If the bank has "
            f"not paid the others, make a new batch of them: batch {number} with renew (--batch {number} --renew)",
            field="batch",
        )
    payments = tuple(_payment(one, found["slug"]) for one in rows)
    return Batch(found["slug"], number, found["currency"], row["execution_on"], row["created_at"], payments)


def _payment(row: Any, run: str) -> Payment:
    return Payment(row["partner"], end_to_end_id(run, row["partner_id"]), row["payment_micros"], row["details"])


async def _to_mark(connection: Connection, found: Values, marking: Marking) -> list[Any]:
    """The statements that the mark changes."""
    partner, mark_as = marking.partner, marking.mark_as
    if partner is None:
        return await _all_to_mark(connection, found, marking.batch)
    rows = [] if UNSTORABLE.search(partner) else await connection.fetch(sql.TO_MARK, found["id"], partner, None, None)
    if not rows:
        raise NotFound("unknown_statement", f"the run {found['slug']} has no statement of {partner[:80]!r}", field="partner")
    status = rows[0]["status"]
    if marked(status, mark_as) is None:
        allowed = " or ".join(sorted(MOVES[mark_as]))
        raise Conflict("invalid_status", f"only a payment that is {allowed} can be marked {mark_as}; it is {status}", field="partner")
    return [] if status == mark_as else rows


async def _all_to_mark(connection: Connection, found: Values, batch: int | None) -> list[Any]:
    """Those of the batch, else of the whole run. Nobody may have had a file whose export was cut off, so several are asked for."""
    if batch is not None:
        await _check_batch(connection, found, batch)
    elif len(unpaid := await _unpaid_batches(connection, found)) > 1:
        listed = ", ".join(map(str, unpaid))
        raise Conflict(
            "several_batches",
            f"batches {listed} of the run are unpaid; say which one the bank has paid, such as batch {unpaid[0]}",
            field="batch",
        )
    was_exported = await connection.fetchval(sql.LAST_BATCH, found["id"])
    return await connection.fetch(sql.TO_MARK, found["id"], None, ["exported"] if was_exported else ["due"], batch)
