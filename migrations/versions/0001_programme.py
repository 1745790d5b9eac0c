"""The programme: who promotes what, under which terms, and the feed that publishes it to the redirectors."""

from migrations.sql import execute

revision = "0001"
down_revision = None

# Every entity: a slug people use, where it came from when it was imported, and a revision that moves with each change.
COMMON = """
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slug text NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9_-]{1,64}$'),
    name text NOT NULL DEFAULT '',
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'paused', 'archived')),
"""
ORIGIN = """
    source text,
    source_id text,
    import_batch text,
    grade text CHECK (grade IN ('raw', 'aggregate', 'inferred')),
    extra jsonb NOT NULL DEFAULT '{}',
    revision bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (source, source_id)
"""

TABLES = f"""
CREATE TABLE installation (
    key text PRIMARY KEY,
    value text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE advertisers ({COMMON}
    currency char(3) NOT NULL CHECK (currency ~ '^[A-Z]{{3}}$'),
    domains text[] NOT NULL DEFAULT '{{}}',
    settings jsonb NOT NULL DEFAULT '{{}}',
    {ORIGIN}
);

CREATE TABLE campaigns ({COMMON}
    advertiser_id bigint NOT NULL REFERENCES advertisers,
    destination_url text NOT NULL,
    fallback_url text,
    click_id_param text NOT NULL DEFAULT 'click_id',
    attribution_window_days integer NOT NULL DEFAULT 30 CHECK (attribution_window_days BETWEEN 1 AND 3650),
    starts_at timestamptz,
    expires_at timestamptz,
    rules jsonb NOT NULL DEFAULT '{{}}',
    {ORIGIN}
);
CREATE INDEX campaigns_advertiser ON campaigns (advertiser_id);

CREATE TABLE partners ({COMMON}
    email text,
    parent_id bigint REFERENCES partners,
    password_hash text,
    settings jsonb NOT NULL DEFAULT '{{}}',
    {ORIGIN}
);
CREATE INDEX partners_parent ON partners (parent_id);

CREATE TABLE links ({COMMON}
    partner_id bigint NOT NULL REFERENCES partners,
    campaign_id bigint NOT NULL REFERENCES campaigns,
    advertiser_id bigint NOT NULL REFERENCES advertisers,
    creative text NOT NULL DEFAULT '',
    destination_url text,
    fallback_url text,
    expires_at timestamptz,
    rules jsonb NOT NULL DEFAULT '{{}}',
    {ORIGIN}
);
CREATE INDEX links_partner ON links (partner_id);
CREATE INDEX links_campaign ON links (campaign_id);

CREATE TABLE aliases (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    url text NOT NULL,
    host text NOT NULL DEFAULT '',
    match_key text NOT NULL,
    link_id bigint NOT NULL REFERENCES links,
    advertiser_id bigint NOT NULL REFERENCES advertisers,
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'paused', 'archived')),
    {ORIGIN},
    UNIQUE (host, match_key)
);
CREATE INDEX aliases_link ON aliases (link_id);

CREATE TABLE goals (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slug text NOT NULL CHECK (slug ~ '^[a-z0-9_-]{{1,64}}$'),
    name text NOT NULL DEFAULT '',
    campaign_id bigint NOT NULL REFERENCES campaigns,
    advertiser_id bigint NOT NULL REFERENCES advertisers,
    duplicate_policy text NOT NULL DEFAULT 'ignore',
    {ORIGIN},
    UNIQUE (campaign_id, slug)
);

CREATE TABLE coupons (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code text NOT NULL CHECK (code <> ''),
    partner_id bigint NOT NULL REFERENCES partners,
    campaign_id bigint NOT NULL REFERENCES campaigns,
    advertiser_id bigint NOT NULL REFERENCES advertisers,
    valid_from timestamptz,
    valid_to timestamptz,
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'paused', 'archived')),
    {ORIGIN}
);
CREATE INDEX coupons_code ON coupons (advertiser_id, upper(code));

CREATE TABLE terms (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    campaign_id bigint NOT NULL REFERENCES campaigns,
    goal_id bigint REFERENCES goals,
    partner_id bigint REFERENCES partners,
    effective_from timestamptz NOT NULL DEFAULT '-infinity',
    effective_to timestamptz NOT NULL DEFAULT 'infinity',
    payout_type text NOT NULL CHECK (payout_type IN ('fixed', 'percent', 'plan')),
    amount_micros bigint CHECK (amount_micros >= 0),
    percent_micros bigint CHECK (percent_micros BETWEEN 0 AND 100000000),
    currency char(3) CHECK (currency ~ '^[A-Z]{{3}}$'),
    plan jsonb NOT NULL DEFAULT '{{}}',
    version integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK (effective_from < effective_to),
    CHECK (payout_type <> 'fixed' OR (amount_micros IS NOT NULL AND currency IS NOT NULL)),
    CHECK (payout_type <> 'percent' OR percent_micros IS NOT NULL)
);
CREATE INDEX terms_campaign ON terms (campaign_id, effective_from);

CREATE TABLE api_keys (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL DEFAULT '',
    role text NOT NULL CHECK (role IN ('admin', 'operator', 'viewer', 'advertiser')),
    advertiser_id bigint REFERENCES advertisers,
    key_hash bytea NOT NULL UNIQUE,
    prefix text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz,
    CHECK ((role = 'advertiser') = (advertiser_id IS NOT NULL))
);

CREATE TABLE postback_tokens (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    advertiser_id bigint NOT NULL REFERENCES advertisers,
    kind text NOT NULL CHECK (kind IN ('token', 'pixel')),
    slot smallint NOT NULL DEFAULT 1 CHECK (slot IN (1, 2)),
    token_hash bytea NOT NULL UNIQUE,
    public_value text,
    revision bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);
CREATE UNIQUE INDEX postback_tokens_two_active ON postback_tokens (advertiser_id, kind, slot) WHERE revoked_at IS NULL;

CREATE TABLE tracking_hosts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    host text NOT NULL UNIQUE CHECK (host = lower(host) AND host <> ''),
    kind text NOT NULL DEFAULT 'old' CHECK (kind IN ('tracking', 'old')),
    advertiser_id bigint REFERENCES advertisers,
    platform text,
    fallback_url text,
    forward_to text,
    state text NOT NULL DEFAULT 'none',
    settings jsonb NOT NULL DEFAULT '{{}}',
    {ORIGIN}
);

CREATE TABLE events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    actor text NOT NULL,
    action text NOT NULL,
    entity text NOT NULL,
    entity_id text NOT NULL,
    reason text NOT NULL DEFAULT '',
    before jsonb,
    after jsonb
);
CREATE INDEX events_entity ON events (entity, entity_id, id);

CREATE TABLE route_changes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    entity text NOT NULL,
    entity_id bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);
"""

# The lock comes before the first id is drawn, and is held to the commit: so ids become visible in their order and a
# reader that asks for `id > last` never passes over a slower transaction's lower id.
ROUTE_FEED_LOCK = 0x726F757465
FEED = f"""
CREATE SEQUENCE entity_revisions;

CREATE FUNCTION move_revision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.revision := nextval('entity_revisions');
    NEW.updated_at := now();
    RETURN NEW;
END
$$;

CREATE FUNCTION feed_route_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock({ROUTE_FEED_LOCK});
    INSERT INTO route_changes (entity, entity_id) SELECT TG_TABLE_NAME, id FROM changed;
    NOTIFY turnout_routes;
    RETURN NULL;
END
$$;

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% rows are never changed or removed; append a correcting row', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER events_are_kept BEFORE UPDATE OR DELETE ON events FOR EACH ROW EXECUTE FUNCTION refuse_change();
"""

PUBLISHED = ("advertisers", "campaigns", "partners", "links", "aliases", "tracking_hosts", "postback_tokens")
REVISED = (*PUBLISHED, "goals", "coupons")


def _triggers() -> str:
    lines = [
        f"CREATE TRIGGER {table}_revision BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION move_revision();"
        for table in REVISED
    ]
    for table in PUBLISHED:
        for event, rows in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
            lines.append(
                f"CREATE TRIGGER {table}_feed_{event.lower()} AFTER {event} ON {table} REFERENCING {rows} TABLE AS changed "
                "FOR EACH STATEMENT EXECUTE FUNCTION feed_route_changes();"
            )
    return "\n".join(lines) + "\n"


def upgrade() -> None:
    execute(TABLES)
    execute(FEED)
    execute(_triggers())


def downgrade() -> None:
    raise NotImplementedError("restore a backup; schema revisions only go forward")
