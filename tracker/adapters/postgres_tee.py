"""The tee in PostgreSQL: an outbox of reports for the old platform, and what it answered to each."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from tracker.adapters import postgres_tee_sql as sql
from tracker.adapters.postgres_pool import Connection, Database
from tracker.adapters.postgres_programme_sql import EVENT
from tracker.domain.old_reports import OldReport
from tracker.domain.tee import BODY_KEPT_BYTES, passed_on_to
from tracker.domain.urls import host_key
from tracker.platforms.replies import Answer

LEASE: Final = timedelta(seconds=60)  # of a claim: far beyond the time that one request may take
FORGET_ROUND: Final = 5000
RETRY_ROUND: Final = 5000
LAST: Final = (datetime.max.replace(tzinfo=UTC), UUID(int=2**128 - 1))
FIRST: Final = (datetime.min.replace(tzinfo=UTC), UUID(int=0))
ERROR_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class Delivery:
    """A report that is due at the old platform; `tries` counts this one."""

    postback_id: UUID
    kind: str
    platform: str
    forward_to: str
    origin: str
    target: bytes
    method: str
    content_type: bytes
    body: bytes
    user_agent: bytes
    cookie: bytes
    ours: Answer
    tries: int
    first_tried_at: datetime


async def enqueue(connection: Connection, report: OldReport, *, origin: str, source: str, reply: Answer) -> None:
    """Have `report` passed on to the old platform at `origin`, the host's `forward_to`, as soon as this transaction commits.

    Idempotent by the report's id. `reply` is what we answered. Where `origin` is the very host that the report came to, the delivery is
    given up at once: it would come back here.
    """
    to = passed_on_to(origin, report.host, report.target)
    await connection.execute(
        sql.ENQUEUE, report.uuid, report.received_at, report.kind, report.platform, source, host_key(report.host), origin, to.origin,
        to.target, report.method, report.content_type, report.body, report.user_agent, report.cookie, reply.status,
        reply.body[:BODY_KEPT_BYTES], to.error,
    )  # fmt: skip


class TeeOutbox:
    """What senders ask of the outbox. Any number may; every method raises StoreUnavailable on an outage."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, most: int, *, without: Sequence[str] = ()) -> list[Delivery]:
        """Up to `most` deliveries that are due, longest due first, none for an origin in `without`.

        They are this caller's for a minute; if it does not finish them they are due again, whatever became of the request.
        """
        return [_delivery(row) for row in await self._database.fetch(sql.CLAIM, most, list(without), LEASE)]

    async def put_back(self, delivery: Delivery, wait: timedelta) -> None:
        """Undo a claim of which nothing was sent; it is due after `wait`."""
        await self._database.fetch(sql.PUT_BACK, delivery.postback_id, delivery.tries, wait)

    async def delivered(self, delivery: Delivery, theirs: Answer, *, agrees: bool) -> bool:
        """Store the old platform's answer. False: somebody did before."""
        row = (delivery.postback_id, theirs.status, theirs.body[:BODY_KEPT_BYTES], agrees)
        return bool(await self._database.fetch(sql.DELIVERED, *row))

    async def retry(self, delivery: Delivery, wait: timedelta, error: str, theirs: Answer | None = None) -> bool:
        """Have it tried again after `wait`. False: somebody else has it by now."""
        return bool(await self._database.fetch(sql.RETRY, delivery.postback_id, delivery.tries, wait, error[:ERROR_MAX], *_kept(theirs)))

    async def give_up(self, delivery: Delivery, error: str, theirs: Answer | None = None) -> bool:
        """Try no more. False: somebody else has it by now."""
        return bool(await self._database.fetch(sql.GIVE_UP, delivery.postback_id, delivery.tries, error[:ERROR_MAX], *_kept(theirs)))

    async def backlog(self) -> tuple[int, float]:
        """How many wait, and for how many seconds the oldest does."""
        row = await self._database.fetchrow(sql.BACKLOG)
        return (row["waiting"], max(0.0, row["oldest_s"])) if row else (0, 0.0)


async def forget(connection: Connection) -> int:
    """Drop deliveries that were finished 30 days ago, in batches of their own transactions; how many. For the keeper."""
    dropped = 0
    while True:
        batch = int((await connection.execute(sql.FORGET, FORGET_ROUND)).rpartition(" ")[2])
        dropped += batch
        if batch < FORGET_ROUND:
            return dropped


def _kept(theirs: Answer | None) -> tuple[int | None, bytes | None]:
    return (theirs.status, theirs.body[:BODY_KEPT_BYTES]) if theirs else (None, None)


def _delivery(row: dict[str, Any]) -> Delivery:
    status, body = row.pop("our_status"), row.pop("our_body")
    return Delivery(**row, ours=Answer(status, "", body))


@dataclass(frozen=True, slots=True)
class Again:
    """What an operator has sent again to `forward_to`: what was given up or, with `differences`, delivered and answered differently.

    Only what ended until `before`: what is sent again and ends the same way is not met again.
    """

    host: str
    forward_to: str
    origin: str
    differences: bool
    before: datetime
    actor: str
    reason: str


class TeeDesk:
    """What operators ask of the outbox. Raises StoreUnavailable on an outage."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def listed(
        self, *, state: str | None, host: str | None, differences: bool, limit: int, after: UUID | None
    ) -> list[dict[str, Any]]:
        """Rows, newest first, those behind the row `after`; none when that is gone."""
        before = LAST
        if after is not None:
            row = await self._database.fetchrow(sql.RECEIVED, after)
            before = (row["received_at"], after) if row else FIRST
        return await self._database.fetch(sql.LISTED, *before, state, host, differences, limit)

    async def one(self, postback_id: UUID) -> dict[str, Any] | None:
        """The row of one report."""
        return await self._database.fetchrow(sql.ONE, postback_id)

    async def hosts_to_retry(self, host: str | None, *, differences: bool) -> list[tuple[str, str]]:
        """Hosts of reports that were given up, or answered differently, each with the address that it forwards to today."""
        wanted = sql.HOSTS_DIFFERING if differences else sql.HOSTS_GIVEN_UP
        return [(row["host"], row["forward_to"]) for row in await self._database.fetch(wanted, host)]

    async def try_again(self, again: Again) -> int:
        """Have up to 5000 of a host's reports sent again; how many. Audited."""
        statement = sql.RETRY_DIFFERING if again.differences else sql.RETRY_GIVEN_UP

        async def work(connection: Connection) -> int:
            done = await connection.execute(statement, again.host, again.forward_to, again.origin, RETRY_ROUND, again.before)
            moved = int(done.rpartition(" ")[2])
            if moved:
                told = {"retried": moved, "forward_to": again.forward_to, "differences": again.differences}
                await connection.execute(EVENT, again.actor, "retry", "tee", again.host, again.reason, None, told)
            return moved

        return await self._database.transaction(work)
