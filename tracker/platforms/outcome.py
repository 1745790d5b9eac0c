"""What an old postback means: our status, the amount, and what makes two postbacks the same conversion. Pure."""

import re
from decimal import Decimal
from typing import Final

from msgspec import Struct

from tracker.platforms.profile import Outcomes, Profile, Status
from tracker.platforms.reading import Reading

_AMOUNT = re.compile(r"[+-]?[0-9]{1,18}(?:\.[0-9]{1,9})?")
_OF: Final[tuple[Status, ...]] = ("approved", "pending", "rejected", "reversed", "ignored")


class Outcome(Struct, frozen=True, gc=False):
    """`amount` is None where the platform's offer has it (`auto`, or none sent); `is_readable` False: it is no number.

    `status` is `ignored` for postbacks that report no conversion. `same` identifies the conversion among those of its
    offer; empty: the platform gives nothing to recognise a repetition by.
    """

    status: Status
    amount: Decimal | None
    is_readable: bool = True
    same: tuple[str, ...] = ()


def outcome_of(profile: Profile, reading: Reading) -> Outcome:
    """Judge the conversion of `reading` by the rules of its profile. A negative amount is a reversal where the profile says so."""
    rules = profile.outcomes
    conversion = reading.conversion
    told = conversion.amount if conversion else None
    amount = _number(told)
    is_default = told is None or told.lower() in rules.default_amount
    status = _status(rules, reading)
    if amount is not None and amount < 0 and rules.negative_is_reversal:
        status, amount = "reversed", -amount
    return Outcome(status, amount, amount is not None or is_default, _same(rules, reading))


def _number(told: str | None) -> Decimal | None:
    return Decimal(told) if told is not None and _AMOUNT.fullmatch(told) and told.isascii() else None


def _status(rules: Outcomes, reading: Reading) -> Status:
    word = (reading.conversion.status if reading.conversion else None) or ""
    folded = word.lower()
    for status, hint in rules.lists.items():
        if folded and folded in (item.strip().lower() for item in reading.hints.get(hint, "").split(",")):
            return status
    for status in _OF:
        words: tuple[str, ...] = getattr(rules, status)
        if folded in words:
            return status
    return rules.default


def _same(rules: Outcomes, reading: Reading) -> tuple[str, ...]:
    found = [getattr(reading.conversion, name, None) or getattr(reading, name, None) for name in rules.same_conversion]
    return tuple(str(value) for value in found if value) if found and found[0] else ()
