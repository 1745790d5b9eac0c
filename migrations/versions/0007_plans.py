"""Payout plans: terms that are only added to, partners' parents by time, what payouts were worked out from, months, holds."""

from migrations.sql import execute, execute_alongside, execute_briefly, make_index

revision = "0007"
down_revision = "0006"

# Terms are never closed any more: a later row goes before an earlier one, so that what was known at any time can be told.
TERMS = """
ALTER TABLE terms
    DROP CONSTRAINT IF EXISTS terms_payout_type_check,
    DROP CONSTRAINT IF EXISTS terms_plan_check,
    ADD COLUMN IF NOT EXISTS actor text NOT NULL DEFAULT '',
    ADD CONSTRAINT terms_payout_type_check CHECK (payout_type IN ('fixed', 'percent', 'plan', 'none')),
    ADD CONSTRAINT terms_plan_check CHECK (payout_type <> 'plan' OR plan <> '{}');
ALTER TABLE campaigns
    ADD COLUMN IF NOT EXISTS hold_days integer NOT NULL DEFAULT 0 CHECK (hold_days BETWEEN 0 AND 365);
"""

# `basis`: what the payout was worked out from beside the conversion's own columns. `approve_at`: when its hold is over.
# `hold_days`: how long its campaign's holds were when it was made; null before there were any, and of orphans.
CONVERSIONS = """
ALTER TABLE conversions
    ADD COLUMN IF NOT EXISTS basis jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN IF NOT EXISTS approve_at timestamptz,
    ADD COLUMN IF NOT EXISTS hold_days smallint,
    ADD COLUMN IF NOT EXISTS reversed_micros bigint NOT NULL DEFAULT 0;
ALTER TABLE ledger_entries
    DROP CONSTRAINT IF EXISTS ledger_entries_advertiser_check,
    ADD COLUMN IF NOT EXISTS campaign_id bigint,
    ALTER COLUMN advertiser_id DROP NOT NULL,
    ADD CONSTRAINT ledger_entries_advertiser_check
        CHECK (advertiser_id IS NOT NULL OR kind IN ('payment', 'payment_returned')) NOT VALID;
"""
CHECKED = """
ALTER TABLE ledger_entries VALIDATE CONSTRAINT ledger_entries_advertiser_check;
"""
INDEXES = {
    "conversions_to_approve": "conversions (approve_at) WHERE status = 'pending' AND approve_at IS NOT NULL",
    "conversions_campaign": "conversions (campaign, converted_at)",
    "ledger_entries_booked": "ledger_entries (partner_id, at)",
}

# Who was above whom since when; a row without a parent ends it. A parent that was set before is so since ever.
PARENTS = """
CREATE TABLE partner_parents (
    partner_id bigint NOT NULL REFERENCES partners,
    parent_id bigint REFERENCES partners,
    effective_from timestamptz NOT NULL,
    PRIMARY KEY (partner_id, effective_from)
);
INSERT INTO partner_parents SELECT id, parent_id, '-infinity' FROM partners WHERE parent_id IS NOT NULL;
CREATE FUNCTION keep_parent() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.parent_id IS NOT DISTINCT FROM OLD.parent_id OR TG_OP = 'INSERT' AND NEW.parent_id IS NULL THEN
        RETURN NULL;
    END IF;
    INSERT INTO partner_parents
    VALUES (NEW.id, NEW.parent_id, CASE TG_OP WHEN 'INSERT' THEN '-infinity'::timestamptz ELSE clock_timestamp() END);
    RETURN NULL;
END
$$;
CREATE TRIGGER partners_keep_parent AFTER INSERT OR UPDATE OF parent_id ON partners FOR EACH ROW EXECUTE FUNCTION keep_parent();
"""

# What was booked for a partner's month in a campaign: the next time only the difference is. `month_changes`: months of sales that changed,
# to be worked out anew; noted by whoever changes a sale, so that none is missed whenever and however long that took.
MONTHLY = "payout_type = 'plan' AND plan ?| ARRAY['tiers', 'bonuses', 'per_click']"
MONTHS = f"""
CREATE TABLE month_earnings (
    partner_id bigint NOT NULL REFERENCES partners,
    campaign_id bigint NOT NULL REFERENCES campaigns,
    month date NOT NULL CHECK (month = date_trunc('month', month)),
    kind text NOT NULL CHECK (kind IN ('tiers', 'bonus', 'clicks')),
    status text NOT NULL CHECK (status IN ('pending', 'approved')),
    currency char(3) NOT NULL,
    amount_micros bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (campaign_id, month, partner_id, kind, status, currency)
);
CREATE INDEX terms_monthly ON terms (campaign_id) WHERE {MONTHLY};
CREATE TABLE month_changes (
    campaign_id bigint NOT NULL,
    month date NOT NULL
);
CREATE INDEX month_changes_month ON month_changes (campaign_id, month);
CREATE FUNCTION note_new_months() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO month_changes
    SELECT DISTINCT n.campaign, date_trunc('month', n.converted_at AT TIME ZONE 'UTC')::date FROM now_rows n
    WHERE EXISTS (SELECT FROM terms WHERE campaign_id = n.campaign AND {MONTHLY});
    RETURN NULL;
END
$$;
CREATE FUNCTION note_changed_months() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO month_changes
    SELECT DISTINCT n.campaign, date_trunc('month', n.converted_at AT TIME ZONE 'UTC')::date
    FROM (SELECT campaign, converted_at FROM now_rows UNION SELECT campaign, converted_at FROM old_rows) n
    WHERE EXISTS (SELECT FROM terms WHERE campaign_id = n.campaign AND {MONTHLY});
    RETURN NULL;
END
$$;
CREATE TRIGGER conversions_note_new_months AFTER INSERT ON conversions REFERENCING NEW TABLE AS now_rows
    FOR EACH STATEMENT EXECUTE FUNCTION note_new_months();
CREATE TRIGGER conversions_note_changed_months AFTER UPDATE ON conversions REFERENCING NEW TABLE AS now_rows OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION note_changed_months();
"""


def upgrade() -> None:
    execute_briefly(TERMS)
    execute_briefly(CONVERSIONS)
    execute_alongside(CHECKED)
    for name, on in INDEXES.items():
        make_index(name, on)
    execute(PARENTS)
    execute(MONTHS)


def downgrade() -> None:
    raise NotImplementedError("restore a backup; schema revisions only go forward")
