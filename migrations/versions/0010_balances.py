"""Monthly closing rows of balances; indexes for the ledger by time, also of one advertiser, and for conversions by order number alone."""

from migrations.sql import execute_briefly, make_index

revision = "0010"
down_revision = "0009"

# Sums of the ledger entries that were booked in a month (UTC, by `at`). Payments and those that came back stand under `paid`, with the
# sign that they have in the ledger; partner and advertiser are null where the entries have none.
CLOSINGS = """
CREATE TABLE IF NOT EXISTS balance_closings (
    month date NOT NULL CHECK (month = date_trunc('month', month)),
    account text NOT NULL CHECK (account IN ('partner', 'advertiser')),
    partner_id bigint REFERENCES partners,
    advertiser_id bigint REFERENCES advertisers,
    currency char(3) NOT NULL,
    status text NOT NULL,
    amount_micros numeric NOT NULL,
    entries bigint NOT NULL CHECK (entries > 0),
    closed_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (month, account, partner_id, advertiser_id, currency, status)
);
CREATE INDEX IF NOT EXISTS balance_closings_partner ON balance_closings (partner_id, currency);
CREATE OR REPLACE TRIGGER balance_closings_are_kept BEFORE UPDATE OR DELETE ON balance_closings
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
"""


def upgrade() -> None:
    execute_briefly(CLOSINGS)
    make_index("ledger_entries_at", "ledger_entries (at, id)")
    make_index("ledger_entries_advertiser", "ledger_entries (advertiser_id, at, id)")
    make_index("conversions_txid", "conversions (txid)")


def downgrade() -> None:
    raise NotImplementedError("restore a backup; schema revisions only go forward")
