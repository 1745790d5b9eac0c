"""The statements of `postgres_old_reports`."""

from tracker.adapters.postgres_routes import HOSTS

HOSTS_OF = f"SELECT * FROM ({HOSTS}) x WHERE host = ANY($1::text[])"  # noqa: S608 - constants only
ADVERTISER = "SELECT slug, trim(currency) AS currency, settings FROM advertisers WHERE id = $1"
# The platform's word for a goal may be used by several campaigns: the one of the report goes first.
GOAL = """
    SELECT slug FROM goals WHERE source = $1 AND source_id = $2 AND advertiser_id = $3 ORDER BY (campaign_id = $4) IS TRUE DESC, id LIMIT 1
"""
CLICKS_ADVERTISER = """
    SELECT coalesce(m.advertiser_id, c.advertiser) FROM clicks c
    LEFT JOIN LATERAL (SELECT a.campaign FROM click_attributions a WHERE a.click_id = c.click_id ORDER BY a.id DESC LIMIT 1) r ON true
    LEFT JOIN campaigns m ON m.id = coalesce(r.campaign, c.campaign) WHERE c.click_id = $1
"""
_SOURCE_OF = """
    LEFT JOIN LATERAL (
        SELECT coalesce(nullif(t.source, ''), t.platform) AS source FROM tracking_hosts t
        WHERE t.host IN (lower(c.host), split_part(lower(c.host), ':', 1)) ORDER BY length(t.host) DESC LIMIT 1
    ) h ON true
"""
# Whether a click with an id in our form proves what a report says that names it: $2 it as an old platform's, in any letter case;
# $1 it as ours, whose host must be of the source $3. NULL: nobody knows it.
CLICKS_SOURCE = f"""
    SELECT CASE WHEN EXISTS (SELECT FROM old_clicks WHERE old_click_id = ANY($2::text[])) THEN true
        ELSE (SELECT coalesce(h.source = $3, false) FROM clicks c {_SOURCE_OF} WHERE c.click_id = $1) END AS is_proof
"""  # noqa: S608 - constants only
# Two at most: more than one is as good as none. Where the source $2 knows the id, what others know of it does not count.
OLD_CLICKS_ADVERTISERS = f"""
    WITH found AS MATERIALIZED (
        SELECT coalesce(m.advertiser_id, c.advertiser) AS advertiser, h.source IS NOT DISTINCT FROM $2 AS is_own
        FROM clicks c {_SOURCE_OF}
        LEFT JOIN LATERAL (SELECT a.campaign FROM click_attributions a WHERE a.click_id = c.click_id ORDER BY a.id DESC LIMIT 1) r ON true
        LEFT JOIN campaigns m ON m.id = coalesce(r.campaign, c.campaign) WHERE c.old_click_id = $1
        UNION ALL
        SELECT coalesce(m.advertiser_id, o.advertiser), o.source = $2 FROM old_clicks o
        LEFT JOIN old_ids i ON i.source = o.source AND i.kind = 'offer' AND i.source_id = o.old_offer AND i.status = 'active'
        LEFT JOIN campaigns m ON m.id = coalesce(o.campaign, i.campaign_id) WHERE o.old_click_id = $1
    )
    SELECT DISTINCT advertiser FROM found
    WHERE advertiser IS NOT NULL AND (is_own OR NOT EXISTS (SELECT FROM found WHERE is_own AND advertiser IS NOT NULL)) LIMIT 2
"""  # noqa: S608 - constants only
INSERT_REPORT = """
    INSERT INTO old_reports (postback_id, received_at, kind, platform, source, host, method, target, content_type, body, ip, user_agent,
        visits, old_click_id, click_id, offer_id, partner_id, state, reason)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
    ON CONFLICT (postback_id) DO NOTHING RETURNING 1
"""
# A report that was refused, with what is read in it now.
READ_AGAIN = """
    UPDATE old_reports SET state = 'read', reason = '', click_id = $2, offer_id = $3, partner_id = $4
    WHERE postback_id = $1 AND state = 'refused' AND kind <> 'landing' RETURNING 1
"""
FINISH_REPORT = """
    UPDATE old_reports SET state = $2, reason = $3, tries = $4, next_try_at = $5, waits_until = $6, platform = $7, source = $8
    WHERE postback_id = $1
"""
# A report that is no postback, kept so that its store can be told why. One of the id stays as it is.
REJECT = """
    INSERT INTO postbacks (postback_id, received_at, source, advertiser_id, txid, goal, click_id, amount_original, currency_original,
        status_original, parameters, ip, unverified, campaign, outcome, reason)
    VALUES ($1, $2, 'old', $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 'rejected', $14) ON CONFLICT (postback_id) DO NOTHING
"""
LONGEST_WINDOW_OF_ALL = """
    SELECT coalesce(max(greatest(m.attribution_window_days, g.attribution_window_days)), 30)
    FROM campaigns m LEFT JOIN goals g ON g.campaign_id = m.id
"""
WAITING_DUE = """
    SELECT * FROM old_reports WHERE state = 'waiting' AND next_try_at <= $1 ORDER BY next_try_at LIMIT $2 FOR UPDATE SKIP LOCKED
"""
PUT_OFF = "UPDATE old_reports SET tries = tries + 1, next_try_at = $2 WHERE postback_id = $1"
WAITING = "SELECT count(*) AS waiting FROM old_reports WHERE state = 'waiting'"
IMPRESSIONS = """
    INSERT INTO impression_stats AS s (bucket, campaign, partner, link, slot, impressions)
    SELECT * FROM unnest($1::timestamptz[], $2::bigint[], $3::bigint[], $4::bigint[], $5::smallint[], $6::bigint[])
    ON CONFLICT (bucket, campaign, partner, link, slot) DO UPDATE SET impressions = s.impressions + excluded.impressions
"""
LISTED_REPORTS = """
    SELECT o.*, p.outcome, p.reason AS postback_reason, p.conversion_id
    FROM old_reports o LEFT JOIN postbacks p ON p.postback_id = o.postback_id
    WHERE ($1::uuid IS NULL OR o.postback_id < $1) AND ($3::text IS NULL OR o.state = $3) AND ($4::text IS NULL OR o.host = $4)
      AND ($5::text IS NULL OR o.platform = $5) AND ($6::timestamptz IS NULL OR o.received_at >= $6)
      AND ($7::timestamptz IS NULL OR o.received_at < $7)
    ORDER BY o.postback_id DESC LIMIT $2
"""
ONE_REPORT = """
    SELECT o.*, p.outcome, p.reason AS postback_reason, p.conversion_id
    FROM old_reports o LEFT JOIN postbacks p ON p.postback_id = o.postback_id WHERE o.postback_id = $1
"""
