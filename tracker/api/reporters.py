"""Who reports: the advertiser that a token or a signature stands for, and whether it may from where it does."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from ipaddress import ip_network
from urllib.parse import parse_qsl
from uuid import UUID

import msgspec
from fastapi import Request

from tracker.api.clients import client_address, is_within
from tracker.api.metrics import Metrics
from tracker.api.tokens import Tokens
from tracker.domain import click_id, signatures
from tracker.domain.postback import Advertiser
from tracker.domain.postback_settings import AS_IS
from tracker.domain.signatures import BadSignature
from tracker.domain.webhooks import Shop
from tracker.errors import Forbidden, NotFound, Unauthorized
from tracker.settings import Network

SIGNATURE, TIMESTAMP, ADVERTISER = "x-turnout-signature", "x-turnout-timestamp", "x-turnout-advertiser"
SHOPS_SIGNATURES: dict[Shop, str] = {
    "shopify": "x-shopify-hmac-sha256",
    "woocommerce": "x-wc-webhook-signature",
    "stripe": "stripe-signature",
}
# All that a POST with a signature may have in its query: nothing there is signed, and these prove themselves.
BESIDE_A_SIGNED_BODY = frozenset(("sig", "ts", "advertiser", "token"))


@dataclasses.dataclass(frozen=True, slots=True)
class Reporter:
    """Whose report it is. `postback_id` is that of its signature, so that it counts once however often it is sent; None: it has none."""

    advertiser: Advertiser
    postback_id: UUID | None
    is_signed: bool

    def item_id(self, item: int) -> UUID | None:
        """The same for the report number `item` of a list, which has one signature."""
        if self.postback_id is None:
            return None
        return signatures.postback_id_of(click_id.unix_ms(self.postback_id.bytes), self.postback_id.bytes, item)


class Reporters:
    """Tells who reports. Refusals are counted, and say the same whatever is wrong."""

    def __init__(self, tokens: Tokens, metrics: Metrics, trusted_proxies: Iterable[Network]) -> None:
        self._tokens, self._metrics, self._trusted = tokens, metrics, tuple(trusted_proxies)

    async def of_postback(self, request: Request, raw_query: bytes, body: bytes, parameters: Mapping[str, str]) -> Reporter:
        """The sender of a postback, by its signature where there is one, else by its token.

        Token: the parameter `token`, else `Authorization: Bearer`. Signature: `X-Turnout-Signature`, else the parameter `sig`;
        its time `X-Turnout-Timestamp`, else the query's `ts`, else the parameter; whose: `X-Turnout-Advertiser`, else the
        parameter `advertiser`.

        Raises:
            Unauthorized: `bad_token`, `bad_signature`.
            Forbidden: `ip_not_allowed`, told only to those who have proved who they are.
            StoreUnavailable: nobody can tell.
        """
        with self._counted():
            signature = request.headers.get(SIGNATURE) or parameters.get("sig")
            if signature:
                reporter = await self._signer(request, raw_query, body, parameters, signature)
            else:
                token = parameters.get("token") or _bearer(request)
                reporter = Reporter(await self._tokens.advertiser(token, "token"), None, is_signed=False)
            self._check_address(request, reporter.advertiser)
            return reporter

    async def of_webhook(self, request: Request, shop: Shop, slug: str, body: bytes) -> Reporter:
        """The advertiser whose shop sent this, its settings of names, words and numbers left out: we read the shop's own form.

        Raises:
            NotFound: `unknown_webhook`: there is no such advertiser, or none with a secret of that shop.
            Unauthorized: `bad_signature`.
            Forbidden: `ip_not_allowed`.
            StoreUnavailable: nobody can tell.
        """
        header = request.headers.get(SHOPS_SIGNATURES[shop], "")

        def check(secrets: tuple[str, ...]) -> bytes:
            if shop == "stripe":
                return signatures.check_stripe(secrets, header=header, body=body, now_s=time.time())
            return signatures.check_body(secrets, signature=header, body=body)

        with self._counted():
            found = await self._tokens.signed(shop, slug, _or_none(check))
            if found is None:
                raise NotFound("unknown_webhook", f"there is no advertiser {slug[:80]!r} with a secret of {shop}", field="advertiser")
            advertiser, digest = found
            if digest is None:
                raise bad_signature()
            self._check_address(request, advertiser)
            return Reporter(_as_the_shop_writes(advertiser), None, is_signed=True)

    async def _signer(self, request: Request, raw_query: bytes, body: bytes, parameters: Mapping[str, str], signature: str) -> Reporter:
        query = dict(parse_qsl(raw_query.decode("latin-1"), keep_blank_values=True))
        ts = request.headers.get(TIMESTAMP) or query.get("ts") or parameters.get("ts", "")
        slug = request.headers.get(ADVERTISER) or query.get("advertiser") or parameters.get("advertiser", "")
        message = _message(request.method, raw_query, body, query)

        def check(secrets: tuple[str, ...]) -> bytes:
            return signatures.check_own(secrets, ts=ts, message=message, signature=signature, now_s=time.time())

        found = await self._tokens.signed("hmac", slug, _or_none(check))
        if found is None or found[1] is None:
            raise bad_signature()
        advertiser, digest = found[0], found[1]
        return Reporter(advertiser, signatures.postback_id_of(int(ts) * 1000, digest), is_signed=True)

    def _check_address(self, request: Request, advertiser: Advertiser) -> None:
        allowed = advertiser.settings.allow_ips
        if allowed and not is_within(client_address(request, self._trusted), _networks(tuple(allowed))):
            raise Forbidden("ip_not_allowed", "reports of this advertiser are not taken from this address", field="allow_ips")

    @contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except (Unauthorized, Forbidden) as exc:
            self._metrics.refusals.labels(exc.code).inc()
            raise


def bad_signature() -> Unauthorized:
    """The one thing that is said of a signature that does not hold."""
    return Unauthorized("bad_signature", str(BadSignature()), field="sig")


def _message(method: str, raw_query: bytes, body: bytes, query: Mapping[str, str]) -> bytes:
    """What has to be signed: all that parameters are taken from."""
    if method != "POST":
        try:
            return signatures.split_query(raw_query)[0]
        except BadSignature:
            raise bad_signature() from None
    if not BESIDE_A_SIGNED_BODY.issuperset(query):
        raise bad_signature()
    return body


def _or_none(check: Callable[[tuple[str, ...]], bytes]) -> Callable[[tuple[str, ...]], bytes | None]:
    def checked(secrets: tuple[str, ...]) -> bytes | None:
        try:
            return check(secrets)
        except BadSignature:
            return None

    return checked


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _as_the_shop_writes(advertiser: Advertiser) -> Advertiser:
    settings = msgspec.structs.replace(
        advertiser.settings, parameters=AS_IS.parameters, statuses=AS_IS.statuses, amount_format=AS_IS.amount_format
    )
    return dataclasses.replace(advertiser, settings=settings)


@lru_cache(maxsize=1000)
def _networks(written: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ip_network(network) for network in written)
