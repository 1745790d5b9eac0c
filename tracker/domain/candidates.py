"""Who may earn a conversion, who does, and why each of the others does not. Pure.

Candidates come in the order in which they go: the click that the store names, an old platform's click, a coupon, clicks of the
visitor's cookie, the partner who brought the customer before, the partner whom an old platform's report names by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from tracker.domain.attribution import is_in_window

Kind = Literal["click", "old_click", "coupon", "cookie", "customer", "named"]
Model = Literal["last", "first"]
CLICKS = frozenset(("click", "old_click", "cookie"))


@dataclass(frozen=True, slots=True)
class Rules:
    """What a campaign asks of a candidate. `latest`: the longest time from click to conversion, beside the window."""

    window: timedelta
    model: Model = "last"
    coupon_first: bool = False
    soonest: timedelta = timedelta(0)
    latest: timedelta | None = None
    customer_window: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class Candidate:
    """Somebody who may earn. `at`: when the click, or the customer's earlier order, was; None for a coupon and for who is named.

    `name`: the id of a click, the same for several where an old platform gave them one. `source`: for the caller.
    """

    kind: Kind
    name: str
    advertiser: int
    campaign: int
    at: datetime | None
    rules: Rules
    source: Any = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Who earns, None for nobody, and the reasons in words: the winner's first, then why each of the others lost."""

    winner: Candidate | None
    trace: list[str]


def decide(candidates: Sequence[Candidate], *, advertiser: int, converted_at: datetime, received_at: datetime) -> Decision:
    """Choose among `candidates` for a conversion of `advertiser`.

    The first that may earn goes, but for a coupon whose campaign puts coupons first. Where that is a click, the campaign's model
    decides between it and its other clicks: the last one, or the first. Of clicks that share an id only the first that may earn goes.
    """
    reasons = {id(one): _refusal(one, advertiser, converted_at, received_at) for one in candidates}
    able = [one for one in candidates if not reasons[id(one)]]
    winner = _winner(able)
    if winner is None:
        return Decision(None, [f"{_named(one)}: {reasons[id(one)]}" for one in candidates])
    beaten = f"{_named(winner)} goes before it"
    lost = [f"{_named(one)}: {reasons[id(one)] or beaten}" for one in candidates if one is not winner]
    return Decision(winner, [_won(winner, received_at, len(able)), *lost])


def _refusal(one: Candidate, advertiser: int, converted_at: datetime, received_at: datetime) -> str:
    if one.advertiser != advertiser:
        return "another advertiser's"
    if one.at is None:
        return ""
    if one.kind == "customer":
        days = one.rules.customer_window.days
        return "" if converted_at - one.at <= one.rules.customer_window else f"more than {days} days ago"
    return _refusal_of_click(one.at, one.rules, converted_at, received_at)


def _refusal_of_click(at: datetime, rules: Rules, converted_at: datetime, received_at: datetime) -> str:
    age = converted_at - at
    if not is_in_window(at, converted_at, rules.window, received_at=received_at):
        return f"outside its window of {rules.window.days} days"
    if rules.soonest and age < rules.soonest:
        return f"{_seconds(age)} before the conversion, the campaign asks for {_seconds(rules.soonest)} at least"
    if rules.latest is not None and age > rules.latest:
        return f"{_seconds(age)} before the conversion, the campaign allows {_seconds(rules.latest)} at most"
    return ""


def _winner(able: Sequence[Candidate]) -> Candidate | None:
    coupon = next((one for one in able if one.kind == "coupon" and one.rules.coupon_first), None)
    first = coupon or next(iter(able), None)
    if first is None or first.kind not in CLICKS:
        return first
    names = {(one.kind, one.name): one for one in reversed(able) if one.kind in CLICKS}
    rivals = [one for one in names.values() if one.campaign == first.campaign and one.at is not None]
    return (min if first.rules.model == "first" else max)(rivals, key=lambda one: (one.at, one is first))


def _named(one: Candidate) -> str:
    return {
        "click": "the click",
        "old_click": "the old platform's click",
        "coupon": f"coupon {one.name}",
        "cookie": f"click {one.name} of the cookie",
        "customer": "the customer's earlier order",
        "named": "the partner whom the report names",
    }[one.kind]


def _won(winner: Candidate, received_at: datetime, able: int) -> str:
    rules = winner.rules
    if winner.kind == "coupon":
        return f"{_named(winner)}, which goes before clicks" if rules.coupon_first and able > 1 else _named(winner)
    if winner.kind == "customer":
        return f"{_named(winner)}, not more than {rules.customer_window.days} days ago"
    if winner.kind == "named":
        return f"{_named(winner)}, with a token of the store"
    rule = f", the {rules.model} of those who may earn" if able > 1 else ""
    ahead = "; its clock is ahead of ours" if winner.at and winner.at > received_at else ""
    return f"{_named(winner)}, inside its window of {rules.window.days} days{rule}{ahead}"


def _seconds(span: timedelta) -> str:
    return f"{int(span.total_seconds())} s"
