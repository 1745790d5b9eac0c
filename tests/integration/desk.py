"""A shop's reports of its orders, taken without HTTP."""

from datetime import UTC, datetime, timedelta
from itertools import count
from uuid import UUID

from tests.integration.api_client import click_text
from tracker.adapters.postgres_conversions import receive
from tracker.domain import click_id
from tracker.domain.postback import Advertiser, read

AT = datetime.now(UTC).replace(microsecond=0)
_numbers = count(1)


def report_id(minute):
    return UUID(bytes=click_id.compose(int(AT.timestamp() * 1000) + minute, next(_numbers).to_bytes(10, "big")))


class Desk:
    """The shop of `open_shop` with the goal `sale`, and a click of an hour before `AT` that its reports name."""

    def __init__(self, shop, advertiser, click):
        self.shop, self.advertiser, self.click = shop, advertiser, click

    @classmethod
    async def opened(cls, api, shop):
        made = await api.admin("POST", "/api/v1/goals", {"slug": "sale", "campaign": "shoes"})
        assert made.status_code == 201
        click = await shop.click(clicked_at=AT - timedelta(hours=1))
        number = await shop.value("SELECT id FROM advertisers WHERE slug = 'shop'")
        return cls(shop, Advertiser(number, "shop", "EUR"), click_text(click))

    def report(self, txid, minute, *, source="postback", **parameters):
        """A report that was received so many minutes after `AT`."""
        parameters = {"click_id": self.click, "txid": txid} | parameters
        at = AT + timedelta(minutes=minute)
        return read(parameters, self.advertiser, postback_id=report_id(minute), received_at=at, source=source)

    async def take(self, postback):
        return await receive(self.shop.database, postback, timeout_s=20)

    async def says(self, txid, minute=0, **parameters):
        return await self.take(self.report(txid, minute, **parameters))
