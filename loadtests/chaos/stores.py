"""The shops, as a process of their own: `python -m loadtests.chaos.stores PORT LEDGER VISITS TOKEN RATE SEED`.

Orders for clicks that the visitors' ledger knows, half of them seconds old. Every postback is sent again until it is accepted (200 or
202), as a real shop does; some are sent twice, some three times at once, some are taken back later. Everything is written down before
and after it is sent.
"""

import asyncio
import json
import random
import sys
import time
from collections import deque
from collections.abc import Awaitable
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlencode

from loadtests.chaos.console import Pace, conduct
from loadtests.chaos.http_client import Cut, ask, request
from loadtests.chaos.ledger import GOALS, Answer, Order, Tail, Visit, link_of

PLANS, WEIGHTS = ("once", "twice", "parallel", "reversed"), (55, 15, 12, 18)
GOAL_WEIGHTS = (64, 18, 18)  # as in GOALS
PATIENCE_S = 10.0
PAUSES_S = (0.3, 0.6, 1.2, 2.5, 5.0)
LAST_TRIES_S = 60.0  # after the end was told
RECENT = 40
KNOWN_MAX = 4000


class Stores:
    """Sends and writes down."""

    def __init__(self, port: int, ledger: Path, visits: Path, token: str, seed: int) -> None:
        self._port, self._token, self._random = port, token, random.Random(seed)
        self._ledger = ledger.open("a", buffering=1, encoding="utf-8")
        self._visits, self._known = Tail(visits), deque[Visit](maxlen=KNOWN_MAX)
        self._deadline = float("inf")

    async def run(self, pace: Pace) -> int:
        """Take orders until the end; what is open then is brought to its own. How many were taken."""
        number = 0
        async with asyncio.TaskGroup() as group:
            while (at := await pace.next()) is not None:
                visit = self._click()
                if visit is not None:
                    group.create_task(self._order(number, visit, at))
                    number += 1
            self._deadline = time.monotonic() + LAST_TRIES_S
        return number

    def _click(self) -> Visit | None:
        for line in self._visits.lines():
            visit = Visit.read(line)
            if visit.outcome == "ok" and visit.kind in ("keep", "new"):
                self._known.append(visit)
        if not self._known:
            return None
        if self._random.random() < 0.5:
            return self._known[-self._random.randint(1, min(RECENT, len(self._known)))]
        return self._random.choice(self._known)

    async def _order(self, number: int, visit: Visit, at: float) -> None:
        plan, goal = self._random.choices(PLANS, WEIGHTS)[0], self._random.choices(list(GOALS), GOAL_WEIGHTS)[0]
        if goal != "sale" and plan == "reversed":
            plan = "twice"  # which of several is taken back depends on answers that nobody saw
        cents = self._random.randint(100, 50_000)
        order = Order(f"order-{number}", visit.click_id, cents, link_of(visit.number), plan, at, goal)
        facts = {key: getattr(order, key) for key in ("txid", "click_id", "cents", "link", "plan", "at", "goal")}
        self._write({"t": "order"} | facts)
        if plan == "parallel":
            await self._all(
                self._until_accepted(order, "sale"), self._until_accepted(order, "repeat"), self._until_accepted(order, "repeat")
            )
            return
        if not await self._until_accepted(order, "sale") or plan == "once":
            return
        await asyncio.sleep(self._random.uniform(0.2, 4.0))
        await self._until_accepted(order, "repeat" if plan == "twice" else "reversal")

    async def _all(self, *work: Awaitable[bool]) -> None:
        await asyncio.gather(*work)

    async def _until_accepted(self, order: Order, purpose: str) -> bool:
        tries = 0
        while True:
            answer = await self._send(order, purpose)
            self._write({"t": "answer"} | asdict(answer))
            if answer.is_accepted:
                return True
            if time.monotonic() > self._deadline:
                return False
            await asyncio.sleep(PAUSES_S[min(tries, len(PAUSES_S) - 1)])
            tries += 1

    async def _send(self, order: Order, purpose: str) -> Answer:
        started = time.monotonic()
        try:
            reply = await ask(self._port, self._postback(order, purpose), timeout_s=PATIENCE_S)
            status, said = reply.status, _verdict(reply.body)
        except (OSError, TimeoutError, Cut) as exc:
            status, said = 0, type(exc).__name__
        ended = time.monotonic()
        return Answer(order.txid, purpose, status, said, round(ended, 6), round(ended - started, 6))

    def _postback(self, order: Order, purpose: str) -> bytes:
        facts = {
            "token": self._token, "click_id": order.click_id, "txid": order.txid,
            "amount": f"{order.cents / 100:.2f}", "currency": "EUR", "goal": order.goal,
        }  # fmt: skip
        if purpose == "reversal":
            facts["status"] = "reversed"
        match self._random.randrange(3):
            case 0:
                return request("GET", f"/postback?{urlencode(facts)}")
            case 1:
                return request("POST", "/postback", body=urlencode(facts).encode(), Content_Type="application/x-www-form-urlencoded")
            case _:
                return request("POST", "/postback", body=json.dumps(facts).encode(), Content_Type="application/json")

    def _write(self, item: dict[str, object]) -> None:
        self._ledger.write(json.dumps(item) + "\n")


def _verdict(body: bytes) -> str:
    try:
        told = json.loads(body)
    except ValueError:
        return body[:80].decode(errors="replace")
    word = str(told.get("status") if isinstance(told.get("status"), str) else told.get("code", ""))
    return f"{word}, duplicate" if told.get("duplicate") else word


async def main(port: int, ledger: Path, visits: Path, token: str, rate: float, seed: int) -> None:
    """Take orders at the rate told until told to stop."""
    await conduct(rate, Stores(port, ledger, visits, token, seed).run)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], float(sys.argv[5]), int(sys.argv[6])))
