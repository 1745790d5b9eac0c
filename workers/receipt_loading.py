"""What one transaction of the conversion writer shall store of some entries."""

from collections.abc import Sequence

from tracker.adapters.postgres_loads import DeadLetter, Load
from tracker.adapters.postgres_receipts import Row
from tracker.domain.intervals import SeqSet
from tracker.wire import Entry, Receipt
from workers.loading import plan, records_of

KIND = "conversions"


class ReceiptLoader:
    """Unpacks receipts, in the order in which what they report happened."""

    async def is_outdated(self) -> bool:
        """Never: receipts have no retention."""
        return False

    async def load(self, entries: Sequence[Entry], covered: dict[bytes, SeqSet], letters: Sequence[DeadLetter]) -> Load:
        """What is to be stored of `entries`; `letters` are those of unreadable ones."""
        deltas, batches = plan(entries, covered, KIND)
        load = Load(letters=list(letters), deltas=deltas)
        for batch in batches:
            load.rows += [Row(receipt, batch.entry.boot, batch.seq) for receipt in records_of(batch, Receipt, load, KIND)]
        load.rows.sort(key=lambda row: row.order)
        return load

    async def close(self) -> None:
        """Nothing to close."""
