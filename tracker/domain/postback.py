"""A postback as a store sent it, read and checked, and the verdict on it. Pure."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from tracker.domain import click_id
from tracker.domain.amounts import micros_of
from tracker.domain.order_details import InvalidDetail, read_details
from tracker.domain.postback_settings import AS_IS, PostbackSettings, of_settings, renamed

Source = Literal["postback", "pixel", "webhook", "old"]
Outcome = Literal["attributed", "orphan", "parked", "rejected", "duplicate", "conflict"]
STATUSES = ("approved", "pending", "rejected", "reversed")
SECRETS = frozenset(("token", "sig", "pixel_key", "cookie"))  # never kept
KEPT_ELSEWHERE = frozenset(("items",))
TXID_MAX = 255
CLICK_ID_MAX = 255
GOAL_MAX = 64
COUPON_MAX = 255
CUSTOMER_MAX = 255
EVENT_ID_MAX = 255
PARAMETERS_MAX = 100  # further ones are dropped
VALUE_MAX = 1024  # longer values of unknown parameters are cut
FUTURE_MAX = timedelta(days=1)  # a store's clock may be wrong, but not by more
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_CURRENCY = re.compile(r"[A-Za-z]{3}", re.ASCII)
_BAD = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")
_UNIX = re.compile(r"\d{9,10}(\.\d{1,9})?|\d{12,13}", re.ASCII)


class InvalidPostback(ValueError):
    """A parameter is not what it must be. `field` names it; the code is `invalid_<field>`."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field, self.code = field, f"invalid_{field}"


@dataclass(frozen=True, slots=True)
class Advertiser:
    """Whose postback it is, and what is assumed when it says nothing."""

    advertiser_id: int
    slug: str
    currency: str
    pixel_status: str = "pending"
    settings: PostbackSettings = AS_IS


def advertiser_of(advertiser_id: int, slug: str, currency: str, settings: Mapping[str, Any]) -> Advertiser:
    """An advertiser with what its settings say of postbacks."""
    pixel_status = "approved" if settings.get("pixel_status") == "approved" else "pending"
    return Advertiser(advertiser_id, slug, currency, pixel_status, of_settings(settings))


@dataclass(frozen=True, slots=True)
class Postback:
    """One report, checked. `txid` is never empty; `status_original` is "" when the store did not say.

    `visits` are what `visitor_cookie.read` returns. `campaign` and `partner` are ids that the report itself names: the campaign
    chooses among clicks that share an old platform's id, and both together may earn where no click does. `old_source`: whose ids it
    speaks in, where it came to an old platform's host.
    """

    postback_id: UUID
    received_at: datetime
    source: Source
    advertiser_id: int
    txid: str
    goal: str
    click_id: str | None
    coupon: str | None
    amount_micros: int
    currency: str
    amount_original: str
    currency_original: str
    status: str
    status_original: str
    happened_at: datetime | None
    parameters: dict[str, str]
    ip: str = ""
    unverified: bool = False
    tries: int = 0
    parked_until: datetime | None = None
    customer: str | None = None
    event_id: str | None = None
    visits: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    stated_at: datetime | None = None
    campaign: int | None = None
    partner: int | None = None
    old_source: str | None = None

    @property
    def identity(self) -> tuple[int, str, str]:
        """The order that it tells of: advertiser, goal, txid."""
        return self.advertiser_id, self.goal, self.txid

    @property
    def order(self) -> tuple[datetime, datetime, UUID]:
        """Reports of one order take effect in this order, however they came here."""
        return self.told_at, self.received_at, self.postback_id

    @property
    def told_at(self) -> datetime:
        """When its sender says that this came about, where it tells that from the time of the sale; else when the sale happened."""
        return self.stated_at or self.converted_at

    @property
    def converted_at(self) -> datetime:
        """When the sale happened: what the store says, else when we heard of it."""
        return self.happened_at or self.received_at

    @property
    def is_keyed_by_click(self) -> bool:
        """Whether the store sent no txid, so that `txid` was made from the click id."""
        key = self.click_id or next(iter(self.visits), "")
        is_made = self.txid.startswith(("click:", "click-sha256:")) if self.source == "old" else self.txid == click_key(key)
        return bool(key) and is_made and not self.parameters.get("txid", "").strip()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a postback.

    `outcome` as kept in `postbacks`; `status` as told to the store (`attributed`, `orphan`, `parked`, `conflict`, or `ignored`
    where a shop told of an order that nobody brought).
    `created`: the status of the conversion that this postback made, with its payout; None when it made none.
    """

    outcome: Outcome
    status: str
    postback_id: UUID
    conversion_id: UUID | None = None
    duplicate: bool = False
    reason: str = ""
    created: str | None = None
    payout_micros: int = 0
    payout_currency: str = ""


def read(
    parameters: Mapping[str, str],
    advertiser: Advertiser,
    *,
    postback_id: UUID,
    received_at: datetime,
    source: Source = "postback",
    ip: str = "",
    visits: Sequence[str] = (),
    is_named: bool = False,
) -> Postback:
    """Check and read a postback's parameters, named and written as the advertiser's settings say.

    Without a txid the click id is the key (`click_key`), so one click can make one such conversion a goal. From a
    pixel, whose key anybody can read, the status is the advertiser's `pixel_status` whatever it says. `visits`: ids of
    clicks that the visitor's cookie names, checked by the caller; `is_named`: the report names who brought it, checked too. When it
    happened is what the store says, never what a pixel does.
    A shop's webhooks all say when the sale happened, and `stated_at` when this one came about.

    Raises:
        InvalidPostback: names the parameter; the text is safe to show.
    """
    parameters, settings = renamed(parameters, advertiser.settings), advertiser.settings
    click = _click_id(parameters.get("click_id", ""))
    coupon = _text("coupon", parameters.get("coupon", ""), COUPON_MAX)
    customer = _text("customer", parameters.get("customer", ""), CUSTOMER_MAX)
    if not (click or coupon or customer or visits or is_named):
        raise InvalidPostback("click_id", "click_id or coupon is required, or a customer who bought before")
    txid = _text("txid", parameters.get("txid", ""), TXID_MAX)
    key = click or next(iter(visits), "")
    if not txid and not key:
        raise InvalidPostback("txid", "txid is required with a coupon or a customer")
    amount = parameters.get("amount", "").strip()
    said_currency = parameters.get("currency", "").strip()
    currency = _currency(said_currency) or advertiser.currency
    status = parameters.get("status", "").strip()
    pixel = source == "pixel"
    try:
        details = read_details(parameters, settings.amount_format, currency)
    except InvalidDetail as exc:
        raise InvalidPostback(exc.field, str(exc)) from None
    return Postback(
        postback_id=postback_id,
        received_at=received_at,
        source=source,
        advertiser_id=advertiser.advertiser_id,
        txid=txid or click_key(key),
        goal=_text("goal", parameters.get("goal", ""), GOAL_MAX) or "sale",
        click_id=click or None,
        coupon=coupon or None,
        amount_micros=_amount(amount, settings, currency),
        currency=currency,
        amount_original=amount,
        currency_original=said_currency,
        status=advertiser.pixel_status if pixel else _status(status, settings),
        status_original="" if pixel else status,
        happened_at=None if pixel else _instant(parameters.get("ts", "").strip(), received_at),
        parameters=_kept(parameters),
        ip=ip,
        unverified=pixel,
        customer=customer or None,
        event_id=_text("event_id", parameters.get("event_id", ""), EVENT_ID_MAX) or None,
        visits=list(visits),
        details=details,
        stated_at=_stated_at(parameters.get("stated_at", "").strip(), received_at) if source == "webhook" else None,
    )


def click_key(click: str) -> str:
    """The txid of a postback without one: `click:<click id>`, or `click-sha256:<hash>` where that would be too long."""
    key = f"click:{click}"
    return key if len(key) <= TXID_MAX else f"click-sha256:{hashlib.sha256(click.encode()).hexdigest()}"


def _text(name: str, value: str, longest: int) -> str:
    value = value.strip(" \t")
    if len(value) > longest:
        raise InvalidPostback(name, f"{name} must have at most {longest} characters")
    if _BAD.search(value):
        raise InvalidPostback(name, f"{name} must not contain control characters")
    return value


def _click_id(value: str) -> str:
    value = _text("click_id", value, CLICK_ID_MAX)
    raw = click_id.from_any(value)
    return click_id.to_text(raw).decode("ascii") if raw else value


def _amount(value: str, settings: PostbackSettings, currency: str) -> int:
    if not value:
        return 0
    try:
        micros = micros_of(value, settings.amount_format, currency)
    except ValueError as exc:
        raise InvalidPostback("amount", f"amount {exc}") from None
    if micros < 0:
        raise InvalidPostback("amount", "amount must not be negative; to take a sale back send status=reversed")
    return micros


def _currency(value: str) -> str:
    if value and not _CURRENCY.fullmatch(value):
        raise InvalidPostback("currency", "currency must be an ISO 4217 code of three letters, such as EUR")
    return value.upper()


def _status(value: str, settings: PostbackSettings) -> str:
    word = settings.statuses.get(value) or value.lower()
    if word not in ("", *STATUSES):
        declared = f", or a word of the shop's: {', '.join(sorted(settings.statuses))}" if settings.statuses else ""
        raise InvalidPostback("status", f"status must be one of {', '.join(STATUSES)}{declared}")
    return word or "approved"


def _instant(value: str, received_at: datetime) -> datetime | None:
    if not value:
        return None
    try:
        if _UNIX.fullmatch(value):
            at = datetime.fromtimestamp(float(value) / (1000 if len(value.partition(".")[0]) > 10 else 1), UTC)
        else:
            at = datetime.fromisoformat(value.replace(" ", "+") if "T" in value else value)
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidPostback("ts", "ts must be seconds since 1970, or an instant such as 2026-01-31T12:00:00Z") from None
    if not EARLIEST <= at <= received_at + FUTURE_MAX:
        raise InvalidPostback("ts", "ts must be after 1999 and not in the future")
    return at


def _stated_at(value: str, received_at: datetime) -> datetime | None:
    try:
        return _instant(value, received_at)
    except InvalidPostback:  # a clock that is wrong must not make this the last word for good
        return received_at


def _kept(parameters: Mapping[str, str]) -> dict[str, str]:
    kept = [(name, value) for name, value in parameters.items() if name not in SECRETS | KEPT_ELSEWHERE][:PARAMETERS_MAX]
    return {storable(name): storable(value) for name, value in kept}


def storable(value: str) -> str:
    """`value` cut to 1024 characters, with what PostgreSQL cannot keep (NUL, half characters) replaced by U+FFFD."""
    return _UNSTORABLE.sub("\ufffd", value[:VALUE_MAX])


def from_row(row: Mapping[str, Any]) -> Postback:
    """The postback that a row of `postbacks` holds."""
    names = Postback.__dataclass_fields__
    return Postback(**{name: row[name] for name in names})
