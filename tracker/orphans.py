"""Orphans as operators meet them: what is missing, and the mapping that mends it. For the API and the command line."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from tracker.adapters import postgres_orphans
from tracker.adapters.lmdb_routes import RouteTable
from tracker.adapters.postgres_orphans import FIRST, Owner, Wanted
from tracker.adapters.postgres_pool import Database
from tracker.adapters.postgres_programme import Programme
from tracker.domain.identify import OFFER, PARTNER
from tracker.domain.orphans import Heap, heaps, proposed_campaign, target_of
from tracker.domain.resolve import UNKNOWN, resolve
from tracker.errors import Conflict, RejectedInput
from tracker.programme import OLD_ID, text

DAYS = 30  # how far back orphans are looked for
DAYS_MAX, LISTED_DAYS_MAX = 3650, 366
BUDGET_S = 20.0  # of one call; what is left is for the next
PUBLISHED_WITHIN_S = 5.0  # the promise is 2 s
POLL_S = 0.05
FUTURE = timedelta(days=2)  # a node's clock may be ahead


@dataclass(slots=True)
class Orphans:
    """Lists, maps and attributes. `open_table` opens the route table of this machine, which `work routes` keeps current."""

    database: Database
    programme: Programme
    open_table: Callable[[], RouteTable]

    async def listed(self, *, days: int = DAYS, limit: int = 100) -> dict[str, Any]:
        """`{"items", "next_cursor"}`: the heaps of the last `days`, those with the most clicks first; there is no next page.

        `proposed_destination` and `proposed_campaign`: what the old platform said of them (the look-up), null else.
        """
        found = await postgres_orphans.found(self.database, _wanted(days))
        with self._table() as table:
            made = await asyncio.to_thread(heaps, table, found, _now_ms())
        is_named = any(heap.proposed_destination for heap in made[:limit])
        campaigns = await postgres_orphans.destinations(self.database) if is_named else []
        return {"items": [_shown(heap, campaigns) for heap in made[:limit]], "next_cursor": None}

    async def map(self, body: Any, actor: str) -> dict[str, Any]:
        """Say what an old id means, then attribute the orphans that waited for it.

        `body` is an old id (`tracker.programme.OLD_ID`) with an optional `reason`; one that is mapped already is mapped anew. Returns
        the old id, and `attributed` as `attribute` does; None there: mapped, but the route table of this machine has not got it in
        time, or somebody else attributes just now, so `attribute` has to be called.
        """
        if not isinstance(body, dict):
            raise RejectedInput("invalid_body", "an old id must be a JSON object")
        values = dict(body)
        reason = _reason(values.pop("reason", None)) or f"{values.get('kind')} {values.get('source_id')} of {values.get('source')} mapped"
        shown = await self._mapped(values, actor)
        with self._table() as table:
            done = None
            if await _published(table, shown):
                with suppress(Conflict):
                    done = await self._attribute(table, await self._of(shown), reason, actor)
        return {"old_id": shown, "attributed": done}

    async def attribute(self, *, days: int = DAYS, cursor: str | None = None, reason: str | None, actor: str) -> dict[str, Any]:
        """Attribute every orphan of the last `days` that the map of today resolves.

        Returns `{"looked_at", "clicks", "postbacks", "next_cursor"}`: orphans looked at and attributed, postbacks that are tried
        again, and, when the time was not enough, the `cursor` with which to go on.
        """
        with self._table() as table:
            wanted = replace(_wanted(days), after=_after(cursor))
            return await self._attribute(table, wanted, _reason(reason) or "mapped since", actor)

    @contextmanager
    def _table(self) -> Iterator[RouteTable]:
        table = self.open_table()
        table.refresh()
        try:
            yield table
        finally:
            table.close()

    async def _mapped(self, values: dict[str, Any], actor: str) -> dict[str, Any]:
        try:
            return await self.programme.create(OLD_ID, values, actor)
        except Conflict:
            filters = {name: str(values[name]) for name in ("kind", "source_id")} | {"source": str(values["source"]).strip()}
            known = (await self.programme.listed(OLD_ID, limit=1, cursor=None, filters=filters))["items"]
            if not known:
                raise
            targets = {name: values.get(name) for name in ("partner", "campaign", "link", "creative")}
            return await self.programme.edit(OLD_ID, str(known[0]["id"]), {**targets, "status": values.get("status", "active")}, actor)

    async def _attribute(self, table: RouteTable, wanted: Wanted, reason: str, actor: str) -> dict[str, Any]:
        end = time.monotonic() + BUDGET_S
        done = await postgres_orphans.attribute(
            self.database, wanted, partial(_owner, table), reason=reason, actor=actor, goes_on=lambda: time.monotonic() < end
        )
        rest = None if done.is_complete else str(done.last)
        return {"looked_at": done.looked_at, "clicks": done.clicks, "postbacks": done.postbacks, "next_cursor": rest}

    async def _of(self, shown: dict[str, Any]) -> Wanted:
        """Only the orphans that may carry this id, where that stands in a column of its own; else those of the usual time."""
        kind, source_id = shown["kind"], shown["source_id"]
        if kind not in (PARTNER, OFFER) or not source_id:
            return _wanted(DAYS)
        return await postgres_orphans.spelled(self.database, _wanted(DAYS_MAX), shown["source"], **{kind: source_id})


async def _published(table: RouteTable, shown: dict[str, Any]) -> bool:
    """Wait until the table says of an old id what was stored."""
    end = time.monotonic() + PUBLISHED_WITHIN_S
    while time.monotonic() < end:
        table.refresh()
        if _is_there(table, shown):
            return True
        await asyncio.sleep(POLL_S)
    return False


def _is_there(table: RouteTable, shown: dict[str, Any]) -> bool:
    route = table.old_id(shown["source"], shown["kind"], shown["source_id"])
    if shown["status"] != "active" or route is None:
        return shown["status"] != "active" and route is None
    partner = table.partner(route.partner_id) if route.partner_id else None
    campaign = table.campaign(route.campaign_id) if route.campaign_id else None
    link = table.link_by_id(route.link_id) if route.link_id else None
    names = (partner and partner.slug, campaign and campaign.slug, link and link.slug, route.creative)
    return names == tuple(shown[name] for name in ("partner", "campaign", "link", "creative"))


def _owner(table: RouteTable, host: str, url: str) -> Owner | None:
    found = resolve(table, host.encode(), target_of(url), _now_ms())
    if found.outcome == UNKNOWN:
        return None
    return Owner(found.link_id or None, found.partner_id, found.campaign_id)


def _wanted(days: int) -> Wanted:
    now = datetime.now(UTC)
    return Wanted(now - timedelta(days=min(max(days, 1), DAYS_MAX)), now + FUTURE)


def _reason(value: Any) -> str:
    try:
        return "" if value is None else text(value)
    except ValueError as exc:
        raise RejectedInput("invalid_reason", f"reason {exc}", field="reason") from None


def _after(cursor: str | None) -> UUID:
    try:
        return FIRST if cursor is None else UUID(cursor)
    except ValueError:
        raise RejectedInput("invalid_cursor", "cursor must be the next_cursor of an earlier answer", field="cursor") from None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _shown(heap: Heap, campaigns: Sequence[tuple[str, str]]) -> dict[str, Any]:
    return {
        "missing": heap.missing,
        "source": heap.source,
        "platform": heap.platform,
        "host": heap.host,
        "partner": heap.partner,
        "offer": heap.offer,
        "shape": heap.shape,
        "clicks": heap.clicks,
        "all_clicks": heap.all_clicks,
        "old_partners": len(heap.old_partners),
        "first_seen": heap.first_seen,
        "last_seen": heap.last_seen,
        "example": heap.example,
        "proposed_destination": heap.proposed_destination or None,
        "proposed_campaign": proposed_campaign(heap.proposed_destination, campaigns),
    }
