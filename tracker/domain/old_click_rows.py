"""Rows of the click exports of old platforms, read. Pure: a row is its texts by lower-case column name."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from tracker.platforms.profile import Profile

ID_MAX: Final = 255
FACT_MAX: Final = 255
SUBS: Final = tuple(f"sub{n}" for n in range(1, 11))
IDS: Final = ("partner_id", "offer_id", "creative_id")
FACTS: Final = ("country", "device", "os", "browser", "ref", *SUBS)  # nothing that tells who the visitor is
NEEDED: Final = ("click_id", "clicked_at")
NAMES: Final = (*NEEDED, *IDS, *FACTS)
OLDEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
AHEAD: Final = timedelta(days=1)  # clocks of exports that are kept in another zone than they say
_NUMBER = re.compile(r"\d{9,17}(\.\d{1,9})?")
_ZONE_APART = re.compile(r" (?:UTC|GMT|Z)$| (?=[+-]\d\d:?\d\d$)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\ufffd]")
Columns = Mapping[str, tuple[str, ...]]


class BadRow(Exception):
    """A row that cannot be taken; the text says why."""


class NoZone(Exception):
    """A time says no zone, and nobody told in which it is."""


@dataclass(frozen=True, slots=True)
class Times:
    """How times are written: in `zone` where they name none, and in `form` (of strptime), else as ISO 8601 or Unix time."""

    zone: ZoneInfo | None = None
    form: str = ""


class OldClick(NamedTuple):
    """A click as the old platform tells of it, its ids as they are spelled there."""

    click_id: str
    clicked_at: datetime
    partner: str | None
    offer: str | None
    creative: str | None
    facts: dict[str, str]


def columns_of(profile: Profile | None) -> Columns:
    """Under which lower-case names each thing may stand, the platform's own before ours."""
    export = profile.export.get("clicks") if profile else None
    own = export.columns if export else {}
    return {name: tuple(dict.fromkeys(column.lower() for column in (*own.get(name, ()), name))) for name in NAMES}


def without(columns: Columns, header: Collection[str]) -> list[str]:
    """The columns that a file with this lower-case header lacks, each as the names that it may have."""
    return [" or ".join(columns[name]) for name in NEEDED if not set(columns[name]) & set(header)]


def read_row(row: Mapping[str, str], columns: Columns, times: Times, now: datetime) -> OldClick:
    """The click that a row tells of.

    Raises:
        BadRow: it tells of none.
        NoZone: its time needs a zone.
    """
    click_id = _id(_first(row, columns["click_id"]), "click id")
    if click_id is None:
        raise BadRow(f"no click id in {' or '.join(columns['click_id'])}")
    at = _time(_first(row, columns["clicked_at"]), columns["clicked_at"], times)
    if not OLDEST <= at <= now + AHEAD:
        raise BadRow(f"the click's time {at.isoformat()} cannot be right")
    partner, offer, creative = (_id(_first(row, columns[name]), name.replace("_", " ")) for name in IDS)
    facts = {name: _CONTROL.sub("", text)[:FACT_MAX] for name in FACTS if (text := _first(row, columns[name]))}
    return OldClick(click_id, at, partner, offer, creative, facts | ({"creative": creative} if creative else {}))


def _first(row: Mapping[str, str], names: tuple[str, ...]) -> str:
    """The first of the columns that is not empty; a plain loop, for this is most of the work of an import."""
    for name in names:
        text = row.get(name)
        if text and (text := text.strip()):
            return text
    return ""


def _id(text: str, what: str) -> str | None:
    if len(text) > ID_MAX:
        raise BadRow(f"a {what} of more than {ID_MAX} characters")
    if _CONTROL.search(text):
        raise BadRow(f"a {what} with characters that are no text")
    return text or None


def _time(text: str, names: tuple[str, ...], times: Times) -> datetime:
    if not text:
        raise BadRow(f"no time in {' or '.join(names)}")
    if not times.form and _NUMBER.fullmatch(text):
        return _unix(text)
    try:
        at = datetime.strptime(text, times.form) if times.form else datetime.fromisoformat(_ZONE_APART.sub(_joined, text))  # noqa: DTZ007 - the zone follows
        return _in_utc(at, times.zone, text)
    except (ValueError, OverflowError):
        raise BadRow(f"the time {text[:40]!r} cannot be read") from None


def _joined(apart: re.Match[str]) -> str:
    return "+00:00" if apart[0].strip() else ""


def _in_utc(at: datetime, zone: ZoneInfo | None, text: str) -> datetime:
    if at.tzinfo is None:
        if zone is None:
            raise NoZone(text)
        at = at.replace(tzinfo=zone)
    return at.astimezone(UTC)


def _unix(text: str) -> datetime:
    """Seconds since 1970, or milli- or microseconds, as their number of digits tells."""
    whole, _, fraction = text.partition(".")
    unit = 1_000_000 if len(whole) <= 11 else 1_000 if len(whole) <= 14 else 1
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(whole) * unit + int(float(f"0.{fraction or 0}") * unit))


def other_cases(old_click_id: str) -> list[str]:
    """The id all in lower and all in upper case, where that is another spelling: what shops and mail programs make of one."""
    return [spelled for spelled in dict.fromkeys((old_click_id.lower(), old_click_id.upper())) if spelled != old_click_id]
