"""From records of the wire to rows of `clicks`."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Protocol
from uuid import UUID

from tracker.adapters.postgres_clicks import Row
from tracker.adapters.postgres_loads import uuid_of
from tracker.adapters.user_agents import parse
from tracker.domain.enrichment import clean, fault, instant, readable
from tracker.wire import Record

SHORT = 64  # characters of what is a word or an address
MEDIUM = 255
VISITOR_MAX_BYTES = 240
_NO_SUBS = (None,) * 10


class UniqueClicks(Protocol):
    """Tells first clicks from repeated ones."""

    async def decide(self, day: date, visits: list[tuple[bytes, bytes]], today: date) -> list[bool | None]: ...
    async def close(self) -> None: ...


@dataclass(slots=True)
class Click:
    """A record with the batch it came in, and what is found out about it on the way."""

    record: Record
    node: str
    boot: UUID
    seq: int
    is_unique: bool | None = None


def fault_of(record: Record) -> str | None:
    """Why `record` cannot be stored; None when it can."""
    ids = (record.link_id, record.campaign_id, record.partner_id, record.advertiser_id)
    return fault(record.click_id, record.received_at_us, ids, record.rule_version)


async def mark_unique(clicks: Iterable[Click], uniques: UniqueClicks, today: date) -> None:
    """Set `is_unique` of `clicks`: the first of (visitor, link, UTC day); never one that does not count; None where nobody can tell."""
    days: dict[int, list[Click]] = {}
    for click in clicks:
        record = click.record
        if not record.counted:
            click.is_unique = False
        elif record.visitor_key and record.link_id is not None:
            days.setdefault(record.received_at_us // 86_400_000_000, []).append(click)
    for day_clicks in days.values():
        day = instant(day_clicks[0].record.received_at_us).date()
        answers = await uniques.decide(day, [_visit(click.record) for click in day_clicks], today)
        for click, answer in zip(day_clicks, answers, strict=True):
            click.is_unique = answer


def _visit(record: Record) -> tuple[bytes, bytes]:
    return record.visitor_key[:VISITOR_MAX_BYTES] + (record.link_id or 0).to_bytes(8, "big", signed=True), record.click_id


@lru_cache(20_000)
def _sender(raw: bytes) -> tuple[str, str, str, str]:
    """Device, operating system and browser, and the text they are told from."""
    user_agent = readable(raw)
    sender = parse(user_agent)
    return sender.device, sender.os, sender.browser, user_agent


_word = lru_cache(10_000)(clean)  # of what has few values
_often = lru_cache(10_000)(readable)


def row_of(click: Click) -> Row:
    """The row of a click that has no fault, in the order of `postgres_clicks.COLUMNS`; text that PostgreSQL would refuse is mended."""
    record = click.record
    return (
        uuid_of(record.click_id), instant(record.received_at_us), _word(record.kind, SHORT), _word(record.method, SHORT),
        _often(record.host), readable(record.target), record.link_id, record.partner_id, record.campaign_id, record.advertiser_id,
        _word(record.creative, MEDIUM), _word(record.outcome, SHORT), _word(record.verdict, SHORT), record.rule_version, record.counted,
        click.is_unique, readable(record.destination), clean(record.ip, SHORT), _word(record.country, SHORT), _word(record.network, SHORT),
        *_sender(record.user_agent), readable(record.referrer), _often(record.language), *_subs(record.subs),
        (record.ref and readable(record.ref)) or None, record.visitor_key or None,
        (record.platform and _word(record.platform, SHORT)) or None,
        (record.old_partner and readable(record.old_partner)) or None, (record.old_offer and readable(record.old_offer)) or None,
        (record.old_creative and readable(record.old_creative)) or None, (record.old_click_id and readable(record.old_click_id)) or None,
        _extra(record.extra) if record.extra else None, record.truncated, click.node, click.boot, click.seq,
    )  # fmt: skip


def _subs(subs: tuple[bytes, ...]) -> tuple[str | None, ...]:
    if not subs:
        return _NO_SUBS
    return (*[(sub and readable(sub)) or None for sub in subs[:10]], *_NO_SUBS[len(subs[:10]) :])


def _extra(extra: dict[str, bytes]) -> str:
    return json.dumps({clean(name, MEDIUM): readable(value) for name, value in extra.items()})
