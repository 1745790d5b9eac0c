"""One process's recording, put together: its slot, its boot, the recorder and the shipper. Used by the redirector and the tracker."""

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tracker import wire
from tracker.adapters.journal import slot as slots
from tracker.adapters.journal.boot_log import BootLog
from tracker.adapters.journal.counter_page import CounterLine, CounterPage
from tracker.adapters.journal.recorder import BATCH_MAX_RECORDS, Recorder, new_boot
from tracker.adapters.journal.shipper import Policy, Shipper
from tracker.adapters.journal.stream_link import StreamLink

log = logging.getLogger(__name__)

JOURNAL_RETRY_S = 1.0
DISK_WAIT_S = 5.0
GIGABYTE = 1024**3


@dataclass(frozen=True, slots=True)
class RecordingOptions:
    """What the settings say of it. `max_bytes` 0: the smaller of 10 GB and 20 % of the disk. The last two: see `Recorder`."""

    kind: str
    node: str
    root: Path
    redis_url: str
    ack: str
    deadline_s: float
    keep_s: float
    max_bytes: int
    segment_bytes: int
    shards: int
    batch_records: int = BATCH_MAX_RECORDS
    answers_anyway: bool = True


class Recording:
    """Start it on the loop that will call `add`. Starting never fails for want of disk or Redis: the visitor comes first."""

    def __init__(self, options: RecordingOptions) -> None:
        self._options = options
        self.line = CounterLine(new_boot())
        self._own = BootLog(options.kind, options.node, self.line.boot, self.line, None)
        policy = Policy(options.keep_s, options.max_bytes or _default_max_bytes(options.root), options.shards)
        self.shipper = Shipper(StreamLink(options.redis_url), options.kind, options.node, options.root, policy)
        self.shipper.own = self._own
        self._recorder: Recorder | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._slot: slots.Slot | None = None

    async def start(self) -> None:
        """Take a slot and begin. Without disk space: go on in memory and Redis, and try again every JOURNAL_RETRY_S."""
        options = self._options
        self._recorder = Recorder(
            self._own, None, self.shipper.offer, ack=options.ack, deadline_s=options.deadline_s, segment_bytes=options.segment_bytes,
            batch_records=options.batch_records, answers_anyway=options.answers_anyway,
        )  # fmt: skip
        self.add: Callable[[wire.Record | wire.Receipt, Callable[[], None]], None] = self._recorder.add
        self.shipper.current = self._recorder.current
        self._try_journal()
        if not self.line.is_kept:
            self._tasks.append(asyncio.create_task(self._retry_journal(), name="journal-retry"))
        self._tasks.append(asyncio.create_task(self.shipper.run(), name="shipper"))

    def _try_journal(self) -> None:
        try:
            slot = slots.acquire(self._options.root)
        except OSError as exc:
            log.error("journal.no_slot", extra={"root": str(self._options.root), "error": exc.strerror or str(exc)})
            return
        try:
            page = slot.open_page()
        except OSError as exc:
            log.error("journal.no_counter_page", extra={"slot": str(slot.directory), "error": exc.strerror})
            page = None
        self.shipper.hold(slot, is_own=True)
        self._own.directory = slot.directory
        self._slot = slot
        self._attach(page)
        if self._recorder is not None:
            self._recorder.use(slot)

    def _attach(self, page: CounterPage | None) -> None:
        if page is not None and not self.line.attach(page):
            log.error("journal.counter_page_full", extra={"slot": str(self._own.directory)})

    async def _retry_journal(self) -> None:
        """Until there is a journal, and a line on its counter page: both may have to wait for disk space, or for old boots to be closed."""
        while not self.line.is_kept:
            await asyncio.sleep(JOURNAL_RETRY_S)
            if self._slot is None:
                self._try_journal()
                continue
            with contextlib.suppress(OSError):
                self._attach(self._slot.open_page())

    def record(self, record: wire.Record | wire.Receipt) -> asyncio.Future[None]:
        """Record it. The future is done when it is as safe as the ack mode asks, or at the deadline; whoever waits may go before."""
        safe: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.add(record, partial(_done, safe))
        return safe

    @property
    def journaled_records(self) -> int:
        """Records this process has in its journal."""
        return self._own.journaled_records

    def failed(self) -> BaseException | None:
        """The exception of a task that should never end, if one did: a bug, and a reason to restart the process."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and task.exception() is not None:
                return task.exception()
        if self._recorder is not None and not self._recorder.is_alive():
            return RuntimeError("the journal thread has ended")
        return None

    async def stop(self, wait_s: float) -> None:
        """Write everything, ship for up to `wait_s`, close the boot. What Redis does not take stays in the journal for the next process."""
        if self._recorder is not None:
            await self._recorder.close(DISK_WAIT_S)
        await self.shipper.stop(wait_s)
        for task in self._tasks:
            if task.get_name() != "shipper":
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.shipper.end()


def _done(safe: asyncio.Future[None]) -> None:
    if not safe.done():  # whoever waited has gone
        safe.set_result(None)


def _default_max_bytes(root: Path) -> int:
    place = next(parent for parent in (root, *root.parents) if parent.exists())
    return min(10 * GIGABYTE, shutil.disk_usage(place).total // 5)
