"""Conversions, clicks and postbacks as people are shown them, and their status changes by hand."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from tracker.adapters import postgres_conversions_sql as sql
from tracker.adapters.postgres_pool import Connection, Database
from tracker.adapters.postgres_programme import digest
from tracker.adapters.postgres_programme_sql import EVENT
from tracker.adapters.postgres_repeats import move
from tracker.adapters.postgres_reversals import take_back
from tracker.domain import attribution, click_id, money
from tracker.domain.postback import Advertiser, advertiser_of
from tracker.errors import Conflict, NotFound, RejectedInput

Values = dict[str, Any]
HIDDEN_OF_CLICK = ("visitor_key",)


class Conversions:
    """Reads for the API, and approve, reject, reverse. With `advertiser_id` only that advertiser's are known."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_advertiser(self, secret: str, kind: str) -> Advertiser | None:
        """Whose postback token (`kind` token) or pixel key (`kind` pixel) this is; None: nobody's."""
        row = await self._database.fetchrow(sql.ADVERTISER_OF, digest(secret), kind)
        if row is None:
            return None
        return advertiser_of(row["advertiser_id"], row["slug"], row["currency"], row["settings"])

    async def get(self, number: str, *, advertiser_id: int | None = None) -> Values:
        """One conversion with its ledger entries. NotFound `unknown_conversion`."""
        wanted = _uuid(number)
        where = " WHERE c.id = $1 AND ($2::bigint IS NULL OR c.advertiser_id = $2)"
        row = await self._database.fetchrow(sql.CONVERSIONS + where, wanted, advertiser_id)
        if row is None:
            raise _unknown(number)
        ledger = await self._database.fetch(sql.LEDGER_OF, wanted)
        return _conversion(row) | {"ledger": [_amount(entry) for entry in ledger]}

    async def listed(
        self,
        *,
        limit: int,
        cursor: str | None,
        filters: Mapping[str, str],
        start: datetime | None = None,
        end: datetime | None = None,
        advertiser_id: int | None = None,
    ) -> Values:
        """`{"items", "next_cursor"}`, newest first; `start` included, `end` not, both of the time of conversion."""
        conditions = [
            "($1::uuid IS NULL OR c.id < $1)",
            "($3::timestamptz IS NULL OR c.converted_at >= $3)",
            "($4::timestamptz IS NULL OR c.converted_at < $4)",
            "($5::bigint IS NULL OR c.advertiser_id = $5)",
        ]
        values: list[Any] = []
        for name, value in filters.items():
            column, read = _filter(name)
            values.append(read(value))
            conditions.append(f"{column} = ${len(values) + 5}")
        statement = f"{sql.CONVERSIONS} WHERE {' AND '.join(conditions)} ORDER BY c.id DESC LIMIT $2"
        after = _uuid(cursor, "cursor") if cursor else None
        rows = await self._database.fetch(statement, after, limit + 1, start, end, advertiser_id, *values)
        items = [_conversion(row) for row in rows[:limit]]
        return {"items": items, "next_cursor": str(rows[limit - 1]["id"]) if len(rows) > limit else None}

    async def change(self, number: str, action: str, *, reason: str, actor: str, advertiser_id: int | None = None) -> Values:
        """Approve or reject a pending conversion, reverse an approved one; by ledger entries. Conflict otherwise."""
        wanted = _uuid(number)

        async def work(connection: Connection) -> None:
            row = await connection.fetchrow(sql.EXISTING_BY_ID, wanted)
            if row is None or advertiser_id not in (None, row["advertiser_id"]):
                raise _unknown(number)
            before = attribution.LIFECYCLE[action][0]
            if row["status"] != before:
                raise Conflict("invalid_status", f"only a {before} conversion can be changed so; it is {row['status']}")
            after = await move(connection, row, action, reason=reason, actor=actor)
            changes = ({"status": before}, {"status": after})
            await connection.execute(EVENT, actor, action, "conversion", str(wanted), reason, *changes)

        await self._database.transaction(work)
        return await self.get(number, advertiser_id=advertiser_id)

    async def reverse_part(self, number: str, amount: str, *, reason: str, actor: str, advertiser_id: int | None = None) -> Values:
        """Take an amount of a conversion back, in its currency: what is left earns by the same terms. All that is left: the whole of it.

        A pending one can be taken back too; all of it, it is rejected. RejectedInput `invalid_amount`, Conflict `invalid_status`.
        """
        wanted = _uuid(number)

        async def work(connection: Connection) -> None:
            row = await connection.fetchrow(sql.EXISTING_BY_ID, wanted)
            if row is None or advertiser_id not in (None, row["advertiser_id"]):
                raise _unknown(number)
            changes = await take_back(connection, row, amount, reason=reason, actor=actor)
            await connection.execute(EVENT, actor, "reverse", "conversion", str(wanted), reason, *changes)

        await self._database.transaction(work)
        return await self.get(number, advertiser_id=advertiser_id)

    async def verdicts(self, advertiser_id: int, txid: str) -> Values:
        """What became of an order: the verdict in one word, its conversions, and its last 100 postbacks, newest first."""
        postbacks = await self._database.fetch(sql.POSTBACKS_OF, advertiser_id, txid)
        if not postbacks:
            raise NotFound("unknown_txid", f"no postback has the txid {txid[:80]!r}", field="txid")
        where = " WHERE c.advertiser_id = $1 AND c.txid = $2 ORDER BY c.id"
        rows = await self._database.fetch(sql.CONVERSIONS + where, advertiser_id, txid)
        status = ("orphan" if rows[0]["status"] == "orphan" else "attributed") if rows else postbacks[0]["outcome"]
        return {
            "txid": txid,
            "status": status,
            "conversion_id": rows[0]["id"] if rows else None,
            "conversions": [_conversion(row) for row in rows],
            "postbacks": [_amount(row) for row in postbacks],
        }

    async def click(self, text: str, *, advertiser_id: int | None = None) -> Values:
        """One click by its id in any form. NotFound `unknown_click`."""
        raw = click_id.from_any(text)
        row = await self._database.fetchrow(sql.SHOWN_CLICK, UUID(bytes=raw)) if raw else None
        if row is None or advertiser_id not in (None, row["advertiser"]):
            raise NotFound("unknown_click", f"there is no click {text[:80]!r}", field="click_id")
        for name in ("link", "partner", "campaign", "advertiser"):
            row[name] = row.pop(f"{name}_slug")
        shown = {name: value for name, value in row.items() if name not in HIDDEN_OF_CLICK}
        return shown | {"click_id": _click_text(row["click_id"]), "click_uuid": row["click_id"]}

    async def parked(self) -> int:
        """How many postbacks wait for their click."""
        row = await self._database.fetchrow(sql.PARKED)
        return int(row["parked"]) if row else 0


def _filter(name: str) -> tuple[str, Any]:
    if name == "click_id":
        return "c.click_id", lambda value: _uuid(value, "click_id")
    if name not in sql.CONVERSION_FILTERS:
        known = ", ".join((*sql.CONVERSION_FILTERS, "click_id", "from", "to"))
        raise RejectedInput("invalid_filter", f"conversions can be filtered by {known}", field=name)
    return sql.CONVERSION_FILTERS[name], str


def _uuid(text: str, field: str = "id") -> UUID:
    raw = click_id.from_any(text)
    if raw:
        return UUID(bytes=raw)
    try:
        return UUID(text)
    except ValueError:
        if field == "id":
            raise _unknown(text) from None
        raise RejectedInput(f"invalid_{field}", f"{field} is not one of ours", field=field) from None


def _unknown(number: str) -> NotFound:
    return NotFound("unknown_conversion", f"there is no conversion {number[:80]!r}", field="id")


def _click_text(value: UUID) -> str:
    return click_id.to_text(value.bytes).decode("ascii")


def _amount(row: Values) -> Values:
    micros, currency = row.pop("amount_micros"), row["currency"]
    amount = None if micros is None or currency is None else money.format_micros(micros, currency)
    return row | {"amount": amount}


def _conversion(row: Values) -> Values:
    shown = _amount(row)
    shown["payout"] = money.format_micros(shown.pop("payout_micros"), row["payout_currency"])
    shown["reversed"] = money.format_micros(shown.pop("reversed_micros"), row["currency"])
    shown["click_id"] = _click_text(row["click_id"]) if row["click_id"] else None
    shown["payout_reasons"] = shown.pop("basis").get("reasons", [])
    shown["shares"] = [_amount(share) for share in row["shares"]]
    return shown
