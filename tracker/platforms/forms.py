"""Forms of values that hold more than one thing, or another thing than their parameter says. Named in profiles.

Each takes a decoded value and returns field → value; fields are those of a reading, `sub.NAME` for a sub id.
"""

import re
from base64 import b64decode
from collections.abc import Callable
from decimal import Decimal, InvalidOperation

Fields = dict[str, bytes]
Form = Callable[[bytes], Fields]
LIST_MAX = 500  # items of a list that are summed
DIGITS_MAX = 30  # of an amount
_AMOUNT = re.compile(rb"-?[0-9]{1,30}(?:\.[0-9]{1,10})?")
_REFERSION = re.compile(rb"[0-9]+(?:\.[0-9a-fA-F]+)?")
_AWC = re.compile(rb"([0-9]{1,12})_[0-9]{9,11}_[0-9A-Za-z]+")
_SITE_ID = re.compile(rb"([A-Za-z0-9*/_.-]{11})-.+")
_PRINTABLE = re.compile(rb"[\x21-\x7e]+")


def dotted(value: bytes) -> Fields:
    """`7097.10000034`: offer, and creative after the dot."""
    offer, _, creative = value.partition(b".")
    return {"offer_id": offer, "creative_id": creative}


def underscored(value: bytes) -> Fields:
    """`36986_1_1_14`: partner, and creative after the first underscore, where the partner is a number."""
    partner, _, creative = value.partition(b"_")
    return {"partner_id": partner, "creative_id": creative} if partner.isdigit() else {"partner_id": value}


def page_number(value: bytes) -> Fields:
    """A landing page's number where a destination may stand: the creative."""
    return {"creative_id": value} if value.isdigit() else {"destination": value}


def base64_key(value: bytes) -> Fields:
    """A partner's key in base64, padded or not; a value that is none is the key itself."""
    try:
        key = b64decode(value + b"=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except ValueError:
        key = b""
    return {"partner_id": key if _PRINTABLE.fullmatch(key) else value}


def refersion(value: bytes) -> Fields:
    """`7447450.9a0216` at the beginning of whatever a paste made of it."""
    found = _REFERSION.match(value.strip())
    return {"partner_id": found[0] if found else value}


def tduid(value: bytes) -> Fields:
    """`(hash)(program)(site)(epi)(epi2)`, or the hash alone."""
    found: Fields = {"click_id": value}
    if value.startswith(b"(") and value.endswith(b")"):
        parts = value[1:-1].split(b")(", 5)
        found |= {name: part for name, part in zip(("offer_id", "partner_id", "sub.epi", "sub.epi2"), parts[1:5], strict=False) if part}
    return found


def awc(value: bytes) -> Fields:
    """`{advertiser}_{unix seconds}_{hash}`."""
    found = _AWC.fullmatch(value)
    return {"click_id": value, "offer_id": found[1]} if found else {"click_id": value}


def site_id(value: bytes) -> Fields:
    """`{11 characters of the publisher}-{22 more}`."""
    found = _SITE_ID.fullmatch(value)
    return {"click_id": value, "partner_id": found[1]} if found else {"click_id": value}


def brackets(value: bytes) -> Fields:
    """`[[x]]` is x."""
    stripped = value.strip()
    inner = stripped[2:-2] if stripped.startswith(b"[[") and stripped.endswith(b"]]") else value
    return {"": inner}


def named(value: bytes) -> Fields:
    """A key that is a parameter's name and value together, `lp=1`."""
    return {"=": value}


def upper(value: bytes) -> Fields:
    """Upper-case letters, whatever a mail client made of them."""
    return {"": value.upper()}


def lower(value: bytes) -> Fields:
    """Lower-case letters."""
    return {"": value.lower()}


def cents(value: bytes) -> Fields:
    """An amount in hundredths; anything else as it is."""
    return {"": _hundredths([value]) or value}


def cents_sum(value: bytes) -> Fields:
    """`1000|5198|-500`: line totals in hundredths, summed."""
    return {"": _hundredths(value.split(b"|", LIST_MAX)) or value}


def decimal_only(value: bytes) -> Fields:
    """An amount, or nothing: the parameter may hold a secret in place of it."""
    return {"": value if _AMOUNT.fullmatch(value) else b""}


def _hundredths(parts: list[bytes]) -> bytes | None:
    try:
        total = sum((Decimal(part.strip()[: DIGITS_MAX + 1].decode("ascii")) for part in parts if part.strip()), Decimal(0))
        return str((total / 100).quantize(Decimal("0.01"))).encode("ascii") if total.is_finite() else None
    except (InvalidOperation, UnicodeDecodeError):
        return None


FORMS: dict[str, Form] = {
    form.__name__: form
    for form in (
        dotted, underscored, page_number, base64_key, refersion, tduid, awc, site_id, brackets, named, upper, lower, cents, cents_sum,
        decimal_only,
    )
}  # fmt: skip
