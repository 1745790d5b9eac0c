"""Amounts as shops write them. Exact: decimals become micros, never floats. Pure."""

import re
from typing import Final, Literal

from tracker.domain import money

AmountFormat = Literal["point", "comma", "thousands", "minor"]
# format → (what it looks like, an example, how the words of an error call it)
_POINT: Final = re.compile(r"[+-]?(\d{1,30}(\.\d{0,30})?|\.\d{1,30})", re.ASCII)
_COMMA: Final = re.compile(r"[+-]?(\d{1,3}([. ]\d{3}){1,9}|\d{1,30})?(,\d{0,30})?", re.ASCII)
_THOUSANDS: Final = re.compile(r"[+-]?(\d{1,3}([, ]\d{3}){1,9}|\d{1,30})?(\.\d{0,30})?", re.ASCII)
_MINOR: Final = re.compile(r"[+-]?\d{1,30}", re.ASCII)
FORMATS: Final = {
    "point": (_POINT, "a decimal number with a point, such as 12.50"),
    "comma": (_COMMA, "a number such as 1.234,56 or 12,50"),
    "thousands": (_THOUSANDS, "a number such as 1,234.56 or 12.50"),
    "minor": (_MINOR, "a whole number of the currency's smallest unit, such as 1250 for 12.50 EUR"),
}
_DIGIT: Final = re.compile(r"\d", re.ASCII)


def micros_of(text: str, amount_format: AmountFormat, currency: str) -> int:
    """Exact micros of an amount of `currency`. ValueError says what is allowed; negative ones are read here."""
    pattern, said = FORMATS[amount_format]
    if not pattern.fullmatch(text) or not _DIGIT.search(text):
        declared = "" if amount_format != "point" else "; if the shop writes it otherwise, set postbacks.amount_format of the advertiser"
        raise ValueError(f"must be {said}{declared}")
    if amount_format == "comma":
        text = text.replace(".", "").replace(" ", "").replace(",", ".")
    elif amount_format == "thousands":
        text = text.replace(",", "").replace(" ", "")
    elif amount_format == "minor":
        return _minor_micros(text, currency)
    return money.parse_micros(text)


def _minor_micros(text: str, currency: str) -> int:
    unit: int = 10 ** money.minor_unit(currency)
    micros = int(text) * money.MICROS // unit
    if abs(micros) > money.MAX_MICROS:
        raise ValueError(f"is larger than {money.MAX_MICROS // money.MICROS}")
    return micros
