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

    `named`: the amount as it was sent, or the sum of the order's lines; `""` where none was named. `status` is `ignored` for
    postbacks that report no conversion; `is_by_word`: the store's word decided it, not the amount or the kind of postback. `same`
    identifies the conversion among those of its offer; empty: the platform gives nothing to recognise a repetition by.
    """

    status: Status
    amount: Decimal | None
    is_readable: bool = True
    same: tuple[str, ...] = ()
    named: str = ""
    is_by_word: bool = True


def outcome_of(profile: Profile, reading: Reading) -> Outcome:
    """Judge the conversion of `reading` by the rules of its profile. A negative amount is a reversal where the profile says so."""
    rules = profile.outcomes
    conversion = reading.conversion
    told = (conversion.amount if conversion else None) or _sum_of_items(rules, reading)
    amount = _number(told)
    is_default = told is None or told.lower() in rules.default_amount
    is_none = reading.shape in rules.no_conversion
    is_reversal = amount is not None and amount < 0 and rules.negative_is_reversal
    status: Status = "ignored" if is_none else "reversed" if is_reversal else _status(rules, reading)
    amount = -amount if amount is not None and is_reversal else amount
    named = "" if told is None or is_default else told
    is_readable, is_by_word = amount is not None or is_default, not (is_none or is_reversal)
    return Outcome(status, amount, is_readable, _same(rules, reading), named, is_by_word)


def _sum_of_items(rules: Outcomes, reading: Reading) -> str | None:
    """The lines' amounts added up; the first that is no number, where one is none; None: there are no lines."""
    lines = [value for name, value in reading.sub_ids.items() if rules.items and name.startswith(rules.items) and value]
    numbers = [_number(line) for line in lines]
    wrong = next((line for line, number in zip(lines, numbers, strict=True) if number is None), None)
    return wrong or (f"{sum(filter(None, numbers), Decimal(0)):f}" if lines else None)


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
