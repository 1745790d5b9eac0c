"""The books of postbacks: balanced after whatever shops say under whatever policy, and every way in which they can be wrong is named."""

import asyncio
import json
import random
from datetime import timedelta
from uuid import uuid4

import pytest

from tests.integration.api_client import click_text
from tests.integration.click_source import execute
from tests.integration.desk import AT, Desk
from tracker.adapters.audit import POSTBACK_COUNTS, audit
from tracker.adapters.postgres_postback_books import PROBLEM_IDS, read
from tracker.cli import books as cli
from tracker.programme import DUPLICATE_POLICIES
from tracker.settings import Settings

pytestmark = pytest.mark.integration
AMOUNTS, STATUSES = ("10", "20", "30.50", ""), ("", "pending", "approved", "reversed")
ENTRY = """
    INSERT INTO ledger_entries (effective_on, account, partner_id, advertiser_id, conversion_id, kind, status, amount_micros,
        currency, actor)
    SELECT current_date, $1, CASE $1 WHEN 'partner' THEN c.partner END, c.advertiser_id, coalesce($2, c.id), 'planted', 'approved', $3,
        $4, 'test'
    FROM conversions c WHERE c.txid = 'sound'
"""
EFFECTIVE = "UPDATE postbacks SET conversion_id = gen_random_uuid() WHERE txid = 'sound'"
REPEATED = "UPDATE postbacks SET outcome = 'duplicate', conversion_id = NULL WHERE txid = 'other'"
CONFLICTING = "UPDATE postbacks SET outcome = 'conflict', conversion_id = gen_random_uuid() WHERE txid = 'other'"
WITHOUT = "UPDATE conversions SET postback_id = gen_random_uuid() WHERE txid = 'sound'"
OF_SOUND = " WHERE conversion_id = (SELECT id FROM conversions WHERE txid = 'sound')"
SHARES = "UPDATE conversion_shares SET amount_micros = amount_micros - 1" + OF_SOUND
SHARED_IN_USD = "UPDATE conversion_shares SET currency = 'USD'" + OF_SOUND
LEVEL_TWO = (
    """
    INSERT INTO conversion_shares (conversion_id, partner_id, level, amount_micros, currency)
    SELECT conversion_id, partner_id, 2, 1, currency FROM conversion_shares
"""
    + OF_SOUND
)
ORPHAN = "INSERT INTO postbacks (postback_id, received_at, source, outcome) VALUES ($1, now(), 'postback', 'orphan')"
PARKED = "UPDATE postbacks SET next_try_at = NULL WHERE txid = 'waits'"
NOT_TAKEN_BACK = "UPDATE conversions SET status = 'reversed' WHERE txid = 'sound'"


@pytest.fixture
async def desk(api, shop):
    return await Desk.opened(api, shop)


@pytest.fixture
async def ledger(desk, dsn, redis_url):
    """Two orders, and one that waits for its click; what the audit says of postbacks."""
    await desk.says("sound", amount="50.00")
    await desk.says("other", amount="20.00")
    await desk.says("waits", amount="10.00", click_id=click_text(desk.shop.new_click_id()))

    async def told():
        part = (await audit(dsn, redis_url, 1))["postbacks"]
        assert part["received"] == sum(part[name] for name in POSTBACK_COUNTS[1:])
        return part

    return told


async def test_the_books_balance_whatever_was_said_under_whatever_policy(desk, api, ledger):
    rng, said = random.Random(7), 3
    unknown = click_text(desk.shop.new_click_id(AT - timedelta(days=60)))
    for policy in DUPLICATE_POLICIES:
        await desk.shop.execute("UPDATE goals SET duplicate_policy = $1 WHERE slug = 'sale'", policy)
        for number in range(12):
            for _ in range(rng.randint(1, 5)):
                parameters = {"amount": rng.choice(AMOUNTS), "status": rng.choice(STATUSES)}
                parameters |= {} if rng.random() < 0.8 else {"click_id": rng.choice(["junk", unknown])}
                parameters |= {"currency": "USD"} if rng.random() < 0.1 else {}
                parameters |= {"source": "pixel"} if rng.random() < 0.1 else {}
                parameters |= {"event_id": f"{number}{rng.randint(0, 2)}"} if policy == "by_event_id" else {}
                await desk.says(f"{policy}-{number}", rng.randint(0, 60), **parameters)
                said += 1
    refused = await api.get("/postback", token=desk.shop.token, txid="bad", click_id=desk.click, amount="ten")
    assert refused.status_code == 422
    await desk.shop.execute("UPDATE postbacks SET parked_until = now() - interval '1 day', next_try_at = now() WHERE txid LIKE 'ignore-%'")
    await desk.shop.sweep()
    part = await ledger()
    assert (part["state"], part["problems"], part["unexplained"], part["in_flight"]) == ("balanced", [], 0, 0)
    assert part["received"] == await desk.shop.value("SELECT count(*) FROM postbacks") == said + part["rejected"]
    assert min(part[name] for name in ("effective", "repeated", "conflicting", "rejected", "parked")) > 0, part


async def test_what_is_said_of_healthy_books(ledger):
    assert await ledger() == {
        "received": 3, "effective": 2, "repeated": 0, "conflicting": 0, "rejected": 0, "parked": 1, "in_flight": 0, "unexplained": 0,
        "state": "balanced", "problems": [],
        "old_reports": {"read": 0, "waiting": 0, "refused": 0, "ignored": 0, "impressions": 0},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("planted", "name", "part"),
    [
        (EFFECTIVE, "effective_without_conversion", "effective"),
        (REPEATED, "repeat_without_conversion", "effective"),
        (CONFLICTING, "repeat_without_conversion", "effective"),
        (SHARES, "partner_ledger_differs shares_differ", "effective"),
        (SHARED_IN_USD, "partner_ledger_differs shares_differ", "effective"),
        (LEVEL_TWO, "partner_ledger_differs", "effective"),
        (PARKED, "parked_without_next_try", "parked"),
    ],
)
async def test_a_planted_error_is_named_and_its_postback_is_unexplained(desk, ledger, planted, name, part):
    before = await ledger()
    await desk.shop.execute(planted)
    after = await ledger()
    assert (after["state"], after["received"], after["unexplained"]) == ("unbalanced", 3, 1)
    assert [(problem["name"], problem["count"], len(problem["ids"])) for problem in after["problems"]] == [
        (one, 1, 1) for one in name.split()
    ]
    assert after[part] == before[part] - 1


async def test_a_conversion_without_its_postback_is_named_unless_it_was_imported(desk, ledger):
    await desk.shop.execute(WITHOUT)
    part = await ledger()
    conversion = await desk.shop.value("SELECT id FROM conversions WHERE txid = 'sound'")
    assert part["problems"] == [{"name": "conversion_without_postback", "count": 1, "ids": [str(conversion)]}]
    assert (part["state"], part["received"], part["effective"], part["unexplained"]) == ("unbalanced", 4, 2, 1)
    await desk.shop.execute("UPDATE conversions SET source = 'old', source_id = '7' WHERE txid = 'sound'")
    assert (await ledger())["state"] == "balanced"


@pytest.mark.parametrize("account", ["partner", "advertiser"])
async def test_a_cent_too_much_in_the_ledger_is_named(desk, ledger, account):
    await desk.shop.execute(ENTRY, account, None, 10_000, "EUR")
    part = await ledger()
    conversion = await desk.shop.value("SELECT id FROM conversions WHERE txid = 'sound'")
    assert part["problems"] == [{"name": f"{account}_ledger_differs", "count": 1, "ids": [str(conversion)]}]
    assert (part["state"], part["effective"], part["unexplained"]) == ("unbalanced", 1, 1)
    await desk.shop.execute(ENTRY, account, None, -10_000, "EUR")
    assert (await ledger())["state"] == "balanced"


async def test_money_in_another_currency_does_not_make_up_for_what_is_missing(desk, ledger):
    await desk.shop.execute(ENTRY, "partner", None, -5_000_000, "EUR")
    await desk.shop.execute(ENTRY, "partner", None, 5_000_000, "USD")
    assert [(problem["name"], problem["count"]) for problem in (await ledger())["problems"]] == [("partner_ledger_differs", 1)]


async def test_what_is_taken_back_must_be_out_of_the_ledger(desk, ledger):
    await desk.shop.execute(NOT_TAKEN_BACK)
    part = await ledger()
    assert [(problem["name"], problem["count"]) for problem in part["problems"]] == [
        ("advertiser_ledger_differs", 1),
        ("partner_ledger_differs", 1),
    ]
    assert part["unexplained"] == 1, "one postback, however much is wrong with it"


async def test_an_entry_for_no_conversion_is_named(desk, ledger):
    nobody = uuid4()
    await desk.shop.execute(ENTRY, "advertiser", nobody, 10_000, "EUR")
    assert (await ledger())["problems"] == [{"name": "advertiser_ledger_differs", "count": 1, "ids": [str(nobody)]}]


async def test_at_most_a_hundred_ids_are_told_of_a_problem(desk, ledger):
    await desk.shop.execute(
        "INSERT INTO postbacks (postback_id, received_at, source, outcome) SELECT gen_random_uuid(), now(), 'postback', 'parked'"
        " FROM generate_series(1, 250)"
    )
    (problem,) = (await ledger())["problems"]
    assert (problem["count"], len(problem["ids"])) == (250, PROBLEM_IDS)


async def test_what_cannot_be_read_in_time_is_unknown_and_costs_the_clicks_nothing(desk, ledger):
    async with desk.shop.database.connection() as connection:
        await connection.execute("BEGIN; LOCK TABLE conversion_shares IN ACCESS EXCLUSIVE MODE")
        async with desk.shop.database.connection() as reader:
            assert await read(reader, budget_s=0.2) is None
            assert await reader.fetchval("SELECT current_setting('statement_timeout')") == "0", "for the books only"
        await connection.execute("ROLLBACK")


def test_the_exit_code_and_the_table_tell_of_a_planted_error(dsn, redis_url, tmp_path, capsys, planted_orphan):
    settings = Settings(database_url=dsn, redis_url=redis_url, data_dir=str(tmp_path), _env_file=None)
    assert cli.audit(settings, as_json=False) == 1
    out = capsys.readouterr().out
    assert "postbacks: unbalanced" in out
    assert f"effective_without_conversion: 1: {planted_orphan}" in out
    assert cli.audit(settings, as_json=True) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["state"], told["conversions"]["state"], told["postbacks"]["state"]) == ("balanced", "balanced", "unbalanced")


@pytest.fixture
def planted_orphan(dsn):
    """A postback of a conversion that is not there."""
    number = uuid4()
    asyncio.run(execute(dsn, ORPHAN, number))
    return number
