"""Postbacks with ids that nobody knows: put off together, never twice for one try, and nobody waits for anybody."""

import asyncio

import pytest

from tests.integration.api_client import click_text
from tracker.adapters.postgres_parked import sweep_round

pytestmark = pytest.mark.integration
JUNK = """
    INSERT INTO postbacks (postback_id, received_at, source, advertiser_id, txid, click_id, amount_micros, currency, amount_original,
        currency_original, status_original, status, outcome, tries, next_try_at, parked_until)
    SELECT uuidv7(), now() - interval '1 hour', 'postback', a.id, 'J-' || n, CASE WHEN n % 2 = 0 THEN md5(n::text) ELSE 'junk-' || n END, 0,
        'EUR', '', '', '', 'approved', 'parked', 5, now() - interval '1 s', now() + interval '1 day'
    FROM advertisers a, generate_series(1, $1::int) n
"""
COUNTED = """
    SELECT min(tries) || ' ' || max(tries) || ' ' || count(*) FILTER (WHERE next_try_at > now() + interval '20 s') FROM postbacks
"""


async def test_ids_that_nobody_knows_are_put_off_and_the_one_that_is_known_is_settled(api, shop):
    await shop.execute(JUNK, 300)
    number = await shop.click()
    await shop.execute("UPDATE postbacks SET click_id = $1 WHERE txid = 'J-7'", click_text(number))
    found = await sweep_round(shop.database)
    assert (found.looked_at, [postback.txid for postback, _ in found.settled], found.failed) == (300, ["J-7"], 0)
    assert await shop.value(COUNTED + " WHERE outcome = 'parked'") == "6 6 299"
    assert (await sweep_round(shop.database)).looked_at == 0


async def test_sweepers_that_look_at_once_count_a_try_once(shop):
    await shop.execute(JUNK, 200)
    await asyncio.gather(*(sweep_round(shop.database) for _ in range(4)))
    assert await shop.value(COUNTED) == "6 6 200"


async def test_a_postback_that_somebody_decides_on_is_left_to_him_and_holds_up_no_other(shop):
    await shop.execute(JUNK, 10)
    async with shop.database.connection() as busy:
        await busy.execute("BEGIN; SELECT 1 FROM postbacks WHERE txid = 'J-3' FOR UPDATE")
        found = await asyncio.wait_for(sweep_round(shop.database), 5)
        await busy.execute("ROLLBACK")
    assert found.looked_at == 10
    assert await shop.value("SELECT count(*) FROM postbacks WHERE tries = 6") == 9
    assert await shop.value("SELECT tries FROM postbacks WHERE txid = 'J-3'") == 5
