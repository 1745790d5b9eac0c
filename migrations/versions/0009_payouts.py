"""Payout runs: statements of what each partner is due, their lines, what is not on one yet, and where partners are paid."""

from migrations.sql import execute_alongside, execute_briefly

revision = "0009"
down_revision = "0008"

RUNS = """
CREATE TABLE IF NOT EXISTS payout_runs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slug text NOT NULL UNIQUE,
    period_from date NOT NULL,
    period_to date NOT NULL,
    currency char(3) NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    minimum_micros bigint NOT NULL CHECK (minimum_micros >= 0),
    hold_days integer NOT NULL CHECK (hold_days BETWEEN 0 AND 365),
    needs_approval boolean NOT NULL,
    status text NOT NULL CHECK (status IN ('draft', 'approved', 'cancelled')),
    reason text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    approved_at timestamptz,
    approved_by text,
    cancelled_at timestamptz,
    cancelled_by text,
    CHECK (period_from <= period_to),
    CHECK ((status = 'approved') = (approved_by IS NOT NULL)),
    CHECK (NOT needs_approval OR approved_by <> created_by)
);
CREATE UNIQUE INDEX IF NOT EXISTS payout_runs_period ON payout_runs (currency, period_to) WHERE status <> 'cancelled';

CREATE TABLE IF NOT EXISTS payout_batches (
    run_id bigint NOT NULL REFERENCES payout_runs,
    batch integer NOT NULL CHECK (batch > 0),
    execution_on date NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    PRIMARY KEY (run_id, batch)
);

CREATE TABLE IF NOT EXISTS payout_details (
    partner_id bigint PRIMARY KEY REFERENCES partners,
    method text NOT NULL CHECK (method IN ('sepa', 'bank', 'paypal', 'other')),
    name text NOT NULL CHECK (name <> ''),
    iban text,
    bic text,
    account text,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL,
    CHECK (CASE method WHEN 'sepa' THEN iban IS NOT NULL ELSE account IS NOT NULL OR iban IS NOT NULL END)
);
"""

# `details`: where the partner is paid, as it was when the run was made.
STATEMENTS = """
CREATE TABLE IF NOT EXISTS statements (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id bigint NOT NULL REFERENCES payout_runs,
    partner_id bigint NOT NULL REFERENCES partners,
    currency char(3) NOT NULL,
    opening_micros bigint NOT NULL,
    lines_micros bigint NOT NULL DEFAULT 0,
    payment_micros bigint NOT NULL DEFAULT 0 CHECK (payment_micros >= 0),
    closing_micros bigint NOT NULL,
    status text NOT NULL DEFAULT 'carried' CHECK (status IN ('carried', 'due', 'exported', 'paid', 'failed', 'returned')),
    details jsonb,
    batch integer,
    payment_entry_id bigint UNIQUE REFERENCES ledger_entries,
    return_entry_id bigint UNIQUE REFERENCES ledger_entries,
    reference text NOT NULL DEFAULT '',
    reason text NOT NULL DEFAULT '',
    changed_at timestamptz NOT NULL DEFAULT now(),
    changed_by text NOT NULL,
    UNIQUE (run_id, partner_id),
    FOREIGN KEY (run_id, batch) REFERENCES payout_batches,
    CHECK (closing_micros = opening_micros + lines_micros - payment_micros),
    CHECK ((status = 'carried') = (payment_micros = 0)),
    CHECK ((status IN ('failed', 'returned')) = (return_entry_id IS NOT NULL))
);
CREATE INDEX IF NOT EXISTS statements_partner ON statements (partner_id, currency, id);

CREATE TABLE IF NOT EXISTS statement_lines (
    ledger_entry_id bigint PRIMARY KEY REFERENCES ledger_entries,
    statement_id bigint NOT NULL REFERENCES statements
);
CREATE INDEX IF NOT EXISTS statement_lines_statement ON statement_lines (statement_id);
"""

# The approved entries of partners that are on no statement yet, so that a run reads what is new and not the whole ledger. An entry is
# here or in `statement_lines`. A payment that came back waits for no hold: it was held once. What changes a sale, such as a reversal, is
# ripe when the sale is: else one would be paid that is known to be taken back.
OPEN = """
CREATE TABLE IF NOT EXISTS open_entries (
    ledger_entry_id bigint PRIMARY KEY,
    partner_id bigint NOT NULL,
    currency char(3) NOT NULL,
    ripe_on date NOT NULL,
    amount_micros bigint NOT NULL
);
CREATE INDEX IF NOT EXISTS open_entries_partner ON open_entries (partner_id, currency, ripe_on);

CREATE OR REPLACE FUNCTION sale_is_ripe_on(sale uuid) RETURNS date LANGUAGE sql STABLE AS $$
    SELECT min(effective_on) FROM ledger_entries WHERE conversion_id = sale AND account = 'partner' AND status = 'approved'
$$;

CREATE OR REPLACE FUNCTION ripe_on(kind text, effective_on date, conversion_id uuid) RETURNS date LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN kind = 'payment_returned' THEN '-infinity'::date WHEN kind = 'conversion' OR conversion_id IS NULL THEN effective_on
        ELSE sale_is_ripe_on(conversion_id) END
$$;

CREATE OR REPLACE FUNCTION keep_open_entries() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO open_entries
    SELECT id, partner_id, currency, ripe_on(kind, effective_on, conversion_id), amount_micros FROM added
    WHERE account = 'partner' AND status = 'approved';
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER ledger_entries_are_open AFTER INSERT ON ledger_entries REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION keep_open_entries();
"""
# What was booked before the trigger.
BOOKED = """
INSERT INTO open_entries
SELECT e.id, e.partner_id, e.currency, ripe_on(e.kind, e.effective_on, e.conversion_id), e.amount_micros
FROM ledger_entries e
WHERE e.account = 'partner' AND e.status = 'approved' AND NOT EXISTS (SELECT FROM statement_lines l WHERE l.ledger_entry_id = e.id)
ON CONFLICT DO NOTHING;
"""


def upgrade() -> None:
    execute_briefly(RUNS)
    execute_briefly(STATEMENTS)
    execute_briefly(OPEN)
    execute_alongside(BOOKED)


def downgrade() -> None:
    raise NotImplementedError("restore a backup; schema revisions only go forward")
