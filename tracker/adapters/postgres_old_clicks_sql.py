"""The statements of `postgres_old_clicks`."""

from tracker.adapters.postgres_conversions_sql import CLICK_FACTS, FACTS, GOAL, RULES

_FACT_NAMES = tuple(name.strip() for name in FACTS.split(","))
_KEPT_FACTS = ", ".join(f"o.facts ->> '{name}' AS {name}" for name in _FACT_NAMES)
_ATTRIBUTED = """
    LEFT JOIN LATERAL (
        SELECT a.link, a.partner, a.campaign FROM click_attributions a WHERE a.click_id = {}.click_id ORDER BY a.id DESC LIMIT 1
    ) r ON true
"""
# Whose ids a click's link had: those of the source of its host.
_HOST = """
    LEFT JOIN LATERAL (
        SELECT t.source, t.platform FROM tracking_hosts t WHERE t.host IN (lower(c.host), split_part(lower(c.host), ':', 1))
        ORDER BY length(t.host) DESC LIMIT 1
    ) h ON true
"""
_SOURCE = "coalesce(nullif(h.source, ''), h.platform, c.platform, c.host)"
# A click of ours that is still there counts in its own row; what old_clicks remembers of it is for the time after its retention.
# Who told of an id first is told by the ids of old_clicks. A click of ours is told with its row there; the one of the same time stands
# for a row that was no new one, and a click without either is of before such rows were kept: the first of all.
# $1 goal, $2 old click id, $3 advertiser, $4 campaign or null, $5 … $8 what the old ids of rows of old_clicks mean now, $9 source or
# null, $10 when the conversion happened.
FIND = f"""
    WITH named AS (
        SELECT c.click_id, c.clicked_at, coalesce(r.link, c.link) AS link, coalesce(r.partner, c.partner) AS partner,
            coalesce(r.campaign, c.campaign) AS campaign, {CLICK_FACTS}, 0 AS place, c.click_id::text AS same, false AS is_exported,
            {_SOURCE} AS source, coalesce(w.told, 0) AS told
        FROM clicks c {_HOST} {_ATTRIBUTED.format("c")} LEFT JOIN LATERAL (
            SELECT min(o.id) AS told FROM old_clicks o
            WHERE o.old_click_id = $2 AND (o.click_id = c.click_id OR o.clicked_at = c.clicked_at)
        ) w ON true
        WHERE c.old_click_id = $2
        UNION ALL
        SELECT o.click_id, o.clicked_at, coalesce(r.link, o.link, k.link), coalesce(r.partner, o.partner, k.partner),
            coalesce(r.campaign, o.campaign, k.campaign), {_KEPT_FACTS}, 1, coalesce(o.click_id::text, o.id::text),
            o.grade IS NOT DISTINCT FROM 'raw', o.source, o.id
        FROM old_clicks o {_ATTRIBUTED.format("o")}
        LEFT JOIN unnest($5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[]) AS k(id, campaign, partner, link) ON k.id = o.id
        WHERE o.old_click_id = $2
    ), one AS MATERIALIZED (
        SELECT DISTINCT ON (n.same) n.*, n.source IS NOT DISTINCT FROM $9::text AS is_asked,
            n.clicked_at - interval '5 minutes' <= $10::timestamptz
              AND n.clicked_at + make_interval(days => coalesce(g.attribution_window_days, m.attribution_window_days)) >= $10 AS is_inside
        FROM named n LEFT JOIN campaigns m ON m.id = n.campaign {GOAL}
        WHERE n.campaign IS NULL OR m.advertiser_id = $3 ORDER BY n.same, is_asked DESC, n.place
    ), of_source AS MATERIALIZED (
        SELECT * FROM one WHERE $9 IS NULL OR is_asked OR NOT EXISTS (SELECT FROM one o WHERE o.is_asked)
    ), of_offer AS MATERIALIZED (
        SELECT * FROM of_source
        WHERE campaign IS NOT NULL AND ($4::bigint IS NULL OR campaign = $4 OR NOT EXISTS (SELECT FROM of_source o WHERE o.campaign = $4))
    ), trusted AS MATERIALIZED (
        SELECT * FROM of_offer n WHERE is_exported OR NOT EXISTS (SELECT FROM of_offer o WHERE o.is_exported AND o.is_inside)
    ), first AS MATERIALIZED (
        SELECT partner FROM trusted WHERE NOT is_exported ORDER BY is_inside DESC, told, clicked_at, same LIMIT 1
    )
    SELECT c.click_id, c.clicked_at, c.link, c.partner, m.id AS campaign, m.advertiser_id AS advertiser, {RULES}, {CLICK_FACTS}
    FROM trusted c JOIN campaigns m ON m.id = c.campaign {GOAL}
    WHERE c.is_exported OR EXISTS (SELECT FROM first f WHERE f.partner IS NOT DISTINCT FROM c.partner)
    ORDER BY c.clicked_at DESC, c.place, c.same DESC LIMIT 50
"""  # noqa: S608 - constants only
# What of an id is known by the old platform's ids alone. `platform`: whose rule it is how they may be spelled.
BY_OLD_IDS = """
    SELECT o.id, o.source, o.old_partner, o.old_offer, o.old_creative, coalesce(h.platform, o.source) AS platform
    FROM old_clicks o LEFT JOIN LATERAL (
        SELECT platform FROM tracking_hosts WHERE coalesce(nullif(source, ''), platform) = o.source ORDER BY id LIMIT 1
    ) h ON true
    WHERE o.old_click_id = $1 AND (o.campaign IS NULL OR o.partner IS NULL)
    ORDER BY o.clicked_at DESC, o.id DESC LIMIT 200
"""
SPELLED = f"""
    SELECT c.old_click_id, {_SOURCE} AS source FROM clicks c {_HOST} WHERE c.old_click_id = ANY($1::text[])
    UNION SELECT old_click_id, source FROM old_clicks WHERE old_click_id = ANY($1::text[])
"""  # noqa: S608 - constants only

_COPIED = ("source", "old_click_id", "click_id", "clicked_at", "link", "partner", "campaign", "advertiser", "old_partner", "old_offer",
           "old_creative", "facts")  # fmt: skip
_FACTS_OF_CLICK = f"jsonb_strip_nulls(jsonb_build_object({', '.join(f'{name!r}, c.{name}' for name in _FACT_NAMES)}))"
_ONCE = "ON CONFLICT (source, old_click_id, clicked_at, coalesce(old_offer, '')) DO NOTHING"
# In one order of keys, so that two writers of the same ids wait for one another at most once.
SEEN = f"""
    INSERT INTO old_clicks ({", ".join(_COPIED)})
    SELECT {_SOURCE}, left(c.old_click_id, 255), c.click_id, c.clicked_at, c.link,
        c.partner, c.campaign, c.advertiser, c.old_partner, c.old_offer, c.old_creative, {_FACTS_OF_CLICK}
    FROM clicks c {_HOST} WHERE c.click_id = ANY($1::uuid[]) AND c.old_click_id <> '' ORDER BY 1, 2, 4, 10
    {_ONCE}
"""  # noqa: S608 - constants only
# No click stands for more than $4 ids of a source; rows of one click have its time, by which they are found.
LANDED = f"""
    WITH c AS MATERIALIZED (SELECT * FROM clicks WHERE click_id = $3), made AS (
        INSERT INTO old_clicks ({", ".join(_COPIED)})
        SELECT $1, $2, c.click_id, c.clicked_at, coalesce(r.link, c.link), coalesce(r.partner, c.partner),
            coalesce(r.campaign, c.campaign), c.advertiser, c.old_partner, c.old_offer, c.old_creative, {_FACTS_OF_CLICK}
        FROM c {_ATTRIBUTED.format("c")}
        WHERE $4 > (SELECT count(*) FROM old_clicks o WHERE o.source = $1 AND o.clicked_at = c.clicked_at AND o.click_id = c.click_id)
        {_ONCE}
    )
    SELECT count(*) FROM c
"""  # noqa: S608 - constants only
# All that is known under an id, of any advertiser. $2: of one source only.
KNOWN = f"""
    SELECT NULL::bigint AS id, {_SOURCE} AS source, c.clicked_at, c.click_id, coalesce(r.campaign, c.campaign) AS campaign,
        coalesce(r.partner, c.partner) AS partner, coalesce(r.link, c.link) AS link, c.old_partner, c.old_offer, NULL::text AS import_batch
    FROM clicks c {_HOST} {_ATTRIBUTED.format("c")}
    WHERE c.old_click_id = $1 AND ($2::text IS NULL OR {_SOURCE} = $2)
      AND NOT EXISTS (SELECT FROM old_clicks o WHERE o.old_click_id = $1 AND o.click_id = c.click_id)
    UNION ALL
    SELECT o.id, o.source, o.clicked_at, o.click_id, coalesce(r.campaign, o.campaign), coalesce(r.partner, o.partner),
        coalesce(r.link, o.link), o.old_partner, o.old_offer, o.import_batch
    FROM old_clicks o {_ATTRIBUTED.format("o")} WHERE o.old_click_id = $1 AND ($2::text IS NULL OR o.source = $2)
    ORDER BY clicked_at DESC LIMIT 200
"""  # noqa: S608 - constants only
SLUGS = """
    SELECT r.n, a.id AS advertiser_id, a.slug AS advertiser, m.slug AS campaign, p.slug AS partner, l.slug AS link,
        m.attribution_window_days AS window_days
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS r(campaign, partner, link, n)
    LEFT JOIN campaigns m ON m.id = r.campaign LEFT JOIN advertisers a ON a.id = m.advertiser_id
    LEFT JOIN partners p ON p.id = r.partner LEFT JOIN links l ON l.id = r.link ORDER BY r.n
"""
