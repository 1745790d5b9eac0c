"""Postbacks while PostgreSQL is away: kept in the journal, answered 202, decided once when it is back; the books cover them."""

import asyncio
import http.client
import json
import os
import signal
import subprocess
from urllib.parse import urlencode

import asyncpg
import pytest

from tests.integration.pipeline import Pipeline
from tests.ports import free_port
from tests.wait import wait_until_sync
from tracker.adapters.lmdb_routes import RouteTable
from tracker.adapters.postgres_programme import digest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]
TOKEN, PIXEL_KEY, ADMIN_KEY = "token-of-the-shop", "pixel-key-of-the-shop", "admin"
PROGRAMME = """
    INSERT INTO advertisers (slug, name, currency) VALUES ('shop', 'Shop', 'EUR');
    INSERT INTO campaigns (slug, advertiser_id, destination_url) SELECT 'spring', id, 'https://shop.example/' FROM advertisers;
    INSERT INTO terms (campaign_id, payout_type, percent_micros) SELECT id, 'percent', 10000000 FROM campaigns;
    INSERT INTO partners (slug, name) VALUES ('blog', 'Blog');
    INSERT INTO links (slug, partner_id, campaign_id, advertiser_id)
        SELECT 'l1', p.id, c.id, c.advertiser_id FROM partners p, campaigns c;
"""
SECRET = "INSERT INTO postback_tokens (advertiser_id, kind, token_hash) SELECT id, $1, $2 FROM advertisers"
CLICK = """
    INSERT INTO clicks (click_id, clicked_at, kind, method, host, url, link, partner, campaign, advertiser, creative, outcome,
        verdict, rule_version, counted, is_unique, redirected_to, ip, country, network, device, os, browser, user_agent,
        referrer, language, truncated, node, boot, seq)
    SELECT uuidv7(), now(), 'link', 'GET', 'localhost', '/c/l1', l.id, l.partner_id, l.campaign_id, l.advertiser_id, '', 'ok', 'valid',
        1, true, true, 'https://shop.example/', '', 'FR', '', 'desktop', 'Linux', 'Firefox', '', '', '', false, 'n', gen_random_uuid(), 1
    FROM links l RETURNING click_id
"""


class Tracker(Pipeline):
    """`serve tracker`, `work conversions` and `work routes` beside servers that may be taken away."""

    def __init__(self, directory, dsn, redis_url, **settings):
        self.tracker_port = free_port()
        ports = {"TURNOUT_TRACKER_PORT": str(self.tracker_port), "TURNOUT_ADMIN_KEY": ADMIN_KEY}
        super().__init__(directory, dsn, redis_url, **ports, **settings)

    def start_tracker(self, **environment):
        self.start("serve tracker", **environment)
        wait_until_sync(lambda: self.ask("/healthz")[0] == 200, because="the tracker answers")

    def ask(self, path, **parameters):
        """Status and JSON of an answer; (0, None) when the connection was cut."""
        connection = http.client.HTTPConnection("127.0.0.1", self.tracker_port, timeout=10)
        try:
            connection.request("GET", f"{path}?{urlencode(parameters)}" if parameters else path)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            return 0, None
        finally:
            connection.close()
        return answer.status, json.loads(body) if answer.getheader("content-type", "").startswith("application/") else body

    def postback(self, txid, click, **more):
        return self.ask("/postback", token=TOKEN, txid=txid, click_id=str(click), amount="50.00", **more)

    def prepare(self, *, with_writer=True):
        """The programme, a route table that knows the token, and a click."""

        async def fill():
            connection = await asyncpg.connect(self.dsn)
            await connection.execute(PROGRAMME)
            for kind, secret in (("token", TOKEN), ("pixel", PIXEL_KEY)):
                await connection.execute(SECRET, kind, digest(secret))
            click = await connection.fetchval(CLICK)
            await connection.close()
            return click

        click = asyncio.run(fill())
        self.start("work routes")
        self.start_tracker()
        if with_writer:
            self.start("work conversions")
        wait_until_sync(self.knows_the_token, because="the token is published")
        return click

    def knows_the_token(self):
        table = RouteTable(self.directory / "routes" / "routes.mdb")
        table.refresh()
        found = table.token(digest(TOKEN))
        table.close()
        return found

    def conversions(self):
        return {row["txid"]: row for row in self.query("SELECT * FROM conversions")}

    def books(self):
        return self.audit()[1]["conversions"]

    def settle_conversions(self, kept):
        """Wait until what was answered 202 is decided and the books balance; check that each order was counted once."""
        wait_until_sync(lambda: set(kept) <= set(self.conversions()), within_s=60, every_s=0.2, because="all kept postbacks are decided")
        books = wait_until_sync(lambda: (b := self.books())["state"] == "balanced" and b, within_s=60, every_s=0.3, because="balanced")
        assert (books["unaccounted"], books["unrecorded"]) == (0, 0)
        (orders,) = self.query("SELECT count(*) AS made, count(DISTINCT txid) AS orders, sum(payout_micros) AS owed FROM conversions")
        assert orders["made"] == orders["orders"]
        (ledger,) = self.query("SELECT coalesce(sum(amount_micros), 0) AS owed FROM ledger_entries WHERE account = 'partner'")
        assert ledger["owed"] == orders["owed"] == orders["orders"] * 5_000_000
        return books


@pytest.fixture
def tracker(tmp_path, own_servers):
    built = Tracker(tmp_path / "data", own_servers.dsn, own_servers.redis_url)
    yield built
    built.close()


def test_postgresql_down_postbacks_are_kept_and_decided_once_when_it_is_back(tracker, own_servers):
    click = tracker.prepare()
    assert tracker.postback("before", click)[1]["status"] == "attributed"
    own_servers.postgres.kill()
    kept = [f"T-{number}" for number in range(20)]
    for txid in kept:
        status, body = tracker.postback(txid, click)
        assert (status, body["status"], bool(body["postback_id"])) == (202, "parked", True)
    assert tracker.postback(kept[0], click)[0] == 202  # the store repeats itself, in the dark too
    status, body = tracker.postback("bad", click, currency="EURO")
    assert (status, body["code"]) == (422, "invalid_currency")
    assert tracker.ask("/postback", token="wrong", txid="x", click_id=str(click))[0] == 401  # a table of today does not know it
    pixel = tracker.ask("/pixel.gif", pixel_key=PIXEL_KEY, txid="P-1", click_id=str(click), amount="50.00")
    assert (pixel[0], pixel[1][:3]) == (200, b"GIF")
    own_servers.postgres.start()
    books = tracker.settle_conversions(["before", *kept, "P-1"])
    assert (books["accepted"], books["stored"], books["duplicate"]) == (22, 22, 0)
    assert {row["status"] for row in tracker.conversions().values()} == {"approved", "pending"}
    status, told = tracker.ask("/postback/status", token=TOKEN, txid=kept[0])
    assert [postback["outcome"] for postback in told["postbacks"]] == ["duplicate", "attributed"]
    exposition = tracker.ask("/metrics")[1].decode()
    assert 'turnout_postbacks_total{outcome="journaled"} 22.0' in exposition
    tracker.stop("serve tracker")
    assert tracker.books()["state"] == "balanced"


def test_a_frozen_postgresql_costs_the_first_store_two_seconds_and_no_store_its_order(tracker, own_servers):
    click = tracker.prepare()
    own_servers.postgres.pause()
    try:
        answers = [tracker.postback(f"F-{number}", click) for number in range(10)]
    finally:
        own_servers.postgres.resume()
    assert {status for status, _ in answers} == {202}
    tracker.settle_conversions([f"F-{number}" for number in range(10)])


def test_a_tracker_killed_with_kept_postbacks_loses_none(tracker, own_servers):
    click = tracker.prepare()
    own_servers.postgres.kill()
    own_servers.valkey.kill()
    kept = [f"K-{number}" for number in range(10)]
    assert {tracker.postback(txid, click)[0] for txid in kept} == {202}
    tracker.kill("serve tracker")
    own_servers.valkey.start()
    own_servers.postgres.start()
    tracker.start_tracker()
    tracker.settle_conversions(kept)


def test_a_dead_trackers_volume_is_drained_and_sent_again_harmlessly(tracker, own_servers, tmp_path):
    click = tracker.prepare()
    own_servers.postgres.kill()
    own_servers.valkey.kill()
    kept = [f"V-{number}" for number in range(5)]
    assert {tracker.postback(txid, click)[0] for txid in kept} == {202}
    tracker.kill("serve tracker")
    volume = tmp_path / "volume" / "journal" / "conversions"
    volume.parent.mkdir(parents=True)
    (tracker.directory / "journal" / "conversions").rename(volume)
    own_servers.valkey.start()
    own_servers.postgres.start()
    code, out, err = tracker.turnout("drain", str(tmp_path / "volume"), "--json")
    assert (code, json.loads(out)["records"]) == (0, 5), err
    tracker.settle_conversions(kept)
    volume.rename(tracker.directory / "journal" / "conversions")
    code, _, err = tracker.turnout("replay", "--since", "1h")
    assert code == 0, err
    wait_until_sync(lambda: tracker.books()["redelivered"] >= 5, because="sent again, and recognised")
    tracker.settle_conversions(kept)


@pytest.mark.parametrize("point", ["after_read", "before_copy", "before_commit", "after_commit", "before_ack", "after_ack"])
def test_the_conversion_writer_killed_between_two_steps(tracker, own_servers, point):
    click = tracker.prepare(with_writer=False)
    own_servers.postgres.kill()
    kept = [f"C-{number}" for number in range(5)]
    assert {tracker.postback(txid, click)[0] for txid in kept} == {202}
    own_servers.postgres.start()
    tracker.start("work conversions", TURNOUT_INTERNAL_CRASH_AT=f"conversion_writer.{point}")
    wait_until_sync(lambda: tracker.died("work conversions"), because=point)
    assert tracker.parts.pop("work conversions").returncode == -signal.SIGKILL
    tracker.start("work conversions")
    tracker.settle_conversions(kept)


def test_a_commit_whose_answer_was_lost_is_no_second_order(tracker, own_servers):
    """The tracker hears nothing of its COMMIT, keeps the postback too, and the writer finds it stored: a duplicate in the books."""
    click = tracker.prepare()
    tracker.query("""
        CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(4); RETURN NULL; END $$;
    """)
    # Deferred to the COMMIT, and only there: by then the tracker has sent everything, and gives up waiting for the answer.
    tracker.query("""
        CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON conversions DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.txid = 'slow') EXECUTE FUNCTION hold()
    """)
    status, body = tracker.postback("slow", click)
    assert (status, body["status"]) == (202, "parked")
    tracker.settle_conversions(["slow"])
    (row,) = tracker.query("SELECT count(*) AS postbacks FROM postbacks WHERE txid = 'slow'")
    assert row["postbacks"] == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")
def test_with_the_journals_disk_full_redis_is_enough(tracker, own_servers, tmp_path):
    folder = tracker.directory / "journal" / "conversions"
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=True)
    try:
        (folder / "filler").write_bytes(b"x" * 65536)
        click = tracker.prepare()
        own_servers.postgres.kill()
        kept = [f"D-{number}" for number in range(5)]
        assert {tracker.postback(txid, click)[0] for txid in kept} == {202}
        own_servers.valkey.kill()
        status, body = tracker.postback("nowhere", click)
        assert (status, body["code"]) == (503, "unavailable")
        own_servers.valkey.start()
        own_servers.postgres.start()
        tracker.settle_conversions(kept)
    finally:
        tracker.close()
        subprocess.run(["umount", "-l", str(folder)], check=True)
