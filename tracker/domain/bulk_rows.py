"""Lists of what is to become of conversions: what a row says, and what that comes to. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, cast, get_args
from uuid import UUID

from tracker.domain import money
from tracker.domain.attribution import EARNING, LIFECYCLE, TAKEN_BACK

Action = Literal["approve", "reject", "reverse", "adjust"]
Step = Literal["approve", "reject", "reverse", "adjust", "take_back"]
ACTIONS: Final = get_args(Action)
COLUMNS: Final = ("id", "advertiser", "txid", "goal", "occurrence", "action", "amount", "currency", "reason")
TEXT_MAX: Final = 255
OCCURRENCE_MAX: Final = 10**6
_AMOUNT: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?", re.ASCII)
_CURRENCY: Final = re.compile(r"[A-Za-z]{3}", re.ASCII)
_BAD: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Row:
    """One row: a conversion, by its id or by its order number and as much as that needs, and what is to become of it.

    `amount_micros`: of `adjust` the new amount of the order, of `reverse` how much of it is taken back in all (None: the whole).
    """

    action: Action
    conversion_id: UUID | None = None
    txid: str = ""
    advertiser: str = ""
    goal: str = ""
    occurrence: int | None = None
    amount_micros: int | None = None
    currency: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """A conversion as far as a row goes by it. `amount_micros`: what is left of the order; `reversed_micros`: what was taken back of it."""

    status: str
    amount_micros: int
    reversed_micros: int
    currency: str


@dataclass(frozen=True, slots=True)
class Done:
    """What a row comes to: a step (None: it is done already), the amount that the step needs, and the state afterwards."""

    step: Step | None
    amount_micros: int
    after: State


def read(values: Mapping[str, Any]) -> Row:
    """The row that `values` say; empty ones are missing ones. ValueError, in words for people, names the first that is wrong."""
    if unknown := set(values) - set(COLUMNS):
        raise ValueError(f"{str(min(unknown))[:64]!r} is not one of {', '.join(COLUMNS)}")
    given = {name: value for name, value in values.items() if value is not None and value != ""}
    texts = {name: _text(name, value) for name, value in given.items() if name != "occurrence"}
    action, amount = _action(texts), _amount(texts)
    if ("id" in texts) == ("txid" in texts):
        raise ValueError("id or txid is needed, not both")
    if "id" in texts and given.keys() & {"advertiser", "goal", "occurrence"}:
        raise ValueError("advertiser, goal and occurrence go with txid, not with id")
    return Row(
        action,
        _id(texts["id"]) if "id" in texts else None,
        texts.get("txid", ""),
        texts.get("advertiser", ""),
        texts.get("goal", ""),
        _occurrence(given["occurrence"]) if "occurrence" in given else None,
        amount,
        _currency(texts.get("currency", "")),
        texts.get("reason", ""),
    )


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a string")  # noqa: TRY004 - bad input, not a bug
    if len(value) > TEXT_MAX or _BAD.search(value):
        raise ValueError(f"{name} must have at most {TEXT_MAX} characters and no control characters")
    return value.strip()


def _action(texts: Mapping[str, str]) -> Action:
    action = texts.get("action", "")
    if action not in ACTIONS:
        raise ValueError(f"action must be one of {', '.join(ACTIONS)}")
    if "amount" in texts and action not in ("adjust", "reverse"):
        raise ValueError(f"amount goes with adjust and reverse, not with {action}")
    if action == "adjust" and "amount" not in texts:
        raise ValueError("adjust needs the new amount of the order")
    return cast("Action", action)


def _amount(texts: Mapping[str, str]) -> int | None:
    if "amount" not in texts:
        return None
    if not _AMOUNT.fullmatch(texts["amount"]):
        raise ValueError("amount must be a decimal number with a point, such as 12.50")
    try:
        micros = money.parse_micros(texts["amount"])
    except ValueError as exc:
        raise ValueError(f"amount {exc}") from None
    if texts["action"] == "reverse" and not micros:
        raise ValueError("amount of reverse must be above 0; leave it empty to take back the whole")
    return micros


def _id(value: str) -> UUID:
    try:
        return UUID(value)
    except ValueError:
        raise ValueError("id must be the id of a conversion") from None


def _occurrence(value: Any) -> int:
    number = int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,7}", value, re.ASCII) else value
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= OCCURRENCE_MAX:
        raise ValueError(f"occurrence must be a whole number from 1 to {OCCURRENCE_MAX}")
    return number


def _currency(value: str) -> str:
    if value and not _CURRENCY.fullmatch(value):
        raise ValueError("currency must be an ISO 4217 code of three letters, such as EUR")
    return value.upper()


def clash(earlier: Row, later: Row) -> str | None:
    """What the earlier of two rows of one conversion says that the later one may not stand in the same list; None: both may.

    An adjustment forgets what was taken back, so that a list of both would take it back again each time.
    """
    if (earlier.action == "adjust") == (later.action == "adjust"):
        return "says what is to become of this conversion already"
    if _takes_a_part(earlier):
        return "takes back a part of this conversion; adjust it in another list"
    return "adjusts this conversion; take back a part of it in another list" if _takes_a_part(later) else None


def _takes_a_part(row: Row) -> bool:
    return row.action == "reverse" and row.amount_micros is not None


def done(row: Row, state: State) -> Done:
    """What becomes of a conversion in `state` by a row. What is so already is no error. ValueError, in words for people: it cannot be."""
    if row.currency and row.currency != state.currency:
        raise ValueError(f"the conversion is in {state.currency}, not in {row.currency}")
    if state.status == "orphan":
        raise ValueError("it is an orphan: nobody earns by it")
    if row.action == "adjust":
        return _adjusted(row.amount_micros or 0, state)
    if row.action == "reverse" and row.amount_micros is not None:
        return _taken_back(row.amount_micros, state)
    before, after = LIFECYCLE[row.action]
    if state.status == after:
        return Done(None, 0, state)
    if state.status != before:
        raise ValueError(f"only a conversion that is {before} can be {after}; it is {state.status}")
    return Done(row.action, 0, _with(state, status=after))


def _adjusted(micros: int, state: State) -> Done:
    if micros == state.amount_micros + state.reversed_micros:
        return Done(None, 0, state)
    if state.status not in EARNING:
        raise ValueError(f"the conversion is {state.status}: nothing is owed for it")
    return Done("adjust", micros, State(state.status, micros, 0, state.currency))


def _taken_back(micros: int, state: State) -> Done:
    whole = state.amount_micros + state.reversed_micros
    if micros > whole:
        raise ValueError(f"{_said(micros, state)} is more than the order's {_said(whole, state)}")
    if state.status in TAKEN_BACK or micros == state.reversed_micros:
        return Done(None, 0, state)
    if micros < state.reversed_micros:
        raise ValueError(f"{_said(state.reversed_micros, state)} of it is taken back already; amount is how much is in all")
    if micros == whole:
        step: Step = "reverse" if state.status == "approved" else "reject"
        return Done(step, 0, _with(state, status=LIFECYCLE[step][1]))
    return Done("take_back", micros - state.reversed_micros, State(state.status, whole - micros, micros, state.currency))


def _with(state: State, *, status: str) -> State:
    return State(status, state.amount_micros, state.reversed_micros, state.currency)


def _said(micros: int, state: State) -> str:
    return f"{money.format_micros(micros, state.currency)} {state.currency}"
