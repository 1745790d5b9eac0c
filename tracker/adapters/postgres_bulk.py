"""Many conversions moved or adjusted in one transaction: found and locked in sets and in one order, booked as each would be by hand."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from tracker.adapters import postgres_conversions_sql as sql
from tracker.adapters.postgres_deals import amend
from tracker.adapters.postgres_moves import Event, Move, json, move_all, tell_all
from tracker.adapters.postgres_pool import Connection, Database
from tracker.adapters.postgres_reversals import take_back
from tracker.domain import bulk_rows, money
from tracker.domain.attribution import EARNING, LIFECYCLE
from tracker.domain.bulk_rows import Done, Row, State
from tracker.domain.postback import Postback

Values = dict[str, Any]
Problem = tuple[int, str]
CHUNK = 500
_FOUND = """
    SELECT c.id, c.txid, c.goal, c.occurrence, a.slug AS advertiser FROM conversions c JOIN advertisers a ON a.id = c.advertiser_id
    WHERE {} = ANY($1) AND ($2::bigint IS NULL OR c.advertiser_id = $2)
"""
BY_ID, BY_TXID = _FOUND.format("c.id"), _FOUND.format("c.txid")
# First all locks, in one order for everybody, then a look at what is joined.
LOCK = """
    SELECT id, status, amount_micros, reversed_micros, trim(currency) AS currency, payout_micros, trim(payout_currency) AS payout_currency
    FROM conversions WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE
"""
EXISTING = sql.EXISTING.format("c.id = ANY($1::uuid[]) ORDER BY c.id")
# What this transaction booked: all its entries have the time of its beginning, and nobody else has the conversions.
BOOKED = """
    SELECT p.slug AS partner, e.status, trim(e.currency) AS currency, sum(e.amount_micros)::bigint AS micros
    FROM ledger_entries e JOIN partners p ON p.id = e.partner_id
    WHERE e.conversion_id = ANY($1::uuid[]) AND e.account = 'partner' AND e.at = now() GROUP BY 1, 2, 3
"""


@dataclass(frozen=True, slots=True)
class Numbered:
    """A row and its number in the list."""

    number: int
    row: Row


@dataclass(slots=True)
class Outcome:
    """What a list came to: for each row what was changed; for each partner, currency and status the sum of what was booked; or problems."""

    rows: list[Values] = field(default_factory=list)
    booked: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Task:
    """A row, the conversion that it means, and what it comes to."""

    numbered: Numbered
    conversion_id: UUID
    done: Done
    before: State


class _Undo(Exception):
    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome


async def apply(
    database: Database,
    rows: Sequence[Numbered],
    *,
    reason: str,
    actor: str,
    is_dry: bool,
    advertiser_id: int | None,
    timeout_s: float,
    progress: Callable[[int], None],
    only_judge: bool = False,
) -> Outcome:
    """Do what all rows say in one transaction, or nothing where one of them is a problem, or with `is_dry`: then it is undone at the end.

    `only_judge`: look for problems, and do nothing whatever is found.
    `reason`: of rows without one. With `advertiser_id` only that one's conversions are known. `progress` is told how many more rows are
    done; where the transaction has to begin anew, from the start. StoreUnavailable: nothing was changed, or, where the connection was lost
    at its end, all of it: send the same list again.
    """

    async def work(connection: Connection) -> Outcome:
        outcome = Outcome()
        named = await _named(connection, rows, advertiser_id, outcome.problems)
        tasks = await _judged(connection, named, outcome.problems)
        if not outcome.problems and not only_judge:
            await _do(connection, tasks, outcome, reason, actor, progress)
        if is_dry or only_judge or outcome.problems:
            raise _Undo(outcome)
        return outcome

    try:
        return await database.transaction(work, timeout_s=timeout_s)
    except _Undo as undone:
        return undone.outcome


async def _named(
    connection: Connection, rows: Sequence[Numbered], advertiser_id: int | None, problems: list[Problem]
) -> list[tuple[Numbered, UUID]]:
    """Each row with the conversion that it means."""
    known = {row["id"] async for row in _found(connection, BY_ID, {one.row.conversion_id for one in rows} - {None}, advertiser_id)}
    by_txid = defaultdict[str, list[Any]](list)
    async for found in _found(connection, BY_TXID, {one.row.txid for one in rows} - {""}, advertiser_id):
        by_txid[found["txid"]].append(found)
    named, earlier = list[tuple[Numbered, UUID]](), defaultdict[UUID, list[Numbered]](list)
    for one in rows:
        try:
            number = _meant(one.row, known, by_txid)
            _check_together(earlier[number], one.row)
        except ValueError as exc:
            problems.append((one.number, str(exc)))
        else:
            earlier[number].append(one)
            named.append((one, number))
    return named


def _check_together(earlier: Sequence[Numbered], row: Row) -> None:
    for one in earlier:
        if said := bulk_rows.clash(one.row, row):
            raise ValueError(f"row {one.number} {said}")


async def _found(connection: Connection, statement: str, keys: set[Any], advertiser_id: int | None) -> Any:
    for chunk in _chunks(list(keys)):
        for row in await connection.fetch(statement, chunk, advertiser_id):
            yield row


def _meant(row: Row, known: set[UUID], by_txid: Mapping[str, list[Any]]) -> UUID:
    if row.conversion_id is not None:
        if row.conversion_id not in known:
            raise ValueError(f"there is no conversion {row.conversion_id}")
        return row.conversion_id
    wanted = {name: value for name in ("advertiser", "goal", "occurrence") if (value := getattr(row, name))}
    found = [one for one in by_txid.get(row.txid, ()) if all(one[name] == value for name, value in wanted.items())]
    if not found:
        of = "".join(f", {name} {value}" for name, value in wanted.items())
        raise ValueError(f"there is no conversion with the txid {row.txid}{of}")
    if len(found) > 1:
        differ = [name for name in ("advertiser", "goal", "occurrence") if len({one[name] for one in found}) > 1]
        raise ValueError(f"{len(found)} conversions have the txid {row.txid}; say which by {' and '.join(differ)}")
    number: UUID = found[0]["id"]
    return number


async def _judged(connection: Connection, named: Sequence[tuple[Numbered, UUID]], problems: list[Problem]) -> list[_Task]:
    """What each row comes to, from conversions that are locked, in their order; rows of one conversion in that of the list."""
    states = dict[UUID, State]()
    for chunk in _chunks(sorted({number for _, number in named})):
        for row in await connection.fetch(LOCK, chunk):
            states[row["id"]] = State(row["status"], row["amount_micros"], row["reversed_micros"], row["currency"])
    tasks = list[_Task]()
    for one, number in named:
        try:
            before = states[number]
            done = bulk_rows.done(one.row, before)
        except ValueError as exc:
            problems.append((one.number, str(exc)))
            continue
        states[number] = done.after
        tasks.append(_Task(one, number, done, before))
    return sorted(tasks, key=lambda task: (task.conversion_id, task.numbered.number))


async def _do(
    connection: Connection, tasks: Sequence[_Task], outcome: Outcome, reason: str, actor: str, progress: Callable[[int], None]
) -> None:
    for chunk in _chunks(tasks):
        numbers = sorted({task.conversion_id for task in chunk})
        await _do_chunk(connection, chunk, {row["id"]: row for row in await connection.fetch(EXISTING, numbers)}, outcome, reason, actor)
        progress(len(chunk))
    for row in await connection.fetch(BOOKED, sorted({task.conversion_id for task in tasks if task.done.step})):
        outcome.booked[row["partner"], row["currency"], row["status"]] += row["micros"]
    outcome.rows.sort(key=lambda shown: int(shown["row"]))


async def _do_chunk(
    connection: Connection, tasks: Sequence[_Task], existing: dict[UUID, Any], outcome: Outcome, reason: str, actor: str
) -> None:
    """Take the rows' steps, those that only move a conversion together. `existing`: the conversions, locked."""
    moves, events = list[Move](), list[Event]()
    for task in tasks:
        before, step, why = existing[task.conversion_id], task.done.step, task.numbered.row.reason or reason
        after = before
        if step in LIFECYCLE:
            after = dict(before) | {"status": LIFECYCLE[step][1]}
            moves.append(Move(before, step, why))
        elif step:
            await move_all(connection, moves, actor=actor)
            moves.clear()
            after = await _amended(connection, task, before, why, actor)
            amounts = [json(amount=money.format_micros(row["amount_micros"], row["currency"])) for row in (before, after)]
            events.append(Event(task.numbered.row.action, str(task.conversion_id), why, *amounts))
        existing[task.conversion_id] = after
        outcome.rows.append(_shown(task, before, after))
    await move_all(connection, moves, actor=actor)
    await tell_all(connection, events, actor=actor)


async def _amended(connection: Connection, task: _Task, existing: Any, reason: str, actor: str) -> Any:
    """Take a step that changes the amount; the conversion afterwards."""
    if task.done.step == "adjust":
        await _adjust(connection, existing, task.done.amount_micros, reason, actor)
    else:
        amount = money.format_micros(task.done.amount_micros, existing["currency"])
        await take_back(connection, existing, amount, reason=reason, actor=actor)
    return await connection.fetchrow(sql.EXISTING_BY_ID, task.conversion_id)


async def _adjust(connection: Connection, existing: Any, micros: int, reason: str, actor: str) -> None:
    """Another amount, as if its shop had amended it; the reports in force stay so."""
    amount = money.format_micros(micros, existing["currency"])
    names = ("postback_id", "advertiser_id", "txid", "goal", "currency", "currency_original", "status")
    told = Postback(
        **{name: existing[name] for name in names}, received_at=datetime.now(UTC), source="postback", click_id=None, coupon=None,
        amount_micros=micros, amount_original=amount, status_original="", happened_at=existing["converted_at"], parameters={},
    )  # fmt: skip
    was = f"adjusted: it was {money.format_micros(existing['amount_micros'], existing['currency'])} {existing['currency']}"
    was = f"{was}; {reason}" if reason else was
    told_by, amount_by = existing["postback_id"], existing["amount_postback_id"]
    await amend(connection, told, existing, adds=False, was=was, told_by=told_by, amount_by=amount_by, actor=actor)


def _shown(task: _Task, before: Any, after: Any) -> Values:
    amounts = {f"amount_{name}": money.format_micros(row["amount_micros"], row["currency"]) for name, row in _both(before, after)}
    payouts = {f"payout_{name}": _payout(row) for name, row in _both(before, after)}
    return {
        "row": task.numbered.number,
        "id": task.conversion_id,
        "txid": before["txid"],
        "action": task.numbered.row.action,
        "result": "changed" if task.done.step else "unchanged",
        **{f"status_{name}": row["status"] for name, row in _both(before, after)},
        **amounts,
        "currency": after["currency"],
        **payouts,
        "payout_currency": after["payout_currency"],
    }


def _both(before: Any, after: Any) -> tuple[tuple[str, Any], ...]:
    return ("before", before), ("after", after)


def _payout(row: Any) -> str:
    """What is owed for it: nothing, once it is taken back."""
    return money.format_micros(row["payout_micros"] if row["status"] in EARNING else 0, row["payout_currency"])


def _chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))
