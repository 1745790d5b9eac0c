"""What a stream's writer stores in one transaction, and what became of it; for clicks and conversions alike."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg
from asyncpg.pgproto import pgproto

from tracker.adapters.postgres_pool import Connection
from tracker.domain.books import Delta
from tracker.domain.postback import Postback, Verdict

TRIES = 5
BURY = """
    INSERT INTO dead_letters (kind, reason, detail, node, boot, seq, records, payload)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::bigint[], $7::integer[], $8::bytea[])
"""
REFUSED = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError, OverflowError)
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


@dataclass(frozen=True, slots=True)
class Stored:
    """What a committed transaction did. `verdicts`: on postbacks that were stored by it."""

    stored: int
    duplicate: int
    letters: list[DeadLetter]
    redelivered: int
    verdicts: Sequence[tuple[Postback, Verdict]] = ()


async def bury(connection: Connection, letters: list[DeadLetter]) -> None:
    """Keep `letters` in `dead_letters`."""
    if letters:
        names = ("kind", "reason", "detail", "node", "boot", "seq", "records", "payload")
        columns = {name: [getattr(letter, name) for letter in letters] for name in names}
        columns["boot"] = [UUID(bytes=letter.boot) for letter in letters]
        columns["detail"] = [letter.detail.encode("utf-8", "replace").decode().replace("\0", "") for letter in letters]
        await connection.execute(BURY, *columns.values())
