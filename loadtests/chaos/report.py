"""The table of a run, for people and for programs."""

import json
import os
import platform
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from loadtests.chaos.ledger import GOALS, Orders, Visit, Visits
from loadtests.chaos.verdict import Verdict
from loadtests.chaos.world import Episode

GOAL_COLUMNS = ("goal", "policy", "orders", "reports accepted", "without an answer", "counted")
COLUMNS = ("fault", "times", "LOST", "DUP", "GHOST", "DRIFT", "non-302", "5xx", "cut", "p99 ms", "outage s", "recovery s", "orders s")
SHOWN_MAX = 20
TOTAL, HEALTHY = "all", "healthy"


@dataclass(slots=True)
class Line:
    """A row of the table."""

    fault: str
    times: int = 0
    lost: int = 0
    dup: int = 0
    ghost: int = 0
    drift: int = 0
    bad: int = 0
    server_errors: int = 0
    cut: int = 0
    p99_ms: float | None = None
    outage_s: float | None = None
    recovery_s: float | None = None
    orders_recovery_s: float | None = None
    permitted: int = 0
    missed: list[str] = field(default_factory=list)
    skipped: str = ""
    evidence: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def cells(self) -> tuple[str, ...]:
        """As text."""
        if self.skipped:
            return (self.fault, "skipped", *([""] * (len(COLUMNS) - 2)))
        lost = f"{self.lost}" + (f" ({self.permitted} named, counted)" if self.permitted else "")
        numbers = (
            str(self.times),
            lost,
            str(self.dup),
            str(self.ghost),
            str(self.drift),
            str(self.bad),
            str(self.server_errors),
            str(self.cut),
        )
        times = (self.p99_ms, self.outage_s, self.recovery_s, self.orders_recovery_s)
        return (self.fault, *numbers, *("–" if value is None else f"{value:.1f}" for value in times))


def percentile(values: Sequence[float], share: float) -> float | None:
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else None


def _latency_ms(visits: Sequence[Visit]) -> list[float]:
    return [(visit.done_at - visit.due_at) * 1000 for visit in visits if visit.outcome in ("ok", "bad")]


def lines(episodes: list[Episode], visits: Visits, orders: Orders, verdict: Verdict) -> list[Line]:
    """A line for each fault, one for the times between them, one for all."""
    found: dict[str, Line] = {}
    latencies = defaultdict[str, list[float]](list)
    played = [episode for episode in episodes if not episode.skipped]
    for episode in episodes:
        _add_episode(found.setdefault(episode.name, Line(episode.name)), episode)
    found |= {HEALTHY: Line(HEALTHY), TOTAL: Line(TOTAL, times=sum(line.times for line in found.values()), drift=verdict.drift)}
    bad = {*verdict.clicks.bad, *verdict.clicks.refused, *verdict.clicks.hung}
    sets = {"bad": bad, "lost": set(verdict.clicks.lost), "dup": set(verdict.clicks.dup), "permitted": set(verdict.permitted)}
    for visit in visits.by_number.values():
        name = _name_at(played, visit.due_at, visit.done_at)
        latencies[name] += _latency_ms([visit])
        latencies[TOTAL] += _latency_ms([visit])
        for line in (found[name], found[TOTAL]):
            _add_visit(line, visit, sets)
    for answer in orders.answers:
        for line in (found[_name_at(played, answer.at - answer.took_s, answer.at)], found[TOTAL]):
            line.server_errors += answer.status >= 500
    found[TOTAL].ghost = len(verdict.clicks.ghost)
    for name, values in latencies.items():
        found[name].p99_ms = percentile(values, 0.99)
    total = found.pop(TOTAL)
    return [*sorted(found.values(), key=lambda line: line.fault), total]


def _name_at(played: list[Episode], began: float, ended: float) -> str:
    """The first fault whose time, from its first blow to its last trace, a request touches."""
    for episode in played:
        if began <= episode.ended_at and episode.started_at <= ended:
            return episode.name
    return HEALTHY


def _add_visit(line: Line, visit: Visit, sets: dict[str, set[int]]) -> None:
    line.lost += visit.number in sets["lost"]
    line.dup += visit.number in sets["dup"]
    line.permitted += visit.number in sets["permitted"]
    line.bad += visit.number in sets["bad"]
    line.server_errors += visit.status >= 500
    line.cut += (visit.outcome == "unknown" and visit.kind != "reset") or (visit.outcome == "refused" and visit.number not in sets["bad"])


def _add_episode(line: Line, episode: Episode) -> None:
    line.skipped = episode.skipped
    line.failures += episode.failures
    line.drift += episode.drift
    if episode.missed:
        line.missed.append(episode.missed)
    if episode.has_happened:
        line.times += 1
        line.evidence.append(episode.evidence)
        line.outage_s = max(line.outage_s or 0.0, episode.outage_s)
        line.recovery_s = _worst(line.recovery_s, episode.recovery_s)
        line.orders_recovery_s = _worst(line.orders_recovery_s, episode.orders_recovery_s)


def _worst(known: float | None, new: float | None) -> float | None:
    return new if known is None else max(known, new if new is not None else known)


def markdown(title: str, facts: dict[str, Any], table: list[Line], failures: list[str], verdict: Verdict) -> str:
    """The report for people."""
    head = "\n".join(f"* {name}: {value}" for name, value in facts.items())
    rows = "\n".join("| " + " | ".join(line.cells()) + " |" for line in table)
    missed = [f"* `{line.fault}` did not take effect {len(line.missed)} x: {line.missed[0]}" for line in table if line.missed]
    missed += [f"* `{line.fault}` was skipped: {line.skipped}" for line in table if line.skipped]
    evidence = [f"* `{line.fault}`: {line.evidence[0]}" for line in table if line.evidence]
    result = "\n".join(f"* **{failure}**" for failure in failures) or "Everything held."
    books = {"clicks": verdict.books.clicks, "conversions": verdict.books.conversions, "postbacks": verdict.books.told}
    goals = "\n".join(
        f"| {goal} | {GOALS[goal]} | {line.orders} | {line.reports} | {line.unanswered} | {line.counted} |"
        for goal, line in sorted(verdict.orders.by_goal.items())
    )
    return (
        f"# {title}\n\n{head}\n\n{result}\n\n| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}\n{rows}\n\n"
        f"## Orders\n\n| {' | '.join(GOAL_COLUMNS)} |\n|{' --- |' * len(GOAL_COLUMNS)}\n{goals}\n\n"
        f"## Books\n\n```json\n{json.dumps(books, indent=1)}\n```\n\n## What was seen to happen\n\n"
        + "\n".join([*evidence, *missed])
        + "\n"
    )


def as_json(facts: dict[str, Any], table: list[Line], failures: list[str], verdict: Verdict) -> dict[str, Any]:
    """The report for programs; lists are cut."""
    clicks, shops = verdict.clicks, verdict.orders
    return {
        "facts": facts,
        "failures": failures,
        "faults": [asdict(line) | {"evidence": line.evidence[:SHOWN_MAX]} for line in table],
        "clicks": {name: len(getattr(clicks, name)) for name in ("lost", "dup", "ghost", "bad", "refused", "hung")}
        | {"drift": verdict.drift, "permitted": len(verdict.permitted), "unstored": clicks.unstored, "rows": verdict.books.rows},
        "orders": {name: len(getattr(shops, name)) for name in ("missing", "doubled", "ghosts", "wrong", "miscounted")}
        | {name: getattr(shops, name) for name in ("expected_micros", "payout_micros", "owed_micros")}
        | {"by_goal": {goal: asdict(line) for goal, line in sorted(shops.by_goal.items())}},
        "books": asdict(verdict.books),
    }


def machine() -> dict[str, Any]:
    """Where it ran."""
    return {"cores": os.cpu_count(), "python": platform.python_version(), "kernel": platform.release(), "root": os.getuid() == 0}


def write(folder: Path, name: str, text: str, data: dict[str, Any]) -> Path:
    """Both files; the path of the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(data, indent=1, default=str) + "\n")
    (folder / f"{name}.md").write_text(text)
    return folder / f"{name}.md"
