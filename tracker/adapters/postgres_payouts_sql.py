"""The statements of `postgres_payouts` and `postgres_payments`."""

# One run of a currency at a time: whoever comes second waits, and finds what the first has made.
LOCK = "SELECT pg_advisory_xact_lock($1, hashtext($2))"
RUN_OF_PERIOD = """
    SELECT slug, period_from, minimum_micros, hold_days, needs_approval FROM payout_runs
    WHERE currency = $1 AND period_to = $2 AND status <> 'cancelled'
"""
NEWEST_RUN = """
    SELECT slug, status, period_to FROM payout_runs WHERE currency = $1 AND status <> 'cancelled' ORDER BY period_to DESC LIMIT 1
"""
RUNS_BEFORE = "SELECT count(*) FROM payout_runs WHERE currency = $1 AND period_to = $2"
INSERT_RUN = """
    INSERT INTO payout_runs (slug, period_from, period_to, currency, minimum_micros, hold_days, needs_approval, reason, created_by, status)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'draft') RETURNING id
"""
# Who has something that is ripe, or a balance. One index look-up a partner for the last balance and one for what is open: what is on
# statements already is not read again, however long the ledger is.
_WHO = """
    FROM partners p
    LEFT JOIN LATERAL (
        SELECT s.closing_micros FROM statements s WHERE s.partner_id = p.id AND s.currency = $1 ORDER BY s.id DESC LIMIT 1
    ) last ON true
    LEFT JOIN payout_details d ON d.partner_id = p.id
    WHERE last.closing_micros <> 0
       OR EXISTS (SELECT FROM open_entries o WHERE o.partner_id = p.id AND o.currency = $1 AND o.ripe_on <= $2)
"""
_DETAILS = """
    CASE WHEN d.partner_id IS NOT NULL THEN
        jsonb_build_object('method', d.method, 'name', d.name, 'iban', d.iban, 'bic', d.bic, 'account', d.account) END
"""
FORESEEN = f"""
    SELECT p.slug AS partner, p.name, coalesce(last.closing_micros, 0) AS opening_micros, d.partner_id IS NOT NULL AS has_details,
        coalesce((
            SELECT sum(o.amount_micros) FROM open_entries o WHERE o.partner_id = p.id AND o.currency = $1 AND o.ripe_on <= $2
        ), 0)::bigint AS lines_micros
    {_WHO} ORDER BY p.id
"""  # noqa: S608 - constants only
# With what was due before; what is new is told only when its lines are on the statement.
STATEMENTS = f"""
    INSERT INTO statements (run_id, partner_id, currency, opening_micros, closing_micros, details, changed_by)
    SELECT $3, p.id, $1, coalesce(last.closing_micros, 0), coalesce(last.closing_micros, 0), {_DETAILS}, $4
    {_WHO} ORDER BY p.id
"""
# Only for partners that have a statement: who earned a first entry since waits for the next run.
TAKE = """
    WITH taken AS (
        DELETE FROM open_entries o USING statements s
        WHERE s.run_id = $1 AND o.partner_id = s.partner_id AND o.currency = s.currency AND o.ripe_on <= $2
        RETURNING o.ledger_entry_id, s.id
    ) INSERT INTO statement_lines (ledger_entry_id, statement_id) SELECT ledger_entry_id, id FROM taken
"""
SUMS = """
    SELECT s.id, s.opening_micros, coalesce(sum(e.amount_micros), 0)::bigint AS lines_micros
    FROM statements s LEFT JOIN statement_lines l ON l.statement_id = s.id LEFT JOIN ledger_entries e ON e.id = l.ledger_entry_id
    WHERE s.run_id = $1 GROUP BY s.id
"""
SETTLE = """
    UPDATE statements s SET lines_micros = r.lines, payment_micros = r.payment, closing_micros = r.closing, status = r.status
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[]) AS r(id, lines, payment, closing, status)
    WHERE s.id = r.id
"""
APPROVE = "UPDATE payout_runs SET status = 'approved', approved_at = now(), approved_by = $2 WHERE id = $1"
PAY = """
    INSERT INTO ledger_entries (effective_on, account, partner_id, kind, status, amount_micros, currency, reason, actor)
    SELECT $2, 'partner', partner_id, 'payment', 'approved', -payment_micros, currency, $3, $4
    FROM statements WHERE run_id = $1 AND payment_micros > 0 AND payment_entry_id IS NULL
    RETURNING id, partner_id
"""
PAID = "SELECT id, partner_id FROM statements WHERE run_id = $1 AND payment_micros > 0"
# By the statements' own ids: of rows that the same transaction made the planner knows no number, and would compare all with all.
SET_PAYMENTS = """
    WITH payments AS (SELECT * FROM unnest($1::bigint[], $2::bigint[]) AS r(entry, statement)), lines AS (
        INSERT INTO statement_lines (ledger_entry_id, statement_id) SELECT entry, statement FROM payments
    )
    UPDATE statements s SET payment_entry_id = r.entry FROM payments r WHERE s.id = r.statement
"""
# A payment stands on the statement it pays.
PAYMENTS_ARE_TAKEN = "DELETE FROM open_entries o USING statements s WHERE s.run_id = $1 AND o.ledger_entry_id = s.payment_entry_id"
RELEASE = """
    WITH freed AS (
        DELETE FROM statement_lines l USING statements s WHERE s.run_id = $1 AND l.statement_id = s.id RETURNING l.ledger_entry_id
    )
    INSERT INTO open_entries (ledger_entry_id, partner_id, currency, ripe_on, amount_micros)
    SELECT e.id, e.partner_id, e.currency, ripe_on(e.kind, e.effective_on, e.conversion_id), e.amount_micros
    FROM freed JOIN ledger_entries e ON e.id = freed.ledger_entry_id
"""
DROP_STATEMENTS = "DELETE FROM statements WHERE run_id = $1"
CANCEL = "UPDATE payout_runs SET status = 'cancelled', cancelled_at = now(), cancelled_by = $2 WHERE id = $1"

LOCKED_RUN = """
    SELECT id, slug, status, trim(currency) AS currency, needs_approval, created_by, approved_by FROM payout_runs WHERE slug = $1 FOR UPDATE
"""
RUNS = """
    SELECT r.id, r.slug AS run, r.status, r.period_from, r.period_to, trim(r.currency) AS currency, r.minimum_micros, r.hold_days,
        r.needs_approval, r.reason, r.created_at, r.created_by, r.approved_at, r.approved_by, r.cancelled_at, r.cancelled_by, t.*
    FROM payout_runs r CROSS JOIN LATERAL (
        SELECT count(*) AS statements, coalesce(sum(opening_micros), 0)::bigint AS opening_micros,
            coalesce(sum(lines_micros), 0)::bigint AS lines_micros, coalesce(sum(payment_micros), 0)::bigint AS payment_micros,
            coalesce(sum(closing_micros), 0)::bigint AS closing_micros, count(*) FILTER (WHERE s.status = 'carried') AS carried,
            count(*) FILTER (WHERE s.status = 'due') AS due, count(*) FILTER (WHERE s.status = 'exported') AS exported,
            count(*) FILTER (WHERE s.status = 'paid') AS paid, count(*) FILTER (WHERE s.status = 'failed') AS failed,
            count(*) FILTER (WHERE s.status = 'returned') AS returned, max(s.batch) AS batches,
            array_agg(DISTINCT s.batch) FILTER (WHERE s.status = 'exported') AS unpaid_batches
        FROM statements s WHERE s.run_id = r.id
    ) t
"""
RUN_BY_SLUG = f"{RUNS} WHERE r.slug = $1"
RUN_PAGE = f"""{RUNS} WHERE ($1::bigint = 0 OR r.id < $1) AND ($3::text IS NULL OR r.status = $3)
    AND ($4::text IS NULL OR r.currency = $4) ORDER BY r.id DESC LIMIT $2"""
SHOWN = """
    SELECT s.id, s.run_id, r.slug AS run, r.period_from, r.period_to, r.status AS run_status, p.slug AS partner, p.name,
        trim(s.currency) AS currency, s.opening_micros, s.lines_micros, s.payment_micros, s.closing_micros, s.status, s.details, s.batch,
        s.reference, s.reason, s.changed_at, s.changed_by, s.payment_entry_id, e.effective_on AS paid_on
    FROM statements s JOIN payout_runs r ON r.id = s.run_id JOIN partners p ON p.id = s.partner_id
    LEFT JOIN ledger_entries e ON e.id = s.payment_entry_id
"""
STATEMENT_PAGE = f"""{SHOWN} WHERE r.slug = $1 AND s.id > $2 AND ($4::text IS NULL OR s.status = $4) ORDER BY s.id LIMIT $3"""
STATEMENT_OF = f"{SHOWN} WHERE r.slug = $1 AND p.slug = $2"
LINES = """
    SELECT e.id, e.effective_on, e.at, e.kind, e.reason, e.amount_micros, c.txid, m.slug AS campaign
    FROM statement_lines l JOIN ledger_entries e ON e.id = l.ledger_entry_id
    LEFT JOIN conversions c ON c.id = e.conversion_id LEFT JOIN campaigns m ON m.id = coalesce(e.campaign_id, c.campaign)
    WHERE l.statement_id = $1 AND e.id IS DISTINCT FROM $2 ORDER BY e.effective_on, e.id
"""

FILL_DETAILS = f"""
    UPDATE statements s SET details = {_DETAILS} FROM payout_details d
    WHERE s.run_id = $1 AND d.partner_id = s.partner_id AND s.status = 'due' AND s.details IS NULL
"""  # noqa: S608 - constants only
TO_EXPORT = """
    SELECT id FROM statements s WHERE run_id = $1 AND status = 'due' AND details IS NOT NULL AND ($2 OR details ->> 'iban' IS NOT NULL)
"""
LEFT_DUE = """
    SELECT p.slug FROM statements s JOIN partners p ON p.id = s.partner_id WHERE s.run_id = $1 AND s.status = 'due' ORDER BY p.slug
"""
LAST_BATCH = "SELECT coalesce(max(batch), 0) FROM payout_batches WHERE run_id = $1"
INSERT_BATCH = "INSERT INTO payout_batches (run_id, batch, execution_on, created_by) VALUES ($1, $2, $3, $4)"
MOVE_BATCH = "UPDATE payout_batches SET execution_on = $3 WHERE run_id = $1 AND batch = $2"
BATCH = "SELECT batch, execution_on, created_at FROM payout_batches WHERE run_id = $1 AND batch = $2"
SET_EXPORTED = """
    UPDATE statements SET status = 'exported', batch = $2, changed_at = now(), changed_by = $3 WHERE run_id = $1 AND id = ANY($4::bigint[])
"""
BATCH_ROWS = """
    SELECT s.id, s.partner_id, p.slug AS partner, s.payment_micros, s.details, s.status
    FROM statements s JOIN partners p ON p.id = s.partner_id WHERE s.run_id = $1 AND s.batch = $2 ORDER BY s.id
"""
UNPAID_BATCHES = "SELECT DISTINCT batch FROM statements WHERE run_id = $1 AND status = 'exported' ORDER BY batch"
TO_MARK = """
    SELECT s.id, p.slug AS partner, s.status FROM statements s JOIN partners p ON p.id = s.partner_id
    WHERE s.run_id = $1 AND ($2::text IS NULL OR p.slug = $2) AND ($3::text[] IS NULL OR s.status = ANY($3))
        AND ($4::integer IS NULL OR s.batch = $4)
    ORDER BY s.id
"""
BOOK_RETURN = """
    WITH booked AS (
        INSERT INTO ledger_entries (effective_on, account, partner_id, kind, status, amount_micros, currency, reason, actor)
        SELECT $2, 'partner', partner_id, 'payment_returned', 'approved', payment_micros, currency, $3, $4 FROM statements WHERE id = $1
        RETURNING id
    )
    UPDATE statements SET return_entry_id = (SELECT id FROM booked), status = $5, changed_at = now(), changed_by = $4, reference = $6,
        reason = $7
    WHERE id = $1
"""
SET_PAID = """
    UPDATE statements SET status = 'paid', changed_at = now(), changed_by = $2, reference = $3, reason = $4 WHERE id = ANY($1::bigint[])
"""
MARK_EVENTS = """
    INSERT INTO events (actor, action, entity, entity_id, reason, before, after)
    SELECT $1, $2, 'statement', r.id, $3, jsonb_build_object('status', r.before),
        jsonb_build_object('status', $4::text, 'reference', $5::text)
    FROM unnest($6::text[], $7::text[]) AS r(id, before)
"""

DETAILS = """
    SELECT p.id AS partner_id, p.slug AS partner, d.method, d.name, d.iban, d.bic, d.account, d.updated_at, d.updated_by
    FROM partners p LEFT JOIN payout_details d ON d.partner_id = p.id WHERE p.slug = $1
"""
SET_DETAILS = """
    INSERT INTO payout_details (partner_id, method, name, iban, bic, account, updated_by) VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (partner_id) DO UPDATE SET method = $2, name = $3, iban = $4, bic = $5, account = $6, updated_by = $7, updated_at = now()
"""
DROP_DETAILS = "DELETE FROM payout_details WHERE partner_id = $1"
