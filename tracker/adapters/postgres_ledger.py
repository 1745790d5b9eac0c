"""The ledger: every change of what is owed is a new entry, never an edit."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from tracker.adapters import postgres_conversions_sql as sql
from tracker.adapters.postgres_pool import Connection
from tracker.domain import attribution
from tracker.domain.plans import EARNER, Share
from tracker.domain.postback import Postback

# What the entries of each action of the lifecycle are called.
KINDS = {"approve": "approval", "reject": "rejection", "reverse": "reversal"}


class _Line(NamedTuple):
    """Who is owed in which status and currency. `level`: of a partner's share; 0: the advertiser."""

    partner: int | None
    level: int
    status: str
    currency: str


@dataclass(frozen=True, slots=True)
class Owed:
    """Who is owed what for a conversion: partners their shares, the advertiser the revenue it is billed for."""

    conversion_id: UUID
    advertiser_id: int
    campaign: int | None
    shares: tuple[Share, ...]
    amount_micros: int
    currency: str


async def owed_of(connection: Connection, existing: Any) -> Owed:
    """What is owed for a conversion, a locked row of `EXISTING`. Sends a statement only where several earn."""
    shares = await shares_of(connection, existing)
    return Owed(existing["id"], existing["advertiser_id"], existing["campaign"], shares, existing["amount_micros"], existing["currency"])


async def shares_of(connection: Connection, existing: Any) -> tuple[Share, ...]:
    """The shares of a conversion, a row of `EXISTING`."""
    if existing["basis"].get("is_shared"):
        rows = await connection.fetch(sql.SHARES_OF, existing["id"])
        return tuple(Share(row["partner_id"], row["level"], row["amount_micros"], row["currency"]) for row in rows)
    if existing["partner"] is None or not existing["payout_micros"]:
        return ()
    return (Share(existing["partner"], EARNER, existing["payout_micros"], existing["payout_currency"]),)


def _entries(owed: Owed, before: str, after: str) -> Iterator[tuple[_Line, int]]:
    for share in owed.shares:
        for status, micros in attribution.ledger_moves(before, after, share.micros):
            yield _Line(share.partner, share.level, status, share.currency), micros
    for status, micros in attribution.ledger_moves(before, after, owed.amount_micros):
        yield _Line(None, 0, status, owed.currency), micros


async def enter(
    connection: Connection,
    owed: Owed,
    before: str,
    after: str,
    *,
    kind: str,
    postback: Postback | None,
    on: datetime,
    reason: str = "",
    actor: str = "postback",
) -> None:
    """Book what is owed, moved from one status to another (`ledger_moves`)."""
    await _write(connection, owed, list(_entries(owed, before, after)), kind=kind, postback=postback, on=on, reason=reason, actor=actor)


class Booking(NamedTuple):
    """What is owed for a conversion, moved from one status to another: by entries of `kind`, and why."""

    owed: Owed
    before: str
    after: str
    kind: str
    reason: str


async def enter_all(connection: Connection, bookings: Sequence[Booking], *, on: datetime, actor: str) -> None:
    """Book many at once, as `enter` does one without a postback."""
    rows = [
        (
            owed.advertiser_id,
            owed.campaign,
            owed.conversion_id,
            kind,
            line.partner,
            _reason(reason, line),
            line.status,
            micros,
            line.currency,
        )
        for owed, before, after, kind, reason in bookings
        for line, micros in _entries(owed, before, after)
    ]
    if rows:
        await connection.execute(sql.LEDGER_OF_MANY, on.astimezone(UTC).date(), actor, *map(list, zip(*rows, strict=True)))


async def correct(
    connection: Connection,
    wrong: Owed,
    before: str,
    right: Owed,
    after: str,
    *,
    reason: str,
    kind: str = "correction",
    postback: Postback | None = None,
    actor: str = "postback",
) -> None:
    """Take what was owed back, and owe what is right; what stays the same makes no entry."""
    sums = Counter[_Line]()
    for line, micros in (*_entries(wrong, before, ""), *_entries(right, "", after)):
        sums[line] += micros
    entries = [(line, micros) for line, micros in sums.items() if micros]
    await _write(connection, right, entries, kind=kind, postback=postback, on=datetime.now(UTC), reason=reason, actor=actor)


async def _write(
    connection: Connection,
    owed: Owed,
    entries: list[tuple[_Line, int]],
    *,
    kind: str,
    postback: Postback | None,
    on: datetime,
    reason: str,
    actor: str,
) -> None:
    if not entries:
        return
    columns = (
        [line.partner for line, _ in entries],
        [_reason(reason, line) for line, _ in entries],
        [line.status for line, _ in entries],
        [micros for _, micros in entries],
        [line.currency for line, _ in entries],
    )
    number = postback.postback_id if postback else None
    what = (on.astimezone(UTC).date(), owed.advertiser_id, owed.campaign, owed.conversion_id, number, kind, actor)
    await connection.execute(sql.LEDGER, *what, *columns)


def _reason(reason: str, line: _Line) -> str:
    """An entry of who is above says so."""
    return "; ".join(filter(None, [reason, f"level {line.level}" if line.level > EARNER else ""]))
