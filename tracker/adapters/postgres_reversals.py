"""A part of a conversion's amount taken back: what is left earns by the same terms, worked out from the same facts."""

from dataclasses import replace
from typing import Any

from tracker.adapters.postgres_deals import in_proportion, rework
from tracker.adapters.postgres_plans import Worked, sold_of, terms_by_id, work_out_again
from tracker.adapters.postgres_pool import Connection
from tracker.adapters.postgres_repeats import move
from tracker.domain import basis as bases
from tracker.domain import money
from tracker.domain.attribution import EARNING
from tracker.errors import Conflict, RejectedInput

Values = dict[str, Any]


async def take_back(connection: Connection, existing: Any, amount: str, *, reason: str, actor: str) -> tuple[Values, Values]:
    """Take `amount` of a locked conversion (a row of `EXISTING`) back; returns what changed, before and after.

    All that is left: an approved one is reversed, a pending one rejected. RejectedInput `invalid_amount`, Conflict `invalid_status`.
    """
    status = existing["status"]
    if status not in EARNING:
        raise Conflict("invalid_status", f"only what is pending or approved can be taken back; it is {status}")
    micros = _micros(amount, existing)
    if micros == existing["amount_micros"]:
        after = await move(connection, existing, "reverse" if status == "approved" else "reject", reason=reason, actor=actor)
        return {"status": status}, {"status": after}
    worked = await _left(connection, existing, micros)
    await rework(connection, existing, worked, kind="reversal", reason=reason, actor=actor, less_micros=micros)
    shown = [money.format_micros(left, existing["currency"]) for left in (existing["amount_micros"], existing["amount_micros"] - micros)]
    return {"amount": shown[0]}, {"amount": shown[1]}


def _micros(amount: str, existing: Any) -> int:
    try:
        micros = money.parse_micros(amount)
    except ValueError as exc:
        raise RejectedInput("invalid_amount", f"amount {exc}", field="amount") from None
    left = existing["amount_micros"]
    if not 0 < micros <= left:
        most = f"{money.format_micros(left, existing['currency'])} {existing['currency']}"
        raise RejectedInput("invalid_amount", f"amount must be more than 0, and at most what is left: {most}", field="amount")
    return micros


async def _left(connection: Connection, existing: Any, micros: int) -> Worked:
    """What the rest earns. By no terms of ours: in proportion."""
    sold, known = sold_of(existing)
    terms = await terms_by_id(connection, existing["terms_id"])
    if terms is None:
        whole = existing["amount_micros"]
        return await in_proportion(connection, existing, whole - micros, whole)
    left = bases.less(sold.reports, micros)
    return work_out_again(terms, replace(sold, reports=left), replace(known, reports=left if known.reports else ()))
