"""Whose postback this is: told from the machine's route table, so that a store is known while PostgreSQL is away."""

import hashlib
import time
from functools import partial
from typing import Literal

from tracker.adapters.lmdb_routes import RouteTable
from tracker.adapters.postgres_conversions_read import Conversions
from tracker.api.intake import Breaker
from tracker.domain.postback import Advertiser, advertiser_of
from tracker.errors import StoreUnavailable, Unauthorized

Kind = Literal["token", "pixel"]
SECRET_MAX = 200  # characters of a token that are looked at
FRESH_S = 10.0  # a table known to be current so lately is believed; an older one only while PostgreSQL cannot be asked
REMEMBERED_S = 1.0  # what PostgreSQL said of a secret that the table does not have
REMEMBERED_MAX = 10_000  # wrong secrets included


class Tokens:
    """Tells an advertiser from a token or pixel key. A revoked one works for two seconds at most while PostgreSQL is there."""

    def __init__(self, table: RouteTable, conversions: Conversions, breaker: Breaker) -> None:
        self._table, self._conversions, self._breaker = table, conversions, breaker
        self._known: dict[tuple[Kind, bytes], tuple[float, Advertiser | None]] = {}

    async def advertiser(self, secret: str, kind: Kind) -> Advertiser:
        """Whose secret this is. Unauthorized `bad_token`; StoreUnavailable when nobody can tell."""
        if not 0 < len(secret) <= SECRET_MAX:
            raise Unauthorized("bad_token", "the token is missing or wrong", field="token")
        digest = hashlib.sha256(secret.encode("utf-8", "replace")).digest()
        published = self._published(digest, kind)
        if published is not None and self._table.age_s() < FRESH_S:
            return published
        try:
            found = await self._ask(secret, digest, kind)
        except StoreUnavailable:
            found = published or self._known.get((kind, digest), (0.0, None))[1]
            if found is None:
                raise
        if found is None:
            raise Unauthorized("bad_token", "the token is missing or wrong", field="token")
        return found

    def _published(self, digest: bytes, kind: Kind) -> Advertiser | None:
        self._table.refresh()
        route = self._table.token(digest)
        if route is None or route.kind != kind:
            return None
        return advertiser_of(route.advertiser_id, route.advertiser_slug, route.currency.strip(), route.settings)

    async def _ask(self, secret: str, digest: bytes, kind: Kind) -> Advertiser | None:
        until, found = self._known.get((kind, digest), (0.0, None))
        if until > time.monotonic():
            return found
        found = await self._breaker.call(partial(self._conversions.find_advertiser, secret, kind))
        if len(self._known) >= REMEMBERED_MAX:
            self._known.clear()
        self._known[kind, digest] = (time.monotonic() + REMEMBERED_S, found)
        return found

    def close(self) -> None:
        """Let go of the table."""
        self._table.close()
