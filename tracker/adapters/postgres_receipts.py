"""Storing receipts: postbacks from the journal, what follows from each, dead letters and books, in one transaction."""

import logging
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import msgspec

from tracker.adapters import postgres_books
from tracker.adapters.postgres_books import Overlap
from tracker.adapters.postgres_conversions import take
from tracker.adapters.postgres_loads import TRANSACTION_TIMEOUT_S, TRIES, DeadLetter, Load, Stored, WriterSink, bury
from tracker.adapters.postgres_pool import AGAIN, BAD_VALUE, Connection, is_its_own_fault, prepare
from tracker.crash import crash_at
from tracker.domain.books import Delta
from tracker.domain.postback import Postback, Verdict, storable
from tracker.errors import StoreUnavailable
from tracker.wire import Receipt

log = logging.getLogger(__name__)

# What a store is told: the error itself is for whoever reads the dead letter.
NOT_HELD = "a value in it cannot be kept; send the report again with another"
NOT_DECIDED = "an error on our side: it was not decided on, and is kept for the programme's people to look into"
# Without its amount: a postback with the same id takes its place.
REFUSED = """
    INSERT INTO postbacks (postback_id, received_at, source, advertiser_id, txid, goal, click_id, coupon, amount_original,
        currency_original, status_original, parameters, ip, unverified, outcome, reason)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, 'rejected', $15) ON CONFLICT (postback_id) DO NOTHING
"""
KEPT_OF_REFUSED = ["txid", "goal", "click_id", "coupon", "amount_original", "currency_original", "status_original"]


@dataclass(frozen=True, slots=True)
class Row:
    """A receipt with the batch it came in."""

    receipt: Receipt
    boot: bytes
    seq: int


@dataclass(slots=True)
class _Tried:
    """What one try found out; nothing of it outlives a rollback."""

    letters: list[DeadLetter]
    verdicts: list[tuple[Postback, Verdict]] = field(default_factory=list)
    stored: Counter[bytes] = field(default_factory=Counter)
    duplicate: Counter[bytes] = field(default_factory=Counter)
    rejected: Counter[bytes] = field(default_factory=Counter)


class ReceiptSink(WriterSink):
    """Receipts on their way into PostgreSQL."""

    def __init__(self, dsn: str, *, name: str = "conversion writer") -> None:
        super().__init__(dsn, name=name, prepare=prepare)

    async def store(self, load: Load) -> Stored:
        """Store `load` in one transaction, all or nothing; each postback takes effect once however often this is called with it.

        A postback that is there already (its sender was told to wait although PostgreSQL had committed it) is a duplicate in
        the books. One that PostgreSQL refuses becomes a dead letter and a rejected postback, and holds up no other.

        Raises:
            Overlap: another writer accounted for some of its batches; plan anew with what it carries.
            StoreUnavailable: an outage; the transaction may have taken effect then, which the next try finds out.
        """
        again: Exception | None = None
        for _ in range(TRIES):
            try:
                return await self._once(load)
            except AGAIN as exc:
                again = exc
        raise StoreUnavailable(f"postgres: not stored after {TRIES} tries in a row") from again

    async def _once(self, load: Load) -> Stored:
        tried = _Tried(list(load.letters))
        async with self._session.transaction(TRANSACTION_TIMEOUT_S, Overlap) as connection:
            for row in load.rows:
                await _take(connection, row, load, tried)
            await bury(connection, tried.letters)
            await postgres_books.account(connection, _deltas(load, tried))
            crash_at("conversion_writer.before_commit")
        return Stored(tried.stored.total(), tried.duplicate.total(), tried.letters, load.redelivered, tried.verdicts)


async def _take(connection: Connection, row: Row, load: Load, tried: _Tried) -> None:
    postback = row.receipt.postback
    await connection.execute("SAVEPOINT receipt")
    try:
        verdict = await take(connection, postback, now=datetime.now(UTC))
    except Exception as exc:
        if not is_its_own_fault(exc):
            raise
        await connection.execute("ROLLBACK TO SAVEPOINT receipt")
        log.exception("conversion_writer.refused", extra={"postback_id": str(postback.postback_id)})
        node = load.deltas[row.boot].node
        payload = msgspec.msgpack.encode(row.receipt)
        tried.letters.append(DeadLetter("refused", str(exc), node, row.boot, row.seq, 1, payload, "conversions"))
        tried.rejected[row.boot] += 1
        await _keep_refused(connection, postback, NOT_HELD if isinstance(exc, BAD_VALUE) else NOT_DECIDED)
        return
    await connection.execute("RELEASE SAVEPOINT receipt")
    if verdict is None:
        tried.duplicate[row.boot] += 1
    else:
        tried.stored[row.boot] += 1
        tried.verdicts.append((postback, verdict))


async def _keep_refused(connection: Connection, postback: Postback, reason: str) -> None:
    """Keep a refused postback in its savepoint, so that its store can be told and it is counted; what cannot be kept is in the letter."""
    said = {name: None if value is None else storable(value) for name in KEPT_OF_REFUSED for value in [getattr(postback, name)]}
    parameters = {storable(name): storable(value) for name, value in postback.parameters.items()}
    whose = (postback.postback_id, postback.received_at, postback.source, postback.advertiser_id)
    try:
        await connection.execute(REFUSED, *whose, *said.values(), parameters, storable(postback.ip), postback.unverified, reason)
    except Exception as exc:
        if not is_its_own_fault(exc):
            raise
        await connection.execute("ROLLBACK TO SAVEPOINT receipt")
        log.exception("conversion_writer.refused_not_kept", extra={"postback_id": str(postback.postback_id)})


def _deltas(load: Load, tried: _Tried) -> list[Delta]:
    """The deltas of `load`, completed by what the try found out; the originals stay as they are."""
    return [
        replace(delta, stored=tried.stored[boot], duplicate=tried.duplicate[boot], rejected=delta.rejected + tried.rejected[boot])
        for boot, delta in load.deltas.items()
    ]
