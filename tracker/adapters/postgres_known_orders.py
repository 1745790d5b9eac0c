"""Webhooks that take a sale back and name nobody who earns: what is known of their order decides, and is waited for when nothing is."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from tracker.adapters.postgres_deals import deal_of
from tracker.adapters.postgres_pool import Connection, Database
from tracker.adapters.postgres_repeats import again, first_of_order
from tracker.domain.postback import Postback, Verdict

WAIT = timedelta(hours=24)  # shops tell of all their orders, and nobody brought most of those: they must not pile up
JOURNAL_LAG = timedelta(hours=1)  # a report that brings the order somebody may still be in another tracker's journal
UNKNOWN = "no order with this txid is known"

# By its number, whatever its goal, else by its payment. No index of `conversions` has the number without the goal; one of `postbacks` has.
ORDER_OF = """
    SELECT goal, txid FROM (
        SELECT id, goal, txid, 1 AS place FROM conversions WHERE advertiser_id = $1 AND goal = $4 AND txid = $2
        UNION ALL
        SELECT c.id, c.goal, c.txid, 2 FROM postbacks p JOIN conversions c ON c.id = p.conversion_id AND c.txid = p.txid
        WHERE p.advertiser_id = $1 AND p.txid = $2
        UNION ALL
        SELECT id, goal, txid, 3 FROM conversions WHERE advertiser_id = $1 AND event_id = $3
    ) o ORDER BY place, id LIMIT 1
"""
# No conversion is made by a postback that is about it: that `<>` keeps the planner from reading all conversions once.
KNOWN = """
    SELECT q.postback_id
    FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[]) AS q(postback_id, advertiser_id, goal, txid, event_id)
    WHERE EXISTS (SELECT FROM conversions c WHERE c.advertiser_id = q.advertiser_id AND c.goal = q.goal AND c.txid = q.txid
            AND c.postback_id <> q.postback_id)
       OR EXISTS (SELECT FROM postbacks p JOIN conversions c ON c.id = p.conversion_id AND c.txid = p.txid
            WHERE p.advertiser_id = q.advertiser_id AND p.txid = q.txid AND p.postback_id <> q.postback_id)
       OR EXISTS (SELECT FROM conversions c WHERE c.advertiser_id = q.advertiser_id AND c.event_id = q.event_id
            AND c.postback_id <> q.postback_id)
"""
# Of reports that could make the order: how long the last of them waits, and whether one was decided on and is nobody's.
REPORTS = """
    SELECT max(parked_until) FILTER (WHERE outcome = 'parked') AS until,
        coalesce(bool_or(outcome = 'rejected' AND amount_micros IS NOT NULL), false) AS is_nobodys
    FROM postbacks WHERE advertiser_id = $1 AND txid = $2
      AND (source <> 'webhook' OR click_id IS NOT NULL OR coupon IS NOT NULL OR customer IS NOT NULL OR visits <> '{}')
"""
ADOPT = "UPDATE postbacks SET goal = $2, txid = $3 WHERE postback_id = $1"


def is_about_known(postback: Postback) -> bool:
    """Whether a report concerns an order that is known otherwise, or nobody."""
    names_somebody = postback.click_id or postback.coupon or postback.customer or postback.visits
    return postback.source == "webhook" and not names_somebody


async def decide(connection: Connection, postback: Postback, now: datetime) -> tuple[Verdict, datetime | None]:
    """The verdict on a report that `is_about_known`, and until when it waits.

    While nothing is known of its order it waits for a day, or as long as another report of the order does; then it is ignored, and never
    an orphan.
    """
    if verdict := await _of_known(connection, postback):
        return verdict, None
    reports = await connection.fetchrow(REPORTS, postback.advertiser_id, postback.txid)
    until, is_nobodys = (reports["until"], reports["is_nobodys"]) if reports else (None, False)
    if until is None and is_nobodys and postback.received_at + JOURNAL_LAG <= now:
        return Verdict("rejected", "ignored", postback.postback_id, reason="nobody brought this order"), None
    if until is None and postback.parked_until and postback.parked_until <= now:
        return Verdict("rejected", "ignored", postback.postback_id, reason=UNKNOWN), None
    verdict = Verdict("parked", "parked", postback.postback_id, reason=f"{UNKNOWN} yet")
    return verdict, max(until or now, postback.parked_until or now + (JOURNAL_LAG if is_nobodys else WAIT))


async def _of_known(connection: Connection, postback: Postback) -> Verdict | None:
    order = (postback.advertiser_id, postback.txid, postback.event_id, postback.goal)
    found = await connection.fetchrow(ORDER_OF, *order)
    if found is None:
        return None
    meant = replace(postback, goal=found["goal"], txid=found["txid"])
    if meant.identity != postback.identity:
        await connection.execute(ADOPT, meant.postback_id, meant.goal, meant.txid)
    existing = await first_of_order(connection, meant)
    return await again(connection, meant, existing, await deal_of(connection, meant, None, []))


async def known(database: Database, postbacks: Sequence[Postback]) -> set[UUID]:
    """Which of `postbacks`, that all are `is_about_known`, have an order by now."""
    if not postbacks:
        return set()
    columns = [(p.postback_id, p.advertiser_id, p.goal, p.txid, p.event_id) for p in postbacks]
    rows = await database.fetch(KNOWN, *map(list, zip(*columns, strict=True)))
    return {row["postback_id"] for row in rows}
