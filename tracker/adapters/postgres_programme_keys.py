"""API keys in PostgreSQL. Only their SHA-256 is stored; every change writes its row of `events`."""

import secrets

from tracker.adapters import postgres_programme_sql as sql
from tracker.adapters.postgres_pool import Connection, Database
from tracker.adapters.postgres_programme import ID, Values, digest, reference
from tracker.errors import NotFound, RejectedInput

ROLES = ("admin", "operator", "viewer", "advertiser")
PREFIX_LENGTH = 8  # characters of a key that lists show


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
