"""Reports: clicks from rollups or partitions, impressions from a rollup, conversions and money from `conversions`, merged by group."""

import asyncio
from collections.abc import Sequence
from datetime import date
from typing import Any

from tracker.adapters import postgres_rates
from tracker.adapters import postgres_reports_rows as rows
from tracker.adapters import postgres_reports_sql as sql
from tracker.adapters.postgres_pool import STATEMENT_TIMEOUT_S, Connection, Database
from tracker.adapters.postgres_reports_question import OF_CLICKS, OF_CONVERSIONS, OF_IMPRESSIONS, PARTS_MAX, ROWS_MAX, Question, Source
from tracker.domain.exchange import Rates
from tracker.errors import RejectedInput


async def report(database: Database, question: Question, *, timeout_s: float = STATEMENT_TIMEOUT_S) -> dict[str, Any]:
    """`{"rows", "totals"}` as `postgres_reports_rows.shape` tells them, all of one moment.

    `clicks_kept_from`, a UTC day, is added where single clicks of the first days asked for are not kept any more.

    Raises:
        RejectedInput: `too_many_groups`, more than ROWS_MAX, or, in one currency, more than PARTS_MAX of a day and a currency.
        StoreUnavailable: PostgreSQL is away, or did not answer in `timeout_s`.
    """

    async def work(connection: Connection) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any], Rates | None, str | None]:
        await connection.execute(sql.SNAPSHOT)
        clicks = await _fetch(connection, sql.clicks(question)) if OF_CLICKS & set(question.metrics) else []
        shown = await _fetch(connection, sql.impressions(question)) if OF_IMPRESSIONS & set(question.metrics) else []
        most = PARTS_MAX if question.target else ROWS_MAX
        conversions = await _fetch(connection, sql.conversions(question), most) if OF_CONVERSIONS & set(question.metrics) else []
        rates = await _rates(connection, question.target, conversions) if question.target else None
        floor = await connection.fetchval(sql.READ_KEPT_SINCE) if question.source is Source.CLICKS else None
        return clicks, shown, conversions, rates, floor

    clicks, shown, conversions, rates, floor = await database.transaction(work, timeout_s=timeout_s)
    found = await asyncio.to_thread(rows.shape, question, clicks, conversions, rates, shown)  # many rows must not hold up postbacks
    is_cut = floor is not None and question.bounds[0].date() < date.fromisoformat(floor) and bool(OF_CLICKS & set(question.metrics))
    return found | ({"clicks_kept_from": floor} if is_cut else {})


async def _rates(connection: Connection, currency: str, conversions: Sequence[Any]) -> Rates:
    """The rates of all days and currencies that have to be turned into `currency`."""
    days = {row["rate_day"] for row in conversions} - {None}
    if not days:
        return Rates(())
    names = {row[name] for row in conversions for name in ("currency", "payout_currency")} - {None}
    return await postgres_rates.load(connection, {currency, *names}, min(days), max(days))


async def _fetch(connection: Connection, statement: sql.Statement, most: int = ROWS_MAX) -> Sequence[Any]:
    query, values = statement
    found = await connection.fetch(query, *values)
    if len(found) > most:
        of_what = "groups" if most == ROWS_MAX else "sums of a group on a day in a currency"
        raise RejectedInput("too_many_groups", f"more than {most} {of_what}; ask for fewer days or groups, or filter", field="group_by")
    return found
