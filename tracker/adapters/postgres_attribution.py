"""Who may earn a conversion, as PostgreSQL knows them; `tracker.domain.candidates` chooses."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from tracker.adapters import postgres_conversions_sql as sql
from tracker.adapters import postgres_old_clicks
from tracker.adapters.postgres_pool import Connection
from tracker.domain import click_id
from tracker.domain.candidates import Candidate, Kind, Rules, decide
from tracker.domain.postback import Postback
from tracker.domain.visitor_cookie import OLD

FACT_NAMES = tuple(name.strip() for name in sql.FACTS.split(","))
GRACE_TRIES = 9  # looked for after 1 s, 2 s … 256 s: some nine minutes for a click of ours before others earn


@dataclass(frozen=True, slots=True)
class Source:
    """Who earns: a partner and a campaign with its hold, and the click's facts where a click decided."""

    attribution: str
    partner: int
    campaign: int
    hold_days: int
    link: int | None = None
    click_id: UUID | None = None
    clicked_at: datetime | None = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found for a postback: a source, or none and whether waiting may help. `trace` says why, in order."""

    source: Source | None
    trace: list[str]
    may_come: bool = False


async def find(connection: Connection, postback: Postback) -> Finding:
    """Who earns, by what is known now."""
    missing = list[str]()
    candidates = await _candidates(connection, postback, missing)
    if missing and _is_on_its_way(postback) and postback.tries < GRACE_TRIES:
        return Finding(None, missing, may_come=True)
    decision = decide(candidates, advertiser=postback.advertiser_id, converted_at=postback.converted_at, received_at=postback.received_at)
    source = decision.winner.source if decision.winner else None
    told = list(dict.fromkeys(decision.trace))  # of the clicks of an old id there may be many
    trace = [*told, *missing] if source else [*missing, *told]
    if postback.coupon and not any(one.kind == "coupon" for one in candidates):
        trace.append("no valid coupon has this code")
    return Finding(source, trace, may_come=source is None and bool(missing))


def _is_on_its_way(postback: Postback) -> bool:
    """Whether a click that is missing may be one of ours, so that it will be here in a moment."""
    return any(click_id.from_any(name) for name in (postback.click_id or "", *postback.visits))


async def _candidates(connection: Connection, postback: Postback, missing: list[str]) -> list[Candidate]:
    """All that may earn, in the order in which they go; `missing` is told of clicks that are not there."""
    found = await _by_click(connection, postback, missing)
    found += await _by_coupon(connection, postback)
    found += await _by_cookie(connection, postback, missing)
    found += await _by_customer(connection, postback)
    return found + await _by_name(connection, postback)


async def _by_click(connection: Connection, postback: Postback, missing: list[str]) -> list[Candidate]:
    if not postback.click_id:
        return []
    rows, kind = await _clicks(connection, postback, postback.click_id)
    found = list(_of_clicks(rows, kind, postback.click_id))
    if not found:
        missing.append("the click's link is not known yet" if rows else "no click has this id")
    return found


async def _by_coupon(connection: Connection, postback: Postback) -> list[Candidate]:
    if not postback.coupon:
        return []
    row = await connection.fetchrow(sql.COUPON, postback.goal, postback.advertiser_id, postback.coupon, postback.converted_at)
    if row is None:
        return []
    source = Source("coupon", row["partner"], row["campaign"], row["hold_days"])
    return [Candidate("coupon", postback.coupon, postback.advertiser_id, row["campaign"], None, _rules(row), source)]


async def _by_cookie(connection: Connection, postback: Postback, missing: list[str]) -> list[Candidate]:
    candidates = list[Candidate]()
    for visit in postback.visits:
        name = visit.removeprefix(OLD)
        if name == postback.click_id:
            continue
        rows, _ = await _clicks(connection, postback, name, is_old=visit.startswith(OLD))
        found = list(_of_clicks(rows, "cookie", name))
        candidates += found
        if not found:
            missing.append(f"click {name} of the cookie is not known yet")
    return candidates


async def _by_customer(connection: Connection, postback: Postback) -> list[Candidate]:
    if not postback.customer or postback.unverified:  # a pixel may name anybody
        return []
    row = await connection.fetchrow(
        sql.EARLIER_ORDER, postback.goal, postback.advertiser_id, postback.customer, postback.txid, postback.converted_at
    )
    if row is None:
        return []
    source = Source("customer", row["partner"], row["campaign"], row["hold_days"])
    return [Candidate("customer", postback.customer, postback.advertiser_id, row["campaign"], row["converted_at"], _rules(row), source)]


async def _by_name(connection: Connection, postback: Postback) -> list[Candidate]:
    if postback.partner is None or postback.campaign is None:
        return []
    row = await connection.fetchrow(sql.NAMED, postback.goal, postback.campaign, postback.partner)
    if row is None:
        return []
    source = Source("named", row["partner"], row["campaign"], row["hold_days"])
    return [Candidate("named", "", row["advertiser"], row["campaign"], None, _rules(row), source)]


async def _clicks(connection: Connection, postback: Postback, name: str, *, is_old: bool = False) -> tuple[Sequence[Any], Kind]:
    """The clicks of an id, newest first: ours, or those that an old platform numbered so."""
    raw = None if is_old else click_id.from_any(name)
    if raw and (row := await connection.fetchrow(sql.CLICK_BY_ID, postback.goal, UUID(bytes=raw))):
        return [row], "click"
    found = await postgres_old_clicks.find(
        connection, goal=postback.goal, old_click_id=name, advertiser_id=postback.advertiser_id, campaign_id=postback.campaign,
        source=postback.old_source, at=postback.converted_at,
    )  # fmt: skip
    return found, "old_click"


def _of_clicks(rows: Sequence[Any], kind: Kind, name: str) -> Iterator[Candidate]:
    for row in rows:
        if row["campaign"] is None or row["partner"] is None:
            continue
        facts = {fact: row[fact] for fact in FACT_NAMES}
        by = "cookie" if kind == "cookie" else "click"
        source = Source(by, row["partner"], row["campaign"], row["hold_days"], row["link"], row["click_id"], row["clicked_at"], facts)
        yield Candidate(kind, name, row["advertiser"], row["campaign"], row["clicked_at"], _rules(row), source)


def _rules(row: Any) -> Rules:
    latest = row["max_conversion_seconds"]
    return Rules(
        window=timedelta(days=row["window_days"]),
        model=row["attribution_model"],
        coupon_first=row["coupon_first"],
        soonest=timedelta(seconds=row["min_conversion_seconds"]),
        latest=None if latest is None else timedelta(seconds=latest),
        customer_window=timedelta(days=row["customer_window_days"]),
    )
