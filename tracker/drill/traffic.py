"""Synthetic visitors and a synthetic shop: every answer they got is remembered."""

import http.client
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import urlencode

from tracker.local.door import Door

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0 turnout-drill/1"
THREADS = 32
ORDER_EVERY = 5  # clicks an order
AMOUNT = "1.00"
PATIENCE_S = 60.0  # how long the shop repeats a postback that was not accepted


@dataclass(slots=True)
class Ledger:
    """What visitors and shop were told. Times are seconds."""

    asked: int = 0
    redirected: dict[str, str] = field(default_factory=dict)  # click id by request
    cut: int = 0
    refused: list[int] = field(default_factory=list)  # statuses other than 302
    slowest_s: float = 0.0
    orders: list[str] = field(default_factory=list)  # txids that were accepted
    given_up: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Target:
    """Where to go: the doors, the link's slug, the shop's token. `tag` begins every `sub1` and txid."""

    redirector: Door
    tracker: Door
    slug: str
    token: str
    tag: str


class Traffic:
    """Sends `rate` clicks a second from threads of its own until `stop`; the shop reports an order for each fifth click."""

    def __init__(self, target: Target, rate: int) -> None:
        self.ledger = Ledger()
        self._target, self._rate = target, rate
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="drill")
        self._clock = threading.Thread(target=self._send, name="drill-clock", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._clock.start()

    def stop(self) -> Ledger:
        """End, and wait for all answers."""
        self._stopped.set()
        self._clock.join()
        self._pool.shutdown()
        return self.ledger

    def _send(self) -> None:
        begun = time.monotonic()
        while not self._stopped.wait(max(0.0, begun + self.ledger.asked / self._rate - time.monotonic())):
            self._pool.submit(self._visit, self.ledger.asked)
            self.ledger.asked += 1

    def _visit(self, number: int) -> None:
        started = time.monotonic()
        request = f"{self._target.tag}-{number}"
        try:
            path = f"/c/{self._target.slug}?{urlencode({'sub1': request})}"
            status, headers, _ = self._target.redirector.ask("GET", path, headers={"User-Agent": BROWSER})
        except (OSError, http.client.HTTPException):
            with self._lock:
                self.ledger.cut += 1
            return
        with self._lock:
            self.ledger.slowest_s = max(self.ledger.slowest_s, time.monotonic() - started)
            if status == http.client.FOUND:
                self.ledger.redirected[request] = headers["x-click-id"]
            else:
                self.ledger.refused.append(status)
        if status == http.client.FOUND and number % ORDER_EVERY == 0:
            self._report(request, headers["x-click-id"])

    def _report(self, txid: str, click: str) -> None:
        """As a shop does: again and again until it is accepted."""
        path = "/postback?" + urlencode({"token": self._target.token, "click_id": click, "txid": txid, "amount": AMOUNT})
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            try:
                status, _, _ = self._target.tracker.ask("GET", path)
            except (OSError, http.client.HTTPException):
                status = 0
            if status in (http.client.OK, http.client.ACCEPTED):
                with self._lock:
                    self.ledger.orders.append(txid)
                return
            time.sleep(1)
        with self._lock:
            self.ledger.given_up.append(txid)
