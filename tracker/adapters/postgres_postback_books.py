"""The books of postbacks: what became of each, and whether conversions, shares and ledger say the same. Reads only."""

from dataclasses import dataclass, field
from typing import Any

import asyncpg

from tracker.adapters.postgres_pool import Connection
from tracker.domain.attribution import EARNING

BUDGET_S = 25.0  # some ten million postbacks; more than that, and the answer is that it cannot be told
PROBLEM_IDS = 100  # shown of each problem
PARTS = {
    "attributed": "effective",
    "orphan": "effective",
    "duplicate": "repeated",
    "conflict": "conflicting",
    "rejected": "rejected",
    "parked": "parked",
}
# The joins go through all rows once: hashes in memory, and no compiling for what takes a second.
TUNE = """
    SELECT set_config('statement_timeout', $1, true), set_config('work_mem', '64MB', true), set_config('jit', 'off', true)
"""
OUTCOMES = "SELECT outcome, count(*) AS postbacks FROM postbacks GROUP BY outcome"
_EARNING = ", ".join(f"'{status}'" for status in sorted(EARNING))
# What is owed by the ledger less what is owed by the conversions, for each who is owed: 0 everywhere, or it is a problem. So a payout
# that is booked for another partner, in another currency or for no conversion is found too.
PROBLEMS = f"""
    WITH owed AS (
        SELECT conversion_id, account, partner_id, currency, amount_micros AS micros FROM ledger_entries WHERE conversion_id IS NOT NULL
        UNION ALL
        SELECT id, 'partner', partner, payout_currency, -payout_micros FROM conversions
        WHERE status IN ({_EARNING}) AND payout_micros <> 0
        UNION ALL
        SELECT id, 'advertiser', NULL, currency, -amount_micros FROM conversions WHERE status IN ({_EARNING}) AND amount_micros <> 0
    ), shared AS (
        SELECT conversion_id, currency, amount_micros AS micros FROM conversion_shares
        UNION ALL
        SELECT id, payout_currency, -payout_micros FROM conversions WHERE payout_micros <> 0
    ), problems AS (
        SELECT CASE WHEN p.outcome IN ('attributed', 'orphan') THEN 'effective_without_conversion' ELSE 'repeat_without_conversion' END
            AS name, p.postback_id AS id
        FROM postbacks p LEFT JOIN conversions c ON c.id = p.conversion_id
        WHERE p.outcome IN ('attributed', 'orphan', 'duplicate', 'conflict') AND c.id IS NULL
        UNION ALL
        SELECT 'conversion_without_postback', c.id FROM conversions c LEFT JOIN postbacks p ON p.postback_id = c.postback_id
        WHERE c.source_id IS NULL AND p.postback_id IS NULL
        UNION ALL
        SELECT DISTINCT account || '_ledger_differs', conversion_id
        FROM (SELECT account, conversion_id FROM owed GROUP BY conversion_id, account, partner_id, currency HAVING sum(micros) <> 0) o
        UNION ALL
        SELECT DISTINCT 'shares_differ', conversion_id
        FROM (SELECT conversion_id FROM shared GROUP BY conversion_id, currency HAVING sum(micros) <> 0) s
        UNION ALL
        SELECT 'parked_without_next_try', postback_id FROM postbacks WHERE outcome = 'parked' AND next_try_at IS NULL
        UNION ALL
        SELECT 'unknown_outcome', postback_id FROM postbacks WHERE outcome NOT IN ({", ".join(f"'{name}'" for name in PARTS)})
    )
    SELECT name, count(*) AS count, (array_agg(id ORDER BY id))[1:{PROBLEM_IDS}] AS ids FROM problems GROUP BY name ORDER BY name
"""  # noqa: S608 - constants only


@dataclass(frozen=True, slots=True)
class PostbackBooks:
    """How many rows of `postbacks` are which part of the books, and what does not fit together: `{"name", "count", "ids"}` each."""

    parts: dict[str, int] = field(default_factory=dict)
    problems: list[dict[str, Any]] = field(default_factory=list)


async def read(connection: Connection, *, budget_s: float = BUDGET_S) -> PostbackBooks | None:
    """The books as the caller's transaction sees them; None when they could not be read within `budget_s` a statement."""
    try:
        async with connection.transaction():
            await connection.execute(TUNE, str(int(budget_s * 1000)))
            outcomes = await connection.fetch(OUTCOMES)
            problems = await connection.fetch(PROBLEMS)
    except asyncpg.QueryCanceledError:
        return None
    parts = dict.fromkeys(PARTS.values(), 0)
    for row in outcomes:
        if row["outcome"] in PARTS:
            parts[PARTS[row["outcome"]]] += row["postbacks"]
    return PostbackBooks(parts, [dict(row) | {"ids": [str(number) for number in row["ids"]]} for row in problems])
