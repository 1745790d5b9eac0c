"""The programme in PostgreSQL. Every change writes its row of `events` in the same transaction."""

import hashlib
import re
import secrets
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import asyncpg
import orjson

from tracker.adapters import postgres_programme_sql as sql
from tracker.adapters import postgres_terms as terms
from tracker.adapters.postgres_pool import Connection, Database
from tracker.domain.urls import alias_key, host_key
from tracker.errors import Conflict, NotFound, RejectedInput
from tracker.programme import CAMPAIGN, COUPON, GOAL, HOST_THING, LINK, LINKS_MAX, OLD_ID, PARTNER, TARGETS, Money, Thing

T = TypeVar("T")
Values = dict[str, Any]
Row = asyncpg.Record | Values
SLUG_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
SLUG_LENGTH = 8
SLUG_TRIES = 4  # a made slug that exists already is made again
IMPORT_CHUNK = 5000  # rows a statement: some megabytes of parameters
ID = re.compile(r"[0-9]{1,18}")
UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")  # a command line may hold such bytes
ALIAS_KEY_MAX_BYTES = 2000  # host and key stand in one index row, and PostgreSQL allows 2704 bytes there
CHECKED = frozenset(
    ("starts_at", "expires_at", "valid_from", "valid_to", "status", "forward_to", "fallback_url")
)  # columns that `_check_row` compares


def made_slug() -> str:
    """8 random characters of a-z0-9."""
    return "".join(secrets.choice(SLUG_ALPHABET) for _ in range(SLUG_LENGTH))


def made_token() -> str:
    """A new postback token."""
    return f"tok_{secrets.token_hex(20)}"


def digest(secret: str) -> bytes:
    """How keys and tokens are kept: SHA-256. They carry 160 random bits or more, so no slow hash is needed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


class Programme:
    """Create, read, change and list the things of `tracker.programme`.

    `actor` (`key:` and a key's name, `admin.key` or `cli`) goes into the audit trail. `link_base` starts the `url` of links.
    Raises RejectedInput, NotFound (`unknown_…`), Conflict (`slug_taken`, …), StoreUnavailable.
    """

    def __init__(self, database: Database, *, link_base: str) -> None:
        self._database, self._link_base = database, link_base

    async def create(self, thing: Thing, body: Any, actor: str) -> Values:
        """Store a new thing and return it. An advertiser comes with its `postback_token`, shown this once."""
        if thing is LINK:
            return (await self.create_links([body], actor))[0]
        values = thing.reads(body)

        async def work(connection: Connection) -> Values:
            columns = await _columns(connection, thing, values)
            if thing.key == "slug" and "slug" not in columns:
                columns["slug"] = made_slug()
            number = await connection.fetchval(sql.insert(thing, list(columns)), *columns.values())
            await _check_row(connection, thing, number)
            extra = await _tokens(connection, number) if thing.name == "advertiser" else {}
            if values.get("payout") is not None:
                await self._pay(connection, thing, number, values["payout"], None, actor)
            after = await self._one(connection, thing, number)
            await connection.execute(sql.EVENT, actor, "create", thing.name, _name(thing, after), "", None, after)
            return after | extra

        return await self._unique(thing, work, retried="slug" not in values)

    async def create_links(self, bodies: Sequence[Any], actor: str) -> list[Values]:
        """Store up to 1000 links, all or none, and return them in their order."""
        if not 1 <= len(bodies) <= LINKS_MAX:
            raise RejectedInput("invalid_body", f"send 1 to {LINKS_MAX} links at once")
        rows = [_read_link(body, index if len(bodies) > 1 else None) for index, body in enumerate(bodies)]

        async def work(connection: Connection) -> list[Values]:
            known = await _link_references(connection, rows)
            for index, row in enumerate(rows):
                if problem := _link_problem(row, known):
                    problem.field = f"{index}.{problem.field}" if len(rows) > 1 else problem.field
                    raise problem
            numbers = await _insert_links(connection, rows, known, actor)
            return [self._shown(LINK, row) for row in await connection.fetch(sql.by_id(LINK), numbers)]

        return await self._unique(LINK, work, retried=all("slug" not in row for row in rows))

    async def import_links(
        self,
        rows: Sequence[tuple[int, Values]],
        actor: str,
        *,
        skip_bad: bool,
        dry: bool = False,
        progress: Callable[[int], None] = lambda _: None,
    ) -> tuple[int, list[tuple[int, str]]]:
        """Store checked links in one transaction; returns how many, and (line, what is wrong) of every bad one.

        Nothing is stored when one is bad, unless `skip_bad`, nor when `dry`. `progress` hears of each chunk's size.
        Set-based: 100,000 take seconds.
        """

        async def work(connection: Connection) -> tuple[int, list[tuple[int, str]]]:
            values = [row for _, row in rows]
            known = await _link_references(connection, values)
            taken = {row["slug"] for row in await connection.fetch("SELECT slug FROM links WHERE slug = ANY($1::text[])", _slugs(values))}
            problems = {line: text for line, row in rows if (text := _import_problem(row, known, taken))}
            good = [row for line, row in rows if line not in problems]
            if dry or (problems and not skip_bad):
                return 0, sorted(problems.items())
            for start in range(0, len(good), IMPORT_CHUNK):
                chunk = good[start : start + IMPORT_CHUNK]
                await _insert_links(connection, chunk, known, actor)
                progress(len(chunk))
            return len(good), sorted(problems.items())

        return await self._unique(LINK, work, retried=False, timeout_s=600)

    async def get(self, thing: Thing, key: str, *, advertiser_id: int | None = None, campaign: str | None = None) -> Values:
        """One thing by its slug (or code, host, id). NotFound `unknown_…`, also when it is not the advertiser's.

        `campaign` is a slug, for goals and coupons: which of those with the same name.
        """
        async with self._database.connection() as connection:
            number = await _find(connection, thing, key, advertiser_id=advertiser_id, campaign=campaign)
            found = await self._one(connection, thing, number)
            if advertiser_id is not None and not await _belongs(connection, thing, number, advertiser_id):
                raise _unknown(thing.name, key)
            return found

    async def listed(
        self,
        thing: Thing,
        *,
        limit: int,
        cursor: str | None,
        filters: Mapping[str, str],
        advertiser_id: int | None = None,
    ) -> Values:
        """`{"items", "next_cursor"}`, oldest first; `next_cursor` is None at the end."""
        allowed = sql.FILTERS | sql.VIEWS[thing.plural].filters
        for name in filters:
            if name not in allowed:
                raise RejectedInput("invalid_filter", f"{thing.plural} can be filtered by {', '.join(allowed)}", field=name)
        if any(UNSTORABLE.search(value) for value in filters.values()):
            raise RejectedInput("invalid_filter", "filters must not contain NUL or broken characters")
        after = read_cursor(cursor)
        scope = [] if advertiser_id is None else [advertiser_id]
        statement = sql.page(thing, list(filters), scoped=bool(scope))
        rows = await self._database.fetch(statement, after, limit + 1, *filters.values(), *scope)
        items = [self._shown(thing, row) for row in rows[:limit]]
        return {"items": items, "next_cursor": str(rows[limit - 1]["id"]) if len(rows) > limit else None}

    async def edit(self, thing: Thing, key: str, body: Any, actor: str, *, campaign: str | None = None) -> Values:
        """Change the given fields and return the thing. A changed payout counts from now on, not for what was before."""
        values = thing.reads(body, changing=True)

        async def work(connection: Connection) -> Values:
            number = await _find(connection, thing, key, campaign=campaign)
            if thing is PARTNER and values.get("parent"):
                await connection.execute(sql.LOCK_PARENTS)  # two at once could put each below the other
            await connection.execute(sql.lock(thing), number)
            before = await self._one(connection, thing, number)
            columns = await _columns(connection, thing, values)
            if thing is PARTNER and columns.get("parent_id") and await connection.fetchval(sql.ANCESTORS, columns["parent_id"], number):
                raise RejectedInput("invalid_parent", "a partner cannot be below itself", field="parent")
            if thing is OLD_ID and columns:
                columns["is_own"] = False  # whoever changes it by hand means it: no import takes it away
            if columns:
                await connection.execute(sql.update(thing, list(columns)), number, *columns.values())
            if CHECKED & set(columns):
                await _check_row(connection, thing, number)
            if "payout" in values:
                await self._pay(connection, thing, number, values["payout"], before, actor)
            after = await self._one(connection, thing, number)
            if {**before, "updated_at": None} != {**after, "updated_at": None}:
                await connection.execute(sql.EVENT, actor, "edit", thing.name, _name(thing, after), "", before, after)
            return after

        return await self._unique(thing, work, retried=False)

    async def _pay(
        self, connection: Connection, thing: Thing, number: int, payout: Money | None, before: Values | None, actor: str
    ) -> None:
        """Terms for a campaign or goal, whose row is locked, that differ from those of `before`; without one, since ever."""
        of_goal = "SELECT campaign_id FROM goals WHERE id = $1"
        whose = terms.Whose(await connection.fetchval(of_goal, number), number) if thing is GOAL else terms.Whose(number)
        columns = await terms.kept(connection, whose.campaign, payout)
        if before is None or before["payout"] != terms.shown(columns):
            await terms.add(connection, whose, columns, actor, since_ever=before is None)

    async def _one(self, connection: Connection, thing: Thing, number: int) -> Values:
        row = await connection.fetchrow(sql.by_id(thing), [number])
        if row is None:
            raise _unknown(thing.name, str(number))
        return self._shown(thing, row)

    def _shown(self, thing: Thing, row: Row) -> Values:
        shown = dict(row)
        if "payout_type" in shown:
            columns = {"currency": shown.pop("terms_currency")}
            columns |= {name: shown.pop(name) for name in ("payout_type", "amount_micros", "percent_micros", "plan")}
            shown["payout"] = terms.shown(columns)
        if thing is LINK:
            shown["url"] = f"{self._link_base}/c/{shown['slug']}"
        return shown

    async def _unique(
        self,
        thing: Thing,
        work: Callable[[Connection], Coroutine[Any, Any, T]],
        *,
        retried: bool,
        timeout_s: float = 30,
    ) -> T:
        for attempt in range(SLUG_TRIES):
            try:
                return await self._database.transaction(work, timeout_s=timeout_s)
            except asyncpg.CheckViolationError as exc:
                if thing is not OLD_ID:
                    raise
                raise RejectedInput("invalid_target", f"an old id of {_TARGETS}", field="kind") from exc
            except asyncpg.UniqueViolationError as exc:
                slug = "_slug_key" in (exc.constraint_name or "")
                if not (slug and retried) or attempt == SLUG_TRIES - 1:
                    raise _conflict(thing, exc) from exc
        raise AssertionError("unreachable")


def read_cursor(cursor: str | None) -> int:
    """The id a cursor stands for; 0 without one."""
    if cursor is None:
        return 0
    if not ID.fullmatch(cursor):
        raise RejectedInput("invalid_cursor", "cursor must be the next_cursor of an earlier answer", field="cursor")
    return int(cursor)


def _unknown(name: str, key: str) -> NotFound:
    return NotFound(f"unknown_{name}", f"there is no {name} {key[:80]!r}", field=name)


def _name(thing: Thing, shown: Values) -> str:
    return str(shown[thing.key])


async def _find(connection: Connection, thing: Thing, key: str, *, advertiser_id: int | None = None, campaign: str | None = None) -> int:
    if UNSTORABLE.search(key + (campaign or "")):
        raise _unknown(thing.name, key)
    if campaign is not None and thing.plural not in sql.OF_CAMPAIGN:
        raise RejectedInput("invalid_parameter", f"{thing.plural} are named without a campaign", field="campaign")
    scope = [advertiser_id] if advertiser_id is not None and thing.plural in sql.NUMBERED else []
    more = [*scope, *([campaign] if campaign is not None else [])]
    kind = {"scoped": bool(scope), "campaign": campaign is not None}
    named = host_key(key.encode()) if thing.key == "host" else key
    rows = await connection.fetch(sql.find(thing, by_number=False, **kind), named, *more)
    if not rows and thing.plural in sql.NUMBERED and ID.fullmatch(key):
        rows = await connection.fetch(sql.find(thing, by_number=True, **kind), int(key), *more)
    if not rows:
        raise _unknown(thing.name, key)
    if len(rows) > 1:
        which = ", or ?campaign=" if thing.plural in sql.OF_CAMPAIGN else ""
        raise Conflict("ambiguous", f"several {thing.plural} are named {key!r}; use the id{which}", field=thing.key)
    return int(rows[0]["id"])


async def _belongs(connection: Connection, thing: Thing, number: int, advertiser_id: int) -> bool:
    rows = await connection.fetch(sql.page(thing, [], scoped=True), number - 1, 1, advertiser_id)
    return bool(rows) and rows[0]["id"] == number


async def reference(connection: Connection, name: str, slug: str) -> Row:
    row = await connection.fetchrow(sql.reference(name), slug)
    if row is None:
        raise _unknown(name, slug)
    return row


async def _columns(connection: Connection, thing: Thing, values: Values) -> Values:
    """Column → value; slugs of other things become ids, the advertiser follows from the campaign or link."""
    columns: Values = {}
    for item in thing.fields:
        if item.name not in values or item.column is None:
            continue
        value = values[item.name]
        if item.refers and value is not None:
            row = await reference(connection, "partner" if item.name == "parent" else item.refers, value)
            value = row["id"]
            if item.refers in ("campaign", "link") and thing is not OLD_ID:
                columns["advertiser_id"] = row["advertiser_id"]
        columns[item.column] = value
    if thing.name == "alias" and "url" in columns:
        columns["host"], columns["match_key"] = alias_key(columns["url"])
        if len(columns["host"]) + len(columns["match_key"]) > ALIAS_KEY_MAX_BYTES:
            raise RejectedInput("invalid_url", f"url must have at most {ALIAS_KEY_MAX_BYTES} bytes when percent-encoded", field="url")
    return columns


async def _check_row(connection: Connection, thing: Thing, number: int) -> None:
    """What must hold between the fields of a stored row, and between rows; in the transaction that wrote it."""
    if thing is CAMPAIGN and await connection.fetchval("SELECT starts_at >= expires_at FROM campaigns WHERE id = $1", number):
        raise RejectedInput("invalid_expires_at", "expires_at must be after starts_at", field="expires_at")
    if thing is HOST_THING and (wrong := await connection.fetchrow(sql.LOOP, number)):
        field, other = wrong["field"], wrong["host"]
        raise RejectedInput(
            f"invalid_{field}", f"{field} leads to {other}, which is a host of ours: visitors would go in circles", field=field
        )
    if thing is not COUPON:
        return
    if await connection.fetchval("SELECT valid_from >= valid_to FROM coupons WHERE id = $1", number):
        raise RejectedInput("invalid_valid_to", "valid_to must be after valid_from", field="valid_to")
    await connection.execute(sql.COUPON_LOCK, number)  # one coupon of a code at a time
    if await connection.fetchval(sql.COUPON_OVERLAP, number):
        raise Conflict("code_taken", "a coupon with this code exists already for that time", field="code")


async def _tokens(connection: Connection, advertiser_id: int) -> Values:
    token, pixel = made_token(), f"px_{secrets.token_hex(10)}"
    await connection.execute(sql.INSERT_KEY_OF, advertiser_id, "token", digest(token), None, 1)
    await connection.execute(sql.INSERT_KEY_OF, advertiser_id, "pixel", digest(pixel), pixel, 1)
    return {"postback_token": token, "pixel_key": pixel}


def _conflict(thing: Thing, exc: asyncpg.UniqueViolationError) -> Conflict:
    constraint, value = exc.constraint_name or "", re.search(r"=\((.*)\) already exists", str(exc.detail or ""))
    named = f" {value[1]!r}" if value else ""
    if "source" in constraint:
        return Conflict("source_id_taken", f"a {thing.name} with this source and source_id{named} exists already", field="source_id")
    if "match_key" in constraint:
        return Conflict("url_taken", f"an alias for this address{named} exists already", field="url")
    name = "host" if thing.key == "host" else "slug"
    return Conflict(f"{name}_taken", f"a {thing.name} with this {name}{named} exists already", field=name)


def _slugs(rows: Sequence[Values]) -> list[str]:
    return [row["slug"] for row in rows if "slug" in row]


def _read_link(body: Any, index: int | None) -> Values:
    try:
        return LINK.reads(body)
    except RejectedInput as exc:
        if index is not None:
            exc.field = f"{index}.{exc.field}" if exc.field else str(index)
        raise


async def _link_references(connection: Connection, rows: Sequence[Values]) -> dict[str, dict[str, tuple[int, int]]]:
    partners = await connection.fetch(
        "SELECT slug, id, 0::bigint FROM partners WHERE slug = ANY($1::text[])", list({row["partner"] for row in rows})
    )
    campaigns = await connection.fetch(
        "SELECT slug, id, advertiser_id FROM campaigns WHERE slug = ANY($1::text[])",
        list({row["campaign"] for row in rows}),
    )
    return {name: {row[0]: (row[1], row[2]) for row in found} for name, found in (("partner", partners), ("campaign", campaigns))}


def _link_problem(row: Values, known: dict[str, dict[str, tuple[int, int]]]) -> NotFound | None:
    for name in ("partner", "campaign"):
        if row[name] not in known[name]:
            return _unknown(name, row[name])
    return None


def _import_problem(row: Values, known: dict[str, dict[str, tuple[int, int]]], taken: set[str]) -> str | None:
    if problem := _link_problem(row, known):
        return str(problem)
    return f"a link with this slug {row['slug']!r} exists already" if row.get("slug") in taken else None


async def _insert_links(
    connection: Connection, rows: Sequence[Values], known: dict[str, dict[str, tuple[int, int]]], actor: str
) -> list[int]:
    await connection.execute(sql.CACHED_PLANS)
    slugs = [row.get("slug") or made_slug() for row in rows]
    campaigns = [known["campaign"][row["campaign"]] for row in rows]
    found = await connection.fetch(
        sql.LINKS,
        slugs,
        [known["partner"][row["partner"]][0] for row in rows],
        [campaign for campaign, _ in campaigns],
        [advertiser for _, advertiser in campaigns],
        *([row.get(name, default) for row in rows] for name, default in _LINK_TEXTS),
        [row.get("expires_at") for row in rows],
        [row.get("status", "active") for row in rows],
        [orjson.dumps(row.get("rules", {})).decode() for row in rows],
        [row.get("source") for row in rows],
        [row.get("source_id") for row in rows],
    )
    after = [orjson.dumps(row | {"slug": slug}, option=orjson.OPT_UTC_Z).decode() for row, slug in zip(rows, slugs, strict=True)]
    await connection.execute(sql.EVENTS, actor, slugs, after)
    return [row["id"] for row in found]


_TARGETS = ", ".join(f"kind {kind} needs a {target} and nothing else" for kind, target in TARGETS.items())
_LINK_TEXTS: tuple[tuple[str, str | None], ...] = (
    ("name", ""),
    ("creative", ""),
    ("destination_url", None),
    ("fallback_url", None),
)
