"""Old hosts that are ours now, and what comes to them, stored as the conversion writer does it."""

import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import UUID

from prometheus_client import CollectorRegistry

from tests.integration.api_client import Api, Shop
from tracker.adapters.postgres_loads import Load, Stored
from tracker.adapters.postgres_old_reports import OldReports
from tracker.adapters.postgres_receipts import ReceiptSink, Row
from tracker.adapters.postgres_waiting_reports import Swept, sweep_round
from tracker.domain import click_id
from tracker.domain.books import Delta
from tracker.domain.intervals import SeqSet
from tracker.domain.old_reports import OldReport
from tracker.metrics import ConversionMetrics
from tracker.platforms.loader import Shelf
from tracker.wire import Receipt
from workers.metrics import OldReportMetrics, ReceiptMetrics, StreamMetrics

_numbers = count(1)
CONVERSION = """
    SELECT c.txid, c.goal, c.status, c.amount_micros / 10000 AS cents, trim(c.currency) AS currency, c.attribution, p.slug AS partner,
        m.slug AS campaign, c.click_id, c.clicked_at, c.trace, c.postback_id
    FROM conversions c LEFT JOIN partners p ON p.id = c.partner LEFT JOIN campaigns m ON m.id = c.campaign ORDER BY c.received_at, c.id
"""
OLD_CLICK = """
    INSERT INTO old_clicks (source, old_click_id, clicked_at, partner, campaign, old_partner, old_offer)
    SELECT $1, $2, $3, (SELECT id FROM partners WHERE slug = $4), (SELECT id FROM campaigns WHERE slug = $5), $6, $7
"""


def old_report(url: str, kind: str = "postback", platform: str = "tune", **facts: Any) -> OldReport:
    """A report that has just come to `host/target`."""
    host, slash, target = url.partition("/")
    now_us = time.time_ns() // 1000
    made = OldReport(
        postback_id=click_id.compose(now_us // 1000, next(_numbers).to_bytes(10, "big")),
        received_at_us=now_us,
        kind=kind,
        platform=platform,
        method="GET",
        host=host.encode(),
        target=(slash + target).encode(),
    )
    for name, value in facts.items():
        setattr(made, name, value)
    return made


@dataclass
class OldHosts:
    """The shop of `open_shop`, the goal sale, and old hosts."""

    api: Api
    shop: Shop
    sink: ReceiptSink
    reports: OldReports
    registry: CollectorRegistry
    metrics: ReceiptMetrics
    old_metrics: OldReportMetrics

    @classmethod
    def opened(cls, api: Api, shop: Shop, dsn: str) -> "OldHosts":
        registry, reports = CollectorRegistry(), OldReports(Shelf())
        conversions = ConversionMetrics(registry)
        old_metrics = OldReportMetrics(registry, conversions)
        metrics = ReceiptMetrics(registry, StreamMetrics(registry), conversions, old_metrics)
        return cls(api, shop, ReceiptSink(dsn, old_reports=reports, slot=3), reports, registry, metrics, old_metrics)

    async def make(self, plural: str, **body: Any) -> None:
        made = await self.api.admin("POST", f"/api/v1/{plural}", body)
        assert made.status_code == 201, made.text

    async def host(self, host: str, platform: str, *, advertiser: str | None = "shop", source: str = "", **settings: Any) -> None:
        settings = {"reports": settings} if settings else {}
        more = {"source": source} if source else {}
        await self.make("tracking-hosts", host=host, kind="old", platform=platform, advertiser=advertiser, settings=settings, **more)

    async def means(self, source: str, kind: str, source_id: str, **what: str) -> None:
        await self.make("old-ids", source=source, kind=kind, source_id=source_id, **what)

    async def old_click(
        self, source: str, name: str, at: datetime | None = None, *, partner: str | None = "ada", campaign: str | None = "shoes",
        old_partner: str | None = None, old_offer: str | None = None,
    ) -> None:  # fmt: skip
        await self.shop.execute(OLD_CLICK, source, name, at or datetime.now(UTC), partner, campaign, old_partner, old_offer)

    async def store(self, *taken: OldReport, boot: bytes | None = None) -> Stored:
        boot, records = boot or os.urandom(16), len(taken)
        rows = [Row(Receipt(None, one), boot, seq) for seq, one in enumerate(taken, 1)]
        delta = Delta(boot, "n", "conversions", "h", SeqSet([(1, records + 1)]), accepted=records, last_seq=records)
        load = Load(rows=rows, deltas={boot: delta})
        stored = await self.sink.store(load)
        self.metrics.stored(stored, load, 0.0)
        return stored

    async def sends(self, url: str, kind: str = "postback", platform: str = "tune", **facts: Any) -> OldReport:
        report = old_report(url, kind, platform, **facts)
        await self.store(report)
        return report

    async def retry(self) -> Swept:
        await self.shop.execute("UPDATE old_reports SET next_try_at = now() WHERE state = 'waiting'")
        return await sweep_round(self.shop.database, self.reports)

    async def row(self, report: OldReport) -> dict[str, Any]:
        found = await self.shop.database.fetchrow("SELECT * FROM old_reports WHERE postback_id = $1", report.uuid)
        assert found is not None
        return found

    async def postback(self, report: OldReport) -> dict[str, Any]:
        found = await self.shop.database.fetchrow("SELECT * FROM postbacks WHERE postback_id = $1", report.uuid)
        assert found is not None
        return found

    async def conversions(self) -> list[dict[str, Any]]:
        return await self.shop.database.fetch(CONVERSION)

    async def conversion(self, report: OldReport | None = None) -> dict[str, Any]:
        found = [row for row in await self.conversions() if report is None or row["postback_id"] == UUID(bytes=report.postback_id)]
        assert len(found) == 1, found
        return found[0]

    def counted(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0
