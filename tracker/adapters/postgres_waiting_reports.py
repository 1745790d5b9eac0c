"""Old hosts' reports that wait until somebody knows whose order they are, or until their click is stored, tried again."""

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tracker.adapters import postgres_old_reports_sql as sql
from tracker.adapters.postgres_old_reports import LAST_RETRY, Known, OldReports, Taken
from tracker.adapters.postgres_pool import Connection, Database, is_its_own_fault
from tracker.domain import attribution

log = logging.getLogger(__name__)

ROUND = 50  # reports a transaction: a live postback of one of their orders waits no longer than these take


@dataclass(slots=True)
class Swept:
    """What a round did: how many due reports it looked at, what became of those that wait no longer, how many raised an error."""

    looked_at: int = 0
    taken: list[Taken] = field(default_factory=list)
    failed: int = 0


async def sweep_round(database: Database, reports: OldReports, *, limit: int = ROUND) -> Swept:
    """Try the reports that are due, at most `limit`, in one transaction. Any number of sweepers may run at once.

    One that raises an error is logged and put off, and holds up no other. Raises StoreUnavailable; nothing is changed then.
    """

    async def work(connection: Connection) -> Swept:
        now, swept, known = datetime.now(UTC), Swept(), Known()
        rows = await connection.fetch(sql.WAITING_DUE, now, limit)
        for row in sorted(rows, key=lambda one: (one["received_at"], one["postback_id"])):  # as the writer takes them
            taken = await _isolated(connection, reports, row, known, now)
            swept.failed += taken is None
            swept.taken += [taken] if taken and taken.outcome != "waiting" else []
        swept.looked_at = len(rows)
        return swept

    return await database.transaction(work)


async def waiting(database: Database) -> int:
    """How many reports wait."""
    row = await database.fetchrow(sql.WAITING)
    return int(row["waiting"]) if row else 0


async def _isolated(connection: Connection, reports: OldReports, row: Any, known: Known, now: datetime) -> Taken | None:
    try:
        async with connection.transaction():  # a savepoint
            return await reports.retry(connection, row, now=now, known=known)
    except Exception as exc:
        if not is_its_own_fault(exc):
            raise
        log.exception("old_report_sweeper.report_failed", extra={"postback_id": str(row["postback_id"])})
    pause = min(attribution.retry_after(row["tries"]), LAST_RETRY)
    await connection.execute(sql.PUT_OFF, row["postback_id"], now + pause)
    return None
