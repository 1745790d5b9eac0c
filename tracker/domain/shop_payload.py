"""Reading a shop's JSON without trusting it: whatever stands where, a look-up gives text, an amount, a dict or a list. Pure."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

from tracker.domain import money

WORD_MAX: Final = 255
AMOUNT_MAX: Final = money.MAX_MICROS // money.MICROS
DIGITS_MAX: Final = 6  # after the point: what amounts are kept with
_AMOUNT: Final = re.compile(r"-?\d{1,15}(\.\d{1,20})?", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]+")
SECONDS_DIGITS_MAX: Final = 11  # 100,000,000,000 s is the year 5138
_MILLISECOND: Final = timedelta(milliseconds=1)
_SMALLEST: Final = Decimal(1).scaleb(-DIGITS_MAX)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`, numbers as the text they are written with. ValueError says what it is instead."""
    try:
        found = json.loads(body, parse_float=str, parse_int=str)
    except (ValueError, RecursionError):
        raise ValueError("the body is not JSON") from None
    if not isinstance(found, dict):
        raise ValueError("the body must be a JSON object")  # noqa: TRY004 - bad input, not a bug
    return found


def within(found: Any, *names: str) -> Any:
    """What stands under `names`, one inside the other; None when any of it is missing or no object."""
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def mapping(found: Any, *names: str) -> Mapping[str, Any]:
    """The object under `names`; an empty one when there is none."""
    value = within(found, *names)
    return value if isinstance(value, dict) else {}


def objects(found: Any, *names: str) -> Iterator[Mapping[str, Any]]:
    """The objects in the list under `names`."""
    value = within(found, *names)
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())


def key(found: Any, *names: str) -> str:
    """Text that names something: 1 to 255 characters without control characters as it stands, else `""`."""
    value = within(found, *names)
    text = value.strip(" \t") if isinstance(value, str) else ""
    return text if len(text) <= WORD_MAX and not _CONTROL.search(text) else ""


def first_key(found: Any, *choices: tuple[str, ...]) -> str:
    """The first `key` of several that is not empty."""
    return next((text for names in choices if (text := key(found, *names))), "")


def words(found: Any, *names: str) -> str:
    """Text for people: control characters become blanks, what is longer than 255 characters is cut."""
    value = within(found, *names)
    return _CONTROL.sub(" ", value).strip()[:WORD_MAX] if isinstance(value, str) else ""


def amount(found: Any, *names: str) -> Decimal | None:
    """The exact amount under `names`, a decimal or the text of one; None when there is none."""
    value = within(found, *names)
    return Decimal(value) if isinstance(value, str) and _AMOUNT.fullmatch(value) else None


def total(found: Iterable[Any], *names: str) -> Decimal:
    """The sum of the amounts under `names` in each of `found`."""
    return sum((amount(item, *names) or Decimal(0) for item in found), Decimal(0))


def decimal_text(value: Decimal | None, most: int = AMOUNT_MAX) -> str:
    """A plain decimal of at most six digits after the point, as amounts are taken; `""` for none, a negative one, or one above `most`."""
    if value is None or not 0 <= value <= most:
        return ""
    text = f"{value.quantize(_SMALLEST, ROUND_HALF_EVEN):f}"
    return text.rstrip("0").rstrip(".")


def moment_ms(text: str) -> int:
    """Milliseconds since 1970 of an instant (`2026-01-31T12:00:00Z`, without a zone UTC) or of seconds since then; 0 when it is neither."""
    if text.isascii() and text.isdigit() and len(text) <= SECONDS_DIGITS_MAX:
        return int(text) * 1000
    try:
        at = datetime.fromisoformat(text)
        return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH) // _MILLISECOND
    except (ValueError, OverflowError):
        return 0


def instant_text(unix_ms: int) -> str:
    """The instant as text in UTC; `""` before the year 2000: a shop that says so does not know."""
    at = _EPOCH + timedelta(milliseconds=unix_ms)
    return f"{at:%Y-%m-%dT%H:%M:%SZ}" if at >= _EARLIEST else ""
