"""API keys and postback tokens in PostgreSQL. Only their SHA-256 is stored; every change writes its row of `events`."""

import secrets

from tracker.adapters import postgres_programme_sql as sql
from tracker.adapters.postgres_pool import Connection, Database
from tracker.adapters.postgres_programme import ID, UNSTORABLE, Values, digest, made_token, reference
from tracker.errors import Conflict, NotFound, RejectedInput
from tracker.programme import ADVERTISER

ROLES = ("admin", "operator", "viewer", "advertiser")
PREFIX_LENGTH = 8  # characters of a key that lists show
NAME_MAX = 255
SLOTS = (1, 2)  # an advertiser has at most two tokens at a time: the one in use, and the one it moves to


class Keys:
    """API keys: made, listed, revoked, looked up. Only their SHA-256 is stored."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, role: str, *, advertiser: str | None, name: str, actor: str) -> Values:
        """A new key; `key` is shown this once. An advertiser's key needs `advertiser`, others must not have one."""
        if role not in ROLES:
            raise RejectedInput("invalid_role", f"role must be one of {', '.join(ROLES)}", field="role")
        if (role == "advertiser") != (advertiser is not None):
            raise RejectedInput(
                "invalid_advertiser",
                "an advertiser is needed for the role advertiser, and for no other",
                field="advertiser",
            )
        if len(name) > NAME_MAX or UNSTORABLE.search(name):
            raise RejectedInput("invalid_name", f"name must have at most {NAME_MAX} characters, no NUL or broken ones", field="name")
        if advertiser is not None and UNSTORABLE.search(advertiser):
            raise NotFound("unknown_advertiser", f"there is no advertiser {advertiser[:80]!r}", field="advertiser")
        secret = f"turnout_{secrets.token_hex(20)}"

        async def work(connection: Connection) -> Values:
            owner = await reference(connection, "advertiser", advertiser) if advertiser else None
            number = await connection.fetchval(
                sql.KEY_INSERT, name, role, owner and owner["id"], digest(secret), secret[8 : 8 + PREFIX_LENGTH]
            )
            shown = dict(await connection.fetchrow(f"{sql.KEYS} WHERE k.id = $1", number) or {})
            await connection.execute(sql.EVENT, actor, "create", "key", str(number), "", None, shown)
            return shown | {"key": secret}

        return await self._database.transaction(work)

    async def listed(self) -> list[Values]:
        """All keys, revoked ones too, without their secrets."""
        return await self._database.fetch(f"{sql.KEYS} ORDER BY k.id")

    async def revoke(self, number: str, actor: str) -> Values:
        """Revoke the key with this id; it stops working within 2 seconds."""

        async def work(connection: Connection) -> Values:
            if not ID.fullmatch(number) or not await connection.fetchval(sql.KEY_REVOKE, int(number)):
                raise NotFound("unknown_key", f"there is no active key {number[:20]!r}; see: turnout key list")
            shown = dict(await connection.fetchrow(f"{sql.KEYS} WHERE k.id = $1", int(number)) or {})
            await connection.execute(sql.EVENT, actor, "revoke", "key", number, "", None, shown)
            return shown

        return await self._database.transaction(work)

    async def find(self, secret: str) -> Values | None:
        """Id, name, role and advertiser_id of an active key; None: no such key."""
        return await self._database.fetchrow(sql.KEY_BY_HASH, digest(secret))


class PostbackTokens:
    """An advertiser's postback tokens: a second one beside the first, and the end of one. Both work until one is revoked."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def rotate(self, slug: str, actor: str) -> Values:
        """A new token, `postback_token`, shown this once; the others stay valid. Conflict `two_tokens` when there are two already."""

        async def work(connection: Connection) -> Values:
            number = await _locked_advertiser(connection, slug)
            taken = {row["slot"] for row in await connection.fetch(sql.TOKENS_OF, number)}
            slot = next((slot for slot in SLOTS if slot not in taken), None)
            if slot is None:
                raise Conflict("two_tokens", f"{slug} has two active tokens; revoke the one in slot 1 or 2 first", field="slot")
            token = made_token()
            await connection.execute(sql.INSERT_KEY_OF, number, "token", digest(token), None, slot)
            shown = await _changed(connection, number, slug, actor, "rotate-token", slot)
            return shown | {"postback_token": token}

        return await self._database.transaction(work)

    async def revoke(self, slug: str, slot: int, actor: str) -> Values:
        """End the token in `slot`; it stops working within 2 seconds. Conflict `last_token` when it is the only one."""

        async def work(connection: Connection) -> Values:
            number = await _locked_advertiser(connection, slug)
            active = [row["slot"] for row in await connection.fetch(sql.TOKENS_OF, number)]
            if slot not in active:
                raise NotFound("unknown_token", f"{slug} has no active token in slot {slot}", field="slot")
            if len(active) == 1:
                raise Conflict("last_token", "this is the only token; make another first, with rotate-token", field="slot")
            await connection.execute(sql.SLOT_REVOKE, number, slot)
            return await _changed(connection, number, slug, actor, "revoke-token", slot)

        return await self._database.transaction(work)


async def _locked_advertiser(connection: Connection, slug: str) -> int:
    if UNSTORABLE.search(slug):
        raise NotFound("unknown_advertiser", f"there is no advertiser {slug[:80]!r}", field="advertiser")
    number = int((await reference(connection, "advertiser", slug))["id"])
    await connection.execute(sql.lock(ADVERTISER), number)
    return number


async def _changed(connection: Connection, number: int, slug: str, actor: str, action: str, slot: int) -> Values:
    """`{"advertiser", "slot", "tokens": [{"slot", "created_at"}]}`, as it is now; also the audit trail's row."""
    tokens = [dict(row) for row in await connection.fetch(sql.TOKENS_OF, number)]
    shown = {"advertiser": slug, "slot": slot, "tokens": tokens}
    await connection.execute(sql.EVENT, actor, action, "advertiser", slug, "", None, shown)
    return shown
