"""Reading the JSON objects that people send: one clear error that names the field."""

from collections.abc import Callable, Collection, Mapping
from typing import Any
from uuid import UUID

from tracker.errors import RejectedInput


def known(body: Any, fields: Collection[str], *, example: str, told: str) -> Mapping[str, Any]:
    """`body`, an object of `fields` alone. RejectedInput shows the example, or says `told` and what the fields are."""
    if not isinstance(body, Mapping):
        raise RejectedInput("invalid_body", f"send {example}")
    if unknown := sorted(str(name) for name in set(body) - set(fields)):
        raise RejectedInput("unknown_field", f"{told} {', '.join(fields)}", field=unknown[0][:64])
    return body


def read(name: str, value: Any, reader: Callable[[Any], Any], missing: Any = None) -> Any:
    """What `reader` makes of a value; `missing` where there is none. RejectedInput names the field."""
    try:
        return missing if value is None else reader(value)
    except ValueError as exc:
        raise RejectedInput(f"invalid_{name}", f"{name} {exc}", field=name) from None


def postback_id(value: Any) -> UUID:
    """A reader of a postback's id."""
    try:
        return UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise ValueError("must be a postback's id, such as 019a…") from None
