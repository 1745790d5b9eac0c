"""Reports of stores in full: order details, signing secrets, rules of attribution and of repetition by campaign and goal."""

from migrations.sql import execute

revision = "0005"
down_revision = "0004"

# A signing secret must be known to be checked with, so it cannot be kept as a hash. `token_hash` of such a row is a name: see
# `tracker.domain.signatures.secret_name`.
SECRETS = """
ALTER TABLE postback_tokens DROP CONSTRAINT postback_tokens_kind_check;
ALTER TABLE postback_tokens ADD COLUMN secret text,
    ADD CONSTRAINT postback_tokens_kind_check CHECK (kind IN ('token', 'pixel', 'hmac', 'shopify', 'woocommerce', 'stripe')),
    ADD CONSTRAINT postback_tokens_secret_check CHECK ((secret IS NULL) = (kind IN ('token', 'pixel')));
"""

RULES = """
ALTER TABLE campaigns
    ADD COLUMN attribution_model text NOT NULL DEFAULT 'last' CHECK (attribution_model IN ('last', 'first')),
    ADD COLUMN coupon_first boolean NOT NULL DEFAULT false,
    ADD COLUMN min_conversion_seconds integer NOT NULL DEFAULT 0 CHECK (min_conversion_seconds BETWEEN 0 AND 86400),
    ADD COLUMN max_conversion_seconds integer CHECK (max_conversion_seconds > 0),
    ADD COLUMN customer_window_days integer NOT NULL DEFAULT 0 CHECK (customer_window_days BETWEEN 0 AND 3650);
ALTER TABLE goals
    ADD COLUMN attribution_window_days integer CHECK (attribution_window_days BETWEEN 1 AND 3650),
    ADD CONSTRAINT goals_duplicate_policy_check CHECK (duplicate_policy IN
        ('ignore', 'conflict', 'amend', 'increment', 'always_new', 'new_or_repeated', 'by_event_id'));
"""

# `visits`: clicks that the visitor's signed cookie named. `details`: items, discount, shipping, tax, new or returning customer.
REPORTS = """
ALTER TABLE postbacks DROP CONSTRAINT postbacks_source_check;
ALTER TABLE postbacks
    ADD CONSTRAINT postbacks_source_check CHECK (source IN ('postback', 'pixel', 'webhook', 'old')),
    ADD COLUMN customer text,
    ADD COLUMN event_id text,
    ADD COLUMN visits text[] NOT NULL DEFAULT '{}',
    ADD COLUMN details jsonb NOT NULL DEFAULT '{}';
ALTER TABLE conversions
    ADD COLUMN customer text,
    ADD COLUMN event_id text,
    ADD COLUMN details jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN is_repeat boolean NOT NULL DEFAULT false;
CREATE INDEX conversions_customer ON conversions (advertiser_id, customer, converted_at) WHERE customer IS NOT NULL;
CREATE INDEX conversions_event_id ON conversions (advertiser_id, event_id, goal) WHERE event_id IS NOT NULL;
CREATE INDEX conversions_postback ON conversions (postback_id);
CREATE INDEX postbacks_parked_click ON postbacks (click_id) WHERE outcome = 'parked';
"""


def upgrade() -> None:
    execute(SECRETS)
    execute(RULES)
    execute(REPORTS)


def downgrade() -> None:
    raise NotImplementedError("restore a backup; schema revisions only go forward")
