"""Clicks: the partitioned log, the books a boot, rollups, and what could not be stored."""

from migrations.sql import execute

revision = "0002"
down_revision = "0001"

CLICKS = """
CREATE TABLE clicks (
    click_id uuid NOT NULL PRIMARY KEY,
    clicked_at timestamptz NOT NULL,
    kind text NOT NULL,
    method text NOT NULL,
    host text NOT NULL,
    url text NOT NULL,
    link bigint,
    partner bigint,
    campaign bigint,
    advertiser bigint,
    creative text NOT NULL,
    outcome text NOT NULL,
    verdict text NOT NULL,
    rule_version smallint NOT NULL,
    counted boolean NOT NULL,
    is_unique boolean,
    redirected_to text NOT NULL,
    ip text NOT NULL,
    country text NOT NULL,
    network text NOT NULL,
    device text NOT NULL,
    os text NOT NULL,
    browser text NOT NULL,
    user_agent text NOT NULL,
    referrer text NOT NULL,
    language text NOT NULL,
    sub1 text, sub2 text, sub3 text, sub4 text, sub5 text, sub6 text, sub7 text, sub8 text, sub9 text, sub10 text,
    ref text,
    visitor_key bytea,
    platform text,
    old_partner text,
    old_offer text,
    old_creative text,
    old_click_id text,
    extra jsonb,
    truncated boolean NOT NULL,
    node text NOT NULL,
    boot uuid NOT NULL,
    seq bigint NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now()
) PARTITION BY RANGE (click_id);

CREATE INDEX clicks_clicked_at ON clicks USING brin (clicked_at);
CREATE INDEX clicks_old_click_id ON clicks (old_click_id) WHERE old_click_id IS NOT NULL;
CREATE INDEX clicks_orphans ON clicks (clicked_at) WHERE outcome = 'unknown';

CREATE FUNCTION click_id_floor(moment timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

CREATE TABLE click_attributions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    click_id uuid NOT NULL,
    clicked_at timestamptz NOT NULL,
    link bigint,
    partner bigint,
    campaign bigint,
    reason text NOT NULL,
    actor text NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX click_attributions_click ON click_attributions (click_id, id);

CREATE TRIGGER click_attributions_are_kept BEFORE UPDATE OR DELETE ON click_attributions FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE VIEW orphans AS
    SELECT c.* FROM clicks c
    WHERE c.outcome = 'unknown' AND NOT EXISTS (SELECT FROM click_attributions a WHERE a.click_id = c.click_id);

CREATE TABLE old_clicks (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source text NOT NULL,
    old_click_id text NOT NULL CHECK (length(old_click_id) BETWEEN 1 AND 255),
    click_id uuid,
    clicked_at timestamptz NOT NULL,
    link bigint,
    partner bigint,
    campaign bigint,
    advertiser bigint,
    old_offer text,
    facts jsonb NOT NULL DEFAULT '{}',
    import_batch text,
    grade text CHECK (grade IN ('raw', 'aggregate', 'inferred'))
);
CREATE INDEX old_clicks_old_click_id ON old_clicks (old_click_id);

CREATE TABLE boots (
    boot uuid PRIMARY KEY,
    node text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('clicks', 'conversions')),
    host_id text NOT NULL DEFAULT '',
    covered int8multirange NOT NULL DEFAULT '{}',
    lost int8multirange NOT NULL DEFAULT '{}',
    accepted bigint NOT NULL DEFAULT 0,
    stored bigint NOT NULL DEFAULT 0,
    duplicate bigint NOT NULL DEFAULT 0,
    rejected bigint NOT NULL DEFAULT 0,
    unrecorded bigint NOT NULL DEFAULT 0,
    redelivered bigint NOT NULL DEFAULT 0,
    last_seq bigint NOT NULL DEFAULT 0,
    closed_seq bigint,
    opened_at timestamptz NOT NULL DEFAULT now(),
    last_heard_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz
) WITH (fillfactor = 50);
CREATE INDEX boots_open ON boots (last_heard_at) WHERE closed_seq IS NULL;

CREATE TABLE click_stats (
    bucket timestamptz NOT NULL,
    slot smallint NOT NULL,
    campaign bigint NOT NULL,
    partner bigint NOT NULL,
    link bigint NOT NULL,
    clicks bigint NOT NULL DEFAULT 0,
    unique_clicks bigint NOT NULL DEFAULT 0,
    total bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (bucket, campaign, partner, link, slot)
) WITH (fillfactor = 70);

CREATE TABLE daily_stats (
    day date NOT NULL,
    slot smallint NOT NULL,
    campaign bigint NOT NULL,
    partner bigint NOT NULL,
    clicks bigint NOT NULL DEFAULT 0,
    unique_clicks bigint NOT NULL DEFAULT 0,
    total bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (day, campaign, partner, slot)
) WITH (fillfactor = 70);

CREATE TABLE dead_letters (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    kind text NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL DEFAULT '',
    node text NOT NULL,
    boot uuid NOT NULL,
    seq bigint NOT NULL,
    records integer NOT NULL,
    payload bytea NOT NULL
);
CREATE INDEX dead_letters_at ON dead_letters (at);
"""


def upgrade() -> None:
    execute(CLICKS)


def downgrade() -> None:
    raise NotImplementedError("restore a backup; schema revisions only go forward")
