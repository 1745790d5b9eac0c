"""Money: integer micros (millionths) of an ISO 4217 currency, never a float."""

import re
from decimal import Decimal
from fractions import Fraction

MICROS = 1_000_000
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,2})?", re.ASCII)
MICRO_DIGITS = 6
MAX_MICROS = 10**17  # 10^11 units: a large order in rials or dong, and still inside bigint; sums are numeric
PERCENT_MICROS = 100 * MICROS
# ISO 4217 minor units that are not 2 (SIX list one, 2024).
MINOR_UNITS = {
    **dict.fromkeys(
        ("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"), 0
    ),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    "CLF": 4,
    "UYW": 4,
}


def minor_unit(currency: str) -> int:
    """Digits after the point that the currency is paid in."""
    return MINOR_UNITS.get(currency, 2)


def coin(currency: str) -> int:
    """Micros of the currency's minor unit."""
    micros: int = MICROS // 10 ** minor_unit(currency)
    return micros


def round_half_even(micros: Fraction | int, currency: str) -> int:
    """Micros rounded half even at the currency's minor unit."""
    unit = coin(currency)
    return round(Fraction(micros) / unit) * unit


def parse_micros(text: str) -> int:
    """Exact micros of a decimal such as `12.50`. ValueError says what is allowed; negative amounts are allowed here."""
    if not _NUMBER.fullmatch(text.strip()):
        raise ValueError("must be a decimal number with a point, such as 12.50")
    value = Decimal(text.strip())
    if abs(value) > MAX_MICROS // MICROS:
        raise ValueError(f"is larger than {MAX_MICROS // MICROS}")
    return _micros(value)


def _micros(value: Decimal) -> int:
    """Exact, from the digits: a context of 28 digits would round what is longer."""
    sign, digits, exponent = value.as_tuple()
    number, places = int("".join(map(str, digits))), int(exponent) + MICRO_DIGITS
    if places < 0:
        number, rest = divmod(number, 10 ** min(-places, len(digits)))
        if rest or (number and -places > len(digits)):
            raise ValueError("must have at most six digits after the point")
    scale: int = 10 ** max(places, 0)
    return (-number if sign else number) * scale


def format_micros(micros: int, currency: str) -> str:
    """Decimal string with at least the currency's minor digits, and more only when the amount needs them."""
    digits = minor_unit(currency)
    sign, whole, part = "-" if micros < 0 else "", abs(micros) // MICROS, abs(micros) % MICROS
    fraction = f"{part:06d}".rstrip("0").ljust(digits, "0")
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"
