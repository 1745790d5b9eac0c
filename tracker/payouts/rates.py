"""Exchange rates as people bring and ask for them. For the API and the command line."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any

from tracker.adapters import postgres_rates
from tracker.adapters.postgres_pool import Connection, Database
from tracker.adapters.postgres_rates import Key
from tracker.domain.exchange import PLAIN_COLUMNS, BadRate, Exchange, Quote, read_csv, read_fields
from tracker.errors import RejectedInput
from tracker.programme import EARLIEST, LATEST, text
from tracker.programme import currency as read_currency

DAYS = 7  # listed without a first day
RATES_MAX = 10_000  # of one JSON body; a file may have more
SOURCE_MAX = 100
PLACES = 12  # after the point, of a rate that is shown; the report's own are exact
BEFORE_ALL: Key = (date(1, 1, 1), "", "")


@dataclass(frozen=True, slots=True)
class ExchangeRates:
    """Imports, lists and shows rates."""

    database: Database

    async def import_csv(
        self, content: bytes, actor: str, *, source: str = "", replacing: bool = False, dry_run: bool = False
    ) -> dict[str, Any]:
        """Store the rates of a CSV file, one of the ECB or one with the columns `day,currency,rate[,base,source]`; all or none.

        `source` is recorded with those that do not name one. Returns `{"rates", "added", "replaced", "known", "first", "last",
        "dry_run"}`. RejectedInput `invalid_rates` names line and column; Conflict `rate_differs` unless `replacing`.
        """
        try:
            quotes = await asyncio.to_thread(_read_csv, content)
        except ValueError as exc:
            raise RejectedInput("invalid_rates", str(exc), field="rates") from None
        return await self._store(quotes, actor, source, replacing=replacing, dry_run=dry_run)

    async def import_json(
        self, body: Any, actor: str, *, source: str = "", replacing: bool = False, dry_run: bool = False
    ) -> dict[str, Any]:
        """The same for `{"source", "rates": [{"day", "currency", "rate", "base", "source"}]}`."""
        given = body.get("rates") if isinstance(body, dict) else None
        if not isinstance(given, list) or not 0 < len(given) <= RATES_MAX or set(body) - {"rates", "source"}:
            message = 'send {"source":"…","rates":[{"day":"2026-11-20","currency":"USD","rate":"1.0905"}]} with at most '
            raise RejectedInput("invalid_rates", f"{message}{RATES_MAX} rates", field="rates")
        quotes = [_read_one(number, one) for number, one in enumerate(given)]
        return await self._store(quotes, actor, body.get("source", source), replacing=replacing, dry_run=dry_run)

    async def listed(
        self, *, first: str = "", last: str = "", currency: str = "", limit: int = 100, cursor: str | None = None
    ) -> dict[str, Any]:
        """`{"items", "next_cursor"}` by day, currency and base; without `last` until today, without `first` its last 7 days."""
        until = _day(last, "to") if last else datetime.now(UTC).date()
        since = _day(first, "from") if first else until - timedelta(days=DAYS - 1)
        wanted = _currency(currency, "currency") if currency else None
        found = await postgres_rates.listed(self.database, since, until, currency=wanted, after=_after(cursor), limit=limit + 1)
        items = [row | {"rate": f"{row['rate']:f}"} for row in found[:limit]]
        rest = items[-1] if len(found) > limit else None
        return {"items": items, "next_cursor": rest and f"{rest['day']}.{rest['currency']}.{rest['base']}"}

    async def show(self, source: str, target: str, day: str) -> dict[str, Any] | None:
        """The rate from one currency to another on a day, with what it is made of; None: there is none."""
        pair, at = (_currency(source, "from"), _currency(target, "to")), _day(day, "day")

        async def work(connection: Connection) -> Exchange | None:
            return (await postgres_rates.load(connection, pair, at, at)).find(*pair, at)

        found = await self.database.transaction(work)
        if found is None:
            return None
        published = found.day if found.quotes else None
        made_of = [{name: str(getattr(quote, name)) for name in ("base", "currency", "rate", "source")} for quote in found.quotes]
        rate = decimal(found.rate)
        return {"from": pair[0], "to": pair[1], "day": at, "rate": rate, "published": published, "made_of": made_of}

    async def _store(self, quotes: list[Quote], actor: str, source: Any, *, replacing: bool, dry_run: bool) -> dict[str, Any]:
        whose = _source(source)
        if not whose and not all(quote.source for quote in quotes):
            raise RejectedInput(
                "missing_source", "say with source who published these rates; only a file of the ECB says it", field="source"
            )
        named = [quote if quote.source else replace(quote, source=whose) for quote in quotes]
        stored = await postgres_rates.store(self.database, named, actor, replace=replacing, dry_run=dry_run)
        days = [quote.day for quote in named]
        counts = {"rates": len(named), "added": stored.added, "replaced": stored.replaced, "known": stored.known}
        return counts | {"first": min(days), "last": max(days), "dry_run": dry_run}


def decimal(rate: Fraction) -> str:
    """`rate` rounded half even at twelve places, without zeros at the end."""
    units = round(rate * 10**PLACES)
    whole, part = divmod(units, 10**PLACES)
    return f"{whole}.{part:0{PLACES}d}".rstrip("0").rstrip(".")


def _read_csv(content: bytes) -> list[Quote]:
    """ValueError: also a UnicodeDecodeError."""
    quotes = read_csv(content.decode("utf-8"))
    for quote in quotes:
        _source(quote.source)
    return quotes


def _read_one(number: int, fields: Any) -> Quote:
    where = f"rates[{number}]"
    if not isinstance(fields, Mapping) or set(fields) - set(PLAIN_COLUMNS):
        raise RejectedInput("invalid_rates", f"{where} must be an object of {', '.join(PLAIN_COLUMNS)}", field=where)
    for name, value in fields.items():
        if not isinstance(value, str):
            raise RejectedInput("invalid_rates", f"{where}.{name} must be a string, numbers too: they are kept as written", field=where)
    try:
        quote = read_fields(fields)
    except BadRate as exc:
        raise RejectedInput("invalid_rates", f"{where}.{exc.field} {exc}", field=where) from None
    _source(quote.source)
    return quote


def _source(value: Any) -> str:
    try:
        found = text(value).strip()
    except ValueError as exc:
        raise RejectedInput("invalid_source", f"source {exc}", field="source") from None
    if len(found) > SOURCE_MAX:
        raise RejectedInput("invalid_source", f"source must have at most {SOURCE_MAX} characters", field="source")
    return found


def _day(value: str, field: str) -> date:
    try:
        day = date.fromisoformat(value)
    except ValueError:
        raise RejectedInput(f"invalid_{field}", f"{field} must be a day such as 2026-01-31", field=field) from None
    if not EARLIEST.date() <= day < LATEST.date():
        raise RejectedInput(f"invalid_{field}", f"{field} must be a day of the years 1970 to 9998", field=field)
    return day


def _currency(value: str, field: str) -> str:
    try:
        return read_currency(value)
    except ValueError as exc:
        raise RejectedInput(f"invalid_{field}", f"{field} {exc}", field=field) from None


def _after(cursor: str | None) -> Key:
    if cursor is None:
        return BEFORE_ALL
    day, _, names = cursor.partition(".")
    currency, _, base = names.partition(".")
    try:
        return date.fromisoformat(day), read_currency(currency), read_currency(base)
    except ValueError:
        raise RejectedInput("invalid_cursor", "cursor must be the next_cursor of the answer before", field="cursor") from None
