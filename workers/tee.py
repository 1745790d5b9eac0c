"""The tee's sender: passes reports on to the old platform, tries again what did not arrive, and compares the answers."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from tracker.adapters.outbound import Outbound
from tracker.adapters.postgres_tee import Delivery, TeeOutbox
from tracker.domain import tee
from tracker.errors import OutboundFailed, OutboundRefused, StoreUnavailable
from tracker.platforms.loader import Shelf
from tracker.platforms.replies import Answer
from workers.loop import Backoff, every, rest
from workers.metrics import TeeMetrics

log = logging.getLogger(__name__)
PARALLEL: Final = 8
OF_ONE_ORIGIN: Final = 6  # at a time: a platform that answers slowly leaves room for the others
SEND_TIMEOUT_S: Final = 8.0  # below the ten seconds that a worker has to end in
PAUSE_S: Final = 0.5  # between two looks when nothing is due: the first retry is after a second
WATCH_S: Final = 10.0
STORE_TRIES: Final = 8  # about five seconds: what is not stored then is sent once more
FAILURES_MAX: Final = 5  # in a row, and nothing is sent to the origin for a while
SHUT_FIRST_S, SHUT_LONGEST_S = 5.0, 300.0


@dataclass(slots=True)
class _Origin:
    shut_s: float
    failures: int = 0
    shut_until: float = 0.0
    is_asked: bool = False


class Origins:
    """Which old platforms are away: after five failures in a row nothing is sent to one for 5 s, doubled up to 5 min, then one report."""

    def __init__(self, *, first_s: float = SHUT_FIRST_S, now: Callable[[], float] = time.monotonic) -> None:
        self._first_s, self._now, self._known = first_s, now, dict[str, _Origin]()

    def shut(self) -> list[str]:
        """Those to which nothing is sent now."""
        return [name for name, origin in self._known.items() if origin.shut_until > self._now() or origin.is_asked]

    def may_ask(self, name: str) -> bool:
        """Whether a report may go to `name` now. One that was away is asked by one report at a time."""
        origin = self._known.get(name)
        if origin is None or origin.failures < FAILURES_MAX:
            return True
        if origin.is_asked or origin.shut_until > self._now():
            return False
        origin.is_asked = True
        return True

    def answered(self, name: str) -> None:
        """It is there."""
        self._known.pop(name, None)

    def failed(self, name: str) -> None:
        """It did not answer, or said that it cannot."""
        origin = self._known.setdefault(name, _Origin(self._first_s))
        if origin.shut_until > self._now():
            return  # sent before it was shut
        origin.failures, origin.is_asked = origin.failures + 1, False
        if origin.failures >= FAILURES_MAX:
            origin.shut_until = self._now() + origin.shut_s
            origin.shut_s = min(SHUT_LONGEST_S, origin.shut_s * 2)
            log.warning("tee.origin_away", extra={"origin": name, "failures": origin.failures})


class TeeSender:
    """Sends what is due, eight at a time, at least once each: a sender killed after sending has it sent again a minute later.

    Any number may run. An outage of PostgreSQL is waited out.
    """

    def __init__(
        self,
        outbox: TeeOutbox,
        outbound: Outbound,
        platforms: Shelf,
        metrics: TeeMetrics,
        *,
        origins: Origins | None = None,
        timeout_s: float = SEND_TIMEOUT_S,
    ) -> None:
        """`timeout_s` bounds one request; it must be far below the minute that a claim lasts."""
        self._outbox, self._outbound, self._platforms, self._metrics = outbox, outbound, platforms, metrics
        self._origins, self._timeout_s, self._warned = origins or Origins(), timeout_s, set[str]()

    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop`; what is under way then is finished."""
        async with asyncio.TaskGroup() as group:
            group.create_task(every(WATCH_S, stop, self.watch, event="tee.unavailable"))
            group.create_task(self._send_all(stop))

    async def watch(self) -> None:
        """Tell how much waits, and for how long."""
        self._metrics.backlog(*await self._outbox.backlog())

    async def _send_all(self, stop: asyncio.Event) -> None:
        sending: dict[asyncio.Task[None], str] = {}
        backoff = Backoff()
        try:
            while not stop.is_set():
                try:
                    due = await self._due(sending) if len(sending) < PARALLEL else []
                except StoreUnavailable as exc:
                    log.warning("tee.unavailable", extra={"reason": str(exc)})
                    await backoff.pause(stop)
                    continue
                backoff.reset()
                sending |= {asyncio.create_task(self.deliver(delivery)): delivery.origin for delivery in due}
                await _one_ends(sending, stop, PAUSE_S if len(due) < PARALLEL else None)
            while sending:
                await _one_ends(sending, None, None)
        finally:
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)

    async def _due(self, sending: dict[asyncio.Task[None], str]) -> list[Delivery]:
        busy = [origin for origin, count in Counter(sending.values()).items() if count >= OF_ONE_ORIGIN]
        return await self._outbox.claim(PARALLEL - len(sending), without=[*busy, *self._origins.shut()])

    async def deliver(self, delivery: Delivery) -> None:
        """Send one that was claimed, and store what became of it."""
        if not self._origins.may_ask(delivery.origin):
            await self._stored(lambda: self._outbox.put_back(delivery, timedelta(seconds=PAUSE_S)))
            return
        try:
            theirs = await self._sent(delivery)
        except OutboundRefused as exc:
            self._origins.answered(delivery.origin)
            await self._refused(delivery, str(exc))
        except OutboundFailed as exc:
            self._origins.failed(delivery.origin)
            await self._failed(delivery, str(exc), None)
        else:
            await self._answered(delivery, theirs)

    async def _sent(self, delivery: Delivery) -> Answer:
        named = {"Content-Type": delivery.content_type, "User-Agent": delivery.user_agent, "Cookie": delivery.cookie}
        headers = {name: value.decode("latin-1") for name, value in named.items() if value}
        url = tee.url_of(delivery.forward_to, delivery.target)
        reply = await self._outbound.send(delivery.method, url, headers=headers, body=delivery.body, timeout_s=self._timeout_s)
        return Answer(reply.status, reply.headers.get("content-type", ""), reply.body)

    async def _answered(self, delivery: Delivery, theirs: Answer) -> None:
        if not tee.is_final(theirs.status):
            self._origins.failed(delivery.origin)
            await self._failed(delivery, f"HTTP {theirs.status}", theirs)
            return
        self._origins.answered(delivery.origin)
        source = self._platforms.source(delivery.platform)
        agrees = tee.agrees(source.profile if source else None, delivery.kind, delivery.ours, theirs)
        if await self._stored(lambda: self._outbox.delivered(delivery, theirs, agrees=agrees)):
            self._metrics.delivered(agrees=agrees)

    async def _failed(self, delivery: Delivery, error: str, theirs: Answer | None) -> None:
        wait = tee.next_try(delivery.tries, delivery.first_tried_at, datetime.now(UTC))
        if wait is None:
            await self._given_up(delivery, f"{error}, for 72 hours", theirs)
        elif await self._stored(lambda: self._outbox.retry(delivery, wait, error, theirs)):
            self._metrics.retried()

    async def _refused(self, delivery: Delivery, reason: str) -> None:
        if delivery.origin not in self._warned:
            self._warned.add(delivery.origin)
            log.warning("tee.refused", extra={"origin": delivery.origin, "reason": reason})
        await self._given_up(delivery, reason, None)

    async def _given_up(self, delivery: Delivery, error: str, theirs: Answer | None) -> None:
        if await self._stored(lambda: self._outbox.give_up(delivery, error, theirs)):
            self._metrics.given_up()

    async def _stored(self, write: Callable[[], Awaitable[bool | None]]) -> bool:
        """Whether `write` took effect. Where PostgreSQL stays away the claim runs out, and the report is sent again."""
        backoff = Backoff()
        for _ in range(STORE_TRIES):
            try:
                return bool(await write())
            except StoreUnavailable:
                await backoff.pause()
        log.warning("tee.not_stored", extra={"tries": STORE_TRIES})
        return False


async def _one_ends(sending: dict[asyncio.Task[None], str], stop: asyncio.Event | None, timeout_s: float | None) -> None:
    """Wait until one of `sending` is done, for `timeout_s` at most or until `stop`; take out what is done. A bug in one is raised."""
    if not sending:
        await rest(timeout_s or 0, stop)
        return
    done, _ = await asyncio.wait(sending, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        del sending[task]
        task.result()
