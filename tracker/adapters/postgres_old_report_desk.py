"""What operators and the keeper do with reports of old hosts that are decided: have them read again, and forget them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from tracker.adapters.postgres_pool import Connection, Database
from tracker.adapters.postgres_programme_sql import EVENT

RETRY_ROUND: Final = 5000
FORGET_ROUND: Final = 5000
FIRST: Final = UUID(int=0)
# In the order of their ids, each at most once a walk: what is refused again meanwhile is not met again. What is locked is being read.
RETRY_REFUSED = """
    WITH chosen AS (
        SELECT postback_id FROM old_reports
        WHERE state IN ('refused', 'ignored') AND postback_id > $1 AND ($2::text IS NULL OR host = $2)
          AND ($3::timestamptz IS NULL OR received_at >= $3)
        ORDER BY postback_id LIMIT $4 FOR UPDATE SKIP LOCKED
    )
    UPDATE old_reports r SET state = 'waiting', next_try_at = now(), tries = 0, reason = 'is read again'
    FROM chosen WHERE r.postback_id = chosen.postback_id RETURNING r.postback_id
"""
RETRY_ONE = """
    UPDATE old_reports SET state = 'waiting', next_try_at = now(), tries = 0, reason = 'is read again'
    WHERE postback_id = $1 AND state IN ('refused', 'ignored') RETURNING 1
"""
STATE_OF = "SELECT state FROM old_reports WHERE postback_id = $1"
FORGET_REPORTS = """
    DELETE FROM old_reports WHERE postback_id IN (
        SELECT postback_id FROM old_reports
        WHERE state <> 'waiting' AND received_at < now() - interval '180 days' ORDER BY received_at LIMIT $1
    )
"""


@dataclass(frozen=True, slots=True)
class Audited:
    """Who has reports read again, and why."""

    actor: str
    reason: str


class OldReportDesk:
    """Has refused and ignored reports read again. Raises StoreUnavailable on an outage."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def retry_one(self, postback_id: UUID, by: Audited) -> str | None:
        """Have one read again; `waiting`, else in what state it is already; None: there is none. Audited."""

        async def work(connection: Connection) -> str | None:
            if await connection.fetchval(RETRY_ONE, postback_id):
                await connection.execute(EVENT, by.actor, "retry", "old_report", str(postback_id), by.reason, None, {"retried": 1})
                return "waiting"
            found: str | None = await connection.fetchval(STATE_OF, postback_id)
            return f"already {found}" if found else None

        return await self._database.transaction(work)

    async def retry(self, after: UUID, host: str | None, since: datetime | None, by: Audited) -> list[UUID]:
        """Have up to 5000 behind `after` read again, if given of one host, received since then; returns their ids, sorted. Audited."""

        async def work(connection: Connection) -> list[UUID]:
            moved = sorted(row["postback_id"] for row in await connection.fetch(RETRY_REFUSED, after, host, since, RETRY_ROUND))
            if moved:
                told: dict[str, Any] = {"retried": len(moved), "since": since and since.isoformat(), "last": str(moved[-1])}
                await connection.execute(EVENT, by.actor, "retry", "old_report", host or "", by.reason, None, told)
            return moved

        return await self._database.transaction(work)


async def forget(connection: Connection) -> int:
    """Drop reports that do not wait and came 180 days ago, in batches of their own transactions; how many. For the keeper."""
    dropped = 0
    while True:
        batch = int((await connection.execute(FORGET_REPORTS, FORGET_ROUND)).rpartition(" ")[2])
        dropped += batch
        if batch < FORGET_ROUND:
            return dropped
