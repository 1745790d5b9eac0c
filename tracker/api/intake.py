"""Where checked postbacks go: PostgreSQL decides on them; while it is away the journal keeps them and the store is told 202."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from tracker.adapters import http_server
from tracker.adapters.journal.recording import Recording, RecordingOptions
from tracker.adapters.postgres_conversions import RECEIVE_BUDGET_S
from tracker.domain.postback import Postback, Verdict
from tracker.errors import StoreBusy, StoreUnavailable
from tracker.wire import Receipt

log = logging.getLogger(__name__)
T = TypeVar("T")

PROBE_EVERY_S = 1.0
JOURNAL_BUDGET_S = 2.0  # then neither disk nor Redis has taken it, and the store must send it again
DRAIN_S = 10.0
WATCH_EVERY_S = 1.0
KEPT = "the database is not there; the postback is kept and decided when it is back"
HELD = "somebody is changing this order; the postback is kept and decided after that"


class Breaker:
    """Spares callers the wait for a PostgreSQL that was away a moment ago: one each second finds out, the others are told at once."""

    def __init__(self) -> None:
        self._is_open, self._probe_at = False, 0.0

    async def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """The result of `work`, which has 2 s. StoreUnavailable on an outage, or at once while the breaker is open.

        StoreBusy is no outage: PostgreSQL said so, and others may have what they want.
        """
        if self._is_open:
            if time.monotonic() < self._probe_at:
                raise StoreUnavailable("PostgreSQL was away a moment ago")
            self._probe_at = time.monotonic() + PROBE_EVERY_S
        try:
            async with asyncio.timeout(RECEIVE_BUDGET_S):
                result = await work()
        except StoreBusy:
            self._close()
            raise
        except StoreUnavailable as exc:
            self._open(exc)
            raise
        except TimeoutError as exc:
            outage = StoreUnavailable(f"PostgreSQL did not answer within {RECEIVE_BUDGET_S} s")
            self._open(outage)
            raise outage from exc
        self._close()
        return result

    def _close(self) -> None:
        if self._is_open:
            log.info("tracker.store_back")
        self._is_open = False

    def _open(self, outage: StoreUnavailable) -> None:
        if not self._is_open:  # once an outage, not once a postback
            log.warning("tracker.store_away", extra={"reason": str(outage)})
        self._is_open, self._probe_at = True, time.monotonic() + PROBE_EVERY_S


class Intake:
    """Takes each postback once: what the journal keeps of one that PostgreSQL stored all the same is recognised by its postback id."""

    def __init__(self, receive: Callable[[Postback], Awaitable[Verdict]], breaker: Breaker, options: RecordingOptions) -> None:
        """`receive` stores and decides."""
        self._receive, self._breaker, self._options = receive, breaker, options
        self.recording: Recording | None = None  # made when the loop runs
        self._watcher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the journal. Never fails for want of disk or Redis."""
        self.recording = Recording(self._options)
        await self.recording.start()
        self._watcher = asyncio.create_task(self._watch(self.recording), name="journal-watcher")

    async def stop(self) -> None:
        """Ship what is left, for up to 10 s; the rest stays in the journal for the next start."""
        if self._watcher is not None:
            self._watcher.cancel()
        if self.recording is not None:
            await self.recording.stop(DRAIN_S)

    async def _watch(self, recording: Recording) -> None:
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            failure = recording.failed()
            if failure is not None:  # a bug in the shipper must not turn into receipts that nobody ever looks at
                log.critical("tracker.recording_failed", exc_info=failure)
                http_server.leave_with(1)

    async def take(self, postback: Postback) -> tuple[Verdict, bool]:
        """The verdict on `postback`, and whether it is only kept: then it is `parked` until PostgreSQL is back.

        StoreUnavailable when journal and Redis refuse too; the store has to send it again.
        """
        try:
            return await self._breaker.call(partial(self._receive, postback)), False
        except StoreUnavailable as exc:
            await self._keep(postback)
            reason = HELD if isinstance(exc, StoreBusy) else KEPT
        return Verdict("parked", "parked", postback.postback_id, reason=reason), True

    async def _keep(self, postback: Postback) -> None:
        if self.recording is None:
            raise StoreUnavailable("PostgreSQL is away and there is no journal yet")
        try:
            async with asyncio.timeout(JOURNAL_BUDGET_S):
                await self.recording.record(Receipt(postback))
        except TimeoutError as exc:
            raise StoreUnavailable("PostgreSQL is away, and neither the journal's disk nor Redis takes the postback") from exc
