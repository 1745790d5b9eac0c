"""What the route publisher writes and the redirectors read: one struct a row, and the bytes of each under its key.

Every struct is an array whose first field is its version. Fields are only ever appended, with a default: an older
reader passes over new ones, a newer one fills missing ones. A version is raised only when a field changes its meaning.
Times are milliseconds since 1970 UTC; ids are those of PostgreSQL; `revision` moves with every change of the row.
"""

from hashlib import blake2b
from typing import Any, ClassVar, Final, TypeVar

from msgspec import DecodeError, Struct, msgpack

from tracker.errors import CorruptData

VERSION: Final = 1
KEY_MAX_BYTES = 400  # LMDB takes 511; longer keys are replaced by their digest
ACTIVE = "active"
ID_BYTES = 8
_DIGEST_BYTES = 32


class Kind:
    """The first byte of a key: what lies under it."""

    LINK = b"l"
    ALIAS = b"a"
    CAMPAIGN = b"c"
    PARTNER = b"p"
    HOST = b"h"
    TOKEN = b"t"
    INSTALLATION = b"i"
    OLD_ID = b"o"


def route_key(kind: bytes, key: bytes, host: bytes = b"") -> bytes:
    """The key of a route: kind, host (empty: any host) and key; a digest of them when longer than 400 bytes."""
    joined = kind + host + b"\0" + key
    if len(joined) <= KEY_MAX_BYTES:
        return joined
    return kind + b"\1" + blake2b(joined, digest_size=_DIGEST_BYTES).digest()


def id_key(kind: bytes, row_id: int) -> bytes:
    """The key of a route that is found by its id."""
    return route_key(kind, row_id.to_bytes(ID_BYTES, "big"))


def old_id_key(source: str, kind: str, source_id: str) -> bytes:
    """The key of an `OldIdRoute`."""
    return route_key(Kind.OLD_ID, f"{kind}\0{source_id}".encode("utf-8", "surrogatepass"), source.encode())


class Route(Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """Base of all: the version comes first."""

    KIND: ClassVar[bytes] = b""
    version: int = VERSION

    @property
    def row_id(self) -> int:
        """The id of the row in PostgreSQL; 0 for the one row of the installation."""
        return 0

    def key(self) -> bytes:
        """The key under which the route lies."""
        return id_key(self.KIND, self.row_id)


class LinkRoute(Route, frozen=True, array_like=True, kw_only=True):
    """A link, under its slug."""

    KIND: ClassVar[bytes] = Kind.LINK
    link_id: int
    slug: str
    campaign_id: int
    partner_id: int
    advertiser_id: int
    creative: str = ""
    destination: str | None = None
    fallback: str | None = None
    status: str = ACTIVE
    expires_at_ms: int | None = None
    rules: dict[str, Any] = {}
    revision: int = 0

    @property
    def row_id(self) -> int:
        return self.link_id

    def key(self) -> bytes:
        return route_key(self.KIND, self.slug.encode())


class AliasRoute(Route, frozen=True, array_like=True, kw_only=True):
    """An old URL, under (host or `""`, match key)."""

    KIND: ClassVar[bytes] = Kind.ALIAS
    alias_id: int
    host: str
    match_key: str
    link_id: int
    advertiser_id: int
    status: str = ACTIVE
    revision: int = 0

    @property
    def row_id(self) -> int:
        return self.alias_id

    def key(self) -> bytes:
        return route_key(self.KIND, self.match_key.encode(), self.host.encode())


class CampaignRoute(Route, frozen=True, array_like=True, kw_only=True):
    """A campaign with what it takes from its advertiser, under its id. `revision` is the sum of both rows'."""

    KIND: ClassVar[bytes] = Kind.CAMPAIGN
    campaign_id: int
    slug: str
    advertiser_id: int
    destination: str
    fallback: str | None = None
    click_id_param: str = "click_id"
    status: str = ACTIVE
    starts_at_ms: int | None = None
    expires_at_ms: int | None = None
    domains: tuple[str, ...] = ()
    advertiser_status: str = ACTIVE
    rules: dict[str, Any] = {}
    revision: int = 0

    @property
    def row_id(self) -> int:
        return self.campaign_id


class PartnerRoute(Route, frozen=True, array_like=True, kw_only=True):
    """A partner, under its id."""

    KIND: ClassVar[bytes] = Kind.PARTNER
    partner_id: int
    slug: str
    status: str = ACTIVE
    revision: int = 0

    @property
    def row_id(self) -> int:
        return self.partner_id


class HostRoute(Route, frozen=True, array_like=True, kw_only=True):
    """A host that links point to, under its name. `kind` is `old` or `tracking`; `state` that of the switch-over."""

    KIND: ClassVar[bytes] = Kind.HOST
    host_id: int
    host: str
    kind: str = "old"
    platform: str | None = None
    fallback: str | None = None
    forward_to: str | None = None
    state: str = "none"
    advertiser_id: int | None = None
    settings: dict[str, Any] = {}
    revision: int = 0
    source: str = ""

    @property
    def row_id(self) -> int:
        return self.host_id

    @property
    def id_source(self) -> str:
        """Whose ids stand in its links: its source, else its platform's name."""
        return self.source or self.platform or ""

    def key(self) -> bytes:
        return route_key(self.KIND, self.host.encode())


class TokenRoute(Route, frozen=True, array_like=True, kw_only=True):
    """A live postback token or pixel key under its hash, or a signing secret under its name's.

    `revision` is the sum of its own and its advertiser's.
    """

    KIND: ClassVar[bytes] = Kind.TOKEN
    token_id: int
    advertiser_id: int
    kind: str
    token_hash: bytes
    currency: str
    advertiser_slug: str = ""
    advertiser_status: str = ACTIVE
    slot: int = 1
    settings: dict[str, Any] = {}
    revision: int = 0
    secret: str | None = None

    @property
    def row_id(self) -> int:
        return self.token_id

    def key(self) -> bytes:
        return route_key(self.KIND, self.token_hash)


class OldIdRoute(Route, frozen=True, array_like=True, kw_only=True):
    """What an id in old links means here, under (source, kind, id): one of the four, by `kind` `partner`, `offer`, `creative`, and
    `link` or `pair` (see `tracker.domain.identify`)."""

    KIND: ClassVar[bytes] = Kind.OLD_ID
    old_id: int
    source: str
    kind: str
    source_id: str
    partner_id: int | None = None
    campaign_id: int | None = None
    link_id: int | None = None
    creative: str | None = None
    revision: int = 0

    @property
    def row_id(self) -> int:
        return self.old_id

    def key(self) -> bytes:
        return old_id_key(self.source, self.kind, self.source_id)


class Installation(Route, frozen=True, array_like=True, kw_only=True):
    """What holds for the whole installation. `visitor_secret`: 32 random bytes in hex; `""` when not known."""

    KIND: ClassVar[bytes] = Kind.INSTALLATION
    fallback: str | None = None
    visitor_secret: str = ""


R = TypeVar("R", bound=Route)
_encode = msgpack.Encoder().encode
_TYPES: tuple[type[Route], ...] = (
    LinkRoute, AliasRoute, CampaignRoute, PartnerRoute, HostRoute, TokenRoute, Installation, OldIdRoute,
)  # fmt: skip
_DECODERS: dict[type[Route], msgpack.Decoder[Any]] = {kind: msgpack.Decoder(kind) for kind in _TYPES}


def encode(route: Route) -> bytes:
    """The bytes of a route; `decode` gives it back."""
    return _encode(route)


def decode(kind: type[R], data: bytes) -> R:
    """The route in `data`. CorruptData when these are no such bytes, or of a version this code does not know."""
    try:
        route: R = _DECODERS[kind].decode(data)
    except (DecodeError, ValueError) as exc:
        raise CorruptData(f"{kind.__name__}: {exc}") from exc
    if route.version != VERSION:
        raise CorruptData(f"{kind.__name__}: version {route.version}, this code reads {VERSION}")
    return route
