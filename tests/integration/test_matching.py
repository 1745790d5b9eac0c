"""Matching by hand: what waits is tried at once, orphans are decided anew, junk costs nothing, and who asked is kept."""

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from tests.integration.api_client import click_text
from tracker.adapters import postgres_matching
from tracker.adapters.audit import audit
from tracker.adapters.postgres_matching import Unmatched, match
from tracker.cli import main
from tracker.errors import StoreUnavailable

pytestmark = pytest.mark.integration
AUDITED = "SELECT actor || ' ' || action || ' ' || reason || ' ' || (after ->> 'postbacks') FROM events WHERE action = 'match'"
PATH = "/api/v1/conversions/match"
OVER = "UPDATE postbacks SET parked_until = now() - interval '1 day', next_try_at = now() WHERE txid = $1"
LATER = "UPDATE postbacks SET next_try_at = now() + interval '1 day' WHERE outcome = 'parked'"
STATUS = "SELECT status FROM conversions WHERE txid = $1"
OUTCOME = "SELECT outcome FROM postbacks WHERE txid = $1"


async def parks(api, shop, txid, number=None, **more):
    """An order whose click is not there yet; the click's id."""
    number = number or shop.new_click_id()
    told = await api.get("/postback", token=shop.token, txid=txid, amount="50.00", click_id=click_text(number), **more)
    assert told.json()["status"] == "parked", told.text
    await shop.execute(LATER)
    return number


async def orphans(api, shop, txid):
    """An order whose time was over before its click came."""
    number = await parks(api, shop, txid)
    await shop.execute(OVER, txid)
    await shop.sweep()
    assert await shop.value(STATUS, txid) == "orphan"
    return number


async def test_parked_orders_and_orphans_whose_click_has_come_are_attributed_at_once(api, shop, dsn, redis_url):
    parked, orphan = await parks(api, shop, "P"), await orphans(api, shop, "O")
    await parks(api, shop, "junk")
    for number in (parked, orphan):
        await shop.click(number)
    done = await api.admin("POST", PATH, {"reason": "the click log was imported"})
    assert (done.status_code, done.json()) == (
        200, {"looked_at": 3, "attributed": 2, "repeated": 0, "still_open": 1, "next_cursor": None},
    )  # fmt: skip
    assert [await shop.value(STATUS, txid) for txid in ("P", "O")] == ["approved", "approved"]
    assert await shop.value("SELECT sum(amount_micros)::bigint FROM ledger_entries WHERE account = 'partner'") == 10_000_000
    told = await shop.value(AUDITED)
    assert told == "admin.key match the click log was imported 2"
    assert (await audit(dsn, redis_url, 1))["postbacks"]["state"] == "balanced"
    again = (await api.admin("POST", PATH, {})).json()
    assert (again["looked_at"], again["attributed"], again["still_open"]) == (1, 0, 1)


MADE = re.compile(r'^turnout_(conversions|revenue|payout)_total\{\w+="(approved|EUR)"\} (\S+)', re.MULTILINE)


async def made(api):
    """What the tracker counts: conversions that are approved, their amounts and payouts."""
    return {name: float(count) for name, _, count in MADE.findall((await api.get("/metrics")).text)}


async def test_what_is_made_by_hand_is_counted_as_what_is_made_at_once(api, shop):
    for number in (await parks(api, shop, "P"), await orphans(api, shop, "O")):
        await shop.click(number)
    answered = (await api.get("/metrics")).text.count("turnout_postbacks_total")
    assert (await made(api)).get("conversions") == 0
    assert (await api.admin("POST", PATH, {})).json()["attributed"] == 2
    assert await made(api) == {"conversions": 2.0, "revenue": 100.0, "payout": 10.0}
    told = (await api.get("/metrics")).text
    assert (told.count("turnout_postbacks_total"), 'turnout_postbacks_total{outcome="attributed"} 0.0' in told) == (answered, True)
    await api.admin("POST", PATH, {})
    assert await made(api) == {"conversions": 2.0, "revenue": 100.0, "payout": 10.0}


async def test_what_was_made_before_an_interruption_is_counted(api, shop, monkeypatch):
    for txid in ("A", "B"):
        await shop.click(await parks(api, shop, txid))
    settle_order, orders = postgres_matching.settle_order, []

    async def interrupted(database, order, found):
        await settle_order(database, order, found)
        orders.append(order)
        if len(orders) == 2:
            raise StoreUnavailable("away")

    monkeypatch.setattr(postgres_matching, "settle_order", interrupted)
    assert (await api.admin("POST", PATH, {})).status_code == 503
    assert (await made(api))["conversions"] == 2.0


async def test_a_postback_that_nobody_can_match_is_left_as_it_was(api, shop):
    await parks(api, shop, "P")
    await orphans(api, shop, "O")
    before = await shop.database.fetch("SELECT * FROM postbacks ORDER BY postback_id")
    done = (await api.admin("POST", PATH, {"reason": "again"})).json()
    assert (done["looked_at"], done["attributed"], done["still_open"]) == (2, 0, 2)
    assert await shop.database.fetch("SELECT * FROM postbacks ORDER BY postback_id") == before
    assert await shop.value("SELECT count(*) FROM events WHERE action = 'match'") == 0


async def test_an_orphan_outside_its_window_is_decided_anew_when_the_window_grows(api, shop, dsn, redis_url):
    long_ago = datetime.now(UTC) - timedelta(days=32)
    await shop.click(number := shop.new_click_id(long_ago), clicked_at=long_ago)
    told = await api.get("/postback", token=shop.token, txid="O", amount="50.00", click_id=click_text(number))
    assert told.json()["status"] == "orphan"
    for _ in range(2):  # as often as one likes: it stays the orphan it was
        done = (await api.admin("POST", PATH, {"txid": "O"})).json()
        assert (done["looked_at"], done["still_open"]) == (1, 1)
        assert (await shop.value(OUTCOME, "O"), await shop.value(STATUS, "O")) == ("orphan", "orphan")
    assert (await api.admin("PATCH", "/api/v1/campaigns/shoes", {"attribution_window_days": 60})).status_code == 200
    assert (await api.admin("POST", PATH, {"txid": "O"})).json()["attributed"] == 1
    assert (await shop.value(OUTCOME, "O"), await shop.value(STATUS, "O")) == ("attributed", "approved")
    assert (await audit(dsn, redis_url, 1))["postbacks"]["state"] == "balanced"


async def test_only_what_is_asked_for_is_tried(api, shop):
    made = await api.admin("POST", "/api/v1/advertisers", {"slug": "rival", "currency": "EUR"})
    assert made.status_code == 201
    for txid in ("A", "B", "C"):
        await shop.click(await parks(api, shop, txid))
    await shop.execute("UPDATE postbacks SET received_at = received_at - interval '9 days' WHERE txid = 'C'")
    assert (await api.admin("POST", PATH, {"advertiser": "rival"})).json()["looked_at"] == 0
    assert (await api.admin("POST", PATH, {"txid": "A"})).json()["attributed"] == 1
    since = (datetime.now(UTC) - timedelta(days=3)).isoformat()
    assert (await api.admin("POST", PATH, {"advertiser": "shop", "since": since})).json()["attributed"] == 1
    assert await shop.value(OUTCOME, "C") == "parked"
    assert (await api.admin("POST", PATH, {"advertiser": "shop"})).json()["attributed"] == 1


async def test_an_advertisers_key_matches_its_own_only(api, shop):
    assert (await api.admin("POST", "/api/v1/advertisers", {"slug": "rival", "currency": "EUR"})).status_code == 201
    await shop.click(await parks(api, shop, "A"))

    async def key(slug):
        return (await api.admin("POST", "/api/v1/keys", {"role": "advertiser", "advertiser": slug})).json()["key"]

    rival, own = await key("rival"), await key("shop")
    assert (await api.call(rival, "POST", PATH, {})).json()["looked_at"] == 0
    refused = await api.call(rival, "POST", PATH, {"advertiser": "shop"})
    assert (refused.status_code, refused.json()["code"]) == (404, "unknown_advertiser")
    assert (await api.call(own, "POST", PATH, {})).json()["attributed"] == 1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ([], 422, "invalid_body"),
        ({"since": "yesterday"}, 422, "invalid_since"),
        ({"txid": 7}, 422, "invalid_txid"),
        ({"reason": "\x00"}, 422, "invalid_reason"),
        ({"cursor": "x"}, 422, "invalid_cursor"),
        ({"advertiser": "nobody"}, 404, "unknown_advertiser"),
        ({"days": 3}, 422, "unknown_field"),
    ],
)
async def test_a_wrong_question_is_refused_with_the_field_that_is_wrong(api, shop, body, status, code):
    refused = await api.admin("POST", PATH, body)
    assert (refused.status_code, refused.json()["code"]) == (status, code), refused.text


async def test_it_goes_on_where_it_ended_and_counts_every_one_once(api, shop, monkeypatch):
    monkeypatch.setattr(postgres_matching, "BATCH", 2)
    for number in range(5):
        await shop.click(await parks(api, shop, f"T{number}"))
    first = await match(shop.database, Unmatched(), reason="r", actor="a", goes_on=lambda: False)
    assert (first.looked_at, first.attributed, first.is_complete) == (2, 2, False)
    rest = await match(shop.database, Unmatched(after=first.last), reason="r", actor="a")
    assert (rest.looked_at, rest.attributed, rest.is_complete) == (3, 3, True)


async def test_several_at_once_and_the_sweeper_settle_each_order_once(api, shop, dsn, redis_url):
    for number in range(20):
        await shop.click(await parks(api, shop, f"T{number}"))
    await shop.execute("UPDATE postbacks SET next_try_at = now()")
    await asyncio.gather(*(match(shop.database, Unmatched(), reason="r", actor="a") for _ in range(3)), shop.sweep())
    assert await shop.value("SELECT count(*) FROM conversions WHERE status = 'approved'") == 20
    assert await shop.value("SELECT sum(amount_micros)::bigint FROM ledger_entries WHERE account = 'partner'") == 100_000_000
    part = (await audit(dsn, redis_url, 1))["postbacks"]
    assert (part["state"], part["effective"], part["repeated"]) == ("balanced", 20, 0)


async def test_what_an_interrupted_match_began_the_sweeper_ends(api, shop, monkeypatch):
    await shop.click(await orphans(api, shop, "O"))

    async def away(*_):
        raise StoreUnavailable("away")

    monkeypatch.setattr(postgres_matching, "settle_order", away)
    with pytest.raises(StoreUnavailable):
        await match(shop.database, Unmatched(), reason="r", actor="a")
    monkeypatch.undo()
    await shop.sweep()
    assert await shop.value(STATUS, "O") == "approved"


async def test_an_old_platforms_click_that_came_is_enough_to_go_by(api, shop):
    told = await api.get("/postback", token=shop.token, txid="T", amount="50.00", click_id="102ab4")
    assert told.json()["status"] == "parked"
    number = await shop.click()
    await shop.execute("UPDATE clicks SET old_click_id = '102ab4' WHERE click_id = $1", number)
    assert (await api.admin("POST", PATH, {})).json()["attributed"] == 1


def test_the_command_tells_what_it_did(dsn, redis_url, tmp_path, monkeypatch, capsys):
    for name, value in (("DATABASE_URL", dsn), ("REDIS_URL", redis_url), ("DATA_DIR", str(tmp_path))):
        monkeypatch.setenv(f"TURNOUT_{name}", value)
    assert main.app(["conversions", "match", "--json", "--since", "3"], standalone_mode=False) in (None, 0)
    assert json.loads(capsys.readouterr().out) == {"looked_at": 0, "attributed": 0, "repeated": 0, "still_open": 0}
    assert main.app(["conversions", "match"], standalone_mode=False) in (None, 0)
    assert capsys.readouterr().out == "0 of 0 postbacks are attributed, 0 repeat what is known, 0 are still open\n"
