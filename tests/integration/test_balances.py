"""Balances are the sums of the ledger, whether months are closed or not; who may read them; entries page by page."""

import asyncio
import json
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import asyncpg
import pytest

from tests.integration.payout_books import partner
from tracker.adapters import postgres_balances
from tracker.adapters.health import examine
from tracker.cli import main
from workers.keeper_money import MonthCloser

pytestmark = pytest.mark.integration
NOW = datetime.now(UTC)
THIS_MONTH = NOW.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
BOOK = """
    INSERT INTO ledger_entries (at, effective_on, account, partner_id, advertiser_id, kind, status, amount_micros, currency, actor)
    SELECT $1::timestamptz, $1::timestamptz::date, $2, p.id, a.id, $5, $6, $7, $8, 'test'
    FROM (SELECT 1) one LEFT JOIN partners p ON p.slug = $3 LEFT JOIN advertisers a ON a.slug = $4
"""
CLOSINGS = "SELECT count(*) FROM balance_closings"
SUMS = """
    SELECT coalesce(p.slug, a.slug) AS whose, account, trim(l.currency) AS currency,
        coalesce(sum(amount_micros) FILTER (WHERE l.status = 'pending'), 0) AS pending,
        coalesce(sum(amount_micros) FILTER (WHERE l.status = 'approved'), 0) AS approved,
        coalesce(-sum(amount_micros) FILTER (WHERE kind LIKE 'payment%'), 0) AS paid
    FROM ledger_entries l LEFT JOIN partners p ON account = 'partner' AND p.id = partner_id
    LEFT JOIN advertisers a ON account = 'advertiser' AND a.id = advertiser_id GROUP BY 1, 2, 3
"""


def ago(days):
    return NOW - timedelta(days=days)


async def books(shop, at, amount, *, whose="ada", account="partner", kind="conversion", status="approved", currency="EUR"):
    """One entry; `amount` in units."""
    who = whose if account == "partner" else None
    advertiser = None if kind.startswith("payment") else "shop"
    await shop.execute(BOOK, at, account, who, advertiser, kind, status, round(amount * 1_000_000), currency)


async def rival(api, shop):
    """Another advertiser that is billed 7.00."""
    assert (await api.admin("POST", "/api/v1/advertisers", {"slug": "rival", "currency": "EUR"})).status_code == 201
    await shop.execute(BOOK, NOW, "advertiser", None, "rival", "conversion", "approved", 7_000_000, "EUR")


async def balances(api, query=""):
    return (await api.admin("GET", f"/api/v1/balances{query}")).json()


async def closes(shop, keepers=1):
    await asyncio.gather(*(MonthCloser(shop.database).once() for _ in range(keepers)))


async def test_a_balance_tells_what_is_pending_due_and_paid_by_currency(api, shop):
    await rival(api, shop)
    await partner(api, "bob")
    for amount, more in ((10, {}), (4, {"status": "pending"}), (-6, {"kind": "payment"}), (2, {"kind": "payment_returned"})):
        await books(shop, NOW, amount, **more)
    await books(shop, NOW, 3, currency="JPY")
    await books(shop, NOW, -1, whose="bob")
    await books(shop, NOW, 100, account="advertiser", status="pending")
    found = await balances(api)
    assert found == {
        "partners": [
            {"partner": "ada", "currency": "EUR", "pending": "4.00", "approved": "6.00", "paid": "4.00"},
            {"partner": "ada", "currency": "JPY", "pending": "0", "approved": "3", "paid": "0"},
            {"partner": "bob", "currency": "EUR", "pending": "0.00", "approved": "-1.00", "paid": "0.00"},
        ],
        "advertisers": [
            {"advertiser": "rival", "currency": "EUR", "pending": "0.00", "approved": "7.00"},
            {"advertiser": "shop", "currency": "EUR", "pending": "100.00", "approved": "0.00"},
        ],
        "closed_until": None,
    }
    assert await balances(api, "?partner=ada&currency=jpy") == {"partners": found["partners"][1:2], "advertisers": [], "closed_until": None}
    assert (await balances(api, "?advertiser=shop"))["advertisers"] == found["advertisers"][1:]
    assert await balances(api, "?partner=nobody") == {"partners": [], "advertisers": [], "closed_until": None}


async def test_an_advertisers_key_is_told_its_own_side_only(api, shop):
    await rival(api, shop)
    await books(shop, NOW, 10)
    await books(shop, NOW, 100, account="advertiser")
    key = (await api.admin("POST", "/api/v1/keys", {"role": "advertiser", "advertiser": "shop"})).json()["key"]
    own = [{"advertiser": "shop", "currency": "EUR", "pending": "0.00", "approved": "100.00"}]
    for query in ("", "?advertiser=shop"):
        assert (await api.call(key, "GET", f"/api/v1/balances{query}")).json() == {
            "partners": [], "advertisers": own, "closed_until": None,
        }  # fmt: skip
    for query in ("balances?advertiser=rival", "ledger?advertiser=rival"):
        told = (await api.call(key, "GET", f"/api/v1/{query}")).json()
        assert not any(told[name] for name in told), told
    told = (await api.call(key, "GET", "/api/v1/ledger")).json()["items"]
    assert {(entry["account"], entry["advertiser"]) for entry in told} == {("partner", "shop"), ("advertiser", "shop")}


@pytest.mark.parametrize("seed", range(3))
async def test_balances_with_and_without_closings_are_equal(api, shop, seed):
    chance = random.Random(seed)
    await partner(api, "bob")

    async def some():
        for _ in range(60):
            kind = chance.choice(("conversion", "approval", "correction", "payment", "payment_returned"))
            is_payment = kind.startswith("payment")
            account = "partner" if is_payment else chance.choice(("partner", "advertiser"))
            status = "approved" if is_payment else chance.choice(("pending", "approved"))
            more = {"whose": chance.choice(("ada", "bob")), "currency": chance.choice(("EUR", "USD"))}
            amount = chance.randint(-5_000_000, 5_000_000) / 100
            await books(shop, ago(chance.randint(0, 200)), amount, account=account, kind=kind, status=status, **more)

    await some()
    before = await balances(api)
    rows = {(row["whose"], row["currency"]): row for row in await shop.database.fetch(SUMS)}
    for told in (*before["partners"], *before["advertisers"]):
        row = rows.pop((told.get("partner") or told["advertiser"], told["currency"]))
        sums = [Decimal(told.get(name, 0)) * 1_000_000 for name in ("pending", "approved", "paid")]
        assert sums == [row["pending"], row["approved"], row["paid"]]
    assert not rows
    await closes(shop, keepers=3)
    closed = await shop.value(CLOSINGS)
    assert closed > 20
    after = await balances(api)
    assert after == before | {"closed_until": f"{THIS_MONTH:%Y-%m-%d}" if timedelta(hours=6) < NOW - THIS_MONTH else after["closed_until"]}
    await closes(shop)
    assert await shop.value(CLOSINGS) == closed
    await books(shop, NOW, 5)
    approved = next(one for one in (await balances(api, "?partner=ada&currency=EUR"))["partners"])["approved"]
    known = next(one for one in before["partners"] if one["partner"] == "ada" and one["currency"] == "EUR")["approved"]
    assert Decimal(approved) - Decimal(known) == 5
    async with shop.database.connection() as connection:
        assert await postgres_balances.differing_months(connection) == []


async def test_a_month_is_closed_some_hours_after_its_end_and_not_while_a_transaction_of_it_runs(shop):
    async def close(now):
        return await shop.database.transaction(lambda connection: postgres_balances.close_month(connection, now))

    assert await close(NOW) is None  # nothing was ever booked
    await books(shop, datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC), 1)
    await books(shop, datetime(2026, 2, 1, tzinfo=UTC), 2)
    assert await close(datetime(2026, 2, 1, 5, 59, tzinfo=UTC)) is None
    assert f"{await close(datetime(2026, 2, 1, 6, tzinfo=UTC))}" == "2026-01-01"
    assert await shop.value("SELECT sum(amount_micros) FROM balance_closings") == 1_000_000
    await shop.execute(BOOK, NOW, "partner", "ada", "shop", "conversion", "approved", 4_000_000, "EUR")
    assert f"{await close(NOW)}" == "2026-02-01"
    assert await close(NOW) is None
    async with shop.database.connection() as other, other.transaction():  # began before the end of its month, so to say
        await other.fetchval("SELECT 1")
        later = (THIS_MONTH + timedelta(days=32)).replace(day=1) + timedelta(days=1)
        assert await close(later) is None
    assert f"{await close(later)}" == f"{THIS_MONTH:%Y-%m-%d}"
    assert await shop.value("SELECT sum(amount_micros)::text FROM balance_closings") == "7000000"


async def test_a_closing_is_never_changed_and_what_disagrees_is_told(shop, dsn, redis_url, tmp_path):
    await books(shop, ago(70), 1)
    await closes(shop)
    for statement in ("UPDATE balance_closings SET amount_micros = 0", "DELETE FROM balance_closings"):
        with pytest.raises(asyncpg.RestrictViolationError):
            await shop.execute(statement)

    async def told():
        checks = await examine(dsn, redis_url, tmp_path, host="127.0.0.1", trusted=[])
        return next((check.result, check.found) for check in checks if check.name == "balance closings")

    assert await told() == ("ok", "agree with the ledger")
    await books(shop, ago(70), 2)  # as nobody books
    assert await told() == ("fail", f"differ: {ago(70):%Y-%m}")


async def test_the_ledger_is_told_newest_first_page_by_page_with_filters(api, shop):
    for day in range(5):
        await books(shop, ago(day), day, kind="conversion" if day else "payment")
    await books(shop, ago(2), 7, account="advertiser", status="pending", currency="USD")

    async def told(query=""):
        answer = await api.admin("GET", f"/api/v1/ledger{query}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    everything = (await told())["items"]
    assert [entry["amount"] for entry in everything] == ["0.00", "1.00", "7.00", "2.00", "3.00", "4.00"]
    assert everything[0].items() >= {"partner": "ada", "advertiser": None, "kind": "payment", "currency": "EUR", "actor": "test"}.items()
    pages, cursor = [], ""
    while cursor is not None:
        page = await told(f"?limit=2{cursor and '&cursor=' + cursor}")
        cursor = page["next_cursor"]
        pages += page["items"]
        await books(shop, NOW + timedelta(hours=1), 1)  # what is booked meanwhile moves nothing
    assert pages == everything
    for query, amounts in (
        (f"?from={ago(3):%Y-%m-%d}&to={ago(3):%Y-%m-%d}", ["3.00"]),
        ("?account=advertiser", ["7.00"]),
        ("?status=pending&currency=usd", ["7.00"]),
        ("?kind=payment&partner=ada", ["0.00"]),
        ("?campaign=shoes", []),
        ("?conversion=0198f6a0-0000-7000-8000-000000000000", []),
        ("?advertiser=shop&partner=nobody", []),
    ):
        assert [entry["amount"] for entry in (await told(query))["items"]] == amounts, query


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("ledger?conversion=7", "conversion"),
        ("ledger?from=yesterday", "from"),
        ("ledger?cursor=x", "cursor"),
        ("ledger?colour=red", "colour"),
        ("ledger?currency=EURO", "currency"),
        ("balances?campaign=shoes", "campaign"),
        ("balances?limit=3", "limit"),
    ],
)
async def test_a_wrong_question_names_its_field(api, query, field):
    refused = await api.admin("GET", f"/api/v1/{query}")
    assert (refused.status_code, refused.json().get("field")) == (422, field)


def test_the_commands_tell_the_same(dsn, redis_url, tmp_path, monkeypatch, capsys):
    for name, value in (("DATABASE_URL", dsn), ("REDIS_URL", redis_url), ("DATA_DIR", str(tmp_path))):
        monkeypatch.setenv(f"TURNOUT_{name}", value)

    async def fill():
        connection = await asyncpg.connect(dsn)
        await connection.execute(
            "INSERT INTO partners (slug) VALUES ('ada'); INSERT INTO advertisers (slug, currency) VALUES ('shop', 'EUR')"
        )
        for number in range(3):
            await connection.execute(BOOK, ago(number), "partner", "ada", "shop", "conversion", "approved", 10**6, "EUR")
        await connection.close()

    asyncio.run(fill())

    def said(*words):
        assert main.app(list(words), standalone_mode=False) in (None, 0)
        return capsys.readouterr().out

    assert json.loads(said("balances", "--json"))["partners"] == [
        {"partner": "ada", "currency": "EUR", "pending": "0.00", "approved": "3.00", "paid": "0.00"}
    ]
    assert said("balances", "--partner", "ada").split()[-5:] == ["ada", "EUR", "0.00", "3.00", "0.00"]
    assert len(json.loads(said("ledger", "--json", "--limit", "2"))["items"]) == 2
    assert said("ledger", "--csv", "--partner", "ada").splitlines()[0].startswith("id,at,effective_on,account,partner")
    assert said("ledger").count("1.00") == 3


async def test_an_advertiser_among_many_reads_its_ledger_by_an_index(api, shop):
    await rival(api, shop)
    await shop.execute(
        "INSERT INTO ledger_entries (at, effective_on, account, advertiser_id, kind, status, amount_micros, currency, actor)"
        " SELECT now() + n * interval '1 second', now(), 'advertiser', a.id, 'conversion', 'approved', n, 'EUR', 'test'"
        " FROM generate_series(1, 20000) n, advertisers a WHERE a.slug = 'shop'"
    )
    await shop.execute("ANALYZE ledger_entries")
    number = await shop.value("SELECT id FROM advertisers WHERE slug = 'rival'")
    asked = postgres_balances.sql.LEDGER.format("true AND e.advertiser_id = $2")
    plan = "\n".join(row["QUERY PLAN"] for row in await shop.database.fetch(f"EXPLAIN {asked}", 101, number))
    assert "ledger_entries_advertiser" in plan, plan
