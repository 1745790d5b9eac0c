"""Conversions: every report received, what it led to, and the immutable ledger. Money is integer micros of a currency."""

from migrations.sql import execute

revision = "0003"
down_revision = "0002"

CONVERSIONS = """
CREATE TABLE postbacks (
    postback_id uuid PRIMARY KEY,
    received_at timestamptz NOT NULL,
    source text NOT NULL CHECK (source IN ('postback', 'pixel', 'old')),
    advertiser_id bigint REFERENCES advertisers,
    txid text,
    goal text NOT NULL DEFAULT 'sale',
    click_id text,
    coupon text,
    amount_micros bigint,
    currency char(3),
    amount_original text,
    currency_original text,
    status_original text,
    status text NOT NULL DEFAULT 'approved',
    happened_at timestamptz,
    parameters jsonb NOT NULL DEFAULT '{}',
    ip text NOT NULL DEFAULT '',
    outcome text NOT NULL CHECK (outcome IN ('attributed', 'duplicate', 'orphan', 'parked', 'rejected', 'conflict')),
    reason text NOT NULL DEFAULT '',
    conversion_id uuid,
    unverified boolean NOT NULL DEFAULT false,
    tries integer NOT NULL DEFAULT 0,
    next_try_at timestamptz,
    parked_until timestamptz,
    processed_at timestamptz NOT NULL DEFAULT now(),
    node text,
    boot uuid,
    seq bigint
);
CREATE INDEX postbacks_to_try ON postbacks (next_try_at) WHERE outcome = 'parked';
CREATE INDEX postbacks_txid ON postbacks (advertiser_id, txid, received_at);

CREATE TABLE conversions (
    id uuid PRIMARY KEY,
    advertiser_id bigint NOT NULL REFERENCES advertisers,
    goal text NOT NULL,
    txid text NOT NULL CHECK (txid <> ''),
    occurrence integer NOT NULL DEFAULT 1,
    postback_id uuid NOT NULL,
    status text NOT NULL CHECK (status IN ('pending', 'approved', 'rejected', 'reversed', 'orphan')),
    converted_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    amount_micros bigint NOT NULL,
    currency char(3) NOT NULL,
    amount_original text NOT NULL DEFAULT '',
    currency_original text NOT NULL DEFAULT '',
    status_original text NOT NULL DEFAULT '',
    payout_micros bigint NOT NULL DEFAULT 0,
    payout_currency char(3) NOT NULL,
    terms_id bigint REFERENCES terms,
    attribution text NOT NULL,
    trace jsonb NOT NULL DEFAULT '[]',
    click_id uuid,
    clicked_at timestamptz,
    link bigint,
    partner bigint,
    campaign bigint,
    creative text,
    country text,
    device text,
    os text,
    browser text,
    sub1 text, sub2 text, sub3 text, sub4 text, sub5 text, sub6 text, sub7 text, sub8 text, sub9 text, sub10 text,
    ref text,
    parameters jsonb NOT NULL DEFAULT '{}',
    source text,
    source_id text,
    import_batch text,
    grade text CHECK (grade IN ('raw', 'aggregate', 'inferred')),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (advertiser_id, goal, txid, occurrence),
    UNIQUE (source, source_id)
);
CREATE INDEX conversions_click ON conversions (click_id) WHERE click_id IS NOT NULL;
CREATE INDEX conversions_converted_at ON conversions (converted_at);
CREATE INDEX conversions_partner ON conversions (partner, converted_at);

CREATE TABLE conversion_shares (
    conversion_id uuid NOT NULL REFERENCES conversions,
    partner_id bigint NOT NULL REFERENCES partners,
    level smallint NOT NULL DEFAULT 1,
    amount_micros bigint NOT NULL,
    currency char(3) NOT NULL,
    terms_id bigint REFERENCES terms,
    plan_version integer NOT NULL DEFAULT 1,
    PRIMARY KEY (conversion_id, partner_id, level)
);

CREATE TABLE ledger_entries (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    effective_on date NOT NULL,
    account text NOT NULL CHECK (account IN ('partner', 'advertiser')),
    partner_id bigint REFERENCES partners,
    advertiser_id bigint NOT NULL REFERENCES advertisers,
    conversion_id uuid,
    postback_id uuid,
    kind text NOT NULL,
    status text NOT NULL,
    amount_micros bigint NOT NULL,
    currency char(3) NOT NULL,
    reason text NOT NULL DEFAULT '',
    actor text NOT NULL,
    CHECK (account <> 'partner' OR partner_id IS NOT NULL)
);
CREATE INDEX ledger_entries_conversion ON ledger_entries (conversion_id);
CREATE INDEX ledger_entries_partner ON ledger_entries (partner_id, effective_on);

CREATE TRIGGER ledger_entries_are_kept BEFORE UPDATE OR DELETE ON ledger_entries FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    advertiser_id bigint NOT NULL REFERENCES advertisers,
    conversion_id uuid,
    idempotency_key uuid NOT NULL UNIQUE,
    payload jsonb NOT NULL,
    tries integer NOT NULL DEFAULT 0,
    next_try_at timestamptz,
    done_at timestamptz,
    outcome text NOT NULL DEFAULT 'waiting',
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX outbox_to_try ON outbox (next_try_at) WHERE done_at IS NULL;
"""


def upgrade() -> None:
    execute(CONVERSIONS)


def downgrade() -> None:
    raise NotImplementedError("restore a backup; schema revisions only go forward")
