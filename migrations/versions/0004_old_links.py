"""Old links: which partner, campaign or link of ours the ids of an old platform mean."""

from migrations.sql import execute

revision = "0004"
down_revision = "0003"

# `source` is the installation of the old platform that the ids are of; a tracking host without one takes its platform's name.
# `is_own`: made from the source_id of the row it leads to, and moved with it.
OLD_IDS = """
CREATE TABLE old_ids (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source text NOT NULL CHECK (source <> ''),
    kind text NOT NULL CHECK (kind IN ('partner', 'offer', 'creative', 'link', 'pair', 'made')),
    source_id text NOT NULL,
    partner_id bigint REFERENCES partners ON DELETE CASCADE,
    campaign_id bigint REFERENCES campaigns ON DELETE CASCADE,
    link_id bigint REFERENCES links ON DELETE CASCADE,
    creative text,
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'archived')),
    is_own boolean NOT NULL DEFAULT false,
    import_batch text,
    revision bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (source, kind, source_id),
    CHECK (CASE kind WHEN 'partner' THEN partner_id WHEN 'offer' THEN campaign_id WHEN 'creative' THEN 0 ELSE link_id END IS NOT NULL),
    CHECK (num_nonnulls(partner_id, campaign_id, link_id, creative) = 1
        OR kind = 'creative' AND num_nonnulls(campaign_id, creative) = 2 AND num_nonnulls(partner_id, link_id) = 0),
    CHECK (kind <> 'creative' OR num_nonnulls(partner_id, link_id) = 0)
);
CREATE INDEX old_ids_partner ON old_ids (partner_id) WHERE partner_id IS NOT NULL;
CREATE INDEX old_ids_campaign ON old_ids (campaign_id) WHERE campaign_id IS NOT NULL;
CREATE INDEX old_ids_link ON old_ids (link_id) WHERE link_id IS NOT NULL;
"""

# A mapping that somebody made by hand stays in force against the row's own source_id.
OWN_IDS = """
CREATE FUNCTION own_old_ids() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        EXECUTE format('DELETE FROM old_ids o USING was w, became b WHERE o.is_own AND o.%1$I = w.id AND b.id = w.id
            AND (b.source, b.source_id) IS DISTINCT FROM (w.source, w.source_id)', TG_ARGV[1]);
    END IF;
    EXECUTE format('INSERT INTO old_ids (source, kind, source_id, %1$I, is_own)
        SELECT source, %2$L, source_id, id, true FROM became WHERE source <> '''' AND source_id <> ''''
        ON CONFLICT (source, kind, source_id) DO NOTHING', TG_ARGV[1], TG_ARGV[0]);
    RETURN NULL;
END
$$;
"""
OWNERS = {"partners": ("partner", "partner_id"), "campaigns": ("offer", "campaign_id"), "links": ("link", "link_id")}


def _triggers() -> str:
    lines = ["CREATE TRIGGER old_ids_revision BEFORE INSERT OR UPDATE ON old_ids FOR EACH ROW EXECUTE FUNCTION move_revision();"]
    lines += [
        f"CREATE TRIGGER old_ids_feed_{event.lower()} AFTER {event} ON old_ids REFERENCING {rows} TABLE AS changed "
        "FOR EACH STATEMENT EXECUTE FUNCTION feed_route_changes();"
        for event, rows in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD"))
    ]
    for table, (kind, column) in OWNERS.items():
        call = f"FOR EACH STATEMENT EXECUTE FUNCTION own_old_ids('{kind}', '{column}');"
        lines.append(f"CREATE TRIGGER {table}_own_ids_insert AFTER INSERT ON {table} REFERENCING NEW TABLE AS became {call}")
        lines.append(
            f"CREATE TRIGGER {table}_own_ids_update AFTER UPDATE ON {table} REFERENCING OLD TABLE AS was NEW TABLE AS became {call}"
        )
        lines.append(
            f"INSERT INTO old_ids (source, kind, source_id, {column}, is_own) SELECT source, '{kind}', source_id, id, true FROM {table} "
            "WHERE source <> '' AND source_id <> '';"
        )
    return "\n".join(lines) + "\n"


# Orphans are listed and attributed in the order of their ids, which is that of their times; their orders wait under the same ids.
ORPHANS = """
DROP INDEX clicks_orphans;
CREATE INDEX clicks_orphans ON clicks (click_id) WHERE outcome = 'unknown';
CREATE INDEX clicks_orphan_partners ON clicks (old_partner) WHERE outcome = 'unknown';
CREATE INDEX clicks_orphan_offers ON clicks (old_offer) WHERE outcome = 'unknown';
CREATE INDEX postbacks_without_partner ON postbacks (lower(click_id)) WHERE outcome IN ('parked', 'orphan');
"""


def upgrade() -> None:
    execute(OLD_IDS)
    execute(OWN_IDS)
    execute(_triggers())
    execute(ORPHANS)


def downgrade() -> None:
    raise NotImplementedError("restore a backup; schema revisions only go forward")
