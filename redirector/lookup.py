"""The learning look-up: an old URL that nobody knows here is asked of the old platform, once, and its visitor is sent where that says.

The old platform counts a visit for each URL that is asked. What it says is remembered for a while; operators see it among the orphans.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from tracker.domain.cookie_bridge import for_everybody
from tracker.domain.urls import host_of, printable
from tracker.errors import OutboundFailed, OutboundRefused

if TYPE_CHECKING:
    from tracker.adapters.outbound import Outbound

log = logging.getLogger(__name__)

LOOKED_UP: Final = "looked_up"  # the mark in a record's `extra`
TARGET_MAX: Final = 2048  # what a record keeps of a target and of a destination
FOUND_S: Final = 600.0
NOTHING_S: Final = 60.0
REMEMBERED_MAX: Final = 10_000
AT_ONCE_MAX: Final = 8
FAILURES_MAX: Final = 5  # in a row
PAUSE_S: Final = 30.0
ORIGINS_MAX: Final = 1000
OUTCOMES: Final = ("found", "nothing", "timeout", "failed", "refused", "busy", "open", "remembered")
Key = tuple[str, bytes, str, bytes]
BUSY: Final = frozenset((429,))  # a server that has had enough of us, besides 5xx
_REDIRECTS: Final = frozenset((301, 302, 303, 307, 308))


class Question(msgspec.Struct, frozen=True, gc=False):
    """An old URL that is unknown: `target` of the registered `host`, which is `url` at the old platform.

    `landing`: the parameters in which that writes a visitor's click id. `device` and `language` are what it may tell visitors apart by.
    """

    host: str
    target: bytes
    url: bytes
    budget_s: float
    landing: frozenset[str] = frozenset()
    user_agent: bytes = b""
    language: bytes = b""
    device: str = ""

    @property
    def key(self) -> "Key":
        """What an answer holds for."""
        return self.host, self.target, self.device, self.language.lower()


class Breaker:
    """Spares visitors the wait for an old platform that has failed five times in a row: for 30 s it is not asked."""

    def __init__(self) -> None:
        self._failures, self._closed_until = 0, 0.0

    def is_open(self, now: float) -> bool:
        """Whether it is not to be asked just now."""
        return now < self._closed_until

    def note(self, now: float, *, has_failed: bool) -> None:
        """How it went."""
        self._failures = self._failures + 1 if has_failed else 0
        if self._failures >= FAILURES_MAX:
            self._failures, self._closed_until = 0, now + PAUSE_S


class Lookups:
    """All questions of one process. `make` opens the way out when it is first needed; `leads_back` says that a URL is one of ours."""

    def __init__(
        self,
        make: "Callable[[], Outbound]",
        leads_back: Callable[[bytes], bool],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        remembered_max: int = REMEMBERED_MAX,
    ) -> None:
        """Nothing is opened yet."""
        self._remembered_max = remembered_max
        self.outcomes: Counter[str] = Counter()
        self._make, self._leads_back, self._monotonic = make, leads_back, monotonic
        self._outbound: Outbound | None = None
        self._opening = asyncio.Lock()
        self._remembered: dict[Key, tuple[float, bytes | None]] = {}  # None: each visitor has to ask
        self._shared: dict[Key, asyncio.Task[bytes]] = {}
        self._running: set[asyncio.Task[bytes]] = set()
        self._breakers: dict[str, Breaker] = {}

    async def find(self, question: Question) -> bytes:
        """Where the old platform sends this URL's visitors; empty: nobody can tell (just now). Never raises; takes `budget_s` at most.

        Who asks first gets the answer as it came, all others without the click id in it; where nobody can tell what that is, each asks.
        """
        key, now = question.key, self._monotonic()
        until, location = self._remembered.get(key, (now, None))
        is_each = now < until and location is None
        if now < until and location is not None:
            self.outcomes["remembered"] += 1
            return location
        if not is_each and key in self._shared:
            started = time.monotonic()
            found = await self._of_another(self._shared[key], question)
            if found is not None:
                return found
            is_each = True
            question = replace(question, budget_s=max(0.0, question.budget_s - (time.monotonic() - started)))
        breaker = self._breaker(host_of(question.url))
        if breaker.is_open(now) or len(self._running) >= AT_ONCE_MAX:
            self.outcomes["open" if breaker.is_open(now) else "busy"] += 1
            return b""
        task = asyncio.create_task(self._ask(question, breaker), name="look-up")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        if not is_each:
            self._shared[key] = task
            task.add_done_callback(lambda _: self._shared.pop(key, None))
        return await asyncio.shield(task)  # a visitor who goes does not take away what others wait for

    async def _of_another(self, task: asyncio.Task[bytes], question: Question) -> bytes | None:
        """The answer that another visitor waits for; None: it is for that one alone."""
        await asyncio.wait((task,), timeout=question.budget_s)
        location = for_everybody(task.result(), question.landing, question.target) if task.done() else b""
        if location is not None:
            self.outcomes["remembered" if task.done() else "timeout"] += 1
        return location

    async def close(self) -> None:
        """End what runs."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._outbound is not None:
            await self._outbound.close()

    async def _ask(self, question: Question, breaker: Breaker) -> bytes:
        outcome, location = await self._answered(question)
        now = self._monotonic()
        self.outcomes[outcome] += 1
        breaker.note(now, has_failed=outcome in ("timeout", "failed"))
        if outcome in ("found", "nothing"):
            self._remember(question, location, now)
        return location

    async def _answered(self, question: Question) -> tuple[str, bytes]:
        headers = {
            name: value.decode("latin-1")
            for name, value in (("User-Agent", question.user_agent), ("Accept-Language", question.language))
            if value
        }
        try:
            async with asyncio.timeout(question.budget_s):
                outbound = await self._opened()
                # The outer time ends first, so that an answer that is late is told from a server that is away.
                reply = await outbound.send("GET", question.url.decode("ascii"), headers=headers, timeout_s=question.budget_s + 1)
        except TimeoutError:
            return "timeout", b""
        except OutboundRefused as exc:
            log.warning("lookup.refused", extra={"host": question.host, "reason": str(exc)})
            return "refused", b""
        except OutboundFailed as exc:
            log.info("lookup.failed", extra={"host": question.host, "reason": str(exc)})
            return "failed", b""
        if reply.status >= 500 or reply.status in BUSY:
            return "failed", b""
        location = self._followable(reply.headers.get("location", "")) if reply.status in _REDIRECTS else b""
        return ("found", location) if location else ("nothing", b"")

    async def _opened(self) -> "Outbound":
        """The way out. It is opened in a thread: a tenth of a second in which nobody's redirect waits."""
        async with self._opening:
            if self._outbound is None:
                self._outbound = await asyncio.to_thread(self._make)
        return self._outbound

    def _followable(self, location: str) -> bytes:
        """An absolute web address that is not one of ours; empty for anything else."""
        found = printable(location.strip().encode("latin-1", "replace"))
        is_web = found[:8].lower().startswith((b"http://", b"https://")) and host_of(found)
        return found if is_web and len(found) <= TARGET_MAX and not self._leads_back(found) else b""

    def _remember(self, question: Question, location: bytes, now: float) -> None:
        key = question.key
        self._remembered.pop(key, None)
        if len(self._remembered) >= self._remembered_max:
            del self._remembered[next(iter(self._remembered))]  # the oldest
        kept_s = FOUND_S if location else NOTHING_S
        self._remembered[key] = (now + kept_s, for_everybody(location, question.landing, question.target))

    def _breaker(self, origin: str) -> Breaker:
        if origin not in self._breakers and len(self._breakers) >= ORIGINS_MAX:
            self._breakers.clear()
        return self._breakers.setdefault(origin, Breaker())
