"""What reaches a registered old host and is no click: postbacks, pixels and impressions of the old platform, kept as they came. Pure.

They are answered at once in the old platform's words, and read when they are stored, by the profile of their host.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from tracker.domain import click_id, visitor_cookie
from tracker.domain import postback as postbacks
from tracker.domain.postback import TXID_MAX, Advertiser, InvalidPostback, Postback
from tracker.domain.postback_settings import AS_IS
from tracker.domain.posted import merged
from tracker.platforms.compiled import Source
from tracker.platforms.outcome import Outcome, outcome_of
from tracker.platforms.profile import Status
from tracker.platforms.reader import read
from tracker.platforms.reading import Conversion, Reading

SETTINGS: Final = "reports"  # the part of a host's settings that `ReportSettings` describes
POSTBACK, PIXEL, IMPRESSION = "postback", "pixel", "impression"
LANDING: Final = "landing"  # a shop's page tells the id that the old platform gave to our newest click (`/-/seen.gif`)
KINDS: Final = frozenset((POSTBACK, PIXEL, IMPRESSION))
LOOKUP_MS: Final = 300
_NO_CONVERSION: Final = Conversion()


class OldReport(msgspec.Struct, array_like=True, gc=False):
    """One request as it came to an old host. Fields are only ever appended: it outlives the process that wrote it.

    `kind` and `platform` are what its taker read it as. `visits`: of our signed cookie, as `visitor_cookie.read` returns them.
    `old_click_id`: of the platform's own cookie. `ip` is what the IP mode keeps. `cookie`: the Cookie header, only where the
    report is passed on to the old platform. `postback_id`: 16 bytes, a UUID made before any I/O.
    """

    postback_id: bytes
    received_at_us: int
    kind: str
    platform: str
    method: str
    host: bytes
    target: bytes
    content_type: bytes = b""
    body: bytes = b""
    ip: str = ""
    user_agent: bytes = b""
    visits: tuple[str, ...] = ()
    old_click_id: bytes = b""
    cookie: bytes = b""

    @property
    def received_at(self) -> datetime:
        """When it came."""
        return datetime.fromtimestamp(self.received_at_us / 1e6, UTC)

    @property
    def uuid(self) -> UUID:
        """The postback's id."""
        return UUID(bytes=self.postback_id)

    @property
    def whole_target(self) -> bytes:
        """The target with what the body adds to it."""
        return merged(self.target, self.content_type, self.body) if self.body else self.target


class ReportSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator says of the reports that come to a host.

    Args:
        tokens: secrets that its stores send; written once, kept as `token_hashes`.
        token_hashes: SHA-256 of each, in hex. With any of them a postback needs a right one; without, its click's id is its proof, as it
            was: one that the old platform gave, or one of ours that its own links gave.
        currency: of amounts that name none; empty: the advertiser's.
        goals: the platform's goal → ours.
        statuses: the store's word → our status or `ignored`; `""` is the word of reports without one.
        tee: pass every postback and pixel on to the old platform (the host's `forward_to`), unchanged.
        lookup: ask the old platform once for every URL that nobody knows here.
        lookup_ms: how long a visitor may wait for that.
    """

    tokens: tuple[str, ...] = ()
    token_hashes: tuple[str, ...] = ()
    currency: str = ""
    goals: dict[str, str] = {}
    statuses: dict[str, Status] = {}
    tee: bool = False
    lookup: bool = False
    lookup_ms: int = LOOKUP_MS


AS_IT_CAME: Final = ReportSettings()


def settings_of(settings: Mapping[str, Any]) -> ReportSettings:
    """What a host's settings say of reports; as if they said nothing when they cannot be read (they are checked when they are written)."""
    found = settings.get(SETTINGS)
    if not found:
        return AS_IT_CAME
    try:
        return msgspec.convert(found, ReportSettings)
    except msgspec.ValidationError:
        return AS_IT_CAME


def checked(found: Any) -> dict[str, Any]:
    """What is kept of a host's `reports` setting: tokens as their hashes. ValueError says what cannot be used."""
    try:
        settings = msgspec.convert(found, ReportSettings)
    except msgspec.ValidationError as exc:
        raise ValueError(f"that cannot be used: {exc}; its fields are {', '.join(ReportSettings.__struct_fields__)}") from None
    if not 50 <= settings.lookup_ms <= 2000:
        raise ValueError("with a lookup_ms that is not within 50 to 2000")
    if settings.currency and not (settings.currency.isascii() and settings.currency.isalpha() and len(settings.currency) == 3):
        raise ValueError("with a currency that is no ISO 4217 code of three letters")
    if not all(settings.tokens):
        raise ValueError("with an empty token")
    kept = {name: value for name, value in found.items() if name != "tokens"}
    hashes = dict.fromkeys((*settings.token_hashes, *map(token_hash, settings.tokens)))
    return kept | {"token_hashes": list(hashes)} if hashes else kept


def token_hash(token: str) -> str:
    """The SHA-256 of a store's secret, in hex."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


@dataclass(frozen=True, slots=True)
class ReadReport:
    """A report, read. `kind` None: its host's platform has no such report (any more). The ids in `reading` are the old platform's."""

    kind: Literal["postback", "pixel", "impression"] | None
    reading: Reading
    outcome: Outcome

    @property
    def conversion(self) -> Conversion:
        """What it reports; empty for an impression."""
        return self.reading.conversion or _NO_CONVERSION


def read_report(source: Source, report: OldReport) -> ReadReport:
    """What `report` says at `source`. Never raises, whatever the bytes."""
    reading = read(source, report.host, report.whole_target)
    kind: Any = reading.kind if reading.kind in KINDS else None
    return ReadReport(kind, reading, outcome_of(source.profile, reading))


def is_right_token(settings: ReportSettings, token: str | None) -> bool:
    """Whether `token` is one of the store's; False when none is set."""
    given = token_hash(token or "")
    return any(hmac.compare_digest(given, known) for known in settings.token_hashes)


def status_of(found: ReadReport, settings: ReportSettings) -> Status:
    """Our status: the operator's word for the store's, else the profile's. What no word decided, none overrides."""
    if not found.outcome.is_by_word:
        return found.outcome.status
    word = found.conversion.status or ""
    return settings.statuses.get(word) or settings.statuses.get(word.lower()) or found.outcome.status


def order_number(source: Source, report: OldReport, found: ReadReport) -> str:
    """The txid: the order's number, with the click in front where the platform numbers each click's orders; `""`: the click is the key.

    The click is in lower case: its id is looked up in any. A pixel's that names none is that of the browser's cookies (`key_of`), so that
    the pixel and the postback of one order have one number.
    """
    order, click = found.conversion.order_id or "", key_of(report, found)
    if not order or not click or "click_id" not in source.profile.outcomes.same_conversion:
        return order
    number = f"{click}:{order}"
    return number if len(number) <= TXID_MAX else f"sha256:{hashlib.sha256(number.encode('utf-8', 'replace')).hexdigest()}"


def key_of(report: OldReport, found: ReadReport) -> str:
    """The click that a report is recognised by, in lower case: the one it names; a pixel's also the old platform's newest of the cookies,
    else ours. `""`: it has none."""
    named = (found.reading.click_id or "").strip(" \t")
    if named or found.kind != PIXEL:
        ours = click_id.from_any(named)
        return click_id.to_text(ours).decode("ascii") if ours else named.lower()
    visits = [visitor_cookie.old_visit(_old_id(report)), *sorted(report.visits, key=lambda visit: not visit.startswith(visitor_cookie.OLD))]
    return next(filter(None, visits), "").removeprefix(visitor_cookie.OLD).lower()


def coupon_of(source: Source, found: ReadReport) -> str:
    """The coupon's code, if the report has one."""
    return next(filter(None, (found.reading.sub_ids.get(name) for name in source.profile.outcomes.coupon)), "")


def visits_of(report: OldReport) -> tuple[str, ...]:
    """The visits that the browser's cookies name: ours first, then the old platform's."""
    old = visitor_cookie.old_visit(_old_id(report))
    return report.visits if not old or old in report.visits else (*report.visits, old)


def _old_id(report: OldReport) -> str:
    return report.old_click_id.decode("utf-8", "replace")


def postback_of(
    source: Source,
    report: OldReport,
    found: ReadReport,
    advertiser: Advertiser,
    settings: ReportSettings,
    *,
    goal: str,
    campaign: int | None,
    partner: int | None,
    is_proven: bool = True,
) -> Postback:
    """The postback that `report` is, for `advertiser`.

    `goal` is ours; `campaign` and `partner` are what its offer and partner mean here. `is_proven`: the click that it names could only be
    known to who was told it through this host. A pixel, and a postback that proves itself neither by a token nor by such a click, is
    unverified: its conversion waits for approval as the advertiser's pixels do, and states nothing by that. A partner counts only with a
    token.

    Raises:
        InvalidPostback: names what is wrong; the text is safe to show.
    """
    has_token = is_right_token(settings, found.conversion.token)
    if found.kind == POSTBACK and settings.token_hashes and not has_token:
        raise InvalidPostback("token", "the token is missing or wrong")
    if not found.outcome.is_readable:
        raise InvalidPostback("amount", f"amount {found.conversion.amount!r:.60} is no number such as 10.50")
    amount = found.outcome.amount
    click = found.reading.click_id or ""
    unverified = found.kind == PIXEL or not (has_token or (click and is_proven))
    status = status_of(found, settings)
    parameters = {
        "click_id": click,
        "txid": order_number(source, report, found),
        "amount": "" if amount is None else f"{amount:f}",
        "currency": found.conversion.currency or settings.currency,
        "goal": goal,
        "status": status,
        "coupon": coupon_of(source, found),
    }
    named = partner if has_token and campaign is not None else None
    visits = visits_of(report) if found.kind == PIXEL else ()
    made = _checked(parameters, advertiser, report, visits, is_named=named is not None)
    stands = not unverified or status not in ("approved", "pending")
    return replace(
        made,
        txid=made.txid if parameters["txid"] else postbacks.click_key(postbacks.storable(key_of(report, found))),
        status=made.status if stands else advertiser.pixel_status,
        status_original=postbacks.storable(found.conversion.status or "")[:255] if stands else "",
        amount_original=postbacks.storable(found.outcome.named)[:255],
        currency_original=postbacks.storable(found.conversion.currency or "")[:255],
        parameters=_kept(found, made.parameters),
        unverified=unverified,
        campaign=campaign,
        partner=named,
    )


def _checked(
    parameters: Mapping[str, str], advertiser: Advertiser, report: OldReport, visits: Sequence[str], *, is_named: bool
) -> Postback:
    """The words of the advertiser's settings are those of its own postbacks, not of the old platform's."""
    plain = replace(advertiser, settings=AS_IS)
    return postbacks.read(
        parameters, plain, postback_id=report.uuid, received_at=report.received_at, source="old", ip=report.ip, visits=visits,
        is_named=is_named,
    )  # fmt: skip


def _kept(found: ReadReport, parameters: Mapping[str, str]) -> dict[str, str]:
    """What is shown of the report: its own names, without secrets."""
    ids = {"old_offer": found.reading.offer_id, "old_partner": found.reading.partner_id, "old_order": found.conversion.order_id}
    others = {name: value for name, value in found.reading.sub_ids.items() if name not in found.reading.others}
    kept = {**parameters, **{name: value for name, value in ids.items() if value}, **others}
    return {postbacks.storable(name): postbacks.storable(value) for name, value in list(kept.items())[: postbacks.PARAMETERS_MAX] if value}
