"""What a report says of an order beside its amount: items, discount, shipping, tax, whether the customer is new. Pure."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from tracker.domain import money
from tracker.domain.amounts import AmountFormat, micros_of

ITEMS_MAX = 500
WORD_MAX = 255
SUMS: Final = ("discount", "shipping", "tax")
ITEM_FIELDS: Final = ("sku", "name", "category", "quantity", "price")
CUSTOMER_TYPES: Final = {"new": "new", "returning": "returning", "existing": "returning", "repeat": "returning"}
_QUANTITY: Final = re.compile(r"\d{1,9}(\.\d{1,6})?", re.ASCII)
_BAD: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


class InvalidDetail(ValueError):
    """A detail is not what it must be. `field` names it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field} {message}")
        self.field = field


def read_details(parameters: Mapping[str, str], amount_format: AmountFormat, currency: str) -> dict[str, Any]:
    """The details that are given, amounts as decimal text: `{"items": […], "discount": "1.00", "customer_type": "new"}`.

    Raises:
        InvalidDetail: names the parameter; the text is safe to show.
    """
    found: dict[str, Any] = {}

    def amount(text: str, field: str) -> str:
        return _amount(text, field, amount_format, currency)

    for name in SUMS:
        if text := parameters.get(name, "").strip():
            found[name] = amount(text, name)
    if word := parameters.get("customer_type", "").strip().lower():
        if word not in CUSTOMER_TYPES:
            raise InvalidDetail("customer_type", "must be new or returning")
        found["customer_type"] = CUSTOMER_TYPES[word]
    if text := parameters.get("items", "").strip():
        found["items"] = [_item(item, amount) for item in _list(text)]
    return found


def _amount(text: str, field: str, amount_format: AmountFormat, currency: str) -> str:
    try:
        micros = micros_of(text, amount_format, currency)
    except ValueError as exc:
        raise InvalidDetail(field, str(exc)) from None
    if micros < 0:
        raise InvalidDetail(field, "must not be negative")
    return money.format_micros(micros, currency)


def _list(text: str) -> list[Any]:
    try:
        items = json.loads(text, parse_float=str, parse_int=str)
    except (ValueError, RecursionError):
        items = None
    if not isinstance(items, list):
        raise InvalidDetail("items", 'must be a JSON list such as [{"sku":"A-1","quantity":2,"price":"9.95"}]')
    if len(items) > ITEMS_MAX:
        raise InvalidDetail("items", f"may be at most {ITEMS_MAX}")
    return items


def _item(item: Any, amount: Callable[[str, str], str]) -> dict[str, str]:
    if not isinstance(item, dict):
        raise InvalidDetail("items", f"must be objects with {', '.join(ITEM_FIELDS)}")
    given = {name: item[name] for name in ITEM_FIELDS if item.get(name) not in (None, "")}
    for name, value in given.items():
        if not isinstance(value, str) or len(value) > WORD_MAX or _BAD.search(value):
            raise InvalidDetail("items", f"must have a {name} of at most {WORD_MAX} characters, without control characters")
    if "quantity" in given and not _QUANTITY.fullmatch(given["quantity"]):
        raise InvalidDetail("items", "must have a quantity such as 1 or 0.5")
    if "price" in given:
        given["price"] = amount(given["price"], "items")
    return given
