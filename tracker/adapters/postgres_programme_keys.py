"""API keys, postback tokens and signing secrets in PostgreSQL; every change writes its row of `events`.

Of keys and tokens only their SHA-256 is stored. A signing secret has to be known to be checked with; nothing ever shows it again.
"""

import secrets

from tracker.adapters import postgres_programme_sql as sql
from tracker.adapters.postgres_pool import Connection, Database
from tracker.adapters.postgres_programme import ID, UNSTORABLE, Values, digest, made_token, reference
from tracker.domain.postback import Advertiser, advertiser_of
from tracker.domain.signatures import SIGNING_KINDS, SigningKind, secret_name
from tracker.errors import Conflict, NotFound, RejectedInput
from tracker.programme import ADVERTISER

ROLES = ("admin", "operator", "viewer", "advertiser")
PREFIX_LENGTH = 8  # characters of a key that lists show
NAME_MAX = 255
SLOTS = (1, 2)  # an advertiser has at most two tokens at a time: the one in use, and the one it moves to
SECRET_MIN, SECRET_MAX = 8, 255  # characters of a shop's own signing secret


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


class SigningSecrets:
    """What an advertiser's reports are signed with, by kind: `hmac` (ours) or the shop's own. Two of a kind at most, any may sign."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, slug: str, kind: str, secret: str | None, actor: str) -> Values:
        """A secret beside those there are. One of the kind `hmac` is made here: `signing_secret`, shown this once; others are given.

        Conflict `two_secrets` when there are two already. RejectedInput `invalid_kind` or `invalid_secret`.
        """
        which = _signing_kind(kind)
        made = secret is None and which == "hmac"
        kept = f"hs_{secrets.token_hex(20)}" if made else _shops_secret(which, secret)

        async def work(connection: Connection) -> Values:
            number = await _locked_advertiser(connection, slug)
            taken = {row["slot"] for row in await connection.fetch(sql.SIGNING_OF, number) if row["kind"] == which}
            slot = next((slot for slot in SLOTS if slot not in taken), None)
            if slot is None:
                raise Conflict(
                    "two_secrets", f"{slug} has two active secrets of the kind {which}; revoke the one in slot 1 or 2 first", field="slot"
                )
            await connection.execute(sql.SIGNING_INSERT, number, which, digest(secret_name(which, slug, slot)), kept, slot)
            shown = await _secrets_changed(connection, number, slug, actor, "add-signing-secret", which, slot)
            return shown | ({"signing_secret": kept} if made else {})

        return await self._database.transaction(work)

    async def revoke(self, slug: str, kind: str, slot: int, actor: str) -> Values:
        """End the secret of a kind in `slot` and forget it; it stops working within 2 seconds. NotFound `unknown_secret`."""
        which = _signing_kind(kind)

        async def work(connection: Connection) -> Values:
            number = await _locked_advertiser(connection, slug)
            if not await connection.fetchval(sql.SIGNING_DELETE, number, which, slot):
                raise NotFound("unknown_secret", f"{slug} has no secret of the kind {which} in slot {slot}", field="slot")
            return await _secrets_changed(connection, number, slug, actor, "revoke-signing-secret", which, slot)

        return await self._database.transaction(work)

    async def listed(self, slug: str, *, advertiser_id: int | None = None) -> Values:
        """`{"advertiser", "secrets": [{"kind", "slot", "created_at"}]}`. NotFound also when it is not the advertiser `advertiser_id`."""
        async with self._database.connection() as connection:
            number = await _advertiser(connection, slug)
            if advertiser_id not in (None, number):
                raise _unknown_advertiser(slug)
            return {"advertiser": slug, "secrets": [dict(row) for row in await connection.fetch(sql.SIGNING_OF, number)]}

    async def find(self, kind: SigningKind, slug: str) -> tuple[Advertiser, tuple[str, ...]] | None:
        """An advertiser with its secrets of a kind; None when there are none."""
        names = [digest(secret_name(kind, slug, slot)) for slot in SLOTS]
        rows = await self._database.fetch(sql.SIGNING_BY_NAME, names, kind)
        if not rows:
            return None
        owner = advertiser_of(rows[0]["advertiser_id"], rows[0]["slug"], rows[0]["currency"], rows[0]["settings"])
        return owner, tuple(row["secret"] for row in rows)


def _signing_kind(kind: str) -> SigningKind:
    if kind not in SIGNING_KINDS:
        raise RejectedInput("invalid_kind", f"kind must be one of {', '.join(SIGNING_KINDS)}", field="kind")
    return kind


def _shops_secret(kind: SigningKind, secret: str | None) -> str:
    if kind == "hmac":
        raise RejectedInput("invalid_secret", "a secret of the kind hmac is made here; send none", field="secret")
    if secret is None or not SECRET_MIN <= len(secret) <= SECRET_MAX or not secret.isprintable() or secret != secret.strip():
        raise RejectedInput(
            "invalid_secret",
            f"secret must be the shop's own, {SECRET_MIN} to {SECRET_MAX} printable characters without blanks around them",
            field="secret",
        )
    return secret


def _unknown_advertiser(slug: str) -> NotFound:
    return NotFound("unknown_advertiser", f"there is no advertiser {slug[:80]!r}", field="advertiser")


async def _advertiser(connection: Connection, slug: str) -> int:
    if UNSTORABLE.search(slug):
        raise _unknown_advertiser(slug)
    return int((await reference(connection, "advertiser", slug))["id"])


async def _locked_advertiser(connection: Connection, slug: str) -> int:
    number = await _advertiser(connection, slug)
    await connection.execute(sql.lock(ADVERTISER), number)
    return number


async def _changed(connection: Connection, number: int, slug: str, actor: str, action: str, slot: int) -> Values:
    """`{"advertiser", "slot", "tokens": [{"slot", "created_at"}]}`, as it is now; also the audit trail's row."""
    tokens = [dict(row) for row in await connection.fetch(sql.TOKENS_OF, number)]
    shown = {"advertiser": slug, "slot": slot, "tokens": tokens}
    await connection.execute(sql.EVENT, actor, action, "advertiser", slug, "", None, shown)
    return shown


async def _secrets_changed(connection: Connection, number: int, slug: str, actor: str, action: str, kind: str, slot: int) -> Values:
    """`{"advertiser", "kind", "slot", "secrets": [{"kind", "slot", "created_at"}]}`, as it is now; also the audit trail's row."""
    left = [dict(row) for row in await connection.fetch(sql.SIGNING_OF, number)]
    shown = {"advertiser": slug, "kind": kind, "slot": slot, "secrets": left}
    await connection.execute(sql.EVENT, actor, action, "advertiser", slug, "", None, shown)
    return shown
