"""Reports of stores in full: order details, signing secrets, rules of attribution and of repetition by campaign and goal."""

from migrations.sql import execute_alongside, execute_briefly, make_index

revision = "0005"
down_revision = "0004"

# A signing secret must be known to be checked with, so it cannot be kept as a hash. `token_hash` of such a row is a name: see
# `tracker.domain.signatures.secret_name`.
SECRETS = """
ALTER TABLE postback_tokens
    DROP CONSTRAINT IF EXISTS postback_tokens_kind_check,
    DROP CONSTRAINT IF EXISTS postback_tokens_secret_check,
    ADD COLUMN IF NOT EXISTS secret text,
    ADD CONSTRAINT postback_tokens_kind_check CHECK (kind IN ('token', 'pixel', 'hmac', 'shopify', 'woocommerce', 'stripe')),
    ADD CONSTRAINT postback_tokens_secret_check CHECK ((secret IS NULL) = (kind IN ('token', 'pixel')));
"""

RULES = """
ALTER TABLE campaigns
    ADD COLUMN IF NOT EXISTS attribution_model text NOT NULL DEFAULT 'last' CHECK (attribution_model IN ('last', 'first')),
    ADD COLUMN IF NOT EXISTS coupon_first boolean NOT NULL DEFAULT false,
    ADD COLUMN IF NOT EXISTS min_conversion_seconds integer NOT NULL DEFAULT 0 CHECK (min_conversion_seconds BETWEEN 0 AND 86400),
    ADD COLUMN IF NOT EXISTS max_conversion_seconds integer CHECK (max_conversion_seconds > 0),
    ADD COLUMN IF NOT EXISTS customer_window_days integer NOT NULL DEFAULT 0 CHECK (customer_window_days BETWEEN 0 AND 3650);
ALTER TABLE goals
    DROP CONSTRAINT IF EXISTS goals_duplicate_policy_check,
    ADD COLUMN IF NOT EXISTS attribution_window_days integer CHECK (attribution_window_days BETWEEN 1 AND 3650),
    ADD CONSTRAINT goals_duplicate_policy_check CHECK (duplicate_policy IN
        ('ignore', 'conflict', 'amend', 'increment', 'always_new', 'new_or_repeated', 'by_event_id'));
"""

# Both tables may be large: columns are added with constants, the wider constraint is checked afterwards, while others read and write.
# `visits`: clicks that the visitor's signed cookie named. `details`: items, discount, shipping, tax, new or returning customer.
REPORTS = """
ALTER TABLE postbacks
    DROP CONSTRAINT IF EXISTS postbacks_source_check,
    ADD CONSTRAINT postbacks_source_check CHECK (source IN ('postback', 'pixel', 'webhook', 'old')) NOT VALID,
    ADD COLUMN IF NOT EXISTS customer text,
    ADD COLUMN IF NOT EXISTS event_id text,
    ADD COLUMN IF NOT EXISTS visits text[] NOT NULL DEFAULT '{}',
    ADD COLUMN IF NOT EXISTS details jsonb NOT NULL DEFAULT '{}';
ALTER TABLE conversions
    ADD COLUMN IF NOT EXISTS customer text,
    ADD COLUMN IF NOT EXISTS event_id text,
    ADD COLUMN IF NOT EXISTS details jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN IF NOT EXISTS is_repeat boolean NOT NULL DEFAULT false;
"""
CHECKED = """
ALTER TABLE postbacks VALIDATE CONSTRAINT postbacks_source_check;
"""
INDEXES = {
    "conversions_customer": "conversions (advertiser_id, customer, converted_at) WHERE customer IS NOT NULL",
    "conversions_event_id": "conversions (advertiser_id, event_id, goal) WHERE event_id IS NOT NULL",
    "conversions_postback": "conversions (postback_id)",
    "postbacks_parked_click": "postbacks (click_id) WHERE outcome = 'parked'",
}


def upgrade() -> None:
    execute_briefly(SECRETS)
    execute_briefly(RULES)
    execute_briefly(REPORTS)
    execute_alongside(CHECKED)
    for name, on in INDEXES.items():
        make_index(name, on)


def downgrade() -> None:
    raise NotImplementedError("restore a backup; schema revisions only go forward")
