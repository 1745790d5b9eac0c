"""What comes to an old host at the redirector's port and is no click: kept before it is answered, answered in the old platform's words."""

import asyncio
import http.client

import pytest

from tests.integration.old_edge import HOSTS, KEY, Edge, cookie_header, old_host, publish
from tests.integration.pipeline import BROWSER, Pipeline, make_programme
from tests.integration.test_redirector_metrics import Host
from tests.integration.visitors import cookie_of
from tests.wait import wait_until_sync
from tracker.domain.posted import BODY_MAX_BYTES
from tracker.domain.visitor_cookie import read, with_click
from tracker.platforms.replies import GIF

pytestmark = pytest.mark.integration
CLICK = "01k8zq3m5n7p9r1s3t5v7w9x1y"
OLD_CLICK = "/aff_c?offer_id=7&aff_id=42"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}
TEE = old_host(20, "tee.example", "webgains", forward_to="https://old.example", settings={"reports": {"tee": True}})
SHADOW = old_host(21, "shadow.example", state="shadow", forward_to="https://old.example")
BACK = old_host(22, "back.example", "webgains", state="rolled_back", forward_to="https://old.example", settings={"reports": {"tee": True}})


@pytest.fixture
async def edge(tmp_path, redis_url):
    publish(tmp_path, [*HOSTS, TEE, SHADOW, BACK])
    async with Edge(tmp_path, redis_url, trusted_proxies="127.0.0.0/8", flood_limit=2) as opened:
        yield opened


PLAIN, HTML = "text/plain; charset=utf-8", "text/html; charset=UTF-8"
TUNE = (200, HTML, b"success=true;")
AFFISE = (200, "application/json", b'{"status":1,"message":"Postback received"}')
SALE = {"content": b'{"event_id":"e1","tid":"x","amount":100}', "headers": JSON}


@pytest.mark.parametrize(
    ("method", "host", "target", "sent", "kind", "answer"),
    [
        ("GET", "tune", "/aff_lsr?transaction_id=t1&amount=5", {}, "postback", TUNE),
        ("POST", "tune", "/aff_lsr", {"content": b"transaction_id=t1", "headers": FORM}, "postback", TUNE),
        ("GET", "tune", "/aff_l?offer_id=7", {}, "pixel", (200, "image/gif", GIF)),
        ("GET", "tune", "/aff_i?offer_id=7&aff_id=42", {}, "impression", (200, "image/gif", GIF)),
        ("GET", "voluum", "/postback?cid=wABCDEFGHIJKLMNOPQRSTUVW&payout=1", {}, "postback", (200, PLAIN, b"")),
        ("GET", "affise", "/postback?clickid=5f0000000000000000000001&sum=3", {}, "postback", AFFISE),
        ("POST", "firstpromoter", "/api/v2/track/sale", SALE, "postback", (200, "application/json", b"{}")),
        ("GET", "shadow", "/aff_lsr?transaction_id=t1", {}, "postback", TUNE),
    ],
)
async def test_reports_are_kept_and_answered_in_the_old_platforms_words(edge, method, host, target, sent, kind, answer):
    found = await edge.ask(target, method=method, host=f"{host}.example", **sent)
    assert (found.status_code, found.headers["content-type"], found.content) == answer
    assert found.headers["cache-control"] == "no-store"
    assert found.headers["content-security-policy"] == "sandbox; default-src 'none'"  # one answer is HTML with a word of the URL
    assert not {"x-click-id", "location"} & set(found.headers)
    (report,) = await edge.reports(1)
    assert (report.kind, report.method, report.host, report.target) == (kind, method, f"{host}.example".encode(), target.encode())
    assert (report.body, report.content_type) == (sent.get("content", b""), sent.get("headers", {}).get("Content-Type", "").encode())
    assert (report.ip, len(report.postback_id)) == ("127.0.0.0", 16)
    platform = "tune" if host == "shadow" else host
    assert await edge.metric(f'turnout_old_reports_total{{kind="{kind}",platform="{platform}"}}') == 1
    assert edge.shipped("clicks") == []


@pytest.mark.parametrize(
    ("host", "target", "kind"),
    [
        ("shadow.example", "/aff_l?offer_id=7", "pixel"),
        ("shadow.example", "/aff_i?offer_id=7&aff_id=42", "impression"),
        ("back.example", "/transaction.html?wgver=1.2&wgprogramid=39&wgorderreference=A1", "pixel"),
    ],
)
async def test_where_visitors_still_go_to_the_old_platform_their_images_do_too(edge, host, target, kind):
    answer = await edge.ask(target, host=host, cookie="wg_cid=w1")
    assert (answer.status_code, answer.headers["location"], answer.content) == (302, f"https://old.example{target}", b"")
    assert ("set-cookie" in answer.headers) is (host == "back.example")
    head = await edge.ask(target, host=host, method="HEAD")
    assert (head.status_code, head.headers["location"]) == (302, f"https://old.example{target}")
    await edge.ask("/aff_lsr?transaction_id=last")
    report, last = await edge.reports(2)
    assert (report.kind, report.target, report.cookie, last.kind) == (kind, target.encode(), b"", "postback")


async def test_only_a_click_that_leads_somewhere_brings_an_old_id_by_its_url(edge):
    for host, target, old in (
        ("tune.example", OLD_CLICK + "&transaction_id=t1", "old:t1"),
        ("shadow.example", "/aff_c?offer_id=404&aff_id=404&transaction_id=t1", "old:t1"),
        ("tune.example", "/aff_c?offer_id=404&aff_id=404&transaction_id=t1", ""),
        ("tune.example", "/aff_i?offer_id=7&aff_id=42&transaction_id=t1", ""),
        ("tune.example", "/aff_l?offer_id=7&transaction_id=t1", ""),
        ("tune.example", "/nothing?transaction_id=t1", ""),
    ):
        answer = await edge.ask(target, host=host)
        found = read(cookie_of(answer)[0], KEY) if "set-cookie" in answer.headers else ()
        assert [visit for visit in found if visit.startswith("old:")] == ([old] if old else []), target


async def test_a_click_goes_on_without_a_body_that_cannot_be_had(edge):
    long = b"x" * (BODY_MAX_BYTES + 1)
    answer = await edge.ask(OLD_CLICK, method="POST", content=long, headers=FORM)
    assert (answer.status_code, bool(answer.headers["x-click-id"])) == (302, True)
    assert (await edge.ask("/nothing", method="POST", content=long, headers=FORM)).status_code == 413
    assert await edge.metric('turnout_old_reports_refused_total{reason="too_large"}') == 1


async def test_clicks_go_on_as_they_did_also_by_post_and_nobody_elses_body_is_read(edge):
    for host, target, sent in (
        ("tune.example", OLD_CLICK, b"amount=1"),
        ("shadow.example", OLD_CLICK, b"x=1"),
        ("go.example", "/c/plain", b"x" * (BODY_MAX_BYTES + 1)),
    ):
        answer = await edge.ask(target, method="POST", host=host, content=sent, headers=FORM)
        assert (answer.status_code, bool(answer.headers["x-click-id"])) == (302, True)
    assert {record.outcome for record in await edge.clicks(3)} == {"ok"}
    assert edge.shipped() == []


async def test_who_only_looks_gets_the_answer_and_nothing_is_kept(edge):
    head = await edge.ask("/aff_lsr?transaction_id=t1", method="HEAD")
    ahead = await edge.ask("/aff_l?offer_id=7", headers={"Sec-Purpose": "prefetch"})
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "13")
    assert (ahead.content, "set-cookie" in ahead.headers) == (GIF, False)
    await edge.ask("/aff_lsr?transaction_id=t2", headers={"X-Purpose": "preview"})  # an order, whatever its headers say
    assert [report.target for report in await edge.reports(1)] == [b"/aff_lsr?transaction_id=t2"]


async def test_a_body_that_is_too_long_is_refused_before_it_is_read(edge):
    body = b"transaction_id=t1&x=" + b"y" * BODY_MAX_BYTES
    answer = await edge.ask("/aff_lsr", method="POST", content=body, headers=FORM)
    assert (answer.status_code, answer.text) == (413, f"at most {BODY_MAX_BYTES} bytes are taken\n")

    async def pieces():
        for at in range(0, len(body), 65536):
            yield body[at : at + 65536]

    assert (await edge.ask("/aff_lsr", method="POST", content=pieces(), headers=FORM)).status_code == 413
    assert await edge.metric('turnout_old_reports_refused_total{reason="too_large"}') == 2
    assert (await edge.ask("/aff_lsr", method="POST", content=body[:BODY_MAX_BYTES], headers=FORM)).status_code == 200
    assert len((await edge.reports(1))[0].body) == BODY_MAX_BYTES


async def test_a_flood_of_images_is_answered_and_not_kept_and_a_stores_postbacks_have_no_limit(edge):
    images = await asyncio.gather(*(edge.ask("/aff_i?offer_id=7&aff_id=42") for _ in range(200)))
    assert {answer.content for answer in images} == {GIF}
    orders = await asyncio.gather(*(edge.ask(f"/aff_lsr?transaction_id=t{number}") for number in range(100)))
    assert {answer.status_code for answer in orders} == {200}
    flooded = await edge.metric('turnout_old_reports_refused_total{reason="flooded"}')
    kept = await edge.metric('turnout_old_reports_total{kind="impression",platform="tune"}')
    assert flooded > 0
    assert flooded + kept == 200
    assert sum(report.kind == "postback" for report in await edge.reports(100 + int(kept))) == 100


def test_what_was_answered_outlives_kill_9_and_what_nothing_can_keep_is_not_answered_as_kept(tmp_path, redis_url):
    """Neither PostgreSQL nor Redis is there; then the disk refuses too."""
    publish(tmp_path / "data")
    host = Host(tmp_path / "data")
    try:
        host.start("a")
        assert post(host, "/aff_lsr", "transaction_id=kill9") == (200, b"success=true;")
        host.kill("a")
        segments = (tmp_path / "data" / "journal" / "conversions").glob("slot-*/*.seg")
        assert any(b"transaction_id=kill9" in path.read_bytes() for path in segments)
        (tmp_path / "full" / "journal").mkdir(parents=True)
        publish(tmp_path / "full", [*HOSTS, SHADOW])
        (tmp_path / "full" / "journal" / "conversions").touch()  # no folder can be made
        host.start("b", TURNOUT_DATA_DIR=str(tmp_path / "full"))
        assert post(host, "/aff_lsr", "transaction_id=t1") == (503, b"not kept, send it again\n")
        assert post(host, "/aff_l?offer_id=7", "") == (200, GIF)
        assert post(host, "/aff_l?offer_id=7", "", host_name="shadow.example")[0] == 302
        assert host.get("/c/none")[0] == 404
        assert host.scrape()['turnout_old_reports_refused_total{reason="unavailable"}'] == 3
        host.kill("b")
    finally:
        host.close()
    asyncio.run(takes_over(tmp_path / "data", redis_url))


async def takes_over(directory, redis_url):
    """The next process on that data directory ships what the killed one left."""
    async with Edge(directory, redis_url) as edge:
        assert [report.body for report in await edge.reports(1)] == [b"transaction_id=kill9"]


def post(host, target, body, host_name="tune.example"):
    connection = http.client.HTTPConnection(*host.listener.getsockname(), timeout=20)
    try:
        connection.request("POST", target, body, {**FORM, "Host": host_name})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


async def test_a_click_is_in_the_visitors_cookie_and_the_old_pixel_brings_it(edge):
    first = await edge.ask(OLD_CLICK)
    value, attributes = cookie_of(first)
    assert read(value, KEY) == (first.headers["x-click-id"],)
    assert attributes == {"Path": "/", "Max-Age": "7776000", "HttpOnly": "", "SameSite": "Lax"}
    second = await edge.ask(OLD_CLICK, host="shadow.example", cookie=cookie_header(value), headers={"X-Forwarded-Proto": "https"})
    value, attributes = cookie_of(second)
    assert read(value, KEY) == (second.headers["x-click-id"], first.headers["x-click-id"])
    assert attributes == {"Path": "/", "Max-Age": "7776000", "Secure": "", "HttpOnly": "", "SameSite": "None"}
    await edge.ask("/aff_l?offer_id=7", cookie=cookie_header(value))
    (report,) = await edge.reports(1)
    assert (report.visits, report.old_click_id, report.cookie) == (read(value, KEY), b"", b"")


async def test_the_old_platforms_own_cookie_crosses_over_once(edge):
    old, target = "wg_cid=1a2b3c%2D4d5e6f", "/transaction.html?wgver=1.2&wgprogramid=39&wgvalue=5.00&wgorderreference=A1"
    first = await edge.ask(target, host="webgains.example", cookie=old)
    value, _ = cookie_of(first)
    assert read(value, KEY) == ("old:1a2b3c-4d5e6f",)
    again = await edge.ask(target, host="tee.example", cookie=f"{old}; {cookie_header(value)}")
    assert "set-cookie" not in again.headers
    *_, last = await edge.reports(2)
    assert (last.visits, last.old_click_id) == (("old:1a2b3c-4d5e6f",), b"1a2b3c-4d5e6f")
    assert last.cookie == old.encode()  # ours, and the shop's, are nobody else's business


async def test_there_is_no_cookie_on_tracking_hosts_for_postbacks_for_lookers_or_without_the_secret(edge, tmp_path):
    answers = [
        await edge.ask("/c/plain", host="go.example"),
        await edge.ask("/aff_lsr?transaction_id=t1", cookie="x=y"),
        await edge.ask(OLD_CLICK, method="HEAD"),
        await edge.ask(OLD_CLICK, headers={"Purpose": "prefetch"}),
        await edge.ask("/aff_c?offer_id=404&aff_id=404"),
    ]
    assert not any("set-cookie" in answer.headers for answer in answers)


async def test_a_shops_page_tells_the_old_id_of_our_newest_click(edge):
    ours = cookie_header(with_click(with_click("", KEY, CLICK), KEY, "old:earlier"))
    told = await edge.ask("/-/seen.gif?x=1&old_click_id=abc%2B1", host="shadow.example", cookie=ours)
    assert (told.status_code, told.content, told.headers["cache-control"]) == (200, GIF, "no-store")
    for target, cookie in (
        ("/-/seen.gif?old_click_id=abc", ""),
        ("/-/seen.gif", ours),
        ("/-/seen.gif?old_click_id=" + "x" * 121, ours),
        ("/-/seen.gif?old_click_id=abc", cookie_header(with_click("", KEY, "old:earlier"))),
    ):
        assert (await edge.ask(target, cookie=cookie)).content == GIF
    assert (await edge.ask("/-/seen.gif?old_click_id=abc", host="go.example", cookie=ours)).status_code == 404
    await edge.ask("/aff_lsr?transaction_id=last")
    landing, last = await edge.reports(2)
    assert (landing.kind, landing.platform, landing.visits, landing.old_click_id) == ("landing", "tune", (CLICK,), b"abc+1")
    assert last.kind == "postback"


def test_a_dead_redirectors_reports_are_drained_and_the_books_of_both_kinds_balance(tmp_path, dsn, redis_url):
    asyncio.run(make_programme(dsn))
    pipeline = Pipeline(tmp_path / "data", dsn, redis_url)
    try:
        pipeline.query("INSERT INTO tracking_hosts (host, kind, platform) VALUES ('tune.example', 'old', 'tune')")
        pipeline.start("work routes")
        pipeline.start("serve redirector", TURNOUT_REDIS_URL="unix:///nowhere")
        wait_until_sync(lambda: report_to(pipeline, "/aff_i?offer_id=7&aff_id=42") == (200, GIF), because="the host is published")
        assert report_to(pipeline, "/aff_lsr?transaction_id=t1&amount=5")[0] == 200
        pipeline.kill("serve redirector")
        pipeline.start("work clicks conversions")
        code, out, err = pipeline.turnout("drain", str(pipeline.directory))
        assert code == 0, out + err
        wait_until_sync(lambda: pipeline.look_at_books()["state"] == "balanced", within_s=60, every_s=0.2, because="the books balance")
        books = pipeline.look_at_books()["conversions"]
        assert (books["state"], books["accepted"], books["stored"], books["unrecorded"]) == ("balanced", 2, 2, 0)
        assert [row["kind"] for row in pipeline.query("SELECT kind FROM old_reports")] == ["postback"]
        assert pipeline.query("SELECT FROM clicks WHERE url LIKE '/aff_lsr%'") == []
    finally:
        pipeline.close()


def report_to(pipeline, target):
    connection = http.client.HTTPConnection("127.0.0.1", pipeline.port, timeout=20)
    try:
        connection.request("GET", target, headers={"Host": "tune.example", "User-Agent": BROWSER})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
