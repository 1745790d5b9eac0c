"""What the load saw, in files that are only appended to: one line for each visit, one for each order and each answer.

Times are of the monotonic clock, which all processes of a machine share; no fault shifts it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

LINKS = 50
NOTHING = "-"
# ok: a 302 with a click id was seen; unknown: cut before an answer; hung: no answer within the visitor's patience;
# refused: no connection; bad: any other answer.
OUTCOMES = ("ok", "unknown", "hung", "refused", "bad")
UNKNOWN = frozenset(("unknown", "hung"))
# What the shops report, and the duplicate policy of its goal: a report of `topup` adds to its order, one of `ticket` is another sale.
GOALS = {"sale": "ignore", "topup": "increment", "ticket": "always_new"}
KINDS = ("keep", "new", "reset", "head", "stray", "bot")


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of a visitor; `number` is its `sub1`. `due_at`: when it should have been sent, so that a queue counts as latency."""

    number: int
    outcome: str
    click_id: str
    status: int
    kind: str
    due_at: float
    done_at: float

    def line(self) -> str:
        """The line of the ledger."""
        return f"{self.number} {self.outcome} {self.click_id or NOTHING} {self.status} {self.kind} {self.due_at:.6f} {self.done_at:.6f}\n"

    @classmethod
    def read(cls, line: str) -> "Visit":
        """The reverse of `line`."""
        number, outcome, click_id, status, kind, due_at, done_at = line.split()
        return cls(int(number), outcome, "" if click_id == NOTHING else click_id, int(status), kind, float(due_at), float(done_at))


def link_of(number: int) -> str:
    """The link that a visit goes to: even ones pay 10 %, odd ones 5.00 EUR."""
    return f"l{number % LINKS}"


class Tail:
    """Reads what was appended to a ledger since the last look; a line that is not whole yet waits."""

    def __init__(self, path: Path) -> None:
        self._path, self._rest = path, ""
        self._file: TextIO | None = None

    def lines(self) -> list[str]:
        """Whole new lines."""
        if self._file is None:
            if not self._path.exists():
                return []
            self._file = self._path.open(encoding="utf-8")
        *whole, self._rest = (self._rest + self._file.read()).split("\n")
        return whole

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


class Visits:
    """All visits of a run, kept in step with the ledger."""

    def __init__(self, path: Path) -> None:
        self._tail = Tail(path)
        self.by_number: dict[int, Visit] = {}

    def refresh(self) -> list[Visit]:
        """Visits that came since."""
        new = [Visit.read(line) for line in self._tail.lines()]
        self.by_number |= {visit.number: visit for visit in new}
        return new

    def between(self, start: float, stop: float) -> list[Visit]:
        """Those that were under way in [start, stop)."""
        return [visit for visit in self.by_number.values() if visit.due_at < stop and start <= visit.done_at]

    def close(self) -> None:
        """Let go of the file."""
        self._tail.close()


@dataclass(slots=True)
class Order:
    """An order of the shop and what it was told. Amounts in cents of EUR."""

    txid: str
    click_id: str
    cents: int
    link: str
    plan: str
    at: float
    goal: str = "sale"
    accepted_at: float | None = None
    is_reversal_accepted: bool = False
    is_reversal_sent: bool = False
    answers: int = 0
    reports: int = 0  # accepted, reversals aside
    unanswered: int = 0  # that may have been counted, or not: nobody knows

    @property
    def counts_each(self) -> bool:
        """Whether every report of the order counts."""
        return GOALS[self.goal] != "ignore"

    @property
    def payout_cents(self) -> int:
        """What the partner earns: 10 %, half to even, or 5.00."""
        if int(self.link[1:]) % 2:
            return 500
        tenth, rest = divmod(self.cents, 10)
        return tenth + (rest > 5 or (rest == 5 and tenth % 2))


@dataclass(frozen=True, slots=True)
class Answer:
    """One postback sent: `status` 0 when nothing came back."""

    txid: str
    purpose: str
    status: int
    said: str
    at: float
    took_s: float

    @property
    def is_accepted(self) -> bool:
        """Whether the store may forget the postback."""
        return self.status in (200, 202)


class Orders:
    """All orders of a run, kept in step with the ledger."""

    def __init__(self, path: Path) -> None:
        self._tail = Tail(path)
        self.by_txid: dict[str, Order] = {}
        self.answers: list[Answer] = []

    def refresh(self) -> None:
        """Take what came since."""
        for line in self._tail.lines():
            self._take(json.loads(line))

    def _take(self, item: dict[str, Any]) -> None:
        kind = item.pop("t")
        if kind == "order":
            self.by_txid[item["txid"]] = Order(**item)
            return
        answer = Answer(**item)
        self.answers.append(answer)
        order = self.by_txid[answer.txid]
        order.answers += 1
        if answer.purpose == "reversal":
            order.is_reversal_sent = True
            order.is_reversal_accepted |= answer.is_accepted
            return
        order.reports += answer.is_accepted
        order.unanswered += not answer.is_accepted
        if answer.is_accepted and order.accepted_at is None:
            order.accepted_at = answer.at

    def close(self) -> None:
        """Let go of the file."""
        self._tail.close()
