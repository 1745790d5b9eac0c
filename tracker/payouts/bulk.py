"""Lists of approvals, rejections, reversals and adjustments, for the API and the command line: all of a list or nothing."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tracker.adapters import postgres_bulk
from tracker.adapters.postgres_bulk import Numbered, Outcome, Problem
from tracker.adapters.postgres_pool import Database
from tracker.domain import bulk_rows, money
from tracker.errors import RejectedInput
from tracker.programme import text

Values = dict[str, Any]
ROWS_MAX = 1000  # in one request
TIMEOUT_S = 25.0  # of a request
SHOWN_MAX = 3  # problems in the text of an error; `problems` has all
FIELDS = ("rows", "reason")
REASON = "imported list"


class BadRows(RejectedInput):
    """Rows of a list that cannot be done, each with its number and one message; nothing of the list was done."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = sorted(problems)
        told = "; ".join(f"row {number}: {problem}" for number, problem in self.problems[:SHOWN_MAX])
        rest = f"; and {len(problems) - SHOWN_MAX} more" if len(problems) > SHOWN_MAX else ""
        super().__init__("bad_rows", f"nothing was changed: {told}{rest}", field="rows")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that its file does not say rightly, and why."""

    problem: str


def _unheard(_: int) -> None:
    """Nobody who wants to hear."""


@dataclass(frozen=True, slots=True)
class Bulk:
    """Changes conversions by lists."""

    database: Database

    async def request(self, body: Any, actor: str, *, is_dry: bool, advertiser_id: int | None = None) -> Values:
        """`body`: `{"rows": [{…}], "reason"}`, 1 to 1000 rows of what `bulk_rows.COLUMNS` names; answers as `run` does."""
        if not isinstance(body, dict) or set(body) - set(FIELDS):
            raise RejectedInput("invalid_body", 'send {"rows":[{"id":"…","action":"approve"}],"reason":"…"}')
        rows, reason = body.get("rows"), _reason(body.get("reason"))
        if not isinstance(rows, list) or not 1 <= len(rows) <= ROWS_MAX:
            raise RejectedInput("invalid_rows", f"rows must be a list of 1 to {ROWS_MAX} rows", field="rows")
        return await self.run(list(enumerate(rows, start=1)), actor, reason=reason, is_dry=is_dry, advertiser_id=advertiser_id)

    async def run(
        self,
        rows: Sequence[tuple[int, Any]],
        actor: str,
        *,
        reason: str = "",
        is_dry: bool = False,
        advertiser_id: int | None = None,
        timeout_s: float = TIMEOUT_S,
        progress: Callable[[int], None] = _unheard,
    ) -> Values:
        """Do what numbered `rows` say, all or nothing; with `is_dry` only say what that would come to.

        Returns `{"dry_run", "changed", "unchanged", "rows", "partners"}`: each row with status, amount and payout before and after, and
        what was booked for each partner and currency, pending and approved. What is so already is `unchanged`. BadRows names every bad row.
        """
        reason = _reason(reason)
        good, problems = _read(rows)
        outcome = await postgres_bulk.apply(
            self.database,
            good,
            reason=reason or REASON,
            actor=actor,
            is_dry=is_dry,
            advertiser_id=advertiser_id,
            timeout_s=timeout_s,
            progress=progress,
            only_judge=bool(problems),
        )
        if problems := [*problems, *outcome.problems]:
            raise BadRows(problems)
        return _told(outcome, is_dry=is_dry)


def _reason(value: Any) -> str:
    try:
        return "" if value is None else text(value)
    except ValueError as exc:
        raise RejectedInput("invalid_reason", f"reason {exc}", field="reason") from None


def _read(rows: Sequence[tuple[int, Any]]) -> tuple[list[Numbered], list[Problem]]:
    good, problems = list[Numbered](), list[Problem]()
    for number, values in rows:
        try:
            if isinstance(values, Unreadable):
                problems.append((number, values.problem))
                continue
            if not isinstance(values, Mapping):
                problems.append((number, 'must be a JSON object such as {"id":"…","action":"approve"}'))
                continue
            good.append(Numbered(number, bulk_rows.read(values)))
        except ValueError as exc:
            problems.append((number, str(exc)))
    return good, problems


def _told(outcome: Outcome, *, is_dry: bool) -> Values:
    changed = sum(row["result"] == "changed" for row in outcome.rows)
    sums = defaultdict[tuple[str, str], dict[str, int]](lambda: {"pending": 0, "approved": 0})
    for (partner, currency, status), micros in outcome.booked.items():
        sums[partner, currency][status] += micros
    partners = [
        {"partner": partner, "currency": currency} | {name: money.format_micros(micros, currency) for name, micros in found.items()}
        for (partner, currency), found in sorted(sums.items())
    ]
    return {"dry_run": is_dry, "changed": changed, "unchanged": len(outcome.rows) - changed, "rows": outcome.rows, "partners": partners}
