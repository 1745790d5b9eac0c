"""SQL of the tee: what is passed on to the old platform, and what it answered."""

ENQUEUE = """
    INSERT INTO tee_deliveries (postback_id, received_at, kind, platform, source, host, forward_to, origin, target, method, content_type,
        body, user_agent, cookie, our_status, our_body, state, error, next_try_at, done_at)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,
        CASE WHEN $17 = '' THEN 'waiting' ELSE 'given_up' END, $17,
        CASE WHEN $17 = '' THEN now() END, CASE WHEN $17 <> '' THEN now() END
    ON CONFLICT (postback_id) DO NOTHING
"""
# Whoever takes one first moves its next try out of sight: nobody else takes it meanwhile, and a sender that dies leaves it due again.
# Origin by origin: what is due at a platform that is away, however much it is, is not read to find what is due elsewhere.
CLAIM = """
    WITH RECURSIVE origins AS (
        (SELECT origin FROM tee_deliveries WHERE state = 'waiting' ORDER BY origin LIMIT 1)
        UNION ALL
        SELECT (SELECT t.origin FROM tee_deliveries t WHERE t.state = 'waiting' AND t.origin > o.origin ORDER BY t.origin LIMIT 1)
        FROM origins o WHERE o.origin IS NOT NULL
    ), due AS (
        SELECT d.postback_id FROM origins o CROSS JOIN LATERAL (
            SELECT t.postback_id, t.next_try_at FROM tee_deliveries t
            WHERE t.state = 'waiting' AND t.origin = o.origin AND t.next_try_at <= now()
            ORDER BY t.next_try_at LIMIT $1 FOR UPDATE SKIP LOCKED
        ) d WHERE o.origin <> ALL($2::text[]) ORDER BY d.next_try_at LIMIT $1
    )
    UPDATE tee_deliveries t SET next_try_at = now() + $3::interval, tries = tries + 1, first_tried_at = coalesce(first_tried_at, now())
    FROM due WHERE t.postback_id = due.postback_id
    RETURNING t.postback_id, t.kind, t.platform, t.forward_to, t.origin, t.target, t.method, t.content_type, t.body, t.user_agent, t.cookie,
        t.our_status, t.our_body, t.tries, t.first_tried_at
"""
PUT_BACK = """
    UPDATE tee_deliveries SET next_try_at = now() + $3::interval, tries = tries - 1
    WHERE postback_id = $1 AND tries = $2 AND state = 'waiting'
"""
DELIVERED = """
    UPDATE tee_deliveries SET state = 'delivered', next_try_at = NULL, their_status = $2, their_body = $3, agrees = $4, error = '',
        done_at = now()
    WHERE postback_id = $1 AND state <> 'delivered' RETURNING 1
"""
# `tries` of the claim: a sender that comes late moves nothing that another one has taken since.
RETRY = """
    UPDATE tee_deliveries SET next_try_at = now() + $3::interval, error = $4, their_status = $5, their_body = $6
    WHERE postback_id = $1 AND tries = $2 AND state = 'waiting' RETURNING 1
"""
GIVE_UP = """
    UPDATE tee_deliveries SET state = 'given_up', next_try_at = NULL, done_at = now(), error = $3, their_status = $4, their_body = $5
    WHERE postback_id = $1 AND tries = $2 AND state = 'waiting' RETURNING 1
"""
BACKLOG = """
    SELECT count(*) AS waiting, coalesce(extract(epoch FROM now() - min(received_at)), 0)::float8 AS oldest_s
    FROM tee_deliveries WHERE state = 'waiting'
"""
FORGET = """
    DELETE FROM tee_deliveries WHERE postback_id IN (
        SELECT postback_id FROM tee_deliveries
        WHERE state <> 'waiting' AND done_at < now() - interval '30 days' ORDER BY done_at LIMIT $1
    )
"""
_HOSTS = """
    SELECT t.host, coalesce(h.forward_to, min(t.forward_to)) AS forward_to
    FROM tee_deliveries t LEFT JOIN tracking_hosts h ON h.host = t.host
    WHERE {which} AND ($1::text IS NULL OR t.host = $1) GROUP BY t.host, h.forward_to ORDER BY t.host
"""
HOSTS_GIVEN_UP = _HOSTS.format(which="t.state = 'given_up'")
HOSTS_DIFFERING = _HOSTS.format(which="NOT t.agrees")
# To where the host forwards today: a wrong address is why many were given up.
_AGAIN = """
    UPDATE tee_deliveries SET state = 'waiting', next_try_at = now(), done_at = NULL, tries = 0, first_tried_at = NULL, forward_to = $2,
        origin = $3, their_status = NULL, their_body = NULL, agrees = NULL, error = ''
    WHERE postback_id IN (
        SELECT postback_id FROM tee_deliveries WHERE {which} AND host = $1 AND done_at <= $5 LIMIT $4 FOR UPDATE SKIP LOCKED
    )
"""
RETRY_GIVEN_UP = _AGAIN.format(which="state = 'given_up'")
RETRY_DIFFERING = _AGAIN.format(which="NOT agrees AND state = 'delivered'")
RECEIVED = "SELECT received_at FROM tee_deliveries WHERE postback_id = $1"
# Newest first; the cursor is the last row's time and id.
LISTED = """
    SELECT t.postback_id, t.received_at, t.kind, t.platform, t.source, t.host, t.forward_to, t.target, t.method, t.state, t.tries,
        t.next_try_at, t.done_at, t.our_status, t.their_status, t.agrees, t.error, r.state AS report_state, r.reason AS report_reason,
        h.settings
    FROM tee_deliveries t LEFT JOIN old_reports r ON r.postback_id = t.postback_id LEFT JOIN tracking_hosts h ON h.host = t.host
    WHERE (t.received_at, t.postback_id) < ($1, $2) AND ($3::text IS NULL OR t.state = $3) AND ($4::text IS NULL OR t.host = $4)
      AND (NOT $5 OR NOT t.agrees)
    ORDER BY t.received_at DESC, t.postback_id DESC LIMIT $6
"""
ONE = """
    SELECT t.*, r.state AS report_state, r.reason AS report_reason, h.settings
    FROM tee_deliveries t LEFT JOIN old_reports r ON r.postback_id = t.postback_id LEFT JOIN tracking_hosts h ON h.host = t.host
    WHERE t.postback_id = $1
"""
