"""A thousand postbacks at once through several kill -9 of PostgreSQL: each order counts once, to the cent, whatever was cut off when."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.test_conversion_journal import Tracker
from tests.wait import wait_until_sync

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
ORDERS, REPEATS = 900, 100
SENDERS = 100
KILLS = 5
TRIES = 5  # a connection that was cut is tried again, as a shop does
SUMS = """
    SELECT count(*) AS conversions, count(DISTINCT txid) AS orders, sum(amount_micros)::bigint AS amount,
        sum(payout_micros)::bigint AS payout, count(*) FILTER (WHERE status <> 'approved') AS others FROM conversions
"""
LEDGER = """
    SELECT coalesce(sum(amount_micros) FILTER (WHERE account = 'partner'), 0)::bigint AS partner,
        coalesce(sum(amount_micros) FILTER (WHERE account = 'advertiser'), 0)::bigint AS advertiser,
        count(DISTINCT conversion_id) AS conversions, count(*) AS entries
    FROM ledger_entries
"""
GOAL = "INSERT INTO goals (slug, campaign_id, advertiser_id, duplicate_policy) SELECT 'sale', id, advertiser_id, 'ignore' FROM campaigns"
SHARES = "SELECT sum(amount_micros)::bigint AS shared FROM conversion_shares"


@pytest.fixture
def tracker(tmp_path, own_servers):
    built = Tracker(tmp_path / "data", own_servers.dsn, own_servers.redis_url)
    yield built
    built.close()


def cents_of(number):
    """What order `number` is about; all differ, so that one sum tells which is missing or doubled."""
    return 1_000 + 10 * number


def test_a_thousand_postbacks_through_several_deaths_of_postgresql_are_nine_hundred_conversions_to_the_cent(tracker, own_servers):
    rng = random.Random(20261122)
    click = tracker.prepare()
    tracker.query(GOAL)
    told = list(range(ORDERS)) + rng.sample(range(ORDERS), REPEATS)
    rng.shuffle(told)
    start = threading.Barrier(SENDERS + 1)  # the killing begins when the sending does
    answers = []

    def send(numbers):
        start.wait()
        for number in numbers:
            cents = cents_of(number)
            answers.append(_answer(tracker, f"O-{number}", click, f"{cents // 100}.{cents % 100:02}"))
            time.sleep(rng.uniform(0, 1.5))  # so that the sending lasts as long as the killing

    with ThreadPoolExecutor(SENDERS) as senders:
        sending = [senders.submit(send, told[first::SENDERS]) for first in range(SENDERS)]
        start.wait()
        for _ in range(KILLS):  # by the thread that started the server: it dies with that
            time.sleep(rng.uniform(0.3, 1.2))
            own_servers.postgres.kill()
            time.sleep(rng.uniform(0, 0.5))
            own_servers.postgres.start()
        for one in sending:
            one.result()

    assert len(answers) == ORDERS + REPEATS
    assert {status for status, _ in answers} <= {200, 202}, [answer for answer in answers if answer[0] not in (200, 202)][:3]
    assert {body["status"] for _, body in answers} <= {"attributed", "parked"}
    assert any(status == 202 for status, _ in answers), "PostgreSQL was away"
    _settle(tracker)
    _judge(tracker)


def _answer(tracker, txid, click, amount):
    """The answer to one report; the only one that may be missing is that of a connection that was cut."""
    for _ in range(TRIES):
        status, body = tracker.ask("/postback", token="token-of-the-shop", txid=txid, click_id=str(click), amount=amount)
        if status:
            return status, body
    return 0, {"status": "none"}


def _settle(tracker):
    """Until nothing is on its way any more."""
    wait_until_sync(lambda: tracker.query(SUMS)[0]["conversions"] >= ORDERS, within_s=90, every_s=0.3, because="all are decided")
    wait_until_sync(lambda: tracker.look_at_books()["postbacks"]["state"] == "balanced", within_s=90, every_s=0.2, because="balanced")


def _judge(tracker):
    expected = sum(map(cents_of, range(ORDERS))) * 10_000
    (sums,), (ledger,), (shares,) = tracker.query(SUMS), tracker.query(LEDGER), tracker.query(SHARES)
    assert dict(sums) == {"conversions": ORDERS, "orders": ORDERS, "amount": expected, "payout": expected // 10, "others": 0}
    assert dict(ledger) == {"partner": expected // 10, "advertiser": expected, "conversions": ORDERS, "entries": 2 * ORDERS}
    assert shares["shared"] == expected // 10
    code, books = tracker.audit()
    assert (code, books["conversions"]["state"], books["postbacks"]["state"]) == (0, "balanced", "balanced"), books["postbacks"]
    part = books["postbacks"]
    assert (part["received"], part["effective"] + part["repeated"], part["unexplained"]) == (ORDERS + REPEATS,) * 2 + (0,)
    assert (part["conflicting"], part["rejected"], part["parked"], part["in_flight"]) == (0, 0, 0, 0)
