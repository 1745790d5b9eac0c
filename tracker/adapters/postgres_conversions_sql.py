"""The statements of `postgres_conversions`."""

SUBS = ", ".join(f"sub{n}" for n in range(1, 11))
FACTS = f"creative, country, device, os, browser, {SUBS}, ref"
CLICK_FACTS = ", ".join(f"c.{name.strip()}" for name in FACTS.split(","))

ADVERTISER_OF = """
    SELECT t.advertiser_id, t.token_hash, a.slug, trim(a.currency) AS currency, a.settings
    FROM postback_tokens t JOIN advertisers a ON a.id = t.advertiser_id
    WHERE t.token_hash = $1 AND t.kind = $2 AND t.revoked_at IS NULL
"""
INSERT_POSTBACK = """
    INSERT INTO postbacks (postback_id, received_at, source, advertiser_id, txid, goal, click_id, coupon, amount_micros,
        currency, amount_original, currency_original, status, status_original, happened_at, parameters, ip, unverified,
        customer, event_id, visits, details, stated_at, campaign, partner, old_source, outcome)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26,
        'parked')
    ON CONFLICT (postback_id) DO NOTHING RETURNING 1
"""
REJECTED_POSTBACK = """
    INSERT INTO postbacks (postback_id, received_at, source, advertiser_id, txid, click_id, amount_original, currency_original,
        status_original, parameters, ip, unverified, outcome, reason)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $3 = 'pixel', 'rejected', $12)
    ON CONFLICT (postback_id) DO NOTHING
"""
# Of a postback that was refused before anything was decided on it: its amount was never kept.
DROP_REFUSED = """
    DELETE FROM postbacks WHERE postback_id = $1 AND outcome = 'rejected' AND amount_micros IS NULL RETURNING 1
"""
STORED_VERDICT = """
    SELECT p.outcome, p.reason, p.conversion_id, c.status FROM postbacks p LEFT JOIN conversions c ON c.id = p.conversion_id
    WHERE p.postback_id = $1
"""
FINISH = """
    UPDATE postbacks SET outcome = $2, reason = $3, conversion_id = $4, tries = $5, next_try_at = $6, parked_until = $7,
        processed_at = now()
    WHERE postback_id = $1
"""
RULES = """coalesce(g.attribution_window_days, m.attribution_window_days) AS window_days, m.attribution_model, m.coupon_first,
        m.min_conversion_seconds, m.max_conversion_seconds, m.customer_window_days, m.hold_days"""
GOAL = "LEFT JOIN goals g ON g.campaign_id = m.id AND g.slug = $1"
_CLICK = f"""
    SELECT c.click_id, c.clicked_at, coalesce(r.link, c.link) AS link, coalesce(r.partner, c.partner) AS partner,
        m.id AS campaign, m.advertiser_id AS advertiser, {RULES}, {CLICK_FACTS}
    FROM clicks c
    LEFT JOIN LATERAL (
        SELECT a.link, a.partner, a.campaign FROM click_attributions a WHERE a.click_id = c.click_id ORDER BY a.id DESC LIMIT 1
    ) r ON true
    LEFT JOIN campaigns m ON m.id = coalesce(r.campaign, c.campaign)
    {GOAL}
"""  # noqa: S608 - constants only
CLICK_BY_ID = _CLICK + " WHERE c.click_id = $2"
COUPON = f"""
    SELECT k.partner_id AS partner, m.id AS campaign, {RULES}
    FROM coupons k JOIN campaigns m ON m.id = k.campaign_id {GOAL}
    WHERE k.advertiser_id = $2 AND upper(k.code) = upper($3) AND k.status = 'active'
      AND coalesce(k.valid_from, '-infinity') <= $4 AND $4 < coalesce(k.valid_to, 'infinity')
    ORDER BY k.id LIMIT 1
"""  # noqa: S608 - constants only
# The customer's last order that somebody earned by, of another number, in a campaign that pays for returning customers.
EARLIER_ORDER = f"""
    SELECT c.partner, m.id AS campaign, c.converted_at, {RULES}
    FROM conversions c JOIN campaigns m ON m.id = c.campaign {GOAL} LEFT JOIN postbacks p ON p.postback_id = c.postback_id
    WHERE c.advertiser_id = $2 AND c.customer = $3 AND c.txid <> $4 AND c.converted_at <= $5 AND c.partner IS NOT NULL
      AND c.status IN ('pending', 'approved') AND m.customer_window_days > 0
      AND (c.status = 'approved' OR p.unverified IS NOT TRUE)
    ORDER BY c.converted_at DESC, c.id DESC LIMIT 1
"""  # noqa: S608 - constants only
# The partner and the campaign that a report names by itself.
NAMED = f"""
    SELECT p.id AS partner, m.id AS campaign, m.advertiser_id AS advertiser, {RULES}
    FROM campaigns m JOIN partners p ON p.id = $3 {GOAL} WHERE m.id = $2
"""  # noqa: S608 - constants only
_COLUMNS = [
    *("id", "advertiser_id", "goal", "txid", "postback_id", "status", "converted_at", "received_at", "amount_micros", "currency"),
    *("amount_original", "currency_original", "status_original", "payout_micros", "payout_currency", "terms_id", "attribution"),
    *("trace", "click_id", "clicked_at", "link", "partner", "campaign", "parameters", "customer", "event_id", "details", "basis"),
    "hold_days",
    *FACTS.split(", "),
]
_INSERTED = (*_COLUMNS, "occurrence", "is_repeat")
INSERT_CONVERSION = f"""
    INSERT INTO conversions ({", ".join(_INSERTED)}) VALUES ({", ".join(f"${n}" for n in range(1, len(_INSERTED) + 1))})
    ON CONFLICT (advertiser_id, goal, txid, occurrence) DO NOTHING RETURNING id
"""  # noqa: S608 - constants only
# The same row, told anew by a report that goes before the one that made it.
AMEND_CONVERSION = f"""
    UPDATE conversions SET {", ".join(f"{name} = ${n}" for n, name in enumerate(_COLUMNS, start=1) if n > 1)},
        amount_postback_id = ${len(_COLUMNS) + 1}, reversed_micros = CASE WHEN ${len(_COLUMNS) + 2} THEN reversed_micros ELSE 0 END,
        updated_at = now()
    WHERE id = $1
"""  # noqa: S608 - constants only
# The same row with another amount: its click stays.
AMEND_AMOUNT = """
    UPDATE conversions SET postback_id = $2, amount_micros = $3, currency = $4, amount_original = $5, currency_original = $6,
        payout_micros = $7, payout_currency = $8, terms_id = $9, details = details || $10, customer = coalesce($11, customer),
        trace = trace || $12, amount_postback_id = $13, basis = $14, reversed_micros = $15, updated_at = now()
    WHERE id = $1
"""
# The same row, worked out anew: what is left of its amount, or other terms.
REWORK = """
    UPDATE conversions SET amount_micros = $2, reversed_micros = $3, payout_micros = $4, payout_currency = $5, terms_id = $6, basis = $7,
        updated_at = now()
    WHERE id = $1
"""
# The same order in the same words, by a report that takes the place of one in force.
TOLD_BY = "UPDATE conversions SET postback_id = $2, amount_postback_id = $3 WHERE id = $1"
# `told_at`, `heard_at`, `postback_id`: the place of the report in force in the order of effects; `amount_…`: of the one whose amount is,
# where `amount_postback_id` says that it is another.
EXISTING = """
    SELECT c.id, c.status, c.amount_micros, trim(c.currency) AS currency, c.payout_micros,
        trim(c.payout_currency) AS payout_currency, c.partner, c.campaign, c.advertiser_id, c.converted_at, c.postback_id, c.occurrence,
        c.amount_postback_id, c.amount_original, c.currency_original, c.customer, c.event_id, c.details,
        c.terms_id, c.basis, c.reversed_micros, c.goal, c.txid, c.source, c.approve_at, coalesce(c.hold_days, 0) AS hold_days,
        coalesce(p.stated_at, p.happened_at, p.received_at, c.converted_at) AS told_at, coalesce(p.received_at, c.received_at) AS heard_at,
        coalesce(a.stated_at, a.happened_at, a.received_at) AS amount_told_at, a.received_at AS amount_heard_at,
        coalesce(a.unverified, false) AS amount_unverified,
        coalesce(g.duplicate_policy, 'ignore') AS duplicate_policy,
        coalesce(p.unverified, false) AS unverified, p.status AS first_status, p.click_id AS first_click_id
    FROM conversions c LEFT JOIN goals g ON g.campaign_id = c.campaign AND g.slug = c.goal
    LEFT JOIN postbacks p ON p.postback_id = c.postback_id LEFT JOIN postbacks a ON a.postback_id = c.amount_postback_id
    WHERE {} FOR UPDATE OF c
"""
_ORDER = "c.advertiser_id = $1 AND c.goal = $2 AND c.txid = $3"
# First a lock, then a look: a joined row is that of before the wait, and may not be the right one any more.
LOCK_ORDER = "SELECT 1 FROM conversions WHERE advertiser_id = $1 AND goal = $2 AND txid = $3 AND occurrence = 1 FOR UPDATE"
EXISTING_BY_TXID = EXISTING.format(_ORDER + " AND c.occurrence = 1")
EXISTING_BY_ID = EXISTING.format("c.id = $1")
EXISTING_BY_POSTBACK = EXISTING.format("c.postback_id = $1")
EXISTING_BY_EVENT = EXISTING.format("c.advertiser_id = $1 AND c.goal = $2 AND c.event_id = $3 ORDER BY c.id LIMIT 1")
LATEST_OF_ORDER = EXISTING.format(_ORDER + " ORDER BY c.occurrence DESC LIMIT 1")
# Which of several a shop takes back that names no more than their common number: the last that earns, of the amount that is named.
TAKEN_BACK_OF_ORDER = EXISTING.format(
    _ORDER + " AND c.status IN ('pending', 'approved') AND ($4::bigint IS NULL OR c.amount_micros + c.reversed_micros = $4)"
    " ORDER BY c.occurrence DESC LIMIT 1"
)
PIXELS_OF_ORDER = EXISTING.format(
    _ORDER + " AND coalesce(a.unverified, p.unverified) AND c.amount_micros + c.reversed_micros = $4 ORDER BY c.occurrence LIMIT 1"
)
POLICY = "SELECT duplicate_policy FROM goals WHERE campaign_id = $1 AND slug = $2"
LOCK_EVENT = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"
SHARES = """
    INSERT INTO conversion_shares (conversion_id, terms_id, plan_version, partner_id, level, amount_micros, currency)
    SELECT $1, $2, $3, r.* FROM unnest($4::bigint[], $5::smallint[], $6::bigint[], $7::text[]) AS r
"""
DROP_SHARES = "DELETE FROM conversion_shares WHERE conversion_id = $1"
SHARES_OF = """
    SELECT partner_id, level, amount_micros, trim(currency) AS currency FROM conversion_shares WHERE conversion_id = $1
    ORDER BY level, partner_id
"""
LEDGER = """
    INSERT INTO ledger_entries (effective_on, account, partner_id, advertiser_id, campaign_id, conversion_id, postback_id, kind, status,
        amount_micros, currency, reason, actor)
    SELECT $1, CASE WHEN partner IS NULL THEN 'advertiser' ELSE 'partner' END, partner, $2, $3, $4, $5, $6, status, amount, currency,
        reason, $7
    FROM unnest($8::bigint[], $9::text[], $10::text[], $11::bigint[], $12::text[]) AS r(partner, reason, status, amount, currency)
"""
LEDGER_OF_MANY = """
    INSERT INTO ledger_entries (effective_on, actor, account, advertiser_id, campaign_id, conversion_id, kind, partner_id, reason, status,
        amount_micros, currency)
    SELECT $1, $2, CASE WHEN partner IS NULL THEN 'advertiser' ELSE 'partner' END, advertiser, campaign, conversion, kind, partner, reason,
        status, amount, currency
    FROM unnest($3::bigint[], $4::bigint[], $5::uuid[], $6::text[], $7::bigint[], $8::text[], $9::text[], $10::bigint[], $11::text[])
        AS r(advertiser, campaign, conversion, kind, partner, reason, status, amount, currency)
"""
SET_STATUS = "UPDATE conversions SET status = $2, approve_at = NULL, updated_at = now() WHERE id = $1"
LONGEST_WINDOW = """
    SELECT coalesce(max(greatest(m.attribution_window_days, g.attribution_window_days)), 30)
    FROM campaigns m LEFT JOIN goals g ON g.campaign_id = m.id WHERE m.advertiser_id = $1
"""
PARKED = "SELECT count(*) AS parked FROM postbacks WHERE outcome = 'parked'"
TO_TRY = """
    SELECT * FROM postbacks WHERE outcome = 'parked' AND next_try_at <= $1 AND advertiser_id IS NOT NULL ORDER BY next_try_at LIMIT $2
"""
# Which of many parked postbacks have something to go by now: their click, in either form, or another report of their order. Each table is
# asked once for all: there are many partitions of `clicks`, and none needs a look for each of 500 ids that nobody knows. $7: the old
# platforms' ids in every letter case in which they count.
SETTLEABLE = """
    WITH q AS (
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[], $5::text[], $6::text[])
          AS q(postback_id, number, click_id, advertiser_id, goal, txid)
    ), numbers AS MATERIALIZED (SELECT click_id FROM clicks WHERE click_id = ANY($2::uuid[])
    ), old AS MATERIALIZED (
        SELECT lower(old_click_id) AS click_id FROM clicks WHERE old_click_id = ANY($7::text[])
        UNION ALL SELECT lower(old_click_id) FROM old_clicks WHERE old_click_id = ANY($7::text[])
    )
    SELECT postback_id FROM q
    WHERE number IN (SELECT click_id FROM numbers) OR lower(click_id) IN (SELECT click_id FROM old)
      OR EXISTS (SELECT FROM conversions c WHERE c.advertiser_id = q.advertiser_id AND c.goal = q.goal AND c.txid = q.txid
            AND c.postback_id <> q.postback_id)
"""
# Tried again at once. Those whose time was over come back too: settled again, an orphan conversion is replaced, or stays as it is.
REOPEN = """
    UPDATE postbacks SET outcome = 'parked', next_try_at = now(), parked_until = greatest(parked_until, now() + interval '1 day')
    WHERE outcome IN ('parked', 'orphan') AND {}
"""
REOPEN_BY_CLICK = REOPEN.format("lower(click_id) = ANY($1::text[])")
REOPEN_BY_ID = REOPEN.format("postback_id = ANY($1::uuid[])")
# What was said again of an orphan, to be decided anew now that it is matched: of these outcomes, all or ($5) what goes after a report.
REOPEN_REPEATS = """
    UPDATE postbacks SET outcome = 'parked', next_try_at = now()
    WHERE advertiser_id = $1 AND txid = $2 AND conversion_id = $3 AND outcome = ANY($4::text[])
      AND (NOT $5 OR (coalesce(stated_at, happened_at, received_at), received_at, postback_id) > ($6, $7, $8))
"""
# Parked, or what made an orphan conversion that still is one.
UNMATCHED = """
    SELECT p.* FROM postbacks p LEFT JOIN conversions c ON c.id = p.conversion_id
    WHERE p.outcome IN ('parked', 'orphan') AND p.advertiser_id IS NOT NULL AND p.postback_id > $1
      AND (p.outcome = 'parked' OR c.status = 'orphan' AND c.postback_id = p.postback_id)
      AND ($2::bigint IS NULL OR p.advertiser_id = $2) AND ($3::text IS NULL OR p.txid = $3)
      AND ($4::timestamptz IS NULL OR p.received_at >= $4)
    ORDER BY p.postback_id LIMIT $5
"""
# Without waiting for anybody: who holds a row decides on it. What somebody else put off meanwhile is not put off twice.
DEFER = """
    UPDATE postbacks p SET tries = p.tries + 1, next_try_at = r.retry_at
    FROM (
        SELECT w.postback_id, r.retry_at
        FROM unnest($1::uuid[], $2::integer[], $3::timestamptz[]) AS r(postback_id, tries, retry_at)
        JOIN postbacks w USING (postback_id, tries) WHERE w.outcome = 'parked' FOR UPDATE OF w SKIP LOCKED
    ) r WHERE p.postback_id = r.postback_id
"""
# In the order in which they happened: that is the order of their effects.
PARKED_OF_ORDER = """
    SELECT * FROM postbacks WHERE advertiser_id = $1 AND goal = $2 AND txid = $3 AND outcome = 'parked'
      AND next_try_at <= greatest($4, now())
    ORDER BY coalesce(stated_at, happened_at, received_at), received_at, postback_id LIMIT $5 FOR UPDATE
"""

_SHARES = """
    (SELECT coalesce(jsonb_agg(jsonb_build_object('partner', q.slug, 'level', s.level, 'amount_micros', s.amount_micros,
            'currency', trim(s.currency)) ORDER BY s.level, q.slug), '[]')
        FROM conversion_shares s JOIN partners q ON q.id = s.partner_id WHERE s.conversion_id = c.id) AS shares
"""
CONVERSIONS = f"""
    SELECT c.id, c.txid, c.goal, c.occurrence, c.status, c.click_id, a.slug AS advertiser, p.slug AS partner, m.slug AS campaign,
        l.slug AS link, c.amount_micros, trim(c.currency) AS currency, c.payout_micros,
        trim(c.payout_currency) AS payout_currency, c.converted_at, c.received_at, c.clicked_at, c.attribution, c.trace,
        c.postback_id, c.amount_original, c.currency_original, c.status_original, c.parameters, c.source, c.source_id,
        c.created_at, c.updated_at, c.approve_at, c.customer, c.event_id, c.details, c.is_repeat, c.reversed_micros, c.basis,
        {_SHARES}, {CLICK_FACTS}
    FROM conversions c JOIN advertisers a ON a.id = c.advertiser_id LEFT JOIN partners p ON p.id = c.partner
    LEFT JOIN campaigns m ON m.id = c.campaign LEFT JOIN links l ON l.id = c.link
"""  # noqa: S608 - constants only
CONVERSION_FILTERS = {
    "status": "c.status",
    "goal": "c.goal",
    "txid": "c.txid",
    "advertiser": "a.slug",
    "partner": "p.slug",
    "campaign": "m.slug",
    "link": "l.slug",
    "customer": "c.customer",
    "event_id": "c.event_id",
    "source": "c.source",
    "source_id": "c.source_id",
}
POSTBACKS_OF = """
    SELECT postback_id, received_at, source, goal, click_id, coupon, amount_micros, trim(currency) AS currency, amount_original,
        currency_original, status_original, outcome, reason, conversion_id, parked_until
    FROM postbacks WHERE advertiser_id = $1 AND txid = $2 ORDER BY received_at DESC, postback_id DESC LIMIT 100
"""
LEDGER_OF = """
    SELECT at, effective_on, account, kind, status, amount_micros, trim(currency) AS currency, reason, actor
    FROM ledger_entries WHERE conversion_id = $1 ORDER BY id
"""
SHOWN_CLICK = """
    SELECT c.*, l.slug AS link_slug, p.slug AS partner_slug, m.slug AS campaign_slug, a.slug AS advertiser_slug
    FROM clicks c LEFT JOIN links l ON l.id = c.link LEFT JOIN partners p ON p.id = c.partner
    LEFT JOIN campaigns m ON m.id = c.campaign LEFT JOIN advertisers a ON a.id = c.advertiser
    WHERE c.click_id = $1
"""
