"""The ledger: every change of what is owed is a new entry, never an edit."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from tracker.adapters import postgres_conversions_sql as sql
from tracker.adapters.postgres_pool import Connection
from tracker.domain import attribution
from tracker.domain.payout import Payout
from tracker.domain.postback import Postback

Entry = tuple[str, int | None, str, int, str]  # account, partner, status, micros, currency


@dataclass(frozen=True, slots=True)
class Owed:
    """Who is owed what for a conversion: the partner its payout, the advertiser the revenue it is billed for."""

    conversion_id: UUID
    advertiser_id: int
    partner: int | None
    payout: Payout
    revenue: Payout


def owed_of(existing: Any) -> Owed:
    """What is owed for a conversion, a row of `EXISTING`."""
    earned = Payout(existing["payout_micros"], existing["payout_currency"])
    revenue = Payout(existing["amount_micros"], existing["currency"])
    return Owed(existing["id"], existing["advertiser_id"], existing["partner"], earned, revenue)


def _entries(owed: Owed, before: str, after: str) -> list[Entry]:
    return [
        (account, partner, status, micros, amount.currency)
        for account, partner, amount in (("partner", owed.partner, owed.payout), ("advertiser", None, owed.revenue))
        for status, micros in attribution.ledger_moves(before, after, amount.micros)
        if account == "advertiser" or partner is not None
    ]


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
    await _write(connection, owed, _entries(owed, before, after), kind=kind, postback=postback, on=on, reason=reason, actor=actor)


async def correct(connection: Connection, wrong: Owed, before: str, right: Owed, after: str, *, postback: Postback, reason: str) -> None:
    """Take what was owed by mistake back, and owe what is right; what stays the same makes no entry."""
    sums: dict[tuple[str, int | None, str, str], int] = {}
    for account, partner, status, micros, currency in (*_entries(wrong, before, ""), *_entries(right, "", after)):
        key = (account, partner, status, currency)
        sums[key] = sums.get(key, 0) + micros
    entries = [(account, partner, status, micros, currency) for (account, partner, status, currency), micros in sums.items() if micros]
    on = datetime.now(UTC)
    await _write(connection, right, entries, kind="correction", postback=postback, on=on, reason=reason, actor="postback")


async def _write(
    connection: Connection,
    owed: Owed,
    entries: list[Entry],
    *,
    kind: str,
    postback: Postback | None,
    on: datetime,
    reason: str,
    actor: str,
) -> None:
    if entries:
        columns = [list(column) for column in zip(*entries, strict=True)]
        number = postback.postback_id if postback else None
        await connection.execute(
            sql.LEDGER, on.astimezone(UTC).date(), owed.advertiser_id, owed.conversion_id, number, kind, reason, actor, *columns
        )
