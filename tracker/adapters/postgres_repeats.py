"""An order that is known, told again: what its goal's duplicate policy makes of it, and statuses moved along the lifecycle."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

from tracker.adapters import postgres_conversions_sql as sql
from tracker.adapters.postgres_deals import Deal, amend, going_before, keeping_amount, make, tell_anew
from tracker.adapters.postgres_holds import hold_instead
from tracker.adapters.postgres_ledger import KINDS, enter, owed_of
from tracker.adapters.postgres_pool import Connection
from tracker.domain import attribution, money
from tracker.domain.postback import Postback, Verdict

NEW_EACH_TIME = frozenset(("always_new", "new_or_repeated", "by_event_id"))
ADDING = frozenset(("always_new", "new_or_repeated", "increment"))


def policy_for(postback: Postback, existing: Any) -> str:
    """The duplicate policy for a report. A shop's webhook tells the whole order each time: it never adds to one, it amends."""
    policy = str(existing["duplicate_policy"])
    return "amend" if postback.source == "webhook" and policy in ADDING else policy


def waits(postback: Postback, existing: Any) -> bool:
    """Whether a postback whose click is not there yet may come to more than a repetition of its known order, once it is there."""
    is_added = policy_for(postback, existing) == "increment"  # whatever its click
    if _makes_another(postback, existing) or (_is_earlier(postback, existing) and not is_added):
        return True
    return _replaces(postback, existing) and postback.click_id != existing["first_click_id"]


async def first_of_order(connection: Connection, postback: Postback) -> Any:
    """The first conversion of a postback's order, locked; None when there is none."""
    await connection.execute(sql.LOCK_ORDER, *postback.identity)
    return await connection.fetchrow(sql.EXISTING_BY_TXID, *postback.identity)


async def known_event(connection: Connection, postback: Postback, deal: Deal) -> Any:
    """The conversion that a postback's event id made already, where its goal goes by event ids; locks out others with the same."""
    if not (postback.event_id and deal.source):
        return None
    if await connection.fetchval(sql.POLICY, deal.source.campaign, postback.goal) != "by_event_id":
        return None
    await connection.execute(sql.LOCK_EVENT, f"{postback.advertiser_id} {postback.goal} {postback.event_id}")
    return await _of_event(connection, postback)


async def _of_event(connection: Connection, postback: Postback) -> Any:
    """The conversion that was made by a postback's event id; None when there is none, or it has no event id."""
    return await connection.fetchrow(sql.EXISTING_BY_EVENT, postback.advertiser_id, postback.goal, postback.event_id)


async def again(connection: Connection, postback: Postback, existing: Any, deal: Deal) -> Verdict:
    """What another report of a known order comes to; `existing` is its first conversion, or that of its event id, locked."""
    policy = policy_for(postback, existing)
    if policy in NEW_EACH_TIME:
        return await _among_several(connection, postback, existing, deal)
    if _replaces(postback, existing):
        return await _replace(connection, postback, existing, deal)
    if _is_silent(postback, existing) or existing["status"] == "orphan":
        return await _repeat(connection, postback, existing)
    if policy == "amend" or existing["amount_unverified"]:
        return await _amend(connection, postback, existing, deal)
    if policy == "increment":
        return await _increment(connection, postback, existing)
    return await _go_before(connection, postback, existing, deal)


def _is_silent(postback: Postback, existing: Any) -> bool:
    """Whether a report changes neither amount nor click of a known order: a pixel's, which anybody can send; one that takes the sale
    back; one that names no amount, unless it is an earlier one by another click, or under `amend` any earlier one."""
    if postback.unverified or postback.status in attribution.TAKEN_BACK:
        return True
    takes_click = postback.click_id != existing["first_click_id"] or policy_for(postback, existing) == "amend"
    return not postback.amount_original and not (takes_click and _is_earlier(postback, existing))


def _is_earlier(postback: Postback, existing: Any) -> bool:
    in_force = (existing["told_at"], existing["heard_at"], existing["postback_id"])
    return bool(postback.order < in_force)


def _makes_another(postback: Postback, existing: Any) -> bool:
    policy = policy_for(postback, existing)
    is_update = bool(postback.status_original) and not postback.amount_original  # it says what became of an order, not of another
    if is_update or postback.status in attribution.TAKEN_BACK or policy not in NEW_EACH_TIME:
        return False
    return policy != "by_event_id" or postback.event_id is not None


async def _among_several(connection: Connection, postback: Postback, first: Any, deal: Deal) -> Verdict:
    """An order number that stands for several conversions: a new one, or the one that is meant."""
    own = await connection.fetchrow(sql.EXISTING_BY_POSTBACK, postback.postback_id)
    latest = own or await connection.fetchrow(sql.LATEST_OF_ORDER, *postback.identity)
    event = await _of_event(connection, postback) if policy_for(postback, first) == "by_event_id" else None
    known = latest or first  # of another order number when an event id named it
    if latest is not None and not own and not postback.unverified:
        known = event or await _pixels_own(connection, postback, first) or latest
    if _replaces(postback, known) and (own or known["unverified"]):
        return await _replace(connection, postback, known, deal)
    if known["amount_unverified"] and not _is_silent(postback, known):
        return await _amend(connection, postback, known, deal)
    if own or latest is None or (postback.unverified and not known["unverified"]):
        return await _repeat(connection, postback, known)
    if meant := await _meant(connection, postback, first, known, event):
        return await _repeat(connection, postback, meant)
    if known["first_status"] in attribution.TAKEN_BACK and _is_earlier(postback, known):
        return await tell_anew(connection, postback, known, deal, after=known["status"], was="it was taken back before it was heard of")
    return await _make_another(connection, postback, first, latest["occurrence"] + 1, deal)


async def _pixels_own(connection: Connection, postback: Postback, first: Any) -> Any:
    """What a pixel said of the very sale that the shop reports now: the first pixel's of its amount; by event ids, only that of its own."""
    if policy_for(postback, first) == "by_event_id" and postback.event_id:
        return None
    return await connection.fetchrow(sql.PIXELS_OF_ORDER, *postback.identity, postback.amount_micros)


async def _meant(connection: Connection, postback: Postback, first: Any, latest: Any, event: Any) -> Any:
    """Which conversion a report is about that makes no other; None when it makes one. `event`: that of its event id, if there is one."""
    if postback.status in attribution.TAKEN_BACK:
        amount = postback.amount_micros if postback.amount_original else None
        return await connection.fetchrow(sql.TAKEN_BACK_OF_ORDER, *postback.identity, amount) or latest
    if not _makes_another(postback, first):
        return latest
    return first if event else None


async def _make_another(connection: Connection, postback: Postback, first: Any, occurrence: int, deal: Deal) -> Verdict:
    made = await make(connection, postback, deal, occurrence=occurrence, is_repeat=first["duplicate_policy"] == "new_or_repeated")
    if made is None:
        raise RuntimeError(f"occurrence {occurrence} of a locked order exists")
    return made


def _replaces(postback: Postback, existing: Any) -> bool:
    return attribution.replaces(
        postback.status, unverified=postback.unverified, known_status=existing["status"], known_unverified=existing["unverified"]
    )


async def _replace(connection: Connection, postback: Postback, existing: Any, deal: Deal) -> Verdict:
    """Tell an orphan, or what only a pixel said, anew by this postback.

    A postback that earns nobody anything replaces nothing: what the pixel said stays as it is, for people to decide, unless all that the
    shop says is its status. One that names no amount keeps the known one.
    """
    before, says_status = existing["status"], bool(postback.status_original) and not postback.amount_original
    if deal.source is None and existing["postback_id"] == postback.postback_id:  # it made the orphan, and was tried again
        reason = "; ".join(deal.trace)
        return Verdict("orphan", "orphan", postback.postback_id, existing["id"], reason=reason)
    if deal.source is None and (before == "orphan" or says_status):
        return await _repeat(connection, postback, existing)
    if deal.source is None:
        reason = "; ".join([*deal.trace, f"the pixel's click and amount are kept, the conversion is {before}"])
        return Verdict("conflict", "attributed", postback.postback_id, existing["id"], duplicate=True, reason=reason)
    after = attribution.status_after(postback.status, known_status=before, first_status=existing["first_status"] or before)
    was = "it was an orphan" if before == "orphan" else f"a pixel said {_text(existing['amount_micros'], existing['currency'])}"
    policy = await connection.fetchval(sql.POLICY, deal.source.campaign, postback.goal) if before == "orphan" else None
    told, amount_by = postback, None
    if _keeps_amount(postback, existing, policy):
        told, amount_by = keeping_amount(postback, existing), existing["postback_id"]
    verdict = await tell_anew(connection, told, existing, deal, after=after, was=was, amount_by=amount_by)
    if before == "orphan":
        await _reopen_repeats(connection, postback, existing, policy)
    return verdict


def _keeps_amount(postback: Postback, existing: Any, policy: str | None) -> bool:
    """Whether a report that takes over a conversion leaves its amount: it names none, nor will what was said before it be added."""
    if postback.amount_original or not existing["amount_original"] or postback.postback_id == existing["postback_id"]:
        return False
    return policy != "increment" or bool(existing["unverified"])


async def _reopen_repeats(connection: Connection, postback: Postback, existing: Any, policy: str | None) -> None:
    """Have decided anew what was a repetition as long as its order was an orphan: all of it where each report counts, else what goes
    after `postback`. Where amounts are added, that of the report that made the orphan is one of them."""
    outcomes = ["duplicate", "conflict", *(["orphan"] if policy == "increment" else [])]
    only_later = policy not in NEW_EACH_TIME and policy != "increment"
    order = (existing["advertiser_id"], existing["txid"])
    await connection.execute(sql.REOPEN_REPEATS, *order, existing["id"], outcomes, only_later, *postback.order)


async def _amend(connection: Connection, postback: Postback, existing: Any, deal: Deal) -> Verdict:
    """The click of the earliest report and the amount of the latest, whichever of them came first."""
    takes_amount = _takes_amount(postback, existing)
    if deal.source is not None and _is_earlier(postback, existing):
        return await _take_click(connection, postback, existing, deal, takes_amount=takes_amount)
    if not takes_amount:
        return await _repeat(connection, postback, existing)
    told_by, amount_by = existing["postback_id"], postback.postback_id
    if not _difference(existing, postback):
        await connection.execute(sql.TOLD_BY, existing["id"], told_by, amount_by)
        return await _repeat(connection, postback, existing)
    was = f"the shop sent another amount: it was {_text(existing['amount_micros'], existing['currency'])}"
    verdict = await amend(connection, postback, existing, adds=False, was=was, told_by=told_by, amount_by=amount_by)
    await _follow_anew(connection, postback, existing)
    return verdict


async def _take_click(connection: Connection, postback: Postback, existing: Any, deal: Deal, *, takes_amount: bool) -> Verdict:
    """The click of an earlier report that came late; the amount in force stays, unless that is the report's too."""
    told = postback if takes_amount else going_before(postback, existing)
    amount_by = None if takes_amount else existing["amount_postback_id"] or existing["postback_id"]
    if postback.click_id == existing["first_click_id"] and not _difference(existing, told):
        await connection.execute(sql.TOLD_BY, existing["id"], postback.postback_id, amount_by)
        return await _repeat(connection, postback, existing)
    known = _text(existing["amount_micros"], existing["currency"])
    was = "an earlier report came late: " + (f"it was {known}" if takes_amount else f"{known} is kept")
    verdict = await tell_anew(connection, told, existing, deal, after=existing["status"], was=was, amount_by=amount_by)
    await _follow_anew(connection, postback, existing)
    return verdict


def _takes_amount(postback: Postback, existing: Any) -> bool:
    """Whether a report's amount counts instead of that in force: a later one's, or the first that a shop names."""
    if not postback.amount_original:
        return False
    if existing["amount_unverified"] or not (existing["amount_original"] or existing["amount_micros"]):
        return True
    of_click = (existing["told_at"], existing["heard_at"], existing["postback_id"])
    of_amount = (existing["amount_told_at"], existing["amount_heard_at"], existing["amount_postback_id"])
    return postback.order > (of_amount if existing["amount_told_at"] else of_click)


async def _increment(connection: Connection, postback: Postback, existing: Any) -> Verdict:
    if postback.currency != existing["currency"]:
        reason = f"another currency cannot be added: {existing['currency']} is kept, {postback.currency} was sent"
        return Verdict("conflict", "attributed", postback.postback_id, existing["id"], duplicate=True, reason=reason)
    was = f"{_text(postback.amount_micros, postback.currency)} was added to {_text(existing['amount_micros'], existing['currency'])}"
    told_by, amount_by = existing["postback_id"], existing["amount_postback_id"]
    verdict = await amend(connection, postback, existing, adds=True, was=was, told_by=told_by, amount_by=amount_by)
    await _follow_anew(connection, postback, existing)
    if existing["status"] not in attribution.TAKEN_BACK:
        return verdict
    return replace(verdict, outcome="conflict", duplicate=True, reason=f"{was}; nothing is owed, conversion is {existing['status']}")


async def _go_before(connection: Connection, postback: Postback, existing: Any, deal: Deal) -> Verdict:
    """The amount of an earlier report that came late, and its click where somebody earns by it; a later one repeats what is known."""
    if not _is_earlier(postback, existing):
        return await _repeat(connection, postback, existing)
    told_by = postback.postback_id
    if not _difference(existing, postback) and postback.click_id == existing["first_click_id"]:
        await connection.execute(sql.TOLD_BY, existing["id"], told_by, None)
        return await _repeat(connection, postback, existing)
    was = f"an earlier report came late: it was {_text(existing['amount_micros'], existing['currency'])}"
    if deal.source is not None:
        verdict = await tell_anew(connection, postback, existing, deal, after=existing["status"], was=was)
    else:
        verdict = await amend(connection, postback, existing, adds=False, was=was, told_by=told_by, amount_by=None)
    await _follow_anew(connection, postback, existing)
    return verdict


async def _follow_anew(connection: Connection, postback: Postback, existing: Any) -> None:
    """The status that the report states, on the row as it is now."""
    await _follow(connection, postback, await connection.fetchrow(sql.EXISTING_BY_ID, existing["id"]))


async def _repeat(connection: Connection, postback: Postback, existing: Any) -> Verdict:
    """The order is known: a status that the store states moves it along the lifecycle; the first amount stays.

    What could not be followed, the amount or the status, makes a conflict that is kept and shown. A goal whose policy is
    `conflict` refuses another amount altogether, unless the sale is taken back, which asks for no amount.
    """
    told = "orphan" if existing["status"] == "orphan" else "attributed"
    taken_back = postback.status in attribution.TAKEN_BACK
    policy = policy_for(postback, existing)
    problems = [] if policy == "amend" else _difference(existing, postback)
    if problems and policy == "conflict" and not taken_back:
        return Verdict("conflict", "conflict", postback.postback_id, existing["id"], duplicate=True, reason=problems[0])
    reason, stuck = ("", []) if _named_another(postback, existing) else await _follow(connection, postback, existing)
    problems = [*stuck, *problems]
    reason = "; ".join([*([reason] if reason else []), *problems]) or "the same order again"
    outcome: Literal["conflict", "duplicate"] = "conflict" if problems else "duplicate"
    return Verdict(outcome, told, postback.postback_id, existing["id"], duplicate=True, reason=reason)


def _named_another(postback: Postback, existing: Any) -> bool:
    """Whether a report takes back a sale of an amount that none of several has."""
    several = policy_for(postback, existing) in NEW_EACH_TIME and postback.status in attribution.TAKEN_BACK
    return several and bool(_difference(existing, postback))


async def _follow(connection: Connection, postback: Postback, existing: Any) -> tuple[str, list[str]]:
    """Move to the status that the store stated: what was done, and what could not be. What nobody proved moves nothing."""
    before = existing["status"]
    is_stated = bool(postback.status_original) or postback.status in attribution.TAKEN_BACK  # an old platform's by a negative amount
    if postback.unverified or not is_stated or postback.status == before:
        return "", []
    action = attribution.action_towards(before, postback.status)
    if action is None:
        return "", [f"{postback.status} was sent, conversion is {before}"]
    if action == "approve" and (held := await hold_instead(connection, existing)):
        return held, []
    said = f"{postback.source} says {postback.status}"
    after = await move(connection, existing, action, reason=said, actor="postback", postback=postback)
    return f"status {before} → {after}", []


def _difference(existing: Any, postback: Postback) -> list[str]:
    reported = existing["amount_micros"] + existing["reversed_micros"]  # what was taken back of it by hand, its shop need not know
    known, sent = (reported, existing["currency"]), (postback.amount_micros, postback.currency)
    if not postback.amount_original or known == sent:
        return []
    return [f"amount differs: {_text(*known)} is kept, {_text(*sent)} was sent"]


def _text(micros: int, currency: str) -> str:
    return f"{money.format_micros(micros, currency)} {currency}"


async def move(connection: Connection, existing: Any, action: str, *, reason: str, actor: str, postback: Postback | None = None) -> str:
    """Move a locked conversion (a row of `EXISTING`) along the lifecycle by ledger entries; returns its new status."""
    before, after = attribution.LIFECYCLE[action]
    await connection.execute(sql.SET_STATUS, existing["id"], after)
    owed, on = await owed_of(connection, existing), datetime.now(UTC)
    await enter(connection, owed, before, after, kind=KINDS[action], postback=postback, on=on, reason=reason, actor=actor)
    return after
