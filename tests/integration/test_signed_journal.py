"""Signatures told from the route table: while PostgreSQL is away, when they end, and when a table is too old to say no."""

import http.client
import json
import os
import time

import pytest

from tests.integration.signing import hexed, shopify, signed_path, stripe
from tests.integration.test_conversion_journal import Tracker
from tests.unit.test_webhooks import SESSION, SHOPIFY
from tests.wait import wait_until_sync
from tracker.adapters.lmdb_environment import alive_path
from tracker.adapters.lmdb_routes import RouteTable
from tracker.adapters.postgres_programme import digest
from tracker.domain.signatures import secret_name

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]
SHOPS = "the-shops-own-secret"
DAY_S = 24 * 3600


@pytest.fixture
def tracker(tmp_path, own_servers):
    built = Tracker(tmp_path / "data", own_servers.dsn, own_servers.redis_url)
    yield built
    built.close()


def post(tracker, path, body, headers):
    connection = http.client.HTTPConnection("127.0.0.1", tracker.tracker_port, timeout=10)
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    told = json.loads(answer.read())
    connection.close()
    return answer.status, told


def signing(tracker, kind, *, secret=None, slot=1):
    """A secret of the shop, once it is published."""
    arguments = ("advertiser", "signing-secret", "shop", "--kind", kind)
    code, out, err = tracker.turnout(*arguments, stdin=f"{secret}\n" if secret else None)
    assert code == 0, err
    wait_until_sync(lambda: published(tracker, kind, slot), because="the secret is published")
    return secret or out.strip()


def published(tracker, kind, slot):
    table = RouteTable(tracker.directory / "routes" / "routes.mdb")
    table.refresh()
    found = table.token(digest(secret_name(kind, "shop", slot)))
    table.close()
    return found


def webhook(tracker, shop, sent):
    return post(tracker, f"/webhooks/{shop}/shop", *sent)


def test_postgresql_away_signed_reports_are_kept_and_wrong_ones_refused(tracker, own_servers):
    click = tracker.prepare()
    secret = signing(tracker, "hmac")
    for shop in ("shopify", "stripe"):
        signing(tracker, shop, secret=SHOPS)
    own_servers.postgres.kill()
    order = {"click_id": str(click), "amount": "50.00"}
    path = signed_path(secret, txid="S-1", **order)
    answers = [tracker.ask(path), tracker.ask(path)]
    assert {status for status, _ in answers} == {202}
    assert len({told["postback_id"] for _, told in answers}) == 1
    goods = {
        "created_at": None,
        "current_subtotal_price": "50.00",
        "discount_codes": [],
        "note_attributes": [{"name": "click_id", "value": str(click)}],
    }
    assert webhook(tracker, "shopify", shopify(SHOPS, SHOPIFY | goods))[0] == 202
    session = SESSION | {"metadata": {"click_id": str(click)}, "amount_total": 5000, "total_details": None}
    assert webhook(tracker, "stripe", stripe(SHOPS, "checkout.session.completed", session))[0] == 202
    assert webhook(tracker, "stripe", stripe("wrong", "checkout.session.completed", session))[0] == 401
    assert tracker.ask(signed_path("hs_" + "0" * 40, txid="S-2", **order))[0] == 401
    assert tracker.ask(signed_path(secret, txid="S-2", advertiser="nobody", **order))[0] == 401
    assert tracker.ask("/postback", token="wrong", txid="S-2", **order)[0] == 401
    own_servers.postgres.start()
    tracker.settle_conversions(["S-1", "820982911946154508", "pi_1"])
    assert len(tracker.conversions()) == 3


def test_a_query_is_signed_byte_for_byte(tracker):
    """However a store escapes and separates: what it sent is what it signed."""
    click = tracker.prepare()
    secret, ts = signing(tracker, "hmac"), int(time.time())
    query = f"advertiser=shop&click_id={click}&ts={ts}&txid=caf%e9%C3%A9&note=a+b%2bc%2Bd%7E~&&x&=&y='()*[]|"
    assert tracker.ask(f"/postback?{query}&sig={hexed(secret, query.encode(), ts)}")[0] == 200
    assert tracker.ask(f"/postback?sig={hexed(secret, query.encode(), ts)}&{query}")[0] == 200
    assert tracker.ask(f"/postback?{query.lower()}&sig={hexed(secret, query.encode(), ts)}")[0] == 401


def test_a_table_older_than_a_day_refuses_nobody(tracker, own_servers):
    click = tracker.prepare()
    secret = signing(tracker, "hmac")
    tracker.stop("work routes")
    own_servers.postgres.kill()
    order = {"click_id": str(click), "txid": "O-1"}
    for age_s, status in ((DAY_S - 60, 401), (DAY_S + 60, 503)):
        at = time.time() - age_s
        os.utime(alive_path(tracker.directory / "routes" / "routes.mdb"), (at, at))
        assert tracker.ask("/postback", token="wrong", **order)[0] == status
        assert tracker.ask(signed_path(secret, advertiser="nobody", **order))[0] == status
        assert tracker.ask(signed_path("hs_" + "0" * 40, **order))[0] == 401  # whose secret that is not, is known
        assert tracker.ask(signed_path(secret, **order))[0] == 202
    own_servers.postgres.start()


def test_a_revoked_secret_ends_within_two_seconds(tracker):
    click = tracker.prepare()
    old = signing(tracker, "hmac")
    new = signing(tracker, "hmac", slot=2)
    order = {"click_id": str(click), "txid": "R-1"}
    assert [tracker.ask(signed_path(secret, **order))[0] for secret in (old, new)] == [200, 200]
    code, _, err = tracker.turnout("advertiser", "revoke-signing-secret", "shop", "--kind", "hmac", "--slot", "1")
    assert code == 0, err
    wait_until_sync(lambda: tracker.ask(signed_path(old, **order))[0] == 401, within_s=2, because="the old secret has ended")
    assert tracker.ask(signed_path(new, **order))[0] == 200
    (left,) = tracker.query("SELECT count(*) AS secrets FROM postback_tokens WHERE secret IS NOT NULL")
    assert left["secrets"] == 1
