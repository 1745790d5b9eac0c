"""What stores send to the old hosts of every platform, over HTTP: answered byte for byte, journaled, and stored as the right conversion."""

import asyncio
import http.client
from decimal import Decimal

import asyncpg
import pytest
import redis

from tests.integration.pipeline import BROWSER, Pipeline
from tests.old_reports import CONVERSIONS, ROWS, SOURCES, answer_of, label
from tests.wait import wait_until_sync
from tracker.adapters.lmdb_routes import RouteTable
from tracker.domain import visitor_cookie
from tracker.domain.old_reports import token_hash

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]
WITHIN_S = 90
TOKENS = {"idevaffiliate": "sec9", "strict": "right"}
PROGRAMME = """
    INSERT INTO advertisers (slug, name, currency, domains) VALUES ('shop', 'Shop', 'EUR', '{shop.example}');
    INSERT INTO campaigns (slug, advertiser_id, destination_url) SELECT 'shoes', id, 'https://shop.example/' FROM advertisers;
    INSERT INTO terms (campaign_id, payout_type, percent_micros) SELECT id, 'percent', 10000000 FROM campaigns;
    INSERT INTO partners (slug, name) VALUES ('ada', 'Ada');
"""
HOST = """
    INSERT INTO tracking_hosts (host, kind, platform, source, advertiser_id, settings)
    SELECT $1, 'old', $2, $3, id, $4::jsonb FROM advertisers
"""
OLD_ID = """
    INSERT INTO old_ids (source, kind, source_id, partner_id, campaign_id)
    SELECT $1, $2, $3, CASE $2 WHEN 'partner' THEN p.id END, CASE $2 WHEN 'partner' THEN NULL ELSE c.id END FROM partners p, campaigns c
"""
OLD_CLICK = """
    INSERT INTO old_clicks (source, old_click_id, clicked_at, partner, campaign)
    SELECT $1, $2, now() - interval '1 day', p.id, c.id FROM partners p, campaigns c
"""
COUNTED = """
    SELECT coalesce(sum(impressions), 0) AS all, coalesce(sum(impressions) FILTER (WHERE campaign <> 0), 0) AS known FROM impression_stats
"""
BECAME = """
    SELECT r.host, r.target, r.body, r.kind, r.platform, r.state, r.reason, r.click_id AS read_click, p.outcome, p.reason AS refused,
        p.goal, p.txid, p.amount_micros, trim(p.currency) AS currency, p.coupon, p.unverified, c.status, c.attribution,
        c.amount_micros AS earned_on, a.slug AS partner, m.slug AS campaign
    FROM old_reports r LEFT JOIN postbacks p USING (postback_id) LEFT JOIN conversions c ON c.id = p.conversion_id
    LEFT JOIN partners a ON a.id = c.partner LEFT JOIN campaigns m ON m.id = c.campaign
"""


def makes_something(row):
    """Whether anything comes of it: a count, an order of the visitor's, of a click, or of a partner whom a token proves."""
    expect = row["expect"]
    return row["kind"] != "postback" or bool(expect.get("click_id")) or expect.get("token") == TOKENS.get(row["platform"], "")


def chosen():
    """Of each platform one row of every kind and method; and of what reports no conversion one."""
    found = {}
    for row in ROWS:
        if row["host"].endswith(".old.example") and makes_something(row) and not row.get("refused"):
            found.setdefault((row["platform"], row["kind"], row["method"], row["expect"].get("status") == "ignored"), row)
    return list(found.values())


CHOSEN = chosen()
SENT = [row for row in CHOSEN if row["kind"] != "impression"]
IMPRESSIONS = [row for row in CHOSEN if row["kind"] == "impression"]


async def fill(dsn):
    """The programme, an old host of each platform, what its ids mean, and the clicks that it made."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(PROGRAMME)
    hosts = [(f"{name}.old.example", name, name) for name in sorted({row["platform"] for row in ROWS})]
    for host, platform, source in [*hosts, ("strict.old.example", "tune", "strict")]:
        token = TOKENS.get(source)
        settings = f'{{"reports": {{"token_hashes": ["{token_hash(token)}"]}}}}' if token else "{}"
        await connection.execute(HOST, host, platform, source, settings)
    ids = {(row["platform"], kind, row["expect"].get(f"{kind}_id")) for row in CHOSEN for kind in ("partner", "offer", "creative")}
    everything = ("idevaffiliate", "offer", "")  # it has one programme, which no report names
    await connection.executemany(OLD_ID, [everything, *sorted(one for one in ids if one[2])])
    clicks = {(row["platform"], row["expect"].get("click_id")) for row in CONVERSIONS if row["expect"].get("click_id")}
    seen = {(row["platform"], f"seen-by-{row['platform']}") for row in SENT if row["kind"] == "pixel"}
    await connection.executemany(OLD_CLICK, sorted({*clicks, *seen}))
    await connection.close()


class Pipe(Pipeline):
    """A redirector and the workers behind it, with the whole data file sent through them once."""

    def send(self, row):
        """What is answered: status, content type, body."""
        headers = {"Host": row["host"], "User-Agent": BROWSER}
        if row["content_type"]:
            headers["Content-Type"] = row["content_type"]
        if row["kind"] == "pixel":
            old = visitor_cookie.old_visit(f"seen-by-{row['platform']}")
            cookie = visitor_cookie.with_click("", visitor_cookie.derive(self.secret.encode()), old)
            headers["Cookie"] = f"x=y; {visitor_cookie.NAME}={cookie}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(row["method"], row["target"], row["body"].encode() if row["body"] else None, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheader("Content-Type"), answer.read()
        finally:
            connection.close()

    @property
    def secret(self):
        """Of this installation, as the redirector has it."""
        table = RouteTable(self.directory / "routes" / "routes.mdb")
        table.refresh()
        secret = table.installation().visitor_secret
        table.close()
        return secret

    def became(self):
        """What became of what was sent, by host, target and body."""
        found = {}
        for row in self.query(BECAME):
            found.setdefault((row["host"], row["target"], row["body"]), []).append(row)
        return found


def strict(target, kind="postback", method="GET"):
    """A request to the host that wants a token."""
    facts = {"platform": "tune", "name": target, "host": "strict.old.example", "content_type": "", "body": ""}
    return facts | {"kind": kind, "method": method, "target": target}


STRICT = "/aff_lsr?offer_id=26&transaction_id=102d41aa00b54c7e91f2a36c7788de&adv_sub=BAD-1"
BAD = {
    f"{STRICT}&amount=5&security_token=guessed": "the token is missing or wrong",
    f"{STRICT}&amount=5": "the token is missing or wrong",
    f"{STRICT}&amount=five&security_token=right": "amount 'five' is no number such as 10.50",
}


def is_published(pipe, request):
    return pipe.get("/-/readyz")[0] == 200 and pipe.secret and pipe.send(request)[1] == "image/gif"


@pytest.fixture(scope="module")
def pipe(servers, databases, tmp_path_factory):
    """Everything was sent and stored. `answers` are those of the chosen rows, in their order, then those of `BAD`, twice."""
    dsn = databases.take()
    redis.Redis.from_url(servers.redis_url).flushdb()
    asyncio.run(fill(dsn))
    built = Pipe(tmp_path_factory.mktemp("shapes") / "data", dsn, servers.redis_url)
    try:
        built.start("work routes conversions")
        built.start("serve redirector")
        last = strict("/aff_i?offer_id=1&aff_id=1", "impression", "HEAD")
        wait_until_sync(lambda: is_published(built, last), within_s=WITHIN_S, because="the old hosts are published")
        bad = [strict(target) for target in BAD]
        built.answers_of_rows = [built.send(row) for row in [*CHOSEN, *bad, *bad]]
        stored = "SELECT count(*) AS rows FROM old_reports"
        expected = len(SENT) + 2 * len(BAD)
        wait_until_sync(lambda: built.query(stored)[0]["rows"] >= expected, within_s=WITHIN_S, because="all reports are stored")
        yield built
    finally:
        built.close()
        databases.give_back(dsn)
        redis.Redis.from_url(servers.redis_url).flushdb()


def test_every_platforms_reports_are_answered_in_its_words_byte_for_byte(pipe):
    assert {row["platform"] for row in SENT} == {name for name, source in SOURCES.items() if source.profile.klass == "takeable"}
    wrong = []
    for row, answer in zip(CHOSEN, pipe.answers_of_rows, strict=False):
        expected = answer_of(row)
        if answer != (expected.status, expected.content_type, expected.body):
            wrong.append(f"{label(row)}: {answer}, expected {expected}")
    assert not wrong, "\n".join(wrong)


def expected_of(row):
    """What becomes of a report: state, outcome, status, micros, currency, goal, coupon, unverified, partner, campaign, click."""
    expect, is_pixel = row["expect"], row["kind"] == "pixel"
    if expect["status"] == "ignored":
        return ("ignored", *[None] * 9, expect.get("click_id"))
    amount = Decimal(expect.get("amount", "0")) if expect.get("amount") != "auto" else Decimal(0)
    status = "pending" if is_pixel and expect["status"] == "approved" else expect["status"]
    currency, goal = expect.get("currency", "EUR").upper(), expect.get("goal", "sale")
    whose = ("ada", "shoes", expect.get("click_id"))
    return ("read", "attributed", status, int(amount * 10**6), currency, goal, expect.get("coupon"), is_pixel, *whose)


def test_every_postback_and_pixel_is_the_conversion_that_it_reports(pipe):
    became, wrong = pipe.became(), []
    for row in SENT:
        (found,) = became[row["host"], row["target"].encode(), row["body"].encode()]
        seen = tuple(found[name] for name in ("state", "outcome", "status", "amount_micros", "currency", "goal", "coupon", "unverified"))
        seen += (found["partner"], found["campaign"], found["read_click"])
        order = row["expect"].get("order_id") or row["expect"].get("click_id", "").lower()
        if seen != expected_of(row) or not (found["txid"] or order).endswith(order):
            why = found["refused"] or found["reason"]
            wrong.append(f"{label(row)}: {seen}, expected {expected_of(row)} and order {order!r}; {found['txid']!r} {why!r}")
    assert not wrong, "\n".join(wrong)


def test_every_impression_is_counted_and_is_no_click(pipe):
    (found,) = wait_until_sync(lambda: (rows := pipe.query(COUNTED))[0]["all"] >= len(IMPRESSIONS) and rows, because="they are counted")
    assert (found["all"], found["known"]) == (len(IMPRESSIONS), len(IMPRESSIONS))
    assert len(IMPRESSIONS) == 6
    assert pipe.query("SELECT count(*) AS clicks FROM clicks")[0]["clicks"] == 0


def test_a_wrong_token_and_a_wrong_amount_are_accepted_and_can_be_seen_as_rejected_each_time(pipe):
    for answer in pipe.answers_of_rows[len(CHOSEN) :]:
        assert answer == (200, "text/html; charset=UTF-8", b"success=true;")
    became = pipe.became()
    for target, reason in BAD.items():
        found = became["strict.old.example", target.encode(), b""]
        assert [(row["state"], row["outcome"], row["refused"]) for row in found] == [("refused", "rejected", reason)] * 2, target
    secrets = "SELECT count(*) AS rows FROM postbacks WHERE parameters::text ~ 'guessed|sec9|right'"
    assert pipe.query(secrets)[0]["rows"] == 0


def test_the_books_balance(pipe):
    books = {}

    def are_balanced():
        books.update(pipe.look_at_books())
        return books["state"] == "balanced"

    try:
        wait_until_sync(are_balanced, every_s=0.2)
    except AssertionError:
        pytest.fail(f"the books do not balance: {books}")
    assert books["conversions"]["accepted"] == books["conversions"]["stored"] == len(CHOSEN) + 2 * len(BAD)
