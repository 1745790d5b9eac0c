"""The programme's things - advertisers, campaigns, partners, links … - as data: their fields, and what each accepts.

One description serves the API, the command line and the OpenAPI document. Reading is pure; storing is
`adapters.postgres_programme`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from tracker.domain import old_reports, plan_reading, postback_settings
from tracker.domain.macros import MACROS
from tracker.domain.urls import host_key
from tracker.errors import RejectedInput
from tracker.platforms.profile import SourceSettings

URL_MAX = 2048
TEXT_MAX = 255
LINKS_MAX = 1000  # in one request
SLUG = re.compile(r"[a-z0-9_-]{1,64}")
HOST = re.compile(r"(?=[^:]{1,253}(:|$))[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*(:[1-9][0-9]{0,4})?")
PORT_MAX = 65535
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)  # with room for time zones and windows on both sides
DAY_S = 86_400
HOLD_DAYS_MAX = 365
SOME_CURRENCY = "XXX"  # stands for the advertiser's, which is not known while a body is read
SECONDS_MAX = 3650 * DAY_S
DEPTH_MAX = 32  # of nested settings and rules; JSON libraries give up at some hundreds
CURRENCY = re.compile(r"[A-Za-z]{3}")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
SURROGATE = re.compile(r"[\ud800-\udfff]")
MACRO = re.compile(r"\{([^{}]*)\}")
PARAMETER = re.compile(r"[A-Za-z0-9_.~-]{1,64}")
Read = Callable[[Any], Any]
TARGETS = {
    "partner": "partner",
    "offer": "campaign",
    "creative": "creative or a campaign",
    "link": "link",
    "pair": "link",
}  # kind of an old id → what it means


@dataclass(frozen=True, slots=True)
class Money:
    """A payout as `terms` keep it: `fixed` has an amount and its currency (None: the advertiser's), `percent` a percentage, `plan` what
    was sent, checked but for the partners that it names."""

    payout_type: Literal["fixed", "percent", "plan"]
    amount_micros: int | None = None
    percent_micros: int | None = None
    currency: str | None = None
    plan: dict[str, Any] = field(default_factory=dict)


def text(value: Any) -> str:
    """At most 255 characters, no control characters."""
    if not isinstance(value, str):
        raise ValueError("must be a string")  # noqa: TRY004 - bad input, not a bug
    if len(value) > TEXT_MAX:
        raise ValueError(f"must have at most {TEXT_MAX} characters")
    if CONTROL.search(value) or SURROGATE.search(value):
        raise ValueError("must not contain control characters")
    return value


def filled(value: Any) -> str:
    """Text that is not blank."""
    stripped = text(value).strip()
    if not stripped:
        raise ValueError("must not be empty")
    return stripped


def slug(value: Any) -> str:
    """A slug: 1 to 64 of `a-z0-9-_`."""
    if not isinstance(value, str) or not SLUG.fullmatch(value):
        raise ValueError("must be 1 to 64 characters of a-z, 0-9, - and _")
    return value


def url(value: Any) -> str:
    """An http(s) address with a host, macros from the list, at most 2048 characters."""
    if not isinstance(value, str) or len(value) > URL_MAX:
        raise ValueError(f"must be an address of at most {URL_MAX} characters")
    if CONTROL.search(value) or SURROGATE.search(value) or re.search(r"\s", value):
        raise ValueError("must not contain spaces or control characters")
    for name in MACRO.findall(value):
        if name not in MACROS:
            raise ValueError(f"has an unknown macro {{{name}}}; known ones are {', '.join(sorted(MACROS))}")
    _check_host(value)
    return value


def origin(value: Any) -> str:
    """An address to which paths and queries are added: scheme, host and perhaps a folder."""
    found = url(value)
    if "?" in found or "#" in found or "{" in found:
        raise ValueError("must be an address without ?, # and macros: path and query of each visitor are added to it")
    return found


def _check_host(value: str) -> None:
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("must be a valid address") from None
    if parts.scheme not in ("http", "https") or not host or "\\" in parts.netloc:
        raise ValueError("must start with http:// or https:// and name a host")
    if "@" in parts.netloc:
        raise ValueError("must not contain a user name or password")
    if "{" in parts.netloc:
        raise ValueError("must not have a macro in its host")


def old_url(value: Any) -> str:
    """An old address, in any spelling that a browser would follow, at most 2048 characters."""
    if not isinstance(value, str) or not value.strip() or len(value) > URL_MAX:
        raise ValueError(f"must be an address of 1 to {URL_MAX} characters")
    if CONTROL.search(value.strip()) or SURROGATE.search(value):
        raise ValueError("must not contain control characters")
    return value.strip()


def currency(value: Any) -> str:
    """An ISO 4217 code."""
    if not isinstance(value, str) or not CURRENCY.fullmatch(value):
        raise ValueError("must be an ISO 4217 code of three letters, such as EUR")
    return value.upper()


def host(value: Any) -> str:
    """A host name as it is compared: lower-case, in IDNA form; a port is kept unless it is 80 or 443."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a host name such as shop.example")
    found = host_key(value.encode("utf-8", "surrogatepass"))
    if not HOST.fullmatch(found) or int(found.partition(":")[2] or 0) > PORT_MAX:
        raise ValueError("must be a host name such as shop.example")
    return found


def domain(value: Any) -> str:
    """A host name that deep links may lead to, in IDNA form: any port is meant, so none may be named."""
    if isinstance(value, str) and ":" in value:
        raise ValueError("must be host names without a port or a scheme, such as shop.example; every port is meant")
    return host(value)


def hosts(value: Any) -> list[str]:
    """A list of host names, each once."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list) or len(value) > 1000:
        raise ValueError('must be a list of host names such as ["shop.example"]')
    return list(dict.fromkeys(domain(item) for item in value))


def instant(value: Any) -> datetime:
    """An instant in ISO 8601, of the years 1970 to 9998; without an offset it is UTC."""
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
        at = at and (at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC))
    except (ValueError, OverflowError):
        at = None
    if at is None:
        raise ValueError("must be a date or an instant such as 2026-01-31T12:00:00Z")
    if not EARLIEST <= at < LATEST:
        raise ValueError("must be of the years 1970 to 9998")
    return at


def moment(value: str, field: str) -> datetime | None:
    """A day or an instant; a day as `to` includes the whole of it. RejectedInput names the field."""
    if not value:
        return None
    try:
        at = instant(value)
    except ValueError as exc:
        raise RejectedInput(f"invalid_{field}", f"{field} {exc}", field=field) from None
    return at + timedelta(days=1) if field == "to" and len(value) <= 10 else at


def days(value: Any) -> int:
    """A number of days, 1 to 3650."""
    number = int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,5}", value) else value
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= 3650:
        raise ValueError("must be a whole number of days from 1 to 3650")
    return number


def days_or_none(value: Any) -> int:
    """A number of days, 0 to 3650."""
    return 0 if value in (0, "0") and not isinstance(value, bool) else days(value)


def hold(value: Any) -> int:
    """A number of days, 0 to 365."""
    number = int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,3}", value) else value
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= HOLD_DAYS_MAX:
        raise ValueError(f"must be a whole number of days from 0 to {HOLD_DAYS_MAX}")
    return number


def seconds(value: Any) -> int:
    """A number of seconds, up to ten years."""
    number = int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value) else value
    if not isinstance(number, int) or isinstance(number, bool) or not 0 < number <= SECONDS_MAX:
        raise ValueError(f"must be a whole number of seconds from 1 to {SECONDS_MAX}")
    return number


def short_seconds(value: Any) -> int:
    """A number of seconds, 0 to a day."""
    number = 0 if value in (0, "0") and not isinstance(value, bool) else seconds(value)
    if number > DAY_S:
        raise ValueError(f"must be a whole number of seconds from 0 to {DAY_S}")
    return number


def yes_or_no(value: Any) -> bool:
    """True or false."""
    found = {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(found, bool):
        raise ValueError("must be true or false")  # noqa: TRY004 - bad input, not a bug
    return found


def mapping(value: Any) -> dict[str, Any]:
    """A JSON object, nested at most 32 deep."""
    if not isinstance(value, dict):
        raise ValueError("must be a JSON object")  # noqa: TRY004 - bad input, not a bug
    if _is_deeper(value, DEPTH_MAX):
        raise ValueError(f"must not be nested more than {DEPTH_MAX} deep")
    if "\x00" in repr(value) or "\\x00" in repr(value) or SURROGATE.search(repr(value)):
        raise ValueError("must not contain NUL or broken characters")
    return value


def host_settings(value: Any) -> dict[str, Any]:
    """A JSON object; `reading` holds what `SourceSettings` of `tracker.platforms.profile` describes, `reports` what
    `ReportSettings` of `tracker.domain.old_reports` does."""
    found = mapping(value)
    if "reading" in found:
        try:
            msgspec.convert(found["reading"], SourceSettings)
        except msgspec.ValidationError as exc:
            known = ", ".join(SourceSettings.__struct_fields__)
            raise ValueError(f"has a reading that cannot be used: {exc}; its fields are {known}") from None
    if old_reports.SETTINGS in found:
        try:
            found = found | {old_reports.SETTINGS: old_reports.checked(found[old_reports.SETTINGS])}
        except ValueError as exc:
            raise ValueError(f"has a part reports {exc}") from None
    return found


def advertiser_settings(value: Any) -> dict[str, Any]:
    """A JSON object; its part `postbacks` holds what `PostbackSettings` describes."""
    found = mapping(value)
    if postback_settings.KEY in found:
        try:
            postback_settings.checked(found[postback_settings.KEY])
        except ValueError as exc:
            raise ValueError(f"has a part postbacks that {exc}") from None
    return found


def _is_deeper(value: Any, limit: int) -> bool:
    """Whether objects and arrays stand in one another more than `limit` deep. Level by level: recursion is what must not happen."""
    level = [value]
    for _ in range(limit):
        level = [
            inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer) if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def email(value: Any) -> str:
    """A mail address, loosely."""
    address = text(value).strip()
    if not re.fullmatch(r"[^@\s]+@[^@\s]+", address):
        raise ValueError("must be a mail address such as someone@example.com")
    return address


def parameter(value: Any) -> str:
    """The name of a URL parameter."""
    if not isinstance(value, str) or not PARAMETER.fullmatch(value):
        raise ValueError("must be the name of a URL parameter")
    return value


def one_of(*allowed: str) -> Read:
    """One of a few words."""

    def read(value: Any) -> str:
        if value not in allowed or not isinstance(value, str):
            raise ValueError("must be one of " + ", ".join(allowed))
        return value

    return read


def payout(value: Any) -> Money:
    """`{"type":"fixed","amount":"5.00","currency":"EUR"}`, `{"type":"percent","percent":"10"}` or a plan; text: `5.00 EUR`, `10%`."""
    if isinstance(value, Mapping) and value.get("type") == "plan":
        plan = mapping(value)
        slugs = plan_reading.shared_with(plan)
        plan_reading.read(plan, {slug: number for number, slug in enumerate(slugs)}, currency=SOME_CURRENCY)
        return Money("plan", plan=plan)
    rate, currency = plan_reading.read_rate(value)
    if rate.percent_micros is not None:
        return Money("percent", percent_micros=rate.percent_micros)
    return Money("fixed", amount_micros=rate.amount_micros, currency=currency)


STRING: dict[str, Any] = {"type": "string"}
OBJECT: dict[str, Any] = {"type": "object"}
LIST: dict[str, Any] = {"type": "array", "items": STRING}
BOOLEAN: dict[str, Any] = {"type": "boolean"}
SECONDS: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": SECONDS_MAX}
DUPLICATE_POLICIES = ("ignore", "conflict", "amend", "increment", "always_new", "new_or_repeated", "by_event_id")
DAYS: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": 3650}
STATUS = one_of("active", "paused", "archived")


@dataclass(frozen=True, slots=True)
class Field:
    """One key of a thing. `column` stores it (None: handled apart); `refers` is the kind of thing that its slug names."""

    name: str
    read: Read
    column: str | None
    required: bool = False
    nullable: bool = False
    fixed: bool = False  # cannot be changed later
    refers: str | None = None
    schema: dict[str, Any] = field(default_factory=lambda: STRING)
    help: str = ""


@dataclass(frozen=True, slots=True)
class Thing:
    """One kind of thing: `name` in errors, `plural` in paths, with `_` for `-` its table; `key` is the field that names one."""

    name: str
    plural: str
    fields: tuple[Field, ...]
    key: str = "slug"

    @property
    def table(self) -> str:
        return self.plural.replace("-", "_")

    def reads(self, body: Any, *, changing: bool = False) -> dict[str, Any]:
        """The checked values of `body`, those given. RejectedInput names the field and says what is allowed."""
        if not isinstance(body, Mapping):
            raise RejectedInput("invalid_body", f"a {self.name} must be a JSON object")
        known = {item.name: item for item in self.fields}
        for name in body:
            if name not in known:
                raise RejectedInput(
                    "unknown_field",
                    f"{name!r} is not a field of a {self.name}; fields are {', '.join(known)}",
                    field=str(name)[:64],
                )
        if changing:
            for name in body:
                if known[name].fixed:
                    raise RejectedInput("read_only_field", f"{name} of a {self.name} cannot be changed", field=name)
        values = {name: _read(known[name], value) for name, value in body.items() if changing or value is not None or known[name].nullable}
        for item in self.fields:
            if item.required and not changing and item.name not in values:
                raise RejectedInput(f"invalid_{item.name}", f"{item.name} is required", field=item.name)
        return values


def _read(item: Field, value: Any) -> Any:
    if value is None and item.nullable:
        return None
    try:
        return item.read(value)
    except ValueError as exc:
        raise RejectedInput(f"invalid_{item.name}", f"{item.name} {exc}", field=item.name) from None


def _slug() -> Field:
    return Field("slug", slug, "slug", fixed=True, help="1-64 of a-z0-9-_; made when missing")


NAME = Field("name", text, "name")
STATE = Field("status", STATUS, "status", help="active, paused or archived")
SOURCE = (
    Field("source", filled, "source", nullable=True, fixed=True),
    Field("source_id", filled, "source_id", nullable=True, fixed=True),
)
PAYOUT = Field("payout", payout, None, nullable=True, schema=OBJECT, help="5.00 EUR or 10%, or a plan as JSON, or @FILE.json")


def _refers(name: str, *, column: str | None = None, required: bool = True, fixed: bool = True) -> Field:
    return Field(name, filled, column or f"{name}_id", required=required, nullable=not required, fixed=fixed, refers=name)


def _url(name: str, *, required: bool = False) -> Field:
    return Field(name, url, name, required=required, nullable=not required, schema={"type": "string", "format": "uri"})


def _instant(name: str) -> Field:
    return Field(name, instant, name, nullable=True, schema={"type": "string", "format": "date-time"})


def _mapping(name: str) -> Field:
    return Field(name, mapping, name, schema=OBJECT, help="a JSON object")


ADVERTISER = Thing(
    "advertiser",
    "advertisers",
    (
        _slug(), NAME, Field("currency", currency, "currency", required=True),
        Field("domains", hosts, "domains", schema=LIST, help="hosts that deep links may lead to"), STATE,
        Field(
            "settings", advertiser_settings, "settings", schema=OBJECT, help='a JSON object; "postbacks" says how the shop writes',
        ), *SOURCE,
    ),
)  # fmt: skip
CAMPAIGN = Thing(
    "campaign",
    "campaigns",
    (
        _slug(), _refers("advertiser"), NAME, _url("destination_url", required=True), _url("fallback_url"), PAYOUT,
        Field("attribution_window_days", days, "attribution_window_days", schema=DAYS),
        Field("attribution_model", one_of("last", "first"), "attribution_model", help="which click earns: last or first"),
        Field("coupon_first", yes_or_no, "coupon_first", schema=BOOLEAN, help="true: a coupon goes before a click"),
        Field("min_conversion_seconds", short_seconds, "min_conversion_seconds", schema=SECONDS, help="sooner after its click none earns"),
        Field("max_conversion_seconds", seconds, "max_conversion_seconds", nullable=True, schema=SECONDS, help="later none earns"),
        Field(
            "customer_window_days", days_or_none, "customer_window_days", schema=DAYS | {"minimum": 0},
            help="how long the partner of a customer's last order earns; 0: never",
        ),
        Field(
            "hold_days", hold, "hold_days", schema=DAYS | {"minimum": 0, "maximum": HOLD_DAYS_MAX},
            help="how long what its shop approves stays pending; 0: not at all",
        ),
        Field("click_id_param", parameter, "click_id_param"),
        _instant("starts_at"), _instant("expires_at"), STATE, _mapping("rules"), *SOURCE,
    ),
)  # fmt: skip
PARTNER = Thing(
    "partner",
    "partners",
    (
        _slug(), NAME, Field("email", email, "email", nullable=True),
        Field("parent", filled, "parent_id", nullable=True, refers="partner"), STATE, _mapping("settings"), *SOURCE,
    ),
)  # fmt: skip
LINK = Thing(
    "link",
    "links",
    (
        _slug(), _refers("partner"), _refers("campaign"), NAME, Field("creative", text, "creative"),
        _url("destination_url"), _url("fallback_url"), _instant("expires_at"), STATE, _mapping("rules"), *SOURCE,
    ),
)  # fmt: skip
ALIAS = Thing(
    "alias",
    "aliases",
    (Field("url", old_url, "url", required=True, fixed=True), _refers("link", fixed=False), STATE, *SOURCE),
    key="id",
)
COUPON = Thing(
    "coupon",
    "coupons",
    (
        Field("code", filled, "code", required=True, fixed=True), _refers("partner"), _refers("campaign"),
        _instant("valid_from"), _instant("valid_to"), STATE, *SOURCE,
    ),
    key="code",
)  # fmt: skip
GOAL = Thing(
    "goal",
    "goals",
    (
        _slug(), _refers("campaign"), NAME, PAYOUT,
        Field("attribution_window_days", days, "attribution_window_days", nullable=True, schema=DAYS, help="else the campaign's"),
        Field("duplicate_policy", one_of(*DUPLICATE_POLICIES), "duplicate_policy", help=", ".join(DUPLICATE_POLICIES)), *SOURCE,
    ),
)  # fmt: skip
HOST_THING = Thing(
    "host",
    "tracking-hosts",
    (
        Field("host", host, "host", required=True, fixed=True), Field("kind", one_of("tracking", "old"), "kind"),
        _refers("advertiser", required=False, fixed=False), Field("platform", text, "platform", nullable=True),
        _url("fallback_url"), Field("forward_to", origin, "forward_to", nullable=True, schema={"type": "string", "format": "uri"}),
        Field("settings", host_settings, "settings", schema=OBJECT, help='a JSON object; "reading" says what was changed on the platform'),
        Field("source", filled, "source", nullable=True, help="whose ids stand in its links; its platform's name when missing"), SOURCE[1],
    ),
    key="host",
)  # fmt: skip
OLD_ID = Thing(
    "old-id",
    "old-ids",
    (
        Field("source", filled, "source", required=True, fixed=True, help="the installation of the old platform"),
        Field("kind", one_of(*TARGETS), "kind", required=True, fixed=True, help="partner, offer, creative, link or pair (partner/offer)"),
        Field("source_id", text, "source_id", required=True, fixed=True, help="the id in old links; empty: of links that name none"),
        _refers("partner", required=False, fixed=False), _refers("campaign", required=False, fixed=False),
        _refers("link", required=False, fixed=False), Field("creative", text, "creative", nullable=True),
        Field("status", one_of("active", "archived"), "status", help="active or archived"),
    ),
    key="id",
)  # fmt: skip

THINGS = {thing.plural: thing for thing in (ADVERTISER, CAMPAIGN, PARTNER, LINK, ALIAS, COUPON, GOAL, HOST_THING, OLD_ID)}
