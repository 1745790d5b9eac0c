"""What one transaction of the click writer shall store of some entries."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime
from time import monotonic

from tracker.adapters.postgres_loads import DeadLetter, Load, uuid_of
from tracker.domain.intervals import SeqSet
from tracker.wire import Entry, Record
from workers.enrich import Click, UniqueClicks, fault_of, mark_unique, row_of
from workers.loading import Batch, encoded, plan, records_of, reject

KIND = "clicks"
FLOOR_EVERY_S = 5.0


class ClickLoader:
    """Enriches clicks, tells first ones from repeated ones, and leaves out what retention has dropped."""

    def __init__(self, uniques: UniqueClicks, floor: Callable[[], Awaitable[bytes]]) -> None:
        """`floor` asks for the least click id that is kept."""
        self._uniques, self._ask_floor = uniques, floor
        self._floor, self._floor_at = bytes(16), 0.0

    async def is_outdated(self) -> bool:
        """Whether retention has moved, so that what was loaded must be loaded anew. StoreUnavailable when that cannot be told."""
        if self._floor_at and monotonic() - self._floor_at < FLOOR_EVERY_S:
            return False
        before, self._floor, self._floor_at = self._floor, await self._ask_floor(), monotonic()
        return before != self._floor

    async def load(self, entries: Sequence[Entry], covered: dict[bytes, SeqSet], letters: Sequence[DeadLetter]) -> Load:
        """What is to be stored of `entries`; `letters` are those of unreadable ones."""
        return await load_of(entries, covered, letters, self._floor, self._uniques, datetime.now(UTC).date())

    async def close(self) -> None:
        """Throw connections away."""
        await self._uniques.close()


async def load_of(
    entries: Sequence[Entry], covered: dict[bytes, SeqSet], letters: Sequence[DeadLetter], floor: bytes, uniques: UniqueClicks, today: date
) -> Load:
    """What is to be stored of `entries`. Asked again with more covered, it decides the same of what is left.

    `floor` is the least click id that is kept; `letters` are those of unreadable entries.
    """
    deltas, batches = plan(entries, covered, KIND)
    load = Load(letters=list(letters), deltas=deltas)
    clicks = list[Click]()
    for batch in batches:
        clicks += _clicks(batch, load, floor)
    await mark_unique(clicks, uniques, today)
    load.rows = [row_of(click) for click in clicks]
    return load


def _clicks(batch: Batch, load: Load, floor: bytes) -> list[Click]:
    node, boot = load.deltas[batch.entry.boot].node, uuid_of(batch.entry.boot)
    clicks, expired = list[Click](), 0
    for record in records_of(batch, Record, load, KIND):
        if problem := fault_of(record):
            reject(load, batch, KIND, "invalid", problem, 1, encoded(record))
        elif record.click_id < floor:
            expired += 1
        else:
            clicks.append(Click(record, node, boot, batch.seq))
    if expired:  # counted only: retention must not bring back what it dropped
        reject(load, batch, KIND, "expired", "older than the retention", expired, b"")
    return clicks
