"""The books of postbacks: what became of each, and whether conversions, shares and ledger say the same. Reads only."""

from dataclasses import dataclass
from typing import Any

import asyncpg

from tracker.adapters.postgres_pool import Connection
from tracker.domain.attribution import EARNING

BUDGET_S = 50.0  # some millions of postbacks; with more than that it cannot be told
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
# Of old hosts: what became of their reports, and what was counted of their banners.
REPORTS = """
    SELECT state, count(*) AS reports FROM old_reports GROUP BY state
    UNION ALL SELECT 'impressions', coalesce(sum(impressions), 0)::bigint FROM impression_stats
"""
REPORT_STATES = ("read", "waiting", "refused", "ignored", "impressions")
_EARNING = ", ".join(f"'{status}'" for status in sorted(EARNING))
# What is owed by the ledger less what is owed by the shares of conversions that earn, for each who is owed: 0 everywhere, or it is a
# problem. So a share that is booked for another partner, in another currency or for no conversion is found too. The payout of a
# conversion is what its first level has together.
# Rows with a name are problems; those without say how many postbacks of an outcome (none: of no row) are in problems, each once.
PROBLEMS = f"""
    WITH owed AS (
        SELECT conversion_id, account, partner_id, currency, amount_micros AS micros FROM ledger_entries WHERE conversion_id IS NOT NULL
        UNION ALL
        SELECT s.conversion_id, 'partner', s.partner_id, s.currency, -s.amount_micros
        FROM conversion_shares s JOIN conversions c ON c.id = s.conversion_id WHERE c.status IN ({_EARNING})
        UNION ALL
        SELECT id, 'advertiser', NULL, currency, -amount_micros FROM conversions WHERE status IN ({_EARNING}) AND amount_micros <> 0
    ), shared AS (
        SELECT conversion_id, currency, amount_micros AS micros FROM conversion_shares WHERE level = 1
        UNION ALL
        SELECT id, payout_currency, -payout_micros FROM conversions WHERE payout_micros <> 0
    ), differs AS (
        SELECT DISTINCT account || '_ledger_differs' AS name, conversion_id
        FROM (SELECT account, conversion_id FROM owed GROUP BY conversion_id, account, partner_id, currency HAVING sum(micros) <> 0) o
        UNION ALL
        SELECT DISTINCT 'shares_differ', conversion_id
        FROM (SELECT conversion_id FROM shared GROUP BY conversion_id, currency HAVING sum(micros) <> 0) s
    ), problems AS (
        SELECT CASE WHEN p.outcome IN ('attributed', 'orphan') THEN 'effective_without_conversion' ELSE 'repeat_without_conversion' END
            AS name, p.postback_id AS id, p.postback_id
        FROM postbacks p LEFT JOIN conversions c ON c.id = p.conversion_id
        WHERE p.outcome IN ('attributed', 'orphan', 'duplicate', 'conflict') AND c.id IS NULL
        UNION ALL
        SELECT 'conversion_without_postback', c.id, c.postback_id FROM conversions c LEFT JOIN postbacks p ON p.postback_id = c.postback_id
        WHERE c.source_id IS NULL AND p.postback_id IS NULL
        UNION ALL
        SELECT d.name, d.conversion_id, coalesce(c.postback_id, d.conversion_id)
        FROM differs d LEFT JOIN conversions c ON c.id = d.conversion_id
        UNION ALL
        SELECT 'old_report_without_postback', o.postback_id, o.postback_id
        FROM old_reports o LEFT JOIN postbacks p ON p.postback_id = o.postback_id
        WHERE o.state = 'read' AND o.kind <> 'landing' AND p.postback_id IS NULL
        UNION ALL
        SELECT 'postback_without_old_report', p.postback_id, p.postback_id
        FROM postbacks p LEFT JOIN old_reports o ON o.postback_id = p.postback_id
        WHERE p.source = 'old' AND p.received_at > now() - interval '179 days'
          AND (o.postback_id IS NULL OR o.state IN ('waiting', 'ignored') OR o.state = 'refused' AND p.outcome <> 'rejected')
        UNION ALL
        SELECT 'parked_without_next_try', postback_id, postback_id FROM postbacks WHERE outcome = 'parked' AND next_try_at IS NULL
        UNION ALL
        SELECT 'unknown_outcome', postback_id, postback_id FROM postbacks WHERE outcome NOT IN ({", ".join(f"'{name}'" for name in PARTS)})
    )
    SELECT name, NULL AS outcome, count(*) AS count, (array_agg(id ORDER BY id))[1:{PROBLEM_IDS}] AS ids FROM problems GROUP BY name
    UNION ALL
    SELECT NULL, p.outcome, count(*), NULL
    FROM (SELECT DISTINCT postback_id FROM problems) u LEFT JOIN postbacks p USING (postback_id) GROUP BY p.outcome
    ORDER BY name
"""  # noqa: S608 - constants only


@dataclass(frozen=True, slots=True)
class PostbackBooks:
    """How many postbacks are which part of the books; `problems` say why others are `unexplained`: `{"name", "count", "ids"}` each.

    A conversion that is wrong stands for the postback it was made by, a missing one too; with several problems it counts once.
    `old_reports`: how many reports of old hosts are in each state (those that are `read` are postbacks too), and how many impressions.
    """

    parts: dict[str, int]
    unexplained: int
    problems: list[dict[str, Any]]
    old_reports: dict[str, int]


async def read(connection: Connection, *, budget_s: float = BUDGET_S) -> PostbackBooks | None:
    """The books as the caller's transaction sees them; None when a statement took longer than `budget_s`."""
    try:
        async with connection.transaction():
            await connection.execute(TUNE, str(int(budget_s * 1000)))
            outcomes = {row["outcome"]: row["postbacks"] for row in await connection.fetch(OUTCOMES)}
            reports = {row["state"]: row["reports"] for row in await connection.fetch(REPORTS)}
            found = await connection.fetch(PROBLEMS)
    except asyncpg.QueryCanceledError:
        return None
    unexplained = {row["outcome"]: row["count"] for row in found if row["name"] is None}
    parts = dict.fromkeys(PARTS.values(), 0)
    for outcome, part in PARTS.items():
        parts[part] += outcomes.get(outcome, 0) - unexplained.get(outcome, 0)
    problems = [{"name": row["name"], "count": row["count"], "ids": [str(id_) for id_ in row["ids"]]} for row in found if row["name"]]
    return PostbackBooks(parts, sum(unexplained.values()), problems, {state: reports.get(state, 0) for state in REPORT_STATES})
