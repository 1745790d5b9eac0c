"""The tracker's application without a network, an advertiser with a campaign in it, and clicks put in by hand."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
from prometheus_client import CollectorRegistry

from tracker.adapters.postgres_pool import Database
from tracker.domain import click_id
from tracker.metrics import ConversionMetrics
from workers.metrics import SweeperMetrics
from workers.parked_sweeper import sweep_once

ADMIN_KEY = "test-admin-key"
CLICK = """
    INSERT INTO clicks (click_id, clicked_at, kind, method, host, url, link, partner, campaign, advertiser, creative, outcome,
        verdict, rule_version, counted, is_unique, redirected_to, ip, country, network, device, os, browser, user_agent,
        referrer, language, sub1, truncated, node, boot, seq)
    SELECT $1, $2, 'click', 'GET', 'localhost', '/c/x', l.id, l.partner_id, l.campaign_id, l.advertiser_id, '', 'ok', 'ok', 1,
        true, true, 'https://shop.example/', '', 'FR', '', 'desktop', 'Linux', 'Firefox', '', '', '', 'news', false, 'n', $3, 1
    FROM links l WHERE l.slug = 'adas'
"""


def click_text(number: UUID) -> str:
    """A click id as it travels."""
    return click_id.to_text(number.bytes).decode()


@dataclass
class Api:
    """HTTP into the application."""

    client: httpx.AsyncClient

    async def get(self, path: str, **parameters: str) -> httpx.Response:
        return await self.client.get(path, params=parameters)

    async def call(self, key: str, method: str, path: str, body: Any = None) -> httpx.Response:
        headers: Mapping[str, str] = {"Authorization": f"Bearer {key}"}
        return await self.client.request(method, path, json=body, headers=headers)

    async def admin(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return await self.call(ADMIN_KEY, method, path, body)


@dataclass
class Shop:
    """Advertiser `shop` (EUR), campaign `shoes` (10 %, 30 days), partner `ada`, link `adas`; and the database beneath."""

    token: str
    pixel_key: str
    database: Database

    def new_click_id(self, at: datetime | None = None) -> UUID:
        ms = int((at or datetime.now(UTC)).timestamp() * 1000) if at else time.time_ns() // 1_000_000
        return UUID(bytes=click_id.compose(ms, os.urandom(10)))

    async def click(self, number: UUID | None = None, *, clicked_at: datetime | None = None) -> UUID:
        number = number or self.new_click_id(clicked_at)
        await self.execute(CLICK, number, clicked_at or datetime.now(UTC), uuid4())
        return number

    async def execute(self, statement: str, *values: Any) -> None:
        async with self.database.connection() as connection:
            await connection.execute(statement, *values)

    async def value(self, statement: str, *values: Any) -> Any:
        async with self.database.connection() as connection:
            return await connection.fetchval(statement, *values)

    async def sweep(self) -> int:
        registry = CollectorRegistry()
        return await sweep_once(self.database, SweeperMetrics(registry, ConversionMetrics(registry)))


async def open_shop(api: Api, database: Database) -> Shop:
    """Make the shop through the API."""
    advertiser = await api.admin(
        "POST", "/api/v1/advertisers", {"slug": "shop", "name": "Shop", "currency": "EUR", "domains": ["shop.example"]}
    )
    things = {
        "campaigns": {
            "slug": "shoes",
            "advertiser": "shop",
            "destination_url": "https://shop.example/?c={click_id}",
            "payout": {"type": "percent", "percent": "10"},
        },
        "partners": {"slug": "ada", "name": "Ada", "email": "ada@example.com", "parent": None},
        "links": {"slug": "adas", "partner": "ada", "campaign": "shoes", "destination_url": None},
    }
    for plural, body in things.items():
        made = await api.admin("POST", f"/api/v1/{plural}", body)
        assert made.status_code == 201, made.text
    made = advertiser.json()
    return Shop(made["postback_token"], made["pixel_key"], database)
