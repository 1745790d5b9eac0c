"""What a stream's writer stores in one transaction, and what became of it; for clicks and conversions alike."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from asyncpg.pgproto import pgproto

from tracker.adapters import postgres_books
from tracker.adapters.postgres_pool import Connection
from tracker.adapters.postgres_session import PostgresSession
from tracker.domain.books import Delta
from tracker.domain.intervals import SeqSet
from tracker.domain.postback import Postback, Verdict
from tracker.wire import CoveredState

TRANSACTION_TIMEOUT_S = 30.0
READ_TIMEOUT_S = 5.0
TRIES = 5
BURY = """
    INSERT INTO dead_letters (kind, reason, detail, node, boot, seq, records, payload)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::bigint[], $7::integer[], $8::bytea[])
"""
uuid_of = pgproto.UUID  # from 16 bytes; several times as fast as uuid.UUID, to make and to send


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What could not be stored, and why. `records` is how many records it stands for; `kind` is `clicks` or `conversions`."""

    reason: str
    detail: str
    node: str
    boot: bytes
    seq: int
    records: int
    payload: bytes
    kind: str


@dataclass(slots=True)
class Load:
    """What one transaction shall store; what a row is, the sink knows. Rejected records of `letters` are in the deltas already."""

    rows: list[Any] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    deltas: dict[bytes, Delta] = field(default_factory=dict)

    @property
    def redelivered(self) -> int:
        """Records of batches that were accounted for before."""
        return sum(delta.redelivered for delta in self.deltas.values())


@dataclass(frozen=True, slots=True)
class Stored:
    """What a committed transaction did. `verdicts`: on postbacks that were stored by it.

    `reports`: how many of old hosts, by platform and outcome; `impressions`: those that were counted.
    """

    stored: int
    duplicate: int
    letters: list[DeadLetter]
    redelivered: int
    verdicts: Sequence[tuple[Postback, Verdict]] = ()
    reports: Mapping[tuple[str, str], int] = field(default_factory=dict)
    impressions: int = 0


class WriterSink:
    """A writer's one connection to PostgreSQL, and what it asks of the books there; for one task at a time."""

    def __init__(self, dsn: str, *, name: str, prepare: Callable[[Connection], Awaitable[None]] | None = None) -> None:
        """`prepare`: as `PostgresSession` has it."""
        self._session = PostgresSession(dsn, name=name, prepare=prepare)

    async def covered(self, boots: set[bytes]) -> dict[bytes, SeqSet]:
        """What is covered of `boots`, as a hint for the plan."""
        async with self._session.use(READ_TIMEOUT_S) as connection:
            return await postgres_books.read_covered(connection, boots)

    async def states(self, boots: set[bytes]) -> dict[bytes, CoveredState]:
        """What is to be published of `boots`."""
        async with self._session.use(READ_TIMEOUT_S) as connection:
            return await postgres_books.states(connection, boots)

    def close(self) -> None:
        """Let go of the connection."""
        self._session.drop()


async def bury(connection: Connection, letters: list[DeadLetter]) -> None:
    """Keep `letters` in `dead_letters`."""
    if letters:
        names = ("kind", "reason", "detail", "node", "boot", "seq", "records", "payload")
        columns = {name: [getattr(letter, name) for letter in letters] for name in names}
        columns["boot"] = [UUID(bytes=letter.boot) for letter in letters]
        columns["detail"] = [letter.detail.encode("utf-8", "replace").decode().replace("\0", "") for letter in letters]
        await connection.execute(BURY, *columns.values())
