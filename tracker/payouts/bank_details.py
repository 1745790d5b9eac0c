"""Where a partner is paid: read and checked. Account numbers are checked by python-stdnum."""

from typing import Any

from tracker.errors import RejectedInput
from tracker.programme import filled

METHODS = ("sepa", "bank", "paypal", "other")
FIELDS = ("method", "name", "iban", "bic", "account")
NAME_MAX, ACCOUNT_MAX = 70, 64  # characters; the first is the bank's


def iban(value: Any) -> str:
    """An IBAN without spaces; ValueError says what is wrong, and never repeats it."""
    from stdnum import iban as checked
    from stdnum.exceptions import ValidationError

    try:
        return checked.validate(filled(value))
    except ValidationError as exc:
        raise ValueError(f"is no IBAN: {_sentence(exc)}") from None


def bic(value: Any) -> str:
    """A BIC of 8 or 11 characters."""
    from stdnum import bic as checked
    from stdnum.exceptions import ValidationError

    try:
        return checked.validate(filled(value))
    except ValidationError as exc:
        raise ValueError(f"is no BIC: {_sentence(exc)}") from None


def read_details(body: Any) -> dict[str, str | None]:
    """The checked details of a body. RejectedInput names the field and says what is allowed."""
    if not isinstance(body, dict):
        raise RejectedInput("invalid_body", 'send {"method":"sepa","name":"…","iban":"…"}')
    if unknown := set(body) - set(FIELDS):
        raise RejectedInput("unknown_field", f"the fields are {', '.join(FIELDS)}", field=str(min(unknown))[:64])
    method = body.get("method") or "sepa"
    if method not in METHODS:
        raise RejectedInput("invalid_method", f"method must be one of {', '.join(METHODS)}", field="method")
    found: dict[str, str | None] = {"method": method, "name": _read("name", body.get("name"), _name)}
    for name, read in (("iban", iban), ("bic", bic), ("account", _account)):
        found[name] = None if body.get(name) is None else _read(name, body[name], read)
    if method == "sepa" and not found["iban"]:
        raise RejectedInput("invalid_iban", "iban is needed for the method sepa", field="iban")
    if not (found["iban"] or found["account"]):
        raise RejectedInput("invalid_account", f"account or iban is needed for the method {method}", field="account")
    return found


def _read(name: str, value: Any, read: Any) -> str:
    try:
        return str(read(value))
    except ValueError as exc:
        raise RejectedInput(f"invalid_{name}", f"{name} {exc}", field=name) from None


def _name(value: Any) -> str:
    return _at_most(filled(value), NAME_MAX)


def _account(value: Any) -> str:
    return _at_most(filled(value), ACCOUNT_MAX)


def _at_most(text: str, limit: int) -> str:
    if len(text) > limit:
        raise ValueError(f"must have at most {limit} characters")
    return text


def _sentence(error: Exception) -> str:
    text = str(error).rstrip(".")
    return text[:1].lower() + text[1:]
