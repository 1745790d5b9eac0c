"""Balances and the ledger, for the API and the command line."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from tracker import bodies
from tracker.adapters import postgres_balances
from tracker.adapters.postgres_balances_sql import LEDGER_FILTERS
from tracker.adapters.postgres_pool import Database
from tracker.errors import RejectedInput
from tracker.programme import currency, instant, text

Values = dict[str, Any]
BALANCE_FILTERS = ("partner", "advertiser", "currency")
DAY_LENGTH = 10  # of 2026-10-31: a day as `to` includes the whole of it


@dataclass(frozen=True, slots=True)
class Balances:
    """What is owed and billed. RejectedInput names the filter that is wrong."""

    database: Database

    async def balances(self, filters: Mapping[str, str], *, advertiser_id: int | None = None) -> Values:
        """`{"partners", "advertisers", "closed_until"}`; `filters`: `partner`, `advertiser` (slugs), `currency`.

        A partner's `pending`, `approved` (due: earned and approved, less what was paid) and `paid`; what an advertiser is billed: `pending`
        and `approved` amounts of orders. One who is asked for is told alone. With `advertiser_id` only that one's side.
        """
        wanted = _filters(filters, BALANCE_FILTERS, "balances")
        partner, advertiser, code = (wanted.get(name) for name in BALANCE_FILTERS)
        partners, advertisers = list[Values](), list[Values]()
        if advertiser is None and advertiser_id is None:
            partners = await postgres_balances.partners(self.database, partner=partner, currency=code)
        if partner is None:
            advertisers = await postgres_balances.advertisers(
                self.database, advertiser=advertiser, currency=code, advertiser_id=advertiser_id
            )
        return {"partners": partners, "advertisers": advertisers, "closed_until": await postgres_balances.closed_until(self.database)}

    async def ledger(
        self, filters: Mapping[str, str], *, limit: int = 100, cursor: str | None = None, advertiser_id: int | None = None
    ) -> Values:
        """Entries, newest first: `{"items", "next_cursor"}`.

        `filters`: `partner`, `advertiser`, `campaign` (slugs), `conversion` (id), `kind`, `status`, `account`, `currency`, and `from`, `to`
        of the booking time, days (the last included) or instants. With `advertiser_id` only that one's entries.
        """
        wanted = _filters(filters, (*LEDGER_FILTERS, "from", "to"), "ledger entries")
        start, end = wanted.pop("from", None), wanted.pop("to", None)
        return await postgres_balances.ledger(
            self.database, limit=limit, cursor=cursor, filters=wanted, start=start, end=end, advertiser_id=advertiser_id
        )


def _filters(filters: Mapping[str, str], allowed: tuple[str, ...], what: str) -> Values:
    if unknown := set(filters) - set(allowed):
        raise RejectedInput("invalid_filter", f"{what} can be filtered by {', '.join(allowed)}", field=str(min(unknown))[:64])
    return {name: bodies.read(name, value, partial(_read, name)) for name, value in filters.items() if value != ""}


def _read(name: str, value: str) -> Any:
    if name == "currency":
        return currency(value)
    if name == "conversion":
        return _conversion(value)
    return _moment(name, value) if name in ("from", "to") else text(value)


def _conversion(value: str) -> UUID:
    try:
        return UUID(value)
    except ValueError:
        raise ValueError("must be the id of a conversion") from None


def _moment(name: str, value: str) -> datetime:
    at = instant(value)
    return at + timedelta(days=1) if name == "to" and len(value) <= DAY_LENGTH else at
