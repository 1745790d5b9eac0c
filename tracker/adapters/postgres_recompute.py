"""Conversions worked out anew by the terms of their time. What is booked is never changed: the differences are entries of their own."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

from tracker.adapters import postgres_conversions_sql as sql
from tracker.adapters.postgres_deals import rework
from tracker.adapters.postgres_ledger import shares_of
from tracker.adapters.postgres_plans import Worked, of_same_rate, sold_of, terms_at, work_out
from tracker.adapters.postgres_pool import Connection, Database
from tracker.adapters.postgres_programme_sql import EVENT
from tracker.domain import money
from tracker.domain.plans import Share
from tracker.errors import NotFound

Values = dict[str, Any]
Cursor = tuple[datetime, UUID]
Due = Counter[tuple[int, str]]  # partner, currency → micros
PAGE = 100  # in one transaction
CAMPAIGN = "SELECT id FROM campaigns WHERE slug = $1"
# Those that we worked out: what was imported was worked out elsewhere.
NEXT = """
    SELECT id, converted_at FROM conversions
    WHERE campaign = $1 AND converted_at >= $2 AND converted_at < $3 AND (converted_at, id) > ($4, $5) AND status IN ('pending', 'approved')
      AND partner IS NOT NULL AND source IS NULL
    ORDER BY converted_at, id LIMIT $6
"""
SLUGS = "SELECT id, slug FROM partners WHERE id = ANY($1::bigint[])"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The conversions of a campaign (its slug) from `start` until before `end`; `known_at` None: by terms as they are known now."""

    campaign: str
    start: datetime
    end: datetime
    known_at: datetime | None
    is_dry: bool


@dataclass(slots=True)
class _Done:
    looked_at: int = 0
    without_rate: int = 0
    changed: list[tuple[UUID, str, tuple[Share, ...], tuple[Share, ...]]] = field(default_factory=list)
    last: Cursor | None = None

    def add(self, page: "_Done") -> None:
        self.looked_at += page.looked_at
        self.without_rate += page.without_rate
        self.changed += page.changed
        self.last = page.last


def cursor(value: Any) -> Cursor:
    """Where an earlier call came to. ValueError when it is none of ours."""
    try:
        at, _, number = value.partition("/")
        return datetime.fromisoformat(at).astimezone(UTC), UUID(number)
    except (ValueError, AttributeError, OverflowError):
        raise ValueError("must be the next_cursor of an earlier answer") from None


async def run(database: Database, wanted: Wanted, after: Cursor | None, *, reason: str, actor: str, goes_on: Callable[[], bool]) -> Values:
    """Work out what is wanted, from `after` on, a page in each transaction, for as long as `goes_on`. `Recomputing` says what is told."""
    campaign = await database.fetchrow(CAMPAIGN, wanted.campaign)
    if campaign is None:
        raise NotFound("unknown_campaign", f"there is no campaign {wanted.campaign[:80]!r}", field="campaign")
    number, done = int(campaign["id"]), _Done(last=after or (wanted.start, UUID(int=0)))
    while done.last is not None:
        done.add(await database.transaction(partial(_page, campaign=number, wanted=wanted, after=done.last, reason=reason, actor=actor)))
        if not goes_on():
            break
    return await _told(database, wanted, done)


async def _page(connection: Connection, campaign: int, wanted: Wanted, after: Cursor, reason: str, actor: str) -> _Done:
    rows = await connection.fetch(NEXT, campaign, wanted.start, wanted.end, *after, PAGE)
    done = _Done(last=(rows[-1]["converted_at"], rows[-1]["id"]) if len(rows) == PAGE else None)
    for row in rows:
        existing = await connection.fetchrow(sql.EXISTING_BY_ID, row["id"])
        if existing and existing["status"] in ("pending", "approved") and existing["partner"] is not None:
            await _one(connection, existing, wanted, done, reason, actor)
    if done.changed and not wanted.is_dry:
        told = {"conversions": [str(number) for number, *_ in done.changed], "from": wanted.start, "to": wanted.end}
        await connection.execute(EVENT, actor, "recompute", "campaign", wanted.campaign, reason, None, told)
    return done


async def _one(connection: Connection, existing: Any, wanted: Wanted, done: _Done, reason: str, actor: str) -> None:
    sold, known = sold_of(existing)
    terms = await terms_at(connection, sold.campaign, sold.partner, sold.goal, sold.at, known_at=wanted.known_at)
    worked = await work_out(connection, terms, sold, of_same_rate(known, existing, sold, terms))
    before = await shares_of(connection, existing)
    done.looked_at += 1
    done.without_rate += worked.earned.has_no_rate
    if set(before) != set(worked.earned.shares):
        done.changed.append((existing["id"], existing["txid"], before, worked.earned.shares))
    elif not _says_otherwise(existing, worked):
        return
    if not wanted.is_dry:
        await rework(connection, existing, worked, kind="correction", reason=reason, actor=actor)


def _says_otherwise(existing: Any, worked: Worked) -> bool:
    """Whether the same payout comes about in another way now: by other terms, or by a fact that was not known then."""
    number = worked.terms.terms_id if worked.terms else None
    booked = existing["terms_id"], existing["payout_currency"], dict(existing["basis"])
    return bool(booked != (number, worked.earned.currency, worked.basis))


async def _told(database: Database, wanted: Wanted, done: _Done) -> Values:
    due = Due()
    for _, _, before, after in done.changed:
        for sign, shares in ((-1, before), (1, after)):
            for share in shares:
                due[share.partner, share.currency] += sign * share.micros
    everybody = {share.partner for _, _, before, after in done.changed for share in (*before, *after)}
    slugs = {row["id"]: row["slug"] for row in await database.fetch(SLUGS, list(everybody))}
    conversions = [
        {"id": number, "txid": txid, "before": _shares(before, slugs), "after": _shares(after, slugs)}
        for number, txid, before, after in done.changed
    ]
    partners = [
        {"partner": slugs[partner], "difference": money.format_micros(micros, currency), "currency": currency}
        for (partner, currency), micros in sorted(due.items(), key=lambda one: (slugs[one[0][0]], one[0][1]))
        if micros
    ]
    return {
        "looked_at": done.looked_at,
        "changed": len(conversions),
        "without_rate": done.without_rate,
        "conversions": conversions,
        "partners": partners,
        "dry_run": wanted.is_dry,
        "next_cursor": f"{done.last[0].isoformat()}/{done.last[1]}" if done.last else None,
    }


def _shares(shares: tuple[Share, ...], slugs: dict[int, str]) -> list[Values]:
    return [
        {
            "partner": slugs[one.partner],
            "level": one.level,
            "amount": money.format_micros(one.micros, one.currency),
            "currency": one.currency,
        }
        for one in shares
    ]
