"""The statements of `postgres_programme`.

Every name in them is a constant of this package; what users send is always a parameter.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tracker.programme import THINGS, Thing

TERMS_COLUMNS = ("p.payout_type", "p.amount_micros", "p.percent_micros", "p.terms_currency", "p.plan")
# What holds until further notice; a promotion goes before it, and is no payout that somebody can change here.
TERMS_NOW = """
    LEFT JOIN LATERAL (
        SELECT payout_type, amount_micros, percent_micros, trim(currency) AS terms_currency, plan FROM terms
        WHERE terms.campaign_id = {campaign} AND terms.goal_id IS NOT DISTINCT FROM {goal} AND terms.partner_id IS NULL
          AND effective_from <= clock_timestamp() AND clock_timestamp() < effective_to AND (effective_to = 'infinity' OR actor = '')
        ORDER BY effective_from DESC, terms.id DESC LIMIT 1
    ) p ON true
"""
PIXEL_KEY = """
    (SELECT k.public_value FROM postback_tokens k
     WHERE k.advertiser_id = t.id AND k.kind = 'pixel' AND k.revoked_at IS NULL ORDER BY k.slot LIMIT 1) AS pixel_key
"""
ORIGIN = ("t.source", "t.source_id", "t.created_at", "t.updated_at")
FILTERS = {"source": "t.source", "source_id": "t.source_id"}


@dataclass(frozen=True, slots=True)
class View:
    """How a thing is read.

    `columns` and `tables` make its SELECT (`t` is the thing itself), `filters` is what lists may be filtered by,
    `scope` the column that names its advertiser (None: it belongs to none).
    """

    columns: tuple[str, ...]
    tables: str
    filters: dict[str, str] = field(default_factory=dict)
    scope: str | None = "t.advertiser_id"

    @property
    def select(self) -> str:
        return f"SELECT {', '.join(self.columns + ORIGIN)} FROM {self.tables}"  # noqa: S608 - constants only


def _own(names: str) -> tuple[str, ...]:
    return tuple(f"t.{name}" for name in names.split())


VIEWS = {
    "advertisers": View(
        (*_own("id slug name status"), "trim(t.currency) AS currency", *_own("domains settings"), PIXEL_KEY),
        "advertisers t",
        {"status": "t.status"},
        "t.id",
    ),
    "campaigns": View(
        (
            *("t.id", "t.slug", "a.slug AS advertiser"),
            *_own(
                "name status destination_url fallback_url click_id_param attribution_window_days attribution_model coupon_first "
                "min_conversion_seconds max_conversion_seconds customer_window_days hold_days starts_at expires_at"
            ),
            *("t.rules", *TERMS_COLUMNS),
        ),
        "campaigns t JOIN advertisers a ON a.id = t.advertiser_id" + TERMS_NOW.format(campaign="t.id", goal="NULL"),
        {"status": "t.status", "advertiser": "a.slug"},
    ),
    "partners": View(
        (*_own("id slug name status email settings"), "u.slug AS parent"),
        "partners t LEFT JOIN partners u ON u.id = t.parent_id",
        {"status": "t.status", "parent": "u.slug"},
        None,
    ),
    "links": View(
        (
            *("t.id", "t.slug", "p.slug AS partner", "c.slug AS campaign", "a.slug AS advertiser"),
            *_own("name status creative destination_url fallback_url expires_at rules"),
        ),
        "links t JOIN partners p ON p.id = t.partner_id JOIN campaigns c ON c.id = t.campaign_id"
        " JOIN advertisers a ON a.id = t.advertiser_id",
        {"status": "t.status", "partner": "p.slug", "campaign": "c.slug", "advertiser": "a.slug"},
    ),
    "aliases": View(
        ("t.id", "t.url", "l.slug AS link", *_own("host match_key status")),
        "aliases t JOIN links l ON l.id = t.link_id",
        {"status": "t.status", "link": "l.slug", "host": "t.host"},
    ),
    "coupons": View(
        ("t.id", "t.code", "p.slug AS partner", "c.slug AS campaign", *_own("valid_from valid_to status")),
        "coupons t JOIN partners p ON p.id = t.partner_id JOIN campaigns c ON c.id = t.campaign_id",
        {"status": "t.status", "partner": "p.slug", "campaign": "c.slug", "code": "t.code"},
    ),
    "goals": View(
        (*_own("id slug name"), "c.slug AS campaign", "t.attribution_window_days", "t.duplicate_policy", *TERMS_COLUMNS),
        "goals t JOIN campaigns c ON c.id = t.campaign_id" + TERMS_NOW.format(campaign="t.campaign_id", goal="t.id"),
        {"campaign": "c.slug"},
    ),
    "tracking-hosts": View(
        (*_own("id host kind"), "a.slug AS advertiser", *_own("platform fallback_url forward_to state settings")),
        "tracking_hosts t LEFT JOIN advertisers a ON a.id = t.advertiser_id",
        {"kind": "t.kind", "advertiser": "a.slug"},
    ),
    "old-ids": View(
        ("t.id", "t.kind", "p.slug AS partner", "c.slug AS campaign", "l.slug AS link", *_own("creative status is_own")),
        "old_ids t LEFT JOIN partners p ON p.id = t.partner_id LEFT JOIN campaigns c ON c.id = t.campaign_id"
        " LEFT JOIN links l ON l.id = t.link_id",
        {"status": "t.status", "kind": "t.kind", "partner": "p.slug", "campaign": "c.slug", "link": "l.slug"},
        None,
    ),
}
PAGE_MAX = 1000  # items of a list
NUMBERED = frozenset(("aliases", "coupons", "goals", "old-ids"))  # these also answer to their id
OF_CAMPAIGN = frozenset(("coupons", "goals"))  # the same name may occur once a campaign, so `?campaign=` tells which is meant

EVENT = "INSERT INTO events (actor, action, entity, entity_id, reason, before, after) VALUES ($1, $2, $3, $4, $5, $6, $7)"
EVENTS = """
    INSERT INTO events (actor, action, entity, entity_id, after)
    SELECT $1, 'create', 'link', slug, after::jsonb FROM unnest($2::text[], $3::text[]) AS r(slug, after)
"""
INSERT_KEY_OF = "INSERT INTO postback_tokens (advertiser_id, kind, token_hash, public_value, slot) VALUES ($1, $2, $3, $4, $5)"
TOKENS_OF = """
    SELECT slot, created_at FROM postback_tokens WHERE advertiser_id = $1 AND kind = 'token' AND revoked_at IS NULL ORDER BY slot
"""
SLOT_REVOKE = """
    UPDATE postback_tokens SET revoked_at = now() WHERE advertiser_id = $1 AND kind = 'token' AND slot = $2 AND revoked_at IS NULL
    RETURNING 1
"""
SIGNING_OF = """
    SELECT kind, slot, created_at FROM postback_tokens WHERE advertiser_id = $1 AND secret IS NOT NULL AND revoked_at IS NULL
    ORDER BY kind, slot
"""
SIGNING_INSERT = """
    INSERT INTO postback_tokens (advertiser_id, kind, token_hash, secret, slot) VALUES ($1, $2, $3, $4, $5)
"""
# The audit trail says who ended it and when; the secret itself is gone.
SIGNING_DELETE = "DELETE FROM postback_tokens WHERE advertiser_id = $1 AND kind = $2 AND slot = $3 AND secret IS NOT NULL RETURNING 1"
SIGNING_BY_NAME = """
    SELECT t.advertiser_id, a.slug, trim(a.currency) AS currency, a.settings, t.secret
    FROM postback_tokens t JOIN advertisers a ON a.id = t.advertiser_id
    WHERE t.token_hash = ANY($1::bytea[]) AND t.kind = $2 AND t.secret IS NOT NULL AND t.revoked_at IS NULL ORDER BY t.slot
"""
COUPON_LOCK = "SELECT FROM advertisers a JOIN coupons c ON c.advertiser_id = a.id WHERE c.id = $1 FOR NO KEY UPDATE OF a"
# An address of a host that leads to an old host of ours.
LOOP = """
    SELECT r.field, o.host FROM tracking_hosts t
    CROSS JOIN LATERAL (VALUES ('forward_to', t.forward_to), ('fallback_url', t.fallback_url)) AS r(field, url)
    JOIN tracking_hosts o ON o.kind = 'old' AND o.host = lower(substring(r.url FROM '^[a-zA-Z]+://([^/?#:]+)'))
    WHERE t.id = $1 AND t.kind = 'old' LIMIT 1
"""
COUPON_OVERLAP = """
    SELECT 1 FROM coupons n JOIN coupons o
      ON o.advertiser_id = n.advertiser_id AND upper(o.code) = upper(n.code) AND o.id <> n.id AND o.status <> 'archived'
    WHERE n.id = $1 AND n.status <> 'archived'
      AND coalesce(o.valid_from, '-infinity') < coalesce(n.valid_to, 'infinity')
      AND coalesce(n.valid_from, '-infinity') < coalesce(o.valid_to, 'infinity')
"""
LOCK_PARENTS = "SELECT pg_advisory_xact_lock(hashtextextended('parents of partners', 0))"
ANCESTORS = """
    WITH RECURSIVE up AS (
        SELECT id, parent_id FROM partners WHERE id = $1
        UNION SELECT p.id, p.parent_id FROM partners p JOIN up ON p.id = up.parent_id
    ) SELECT 1 FROM up WHERE id = $2
"""
# With the pool's force_custom_plan the foreign key checks of every single row would be planned anew: 3 times slower.
CACHED_PLANS = "SET LOCAL plan_cache_mode = auto"
LINKS = """
    INSERT INTO links (slug, partner_id, campaign_id, advertiser_id, name, creative, destination_url, fallback_url,
                       expires_at, status, rules, source, source_id)
    SELECT slug, partner, campaign, advertiser, name, creative, destination, fallback,
           expires, status, rules::jsonb, source, source_id
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[],
                $9::timestamptz[], $10::text[], $11::text[], $12::text[], $13::text[])
      AS r(slug, partner, campaign, advertiser, name, creative, destination, fallback,
           expires, status, rules, source, source_id)
    RETURNING id
"""
KEYS = """
    SELECT k.id, k.name, k.role, a.slug AS advertiser, k.prefix, k.created_at, k.revoked_at
    FROM api_keys k LEFT JOIN advertisers a ON a.id = k.advertiser_id
"""
KEY_INSERT = "INSERT INTO api_keys (name, role, advertiser_id, key_hash, prefix) VALUES ($1, $2, $3, $4, $5) RETURNING id"
KEY_BY_HASH = "SELECT id, name, role, advertiser_id FROM api_keys WHERE key_hash = $1 AND revoked_at IS NULL"
KEY_REVOKE = "UPDATE api_keys SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL RETURNING id"


def page(thing: Thing, filters: Sequence[str], *, scoped: bool) -> str:
    """List statement: $1 = last id seen, $2 = rows wanted, then the values of `filters`, then, `scoped`, the advertiser."""
    view = VIEWS[thing.plural]
    allowed = FILTERS | view.filters
    conditions = ["t.id > $1", *(f"{allowed[name]} = ${number}" for number, name in enumerate(filters, start=3))]
    if scoped:
        conditions.append(f"{view.scope or 'NULL::bigint'} = ${len(filters) + 3}")
    return f"{view.select} WHERE {' AND '.join(conditions)} ORDER BY t.id LIMIT $2"


def by_id(thing: Thing) -> str:
    """One or more by id ($1: bigint[])."""
    return f"{VIEWS[thing.plural].select} WHERE t.id = ANY($1::bigint[]) ORDER BY t.id"


def find(thing: Thing, *, by_number: bool, scoped: bool = False, campaign: bool = False) -> str:
    """Ids named by $1, at most two; `scoped`: of the advertiser $2; `campaign`: of the campaign with the slug in the last parameter."""
    named = "t.id = $1::bigint" if by_number else "upper(t.code) = upper($1)" if thing.key == "code" else f"{_key_column(thing)} = $1"
    conditions = [named]
    if scoped:
        conditions.append("t.advertiser_id = $2")
    if campaign:
        last = "$3" if scoped else "$2"
        conditions.append(f"t.campaign_id = (SELECT id FROM campaigns WHERE slug = {last})")  # noqa: S608 - constants only
    where = " AND ".join(conditions)
    return f"SELECT t.id FROM {thing.table} t WHERE {where} ORDER BY t.id LIMIT 2"  # noqa: S608 - constants only


def lock(thing: Thing) -> str:
    """Hold the row $1 against other changes."""
    return f"SELECT FROM {thing.table} WHERE id = $1 FOR UPDATE"


def _key_column(thing: Thing) -> str:
    return "t.id::text" if thing.key == "id" else f"t.{thing.key}"


def insert(thing: Thing, columns: Sequence[str]) -> str:
    """INSERT of one row with these columns, RETURNING its id."""
    numbers = ", ".join(f"${n}" for n in range(1, len(columns) + 1))
    return f"INSERT INTO {thing.table} ({', '.join(columns)}) VALUES ({numbers}) RETURNING id"  # noqa: S608 - constants only


def update(thing: Thing, columns: Sequence[str]) -> str:
    """UPDATE of the row $1 in these columns."""
    changes = ", ".join(f"{column} = ${n}" for n, column in enumerate(columns, start=2))
    return f"UPDATE {thing.table} SET {changes} WHERE id = $1"  # noqa: S608 - constants only


def reference(name: str) -> str:
    """Id and advertiser of the thing of kind `name` whose slug is $1."""
    thing = next(thing for thing in THINGS.values() if thing.name == name)
    advertiser = {"advertiser": "id", "partner": "NULL::bigint"}.get(name, "advertiser_id")
    return f"SELECT id, {advertiser} AS advertiser_id FROM {thing.table} WHERE slug = $1"  # noqa: S608 - constants only
