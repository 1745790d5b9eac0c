"""Reports that come to old hosts: as they came, what waits, what is passed on to the old platform; impressions; the clicks it made."""

from migrations.sql import execute_briefly, make_index

revision = "0011"
down_revision = "0010"

# As they came, for those who look into them; the postback that was read in one has the same id. `waiting`: nobody knows yet whose
# order it is; tried again at `next_try_at`, given up after `waits_until`.
REPORTS = """
CREATE TABLE IF NOT EXISTS old_reports (
    postback_id uuid PRIMARY KEY,
    received_at timestamptz NOT NULL,
    kind text NOT NULL CHECK (kind IN ('postback', 'pixel', 'landing')),
    platform text NOT NULL,
    source text NOT NULL,
    host text NOT NULL,
    method text NOT NULL,
    target bytea NOT NULL,
    content_type bytea NOT NULL DEFAULT '',
    body bytea NOT NULL DEFAULT '',
    ip text NOT NULL DEFAULT '',
    user_agent bytea NOT NULL DEFAULT '',
    visits text[] NOT NULL DEFAULT '{}',
    old_click_id bytea NOT NULL DEFAULT '',
    state text NOT NULL CHECK (state IN ('read', 'waiting', 'refused', 'ignored')),
    reason text NOT NULL DEFAULT '',
    click_id text,
    offer_id text,
    partner_id text,
    tries integer NOT NULL DEFAULT 0,
    next_try_at timestamptz,
    waits_until timestamptz,
    CHECK ((state = 'waiting') = (next_try_at IS NOT NULL))
);
CREATE INDEX IF NOT EXISTS old_reports_to_try ON old_reports (next_try_at) WHERE state = 'waiting';
CREATE INDEX IF NOT EXISTS old_reports_received ON old_reports (received_at);
CREATE INDEX IF NOT EXISTS old_reports_of_source ON old_reports (source, received_at);
CREATE INDEX IF NOT EXISTS old_reports_refused ON old_reports (postback_id) WHERE state IN ('refused', 'ignored');
CREATE TABLE IF NOT EXISTS impression_stats (
    bucket timestamptz NOT NULL,
    slot smallint NOT NULL,
    campaign bigint NOT NULL,
    partner bigint NOT NULL,
    link bigint NOT NULL,
    impressions bigint NOT NULL,
    PRIMARY KEY (bucket, campaign, partner, link, slot)
) WITH (fillfactor = 70);
CREATE TABLE IF NOT EXISTS tee_deliveries (
    postback_id uuid PRIMARY KEY,
    received_at timestamptz NOT NULL,
    kind text NOT NULL,
    platform text NOT NULL,
    source text NOT NULL,
    host text NOT NULL,
    forward_to text NOT NULL,
    origin text NOT NULL,
    target bytea NOT NULL,
    method text NOT NULL,
    content_type bytea NOT NULL DEFAULT '',
    body bytea NOT NULL DEFAULT '',
    user_agent bytea NOT NULL DEFAULT '',
    cookie bytea NOT NULL DEFAULT '',
    our_status integer NOT NULL,
    our_body bytea NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'given_up')),
    tries integer NOT NULL DEFAULT 0,
    first_tried_at timestamptz,
    next_try_at timestamptz DEFAULT now(),
    their_status integer,
    their_body bytea,
    agrees boolean,
    error text NOT NULL DEFAULT '',
    done_at timestamptz,
    CHECK ((state = 'waiting') = (next_try_at IS NOT NULL)),
    CHECK ((state = 'waiting') = (done_at IS NULL))
);
CREATE INDEX IF NOT EXISTS tee_deliveries_to_try ON tee_deliveries (origin, next_try_at) WHERE state = 'waiting';
CREATE INDEX IF NOT EXISTS tee_deliveries_oldest ON tee_deliveries (received_at) WHERE state = 'waiting';
CREATE INDEX IF NOT EXISTS tee_deliveries_received ON tee_deliveries (received_at, postback_id);
CREATE INDEX IF NOT EXISTS tee_deliveries_differing ON tee_deliveries (received_at, postback_id) WHERE NOT agrees;
CREATE INDEX IF NOT EXISTS tee_deliveries_given_up ON tee_deliveries (host) WHERE state = 'given_up';
CREATE INDEX IF NOT EXISTS tee_deliveries_done ON tee_deliveries (done_at) WHERE state <> 'waiting';
ALTER TABLE postbacks ADD COLUMN IF NOT EXISTS campaign bigint;
ALTER TABLE postbacks ADD COLUMN IF NOT EXISTS partner bigint;
ALTER TABLE postbacks ADD COLUMN IF NOT EXISTS old_source text;
ALTER TABLE old_clicks ADD COLUMN IF NOT EXISTS old_partner text;
ALTER TABLE old_clicks ADD COLUMN IF NOT EXISTS old_creative text;
"""


def upgrade() -> None:
    execute_briefly(REPORTS)
    make_index("old_clicks_clicked", "old_clicks (source, clicked_at)")
    make_index("old_clicks_once", "old_clicks (source, old_click_id, clicked_at, coalesce(old_offer, ''))", unique=True)


def downgrade() -> None:
    raise NotImplementedError("restore a backup; schema revisions only go forward")
