"""The statements of `postgres_balances`."""

_STATUS = "CASE WHEN kind IN ('payment', 'payment_returned') THEN 'paid' ELSE status END"
_KEY = "account, partner_id, advertiser_id, currency"
# From when on entries are in no closing: closings are made month after month, and a month without entries has none.
_OPEN_FROM = "coalesce((SELECT (max(month) + interval '1 month') AT TIME ZONE 'UTC' FROM balance_closings), '-infinity')"
# One statement, so one moment: no month is closed between the closings and the entries since.
_BALANCES = """
    WITH open AS MATERIALIZED (SELECT {open_from} AS since), parts AS (
        SELECT {key}, status, amount_micros AS micros FROM balance_closings WHERE {mine}
        UNION ALL
        SELECT {key}, {status}, amount_micros FROM ledger_entries WHERE at >= (SELECT since FROM open) AND {mine}
    )
"""
_SUMS = """
    SELECT {whose}.slug, trim(s.currency) AS currency, sum(micros) FILTER (WHERE s.status = 'pending') AS pending,
        sum(micros) FILTER (WHERE s.status IN ('approved', 'paid')) AS approved, -sum(micros) FILTER (WHERE s.status = 'paid') AS paid
    FROM parts s JOIN {table} {whose} ON {whose}.id = s.{whose}_id
    GROUP BY {whose}.slug, s.currency ORDER BY {whose}.slug, s.currency
"""


_CURRENCY = "($1::text IS NULL OR currency = $1)"
_PARTNER = "partner_id = (SELECT id FROM partners WHERE slug = $2)"
_ADVERTISER = "($2::text IS NULL OR advertiser_id = (SELECT id FROM advertisers WHERE slug = $2))"


def _balances(whose: str, mine: str) -> str:
    parts = _BALANCES.format(open_from=_OPEN_FROM, key=_KEY, status=_STATUS, mine=f"account = '{whose}' AND {mine}")
    return parts + _SUMS.format(whose=whose, table=f"{whose}s")


PARTNERS = _balances("partner", _CURRENCY)
ONE_PARTNER = _balances("partner", f"{_CURRENCY} AND {_PARTNER}")
ADVERTISERS = _balances("advertiser", f"{_CURRENCY} AND {_ADVERTISER} AND ($3::bigint IS NULL OR advertiser_id = $3)")
CLOSED_UNTIL = "SELECT (max(month) + interval '1 month')::date FROM balance_closings"

LEDGER = """
    SELECT e.id, e.at, e.effective_on, e.account, p.slug AS partner, a.slug AS advertiser, m.slug AS campaign, e.conversion_id, c.txid,
        e.kind, e.status, e.amount_micros, trim(e.currency) AS currency, e.reason, e.actor, e.postback_id
    FROM ledger_entries e LEFT JOIN partners p ON p.id = e.partner_id LEFT JOIN advertisers a ON a.id = e.advertiser_id
    LEFT JOIN conversions c ON c.id = e.conversion_id LEFT JOIN campaigns m ON m.id = coalesce(e.campaign_id, c.campaign)
    WHERE {} ORDER BY e.at DESC, e.id DESC LIMIT $1
"""
LEDGER_FILTERS = {
    "partner": "e.partner_id = (SELECT id FROM partners WHERE slug = {})",
    "advertiser": "e.advertiser_id = (SELECT id FROM advertisers WHERE slug = {})",
    "campaign": "m.slug = {}",
    "conversion": "e.conversion_id = {}",
    "kind": "e.kind = {}",
    "status": "e.status = {}",
    "account": "e.account = {}",
    "currency": "e.currency = {}",
}

# One keeper at a time closes; the others find nothing to do.
LOCK = "SELECT pg_try_advisory_xact_lock(hashtextextended('turnout balance closings', 0))"
# The month of the first entry that is in no closing; null when there is none.
NEXT_MONTH = f"""
    SELECT date_trunc('month', min(at) AT TIME ZONE 'UTC')::date FROM ledger_entries WHERE at >= {_OPEN_FROM}
"""  # noqa: S608 - constants only
# What such a transaction books yet has the time of its beginning. Those of other users are seen by a superuser or `pg_read_all_stats`.
OLDER_TRANSACTIONS = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND xact_start < $1 AND pid <> pg_backend_pid()
"""
_MONTH = "at >= $1::date::timestamp AT TIME ZONE 'UTC' AND at < ($1::date + interval '1 month') AT TIME ZONE 'UTC'"
CLOSE = f"""
    INSERT INTO balance_closings (month, {_KEY}, status, amount_micros, entries)
    SELECT $1, {_KEY}, {_STATUS}, sum(amount_micros), count(*) FROM ledger_entries WHERE {_MONTH}
    GROUP BY {_KEY}, {_STATUS} ON CONFLICT DO NOTHING
"""  # noqa: S608 - constants only
# The closed months that differ from their entries: none, or somebody changed the books.
DIFFERENCES = f"""
    SELECT DISTINCT month FROM (
        SELECT month, {_KEY}, status FROM (
            SELECT month, {_KEY}, status, amount_micros AS micros, entries FROM balance_closings
            UNION ALL
            SELECT date_trunc('month', at AT TIME ZONE 'UTC')::date, {_KEY}, {_STATUS}, -amount_micros, -1 FROM ledger_entries
            WHERE at < {_OPEN_FROM}
        ) r GROUP BY month, {_KEY}, status HAVING sum(micros) <> 0 OR sum(entries) <> 0
    ) d ORDER BY month
"""  # noqa: S608 - constants only
