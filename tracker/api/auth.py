"""Who may do what: API keys, roles, and one table of rights. Judged before a body is read."""

import hashlib
import hmac
import os
import time
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from tracker.adapters.postgres_programme import digest
from tracker.adapters.postgres_programme_keys import Keys
from tracker.api.answers import problem_of
from tracker.errors import BadConfiguration, Forbidden, StoreUnavailable, TurnoutError, Unauthorized
from tracker.settings import Settings

KEY_TTL_S = 1.0  # a revoked key works at most this long
CACHE_MAX = 10_000  # keys remembered, wrong ones included
KEY_MAX_CHARACTERS = 200

EVERYBODY = frozenset(("admin", "operator", "viewer", "advertiser"))
READERS = frozenset(("admin", "operator", "viewer"))
STAFF = frozenset(("admin", "operator"))
ADMIN = frozenset(("admin",))
# first part of the path below /api/v1 → (who may read, who may change). An advertiser sees what is its own.
RIGHTS = {
    "advertisers": (EVERYBODY, STAFF),
    "campaigns": (EVERYBODY, STAFF),
    "links": (EVERYBODY, STAFF),
    "aliases": (EVERYBODY, STAFF),
    "coupons": (EVERYBODY, STAFF),
    "goals": (EVERYBODY, STAFF),
    "clicks": (EVERYBODY, STAFF),
    "conversions": (EVERYBODY, STAFF | {"advertiser"}),
    "terms": (EVERYBODY, STAFF),
    "reports": (EVERYBODY, ADMIN),
    "balances": (EVERYBODY, ADMIN),
    "ledger": (EVERYBODY, ADMIN),
    "keys": (ADMIN, ADMIN),
    "explain": (READERS, READERS),
    "payout-details": (STAFF, STAFF),
}
OTHERS = (READERS, STAFF)


@dataclass(frozen=True, slots=True)
class Actor:
    """Whose key it is. `advertiser_id`: the only advertiser this one may see; None: all."""

    name: str
    role: str
    advertiser_id: int | None = None


class Authority:
    """Tells an `Actor` from a key. The admin key works without a database."""

    def __init__(self, admin_key: str, keys: Keys) -> None:
        self._admin, self._keys = digest(admin_key), keys
        self._cache: dict[bytes, tuple[float, Actor | None]] = {}

    async def identify(self, authorization: str) -> Actor:
        """The holder of `Bearer KEY`. Unauthorized for anything else; a known key outlives an outage of PostgreSQL."""
        scheme, _, secret = authorization.partition(" ")
        secret = secret.strip()
        if scheme.lower() != "bearer" or not 0 < len(secret) <= KEY_MAX_CHARACTERS:
            raise Unauthorized("unauthorized", "send the header Authorization: Bearer KEY; see: turnout key create")
        hashed = digest(secret)
        if hmac.compare_digest(hashed, self._admin):
            return Actor("admin.key", "admin")
        actor = await self._stored(hashed, secret)
        if actor is None:
            raise Unauthorized("unauthorized", "this key is unknown or revoked; see: turnout key list")
        return actor

    async def _stored(self, hashed: bytes, secret: str) -> Actor | None:
        known = self._cache.get(hashed)
        if known and known[0] > time.monotonic():
            return known[1]
        try:
            row = await self._keys.find(secret)
        except StoreUnavailable:
            if known and known[1]:
                return known[1]
            raise
        # `key:` keeps a key that is named cli or admin.key apart from those actors in the audit trail.
        actor = Actor(f"key:{row['name'] or row['id']}", row["role"], row["advertiser_id"]) if row else None
        if len(self._cache) >= CACHE_MAX:
            self._cache.clear()
        self._cache[hashed] = (time.monotonic() + KEY_TTL_S, actor)
        return actor


def allow(actor: Actor, method: str, path: str) -> None:
    """Forbidden unless the table of rights lets this role do that."""
    noun = path.removeprefix("/api/v1/").partition("/")[0]
    readers, writers = RIGHTS.get(noun, OTHERS)
    if actor.role not in (readers if method in ("GET", "HEAD") else writers):
        raise Forbidden("forbidden", f"a key with the role {actor.role} may not do this")


class Authenticate:
    """ASGI middleware: everything below /api/ needs a key, judged before anything else is looked at."""

    def __init__(self, app: ASGIApp, authority: Authority) -> None:
        self._app, self._authority = app, authority

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (scope["path"] + "/").startswith("/api/"):
            header = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
            try:
                actor = await self._authority.identify(header)
                allow(actor, scope["method"], scope["path"])
            except TurnoutError as exc:
                await problem_of(exc)(scope, receive, send)
                return
            scope.setdefault("state", {})["actor"] = actor
        await self._app(scope, receive, send)


def admin_key(settings: Settings) -> str:
    """The first key: TURNOUT_ADMIN_KEY, else what `DATA_DIR/admin.key` holds; made, mode 600, when it is not there.

    Safe to call from several processes at once. BadConfiguration when the file cannot be read or made.
    """
    if settings.admin_key:
        return settings.admin_key.get_secret_value()
    path = settings.directory.admin_key
    try:
        if not path.exists():
            settings.directory.create()
            draft = path.with_name(f"admin.key.{os.getpid()}")
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(f"turnout_{hashlib.sha256(os.urandom(32)).hexdigest()[:40]}\n")
            try:
                os.link(draft, path)  # whole, or not at all; the first process wins
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        key = path.read_text("utf-8").strip()
    except OSError as exc:
        raise BadConfiguration(f"{path} cannot be read or made ({exc.strerror}); set TURNOUT_ADMIN_KEY or mend the file") from exc
    if not key:
        raise BadConfiguration(f"{path} is empty; remove it, and a new key is made at the next start")
    return key
