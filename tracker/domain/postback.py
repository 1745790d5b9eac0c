"""A postback as a store sent it, read and checked, and the verdict on it. Pure."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from tracker.domain import click_id, money

Source = Literal["postback", "pixel", "old"]
Outcome = Literal["attributed", "orphan", "parked", "rejected", "duplicate", "conflict"]
STATUSES = ("approved", "pending", "rejected", "reversed")
SECRETS = frozenset(("token", "sig", "pixel_key"))  # never kept
TXID_MAX = 255
CLICK_ID_MAX = 255
GOAL_MAX = 64
COUPON_MAX = 255
PARAMETERS_MAX = 100  # further ones are dropped
VALUE_MAX = 1024  # longer values of unknown parameters are cut
FUTURE_MAX = timedelta(days=1)  # a store's clock may be wrong, but not by more
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_AMOUNT = re.compile(r"[+-]?(\d{1,30}(\.\d{0,30})?|\.\d{1,30})", re.ASCII)
_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)
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


def advertiser_of(advertiser_id: int, slug: str, currency: str, settings: Mapping[str, Any]) -> Advertiser:
    """An advertiser with what its settings say of postbacks."""
    return Advertiser(advertiser_id, slug, currency, "approved" if settings.get("pixel_status") == "approved" else "pending")


@dataclass(frozen=True, slots=True)
class Postback:
    """One report, checked. `txid` is never empty; `status_original` is "" when the store did not say."""

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

    @property
    def converted_at(self) -> datetime:
        """When the sale happened: what the store says, else when we heard of it."""
        return self.happened_at or self.received_at

    @property
    def is_keyed_by_click(self) -> bool:
        """Whether the store sent no txid, so that `txid` was made from the click id."""
        return bool(self.click_id) and self.txid == click_key(self.click_id or "") and not self.parameters.get("txid", "").strip()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a postback.

    `outcome` as kept in `postbacks`; `status` as told to the store (`attributed`, `orphan`, `parked`, `conflict`).
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
) -> Postback:
    """Check and read a postback's parameters.

    Without a txid the click id is the key (`click_key`), so one click can make one such conversion a goal. From a
    pixel, whose key anybody can read, the status is the advertiser's `pixel_status` whatever it says.

    Raises:
        InvalidPostback: names the parameter; the text is safe to show.
    """
    click = _click_id(parameters.get("click_id", ""))
    coupon = _text("coupon", parameters.get("coupon", ""), COUPON_MAX)
    if not click and not coupon:
        raise InvalidPostback("click_id", "click_id or coupon is required")
    txid = _text("txid", parameters.get("txid", ""), TXID_MAX)
    if not txid and not click:
        raise InvalidPostback("txid", "txid is required with a coupon")
    amount = parameters.get("amount", "").strip()
    currency = parameters.get("currency", "").strip()
    status = parameters.get("status", "").strip()
    pixel = source == "pixel"
    return Postback(
        postback_id=postback_id,
        received_at=received_at,
        source=source,
        advertiser_id=advertiser.advertiser_id,
        txid=txid or click_key(click),
        goal=_text("goal", parameters.get("goal", ""), GOAL_MAX) or "sale",
        click_id=click or None,
        coupon=coupon or None,
        amount_micros=_amount(amount),
        currency=_currency(currency) or advertiser.currency,
        amount_original=amount,
        currency_original=currency,
        status=advertiser.pixel_status if pixel else _status(status),
        status_original="" if pixel else status,
        happened_at=_instant(parameters.get("ts", "").strip(), received_at),
        parameters=_kept(parameters),
        ip=ip,
        unverified=pixel,
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


def _amount(value: str) -> int:
    if not value:
        return 0
    if not _AMOUNT.fullmatch(value):
        raise InvalidPostback("amount", "amount must be a decimal number with a point, such as 12.50")
    try:
        micros = money.parse_micros(value)
    except ValueError as exc:
        raise InvalidPostback("amount", f"amount {exc}") from None
    if micros < 0:
        raise InvalidPostback("amount", "amount must not be negative; to take a sale back send status=reversed")
    return micros


def _currency(value: str) -> str:
    if value and not _CURRENCY.fullmatch(value.upper()):
        raise InvalidPostback("currency", "currency must be an ISO 4217 code of three letters, such as EUR")
    return value.upper()


def _status(value: str) -> str:
    if value.lower() not in ("", *STATUSES):
        raise InvalidPostback("status", f"status must be one of {', '.join(STATUSES)}")
    return value.lower() or "approved"


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


def _kept(parameters: Mapping[str, str]) -> dict[str, str]:
    kept = [(name, value) for name, value in parameters.items() if name not in SECRETS][:PARAMETERS_MAX]
    return {storable(name): storable(value) for name, value in kept}


def storable(value: str) -> str:
    """`value` cut to 1024 characters, with what PostgreSQL cannot keep (NUL, half characters) replaced by U+FFFD."""
    return _UNSTORABLE.sub("\ufffd", value[:VALUE_MAX])


def from_row(row: Mapping[str, Any]) -> Postback:
    """The postback that a row of `postbacks` holds."""
    names = Postback.__dataclass_fields__
    return Postback(**{name: row[name] for name in names})
