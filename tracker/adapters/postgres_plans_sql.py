"""The statements of `postgres_plans`: terms in force, and what plans ask about a sale."""

_SHARED_WITH = """
    (SELECT jsonb_object_agg(p.slug, p.id) FROM jsonb_array_elements(t.plan -> 'split') s JOIN partners p ON p.slug = s ->> 'partner')
        AS partners
"""
_TERMS = (
    f"t.id AS terms_id, t.payout_type, t.amount_micros, t.percent_micros, trim(t.currency) AS currency, t.plan, t.version, {_SHARED_WITH}"
)
# A time that was named goes before what holds until further notice. Rows that an earlier version closed have no actor: no such time.
BOUNDED = "(t.effective_to < 'infinity' AND t.actor <> '')"
# A partner's own terms go before all others, a goal's before the campaign's. Where the row in force says none, the next ones hold.
TERMS = f"""
    SELECT {_TERMS} FROM (
        SELECT DISTINCT ON (t.partner_id IS NOT NULL, t.goal_id IS NOT NULL) t.*
        FROM terms t LEFT JOIN goals g ON g.id = t.goal_id
        WHERE t.campaign_id = $1 AND t.effective_from <= $4 AND $4 < t.effective_to AND t.created_at <= coalesce($5, now())
          AND (t.partner_id IS NULL OR t.partner_id = $2) AND (t.goal_id IS NULL OR g.slug = $3)
        ORDER BY (t.partner_id IS NOT NULL) DESC, (t.goal_id IS NOT NULL) DESC, {BOUNDED} DESC, t.effective_from DESC, t.id DESC
    ) t WHERE t.payout_type <> 'none' ORDER BY (t.partner_id IS NOT NULL) DESC, (t.goal_id IS NOT NULL) DESC LIMIT 1
"""  # noqa: S608 - constants only
TERMS_BY_ID = f"SELECT {_TERMS} FROM terms t WHERE t.id = $1"  # noqa: S608 - constants only
UPLINE = """
    WITH RECURSIVE up AS (
        SELECT $1::bigint AS partner, 0 AS level
        UNION ALL
        SELECT p.parent_id, up.level + 1
        FROM up CROSS JOIN LATERAL (
            SELECT parent_id FROM partner_parents WHERE partner_id = up.partner AND effective_from <= $2
            ORDER BY effective_from DESC LIMIT 1
        ) p WHERE p.parent_id IS NOT NULL AND up.level < $3
    ) SELECT partner FROM up WHERE level > 0 ORDER BY level
"""
# What only a pixel said, whose key anybody can read, is no payment before it is approved.
_EARLIER = """
    FROM conversions c LEFT JOIN postbacks b ON b.postback_id = c.postback_id
    WHERE c.advertiser_id = $1 AND c.customer = $2 AND c.campaign = $3 AND c.status IN ('pending', 'approved')
      AND (c.converted_at, c.id) < ($4, $5) AND (c.status = 'approved' OR b.unverified IS NOT TRUE)
"""
IS_RETURNING = f"SELECT EXISTS (SELECT {_EARLIER})"
PAYMENTS = f"SELECT count(*) AS payments, min(c.converted_at) AS first {_EARLIER} AND c.partner = $6"
