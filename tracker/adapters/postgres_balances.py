"""What partners are owed and advertisers are billed, entry by entry and in sums; a month that is closed is not summed again."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from tracker.adapters import postgres_balances_sql as sql
from tracker.adapters.postgres_pool import Connection, Database
from tracker.domain import money
from tracker.errors import RejectedInput

Values = dict[str, Any]
CLOSE_AFTER = timedelta(hours=6)  # after a month's end; no transaction of ours is that old
CLOSE_TIMEOUT_S = 900.0  # sums of a month, however many entries it has
CURSOR = re.compile(r"([0-9]{1,17})-([0-9]{1,18})")  # microseconds since 1970, id
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


async def partners(database: Database, *, partner: str | None, currency: str | None) -> list[Values]:
    """`{"partner", "currency", "pending", "approved", "paid"}` for each partner and currency; `approved` is what is due yet."""
    if partner is None:
        rows = await database.fetch(sql.PARTNERS, currency)
    else:
        rows = await database.fetch(sql.ONE_PARTNER, currency, partner)
    return [_balance("partner", row, ("pending", "approved", "paid")) for row in rows]


async def advertisers(
    database: Database, *, advertiser: str | None, currency: str | None, advertiser_id: int | None = None
) -> list[Values]:
    """`{"advertiser", "currency", "pending", "approved"}`: the orders that each is billed for. With `advertiser_id` only that one."""
    rows = await database.fetch(sql.ADVERTISERS, currency, advertiser, advertiser_id)
    return [_balance("advertiser", row, ("pending", "approved")) for row in rows]


async def closed_until(database: Database) -> date | None:
    """The first day that is in no closing; None: no month is closed."""
    row = await database.fetchrow(sql.CLOSED_UNTIL)
    found: date | None = next(iter(row.values())) if row else None
    return found


def _balance(whose: str, row: Mapping[str, Any], sums: Sequence[str]) -> Values:
    currency = row["currency"]
    return {whose: row["slug"], "currency": currency} | {name: money.format_micros(int(row[name] or 0), currency) for name in sums}


async def ledger(
    database: Database,
    *,
    limit: int,
    cursor: str | None,
    filters: Mapping[str, Any],
    start: datetime | None = None,
    end: datetime | None = None,
    advertiser_id: int | None = None,
) -> Values:
    """`{"items", "next_cursor"}`, newest first; `start` included, `end` not, both of the booking time.

    `filters`: values by the names of `LEDGER_FILTERS`, `conversion` a UUID. With `advertiser_id` only that one's. RejectedInput
    `invalid_cursor`.
    """
    conditions, values = ["true"], list[Any]()

    def wanted(condition: str, *given: Any) -> None:
        numbers = [f"${len(values) + n}" for n in range(2, len(given) + 2)]
        values.extend(given)
        conditions.append(condition.format(*numbers))

    for name, value in filters.items():
        wanted(sql.LEDGER_FILTERS[name], value)
    if start is not None:
        wanted("e.at >= {}", start)
    if end is not None:
        wanted("e.at < {}", end)
    if advertiser_id is not None:
        wanted("e.advertiser_id = {}", advertiser_id)
    if cursor is not None:
        wanted("(e.at, e.id) < ({}::timestamptz, {}::bigint)", *_place(cursor))
    rows = await database.fetch(sql.LEDGER.format(" AND ".join(conditions)), limit + 1, *values)
    more = len(rows) > limit
    return {"items": [_entry(row) for row in rows[:limit]], "next_cursor": _cursor(rows[limit - 1]) if more else None}


def _place(cursor: str) -> tuple[datetime, int]:
    found = CURSOR.fullmatch(cursor)
    if found is None:
        raise RejectedInput("invalid_cursor", "cursor must be the next_cursor of an earlier answer", field="cursor")
    return EPOCH + timedelta(microseconds=int(found[1])), int(found[2])


def _cursor(row: Mapping[str, Any]) -> str:
    return f"{(row['at'] - EPOCH) // timedelta(microseconds=1)}-{row['id']}"


def _entry(row: Mapping[str, Any]) -> Values:
    shown = {name: value for name, value in row.items() if name not in ("amount_micros", "currency")}
    return shown | {"amount": money.format_micros(row["amount_micros"], row["currency"]), "currency": row["currency"]}


async def close_month(connection: Connection, now: datetime) -> date | None:
    """Close the first month that is not closed, if it ended long enough before `now`; the month, None when there is none to close.

    Part of the caller's transaction. One keeper at a time; a transaction that began in the month is waited for.
    """
    if not await connection.fetchval(sql.LOCK):
        return None
    month: date | None = await connection.fetchval(sql.NEXT_MONTH)
    if month is None:
        return None
    end = _end_of(month)
    if now < end + CLOSE_AFTER or await connection.fetchval(sql.OLDER_TRANSACTIONS, end):
        return None
    await connection.execute(sql.CLOSE, month, timeout=CLOSE_TIMEOUT_S)
    return month


def _end_of(month: date) -> datetime:
    following = (month.replace(day=28) + timedelta(days=4)).replace(day=1)
    return datetime(following.year, following.month, 1, tzinfo=UTC)


async def differing_months(connection: Connection) -> list[date]:
    """The closed months whose closings and entries do not say the same. Reads the whole ledger of closed months."""
    return [row["month"] for row in await connection.fetch(sql.DIFFERENCES, timeout=CLOSE_TIMEOUT_S)]
