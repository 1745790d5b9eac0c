"""Storing receipts: postbacks and old hosts' reports from the journal, what follows, dead letters and books, in one transaction."""

import logging
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from tracker.adapters import postgres_books
from tracker.adapters.postgres_books import Overlap
from tracker.adapters.postgres_conversions import take
from tracker.adapters.postgres_loads import TRANSACTION_TIMEOUT_S, TRIES, DeadLetter, Load, Stored, WriterSink, bury
from tracker.adapters.postgres_old_reports import Impression, Known, OldReports, Taken, count_impressions, keep_refused
from tracker.adapters.postgres_pool import AGAIN, BAD_VALUE, Connection, is_its_own_fault, prepare
from tracker.crash import crash_at
from tracker.domain.books import Delta
from tracker.domain.postback import EARLIEST, Postback, Verdict, storable
from tracker.errors import StoreUnavailable
from tracker.platforms.loader import Shelf
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

    @property
    def order(self) -> tuple[datetime, datetime, UUID]:
        """Receipts take effect in this order; an old report is told when it comes."""
        postback, old = self.receipt.postback, self.receipt.old
        if postback is not None:
            return postback.order
        return (old.received_at, old.received_at, old.uuid) if old is not None else (EARLIEST, EARLIEST, UUID(int=0))


@dataclass(slots=True)
class _Tried:
    """What one try found out; nothing of it outlives a rollback."""

    letters: list[DeadLetter]
    verdicts: list[tuple[Postback, Verdict]] = field(default_factory=list)
    reports: Counter[tuple[str, str]] = field(default_factory=Counter)
    impressions: Counter[Impression] = field(default_factory=Counter)
    known: Known = field(default_factory=Known)
    stored: Counter[bytes] = field(default_factory=Counter)
    duplicate: Counter[bytes] = field(default_factory=Counter)
    rejected: Counter[bytes] = field(default_factory=Counter)


class ReceiptSink(WriterSink):
    """Receipts on their way into PostgreSQL."""

    def __init__(self, dsn: str, *, old_reports: OldReports | None = None, slot: int = 0, name: str = "conversion writer") -> None:
        """`old_reports` knows the operator's own platforms. `slot` (0 … 32767) keeps this writer's rollup rows apart from others'."""
        super().__init__(dsn, name=name, prepare=prepare)
        self._old_reports, self._slot = old_reports or OldReports(Shelf()), slot

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
                await self._take(connection, row, load, tried)
            await count_impressions(connection, tried.impressions, self._slot)
            await bury(connection, tried.letters)
            await postgres_books.account(connection, _deltas(load, tried))
            crash_at("conversion_writer.before_commit")
        return Stored(
            tried.stored.total(), tried.duplicate.total(), tried.letters, load.redelivered, tried.verdicts, tried.reports,
            tried.impressions.total(),
        )  # fmt: skip

    async def _take(self, connection: Connection, row: Row, load: Load, tried: _Tried) -> None:
        await connection.execute("SAVEPOINT receipt")
        try:
            taken = await self._taken(connection, row.receipt, tried)
        except Exception as exc:
            if not is_its_own_fault(exc):
                raise
            await connection.execute("ROLLBACK TO SAVEPOINT receipt")
            log.exception("conversion_writer.refused", extra={"postback_id": str(row.order[2])})
            tried.letters.append(_letter(row, load, str(exc)))
            tried.rejected[row.boot] += 1
            await self._keep_refused(connection, row, tried, NOT_HELD if isinstance(exc, BAD_VALUE) else NOT_DECIDED)
            return
        await connection.execute("RELEASE SAVEPOINT receipt")
        if taken is None:
            tried.duplicate[row.boot] += 1
        else:
            tried.stored[row.boot] += 1
            _note(taken, tried, is_old=row.receipt.old is not None)

    async def _keep_refused(self, connection: Connection, row: Row, tried: _Tried, reason: str) -> None:
        """Keep what was refused, so that its store can be told and it is counted, and have its old platform told of it all the same."""
        postback, old = row.receipt.postback, row.receipt.old
        if old is not None:
            await _isolated(connection, row, keep_refused(connection, old, reason))
            await _isolated(connection, row, self._old_reports.pass_on(connection, old, tried.known))
        elif postback is not None:
            await _isolated(connection, row, _keep_postback(connection, postback, reason))

    async def _taken(self, connection: Connection, receipt: Receipt, tried: _Tried) -> Taken | None:
        now = datetime.now(UTC)
        if receipt.old is not None:
            return await self._old_reports.take(connection, receipt.old, now=now, known=tried.known)
        if receipt.postback is None:
            raise ValueError("a receipt of nothing")
        verdict = await take(connection, receipt.postback, now=now)
        return Taken("", verdict.outcome, receipt.postback, verdict) if verdict else None


def _note(taken: Taken, tried: _Tried, *, is_old: bool) -> None:
    if taken.impression is not None:
        tried.impressions[taken.impression] += 1
    elif is_old:
        tried.reports[taken.platform, taken.outcome] += 1
    if taken.postback is not None and taken.verdict is not None:
        tried.verdicts.append((taken.postback, taken.verdict))


def _letter(row: Row, load: Load, detail: str) -> DeadLetter:
    payload = msgspec.msgpack.encode(row.receipt)
    return DeadLetter("refused", detail, load.deltas[row.boot].node, row.boot, row.seq, 1, payload, "conversions")


async def _isolated(connection: Connection, row: Row, work: Awaitable[None]) -> None:
    """What can be done for a receipt that was refused in its savepoint; what cannot is in the letter."""
    try:
        await work
    except Exception as exc:
        if not is_its_own_fault(exc):
            raise
        await connection.execute("ROLLBACK TO SAVEPOINT receipt")
        log.exception("conversion_writer.refused_not_kept", extra={"postback_id": str(row.order[2])})
    else:
        await connection.execute("SAVEPOINT receipt")  # keeps what was done


async def _keep_postback(connection: Connection, postback: Postback, reason: str) -> None:
    said = {name: None if value is None else storable(value) for name in KEPT_OF_REFUSED for value in [getattr(postback, name)]}
    parameters = {storable(name): storable(value) for name, value in postback.parameters.items()}
    whose = (postback.postback_id, postback.received_at, postback.source, postback.advertiser_id)
    await connection.execute(REFUSED, *whose, *said.values(), parameters, storable(postback.ip), postback.unverified, reason)


def _deltas(load: Load, tried: _Tried) -> list[Delta]:
    """The deltas of `load`, completed by what the try found out; the originals stay as they are."""
    return [
        replace(delta, stored=tried.stored[boot], duplicate=tried.duplicate[boot], rejected=delta.rejected + tried.rejected[boot])
        for boot, delta in load.deltas.items()
    ]
