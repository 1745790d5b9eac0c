"""Who may earn a conversion, as PostgreSQL knows them; `tracker.domain.candidates` chooses."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from tracker.adapters import postgres_conversions_sql as sql
from tracker.adapters.postgres_pool import Connection
from tracker.domain import click_id
from tracker.domain.candidates import Candidate, Kind, Rules, decide
from tracker.domain.postback import Postback

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
    candidates = [one async for one in _candidates(connection, postback, missing)]
    if missing and _is_on_its_way(postback) and postback.tries < GRACE_TRIES:
        return Finding(None, missing, may_come=True)
    decision = decide(candidates, advertiser=postback.advertiser_id, converted_at=postback.converted_at, received_at=postback.received_at)
    source = decision.winner.source if decision.winner else None
    trace = [*decision.trace, *missing] if source else [*missing, *decision.trace]
    if postback.coupon and not any(one.kind == "coupon" for one in candidates):
        trace.append("no valid coupon has this code")
    return Finding(source, trace, may_come=source is None and bool(missing))


def _is_on_its_way(postback: Postback) -> bool:
    """Whether a click that is missing may be one of ours, so that it will be here in a moment: a cookie names no others."""
    return bool(postback.visits) or click_id.from_any(postback.click_id or "") is not None


async def _candidates(connection: Connection, postback: Postback, missing: list[str]) -> AsyncIterator[Candidate]:
    """All that may earn, in the order in which they go; `missing` is told of clicks that are not there."""
    if postback.click_id:
        row, kind = await _click(connection, postback)
        if row is None or row["campaign"] is None or row["partner"] is None:
            missing.append("the click's link is not known yet" if row else "no click has this id")
        else:
            yield _of_click(row, kind, postback.click_id)
    if postback.coupon:
        row = await connection.fetchrow(sql.COUPON, postback.goal, postback.advertiser_id, postback.coupon, postback.converted_at)
        if row:
            source = Source("coupon", row["partner"], row["campaign"], row["hold_days"])
            yield Candidate("coupon", postback.coupon, postback.advertiser_id, row["campaign"], None, _rules(row), source)
    for visit in postback.visits:
        if visit == postback.click_id:
            continue
        row = await _by_id(connection, postback.goal, visit)
        if row is None or row["campaign"] is None or row["partner"] is None:
            missing.append(f"click {visit} of the cookie is not known yet")
        else:
            yield _of_click(row, "cookie", visit)
    if postback.customer and not postback.unverified:  # a pixel may name anybody
        row = await connection.fetchrow(
            sql.EARLIER_ORDER, postback.goal, postback.advertiser_id, postback.customer, postback.txid, postback.converted_at
        )
        if row:
            source = Source("customer", row["partner"], row["campaign"], row["hold_days"])
            at = row["converted_at"]
            yield Candidate("customer", postback.customer, postback.advertiser_id, row["campaign"], at, _rules(row), source)


async def _click(connection: Connection, postback: Postback) -> tuple[Any, Kind]:
    row = await _by_id(connection, postback.goal, postback.click_id or "")
    if row:
        return row, "click"
    for statement in (sql.CLICK_BY_OLD_ID, sql.OLD_CLICK):
        row = row or await connection.fetchrow(statement, postback.goal, postback.click_id, postback.advertiser_id)
    return row, "old_click"


async def _by_id(connection: Connection, goal: str, text: str) -> Any:
    raw = click_id.from_any(text)
    return await connection.fetchrow(sql.CLICK_BY_ID, goal, UUID(bytes=raw)) if raw else None


def _of_click(row: Any, kind: Kind, name: str) -> Candidate:
    facts = {fact: row[fact] for fact in FACT_NAMES}
    by = "cookie" if kind == "cookie" else "click"
    source = Source(by, row["partner"], row["campaign"], row["hold_days"], row["link"], row["click_id"], row["clicked_at"], facts)
    return Candidate(kind, name, row["advertiser"], row["campaign"], row["clicked_at"], _rules(row), source)


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
