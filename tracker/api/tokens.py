"""Whose postback this is: told from the machine's route table, so that a store is known while PostgreSQL is away."""

import hashlib
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Generic, Literal, TypeVar

from tracker.adapters.lmdb_routes import RouteTable
from tracker.adapters.postgres_conversions_read import Conversions
from tracker.adapters.postgres_programme import digest
from tracker.adapters.postgres_programme_keys import SigningSecrets
from tracker.api.intake import Breaker
from tracker.domain.postback import Advertiser, advertiser_of
from tracker.domain.routes import TokenRoute
from tracker.domain.signatures import SLOTS, SigningKind, secret_name
from tracker.errors import StoreUnavailable, Unauthorized

Kind = Literal["token", "pixel"]
Signer = tuple[Advertiser, tuple[str, ...]]  # an advertiser and its secrets of a kind
K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")
SECRET_MAX = 200  # characters of a token that are looked at
SLUG_MAX = 64
FRESH_S = 10.0  # a table known to be current so lately is believed; an older one only while PostgreSQL cannot be asked
RECENT_S = 24 * 3600.0  # what a table current so lately does not know is refused while PostgreSQL cannot be asked
REMEMBERED_S = 1.0  # what PostgreSQL said of a secret that the table does not have
REMEMBERED_MAX = 10_000  # wrong secrets included


class Tokens:
    """Tells an advertiser from a token, pixel key or signature. What is revoked works for two seconds at most while PostgreSQL is there."""

    def __init__(self, table: RouteTable, conversions: Conversions, secrets: SigningSecrets, breaker: Breaker) -> None:
        self._table, self._conversions, self._secrets = table, conversions, secrets
        self._advertisers: _Memory[tuple[Kind, bytes], Advertiser] = _Memory(breaker)
        self._signers: _Memory[tuple[SigningKind, str], Signer] = _Memory(breaker)

    async def advertiser(self, secret: str, kind: Kind) -> Advertiser:
        """Whose secret this is. Unauthorized `bad_token`; StoreUnavailable when nobody can tell."""
        if not 0 < len(secret) <= SECRET_MAX:
            raise bad_token()
        hashed = hashlib.sha256(secret.encode("utf-8", "replace")).digest()
        published = self._published(hashed, kind)
        if published is not None and self._table.age_s() < FRESH_S:
            return published
        ask = partial(self._conversions.find_advertiser, secret, kind)
        found = await self._stored(self._advertisers, (kind, hashed), ask, published)
        if found is None:
            raise bad_token()
        return found

    async def signed(
        self, kind: SigningKind, slug: str, check: Callable[[tuple[str, ...]], T | None]
    ) -> tuple[Advertiser, T | None] | None:
        """The advertiser, and what `check` makes of its secrets of a kind: None when none of them signed. None: there are no such secrets.

        StoreUnavailable when nobody can tell.
        """
        if not 0 < len(slug) <= SLUG_MAX:
            return None
        published = self._published_signer(kind, slug)
        if published is not None and self._table.age_s() < FRESH_S:
            checked = check(published[1])
            if checked is not None:
                return published[0], checked
        found = await self._stored(self._signers, (kind, slug), partial(self._secrets.find, kind, slug), published)
        return None if found is None else (found[0], check(found[1]))

    async def _stored(self, memory: "_Memory[K, V]", key: K, ask: Callable[[], Awaitable[V | None]], published: V | None) -> V | None:
        """What PostgreSQL says; while it is away what the table or the memory has, None when a table of today does not know it."""
        try:
            return await memory.ask(key, ask)
        except StoreUnavailable:
            found = published or memory.last(key)
            if found is None and self._table.age_s() >= RECENT_S:
                raise
            return found

    def _published(self, hashed: bytes, kind: Kind) -> Advertiser | None:
        self._table.refresh()
        route = self._table.token(hashed)
        return _advertiser(route) if route is not None and route.kind == kind else None

    def _published_signer(self, kind: SigningKind, slug: str) -> Signer | None:
        self._table.refresh()
        routes = [self._table.token(digest(secret_name(kind, slug, slot))) for slot in SLOTS]
        found = [(route, route.secret) for route in routes if route is not None and route.kind == kind and route.secret]
        return (_advertiser(found[0][0]), tuple(secret for _, secret in found)) if found else None

    def close(self) -> None:
        """Let go of the table."""
        self._table.close()


class _Memory(Generic[K, V]):
    """What PostgreSQL said, for a second: whoever tries secrets asks it no oftener."""

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker
        self._known: dict[K, tuple[float, V | None]] = {}

    async def ask(self, key: K, ask: Callable[[], Awaitable[V | None]]) -> V | None:
        until, found = self._known.get(key, (0.0, None))
        if until > time.monotonic():
            return found
        found = await self._breaker.call(ask)
        if len(self._known) >= REMEMBERED_MAX:
            self._known.clear()
        self._known[key] = (time.monotonic() + REMEMBERED_S, found)
        return found

    def last(self, key: K) -> V | None:
        return self._known.get(key, (0.0, None))[1]


def bad_token() -> Unauthorized:
    """The one thing that is said of a token that is not known."""
    return Unauthorized("bad_token", "the token is missing or wrong", field="token")


def _advertiser(route: TokenRoute) -> Advertiser:
    return advertiser_of(route.advertiser_id, route.advertiser_slug, route.currency.strip(), route.settings)
