"""Exchange rates in PostgreSQL: stored all or none, listed, and loaded to find the rate of a day."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction
from typing import Any, TypeAlias

from tracker.adapters.postgres_pool import Connection, Database
from tracker.adapters.postgres_programme_sql import EVENT
from tracker.domain.exchange import DAYS_BACK, Quote, Rates
from tracker.errors import Conflict

IMPORT_TIMEOUT_S = 120.0  # the ECB's whole history is some 220,000 rates
TOLD_MAX = 5  # rates that differ, in the text of the refusal
ONE_AT_A_TIME = "LOCK TABLE exchange_rates IN SHARE ROW EXCLUSIVE MODE"  # who reads is not held up
_GIVEN = "unnest($1::date[], $2::char(3)[], $3::char(3)[], $4::numeric[], $5::text[]) AS g(day, currency, base, rate, source)"
_KNOWN = f"{_GIVEN} JOIN exchange_rates k ON k.day = g.day AND k.currency = g.currency::char(3) AND k.base = g.base::char(3)"
KNOWN = f"""
    SELECT count(*) AS known, count(*) FILTER (WHERE k.rate <> g.rate) AS differing,
        (array_agg(trim(k.currency) || ' of ' || k.day || ' is ' || k.rate || ' (' || k.source || '), not ' || g.rate
            ORDER BY k.day, k.currency, k.base) FILTER (WHERE k.rate <> g.rate))[:{TOLD_MAX}] AS told
    FROM {_KNOWN}
"""  # noqa: S608 - constants only
RECORD_REPLACED = f"""
    INSERT INTO events (actor, action, entity, entity_id, before, after)
    SELECT $6::text, 'replace', 'exchange_rate', k.base || '/' || k.currency || ' ' || to_char(k.day, 'YYYY-MM-DD'),
        jsonb_build_object('rate', k.rate::text, 'source', k.source), jsonb_build_object('rate', g.rate::text, 'source', g.source)
    FROM {_KNOWN} WHERE k.rate <> g.rate ORDER BY k.day, k.currency, k.base
"""  # noqa: S608 - constants only
STORE = f"""
    INSERT INTO exchange_rates AS k (day, currency, base, rate, source) SELECT day, currency, base, rate, source FROM {_GIVEN}
    ON CONFLICT (day, currency, base) DO UPDATE SET rate = excluded.rate, source = excluded.source, imported_at = now()
    WHERE k.rate <> excluded.rate
"""  # noqa: S608 - constants only
_QUOTE = "day, trim(currency) AS currency, rate, trim(base) AS base, source"
OF_DAYS = f"SELECT {_QUOTE} FROM exchange_rates WHERE day BETWEEN $1 AND $2 AND currency = ANY($3::char(3)[])"  # noqa: S608 - constants only
LISTED = f"""
    SELECT {_QUOTE}, imported_at FROM exchange_rates
    WHERE day BETWEEN $1 AND $2 AND ($3::text IS NULL OR currency = $3::char(3))
        AND (day, currency, base) > ($4::date, $5::char(3), $6::char(3))
    ORDER BY exchange_rates.day, exchange_rates.currency, exchange_rates.base LIMIT $7
"""  # noqa: S608 - constants only

Key: TypeAlias = tuple[date, str, str]  # day, currency, base


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of the rates that were brought: new ones, others than were known, and the same as were known."""

    added: int
    replaced: int
    known: int


async def exchange(connection: Connection, source: str, target: str, day: date) -> Fraction | None:
    """What one unit of `source` was in `target` on a UTC day, exact; None: there is no rate. One query; none for the same currency."""
    if source == target:
        return Fraction(1)
    found = (await load(connection, (source, target), day, day)).find(source, target, day)
    return found.rate if found else None


async def load(connection: Connection, currencies: Collection[str], first: date, last: date) -> Rates:
    """The rates between these currencies for each of the days from `first` to `last`. One query."""
    rows = await connection.fetch(OF_DAYS, first - timedelta(days=DAYS_BACK), last, list(currencies))
    return Rates(_quote(row) for row in rows)


async def store(database: Database, quotes: Sequence[Quote], actor: str, *, replace: bool = False, dry_run: bool = False) -> Stored:
    """Store all of `quotes`, each day, currency and base once among them, or none; `dry_run`: none, but tell what would be.

    What is known with the same rate stays, with its source. Audited in `events`, each replaced rate with what it was before.
    Conflict `rate_differs` when one is known with another rate, unless `replace`. StoreUnavailable.
    """
    columns = list(zip(*((one.day, one.currency, one.base, one.rate, one.source) for one in quotes), strict=True))

    async def work(connection: Connection) -> Stored:
        await connection.execute(ONE_AT_A_TIME)
        row = await connection.fetchrow(KNOWN, *columns)
        assert row is not None  # noqa: S101 - an aggregate has a row
        differing = int(row["differing"])
        if differing and not replace:
            raise Conflict("rate_differs", _differs(differing, row["told"]), field="rate")
        stored = Stored(len(quotes) - int(row["known"]), differing, int(row["known"]) - differing)
        if not dry_run and (stored.added or differing):
            await connection.execute(RECORD_REPLACED, *columns, actor)
            await connection.execute(STORE, *columns)
            days = sorted({quote.day for quote in quotes})
            told = {"added": stored.added, "replaced": differing, "sources": sorted({quote.source for quote in quotes})}
            await connection.execute(EVENT, actor, "import", "exchange_rates", f"{days[0]} to {days[-1]}", "", None, told)
        return stored

    return await database.transaction(work, timeout_s=IMPORT_TIMEOUT_S)


def _differs(count: int, told: Sequence[str]) -> str:
    others = f", and {count - len(told)} more" if count > len(told) else ""
    return f"{'; '.join(told)}{others}; reports of these days would change, and do so with replace"


async def listed(database: Database, first: date, last: date, *, currency: str | None, after: Key, limit: int) -> list[dict[str, Any]]:
    """At most `limit` rates of the days from `first` to `last` that come after a key, by day, currency and base."""
    return await database.fetch(LISTED, first, last, currency, *after, limit)


def _quote(row: Any) -> Quote:
    return Quote(row["day"], row["currency"], row["rate"], row["base"], row["source"])
