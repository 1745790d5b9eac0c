"""Reports of old platforms at the tracker's own port: the shapes of a registered old host come before what the tracker has there itself."""

import json

import httpx
import pytest

from tests.integration.api_client import ADMIN_KEY
from tests.integration.old_edge import HOSTS, KEY, cookie_header, old_host, publish, shipped
from tests.integration.visitors import cookie_of
from tests.wait import wait_until
from tracker.api.app import create
from tracker.domain.posted import BODY_MAX_BYTES
from tracker.domain.visitor_cookie import read
from tracker.platforms.replies import GIF
from tracker.settings import Settings

pytestmark = pytest.mark.integration
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
ADMIN = {"Authorization": f"Bearer {ADMIN_KEY}"}


@pytest.fixture
async def client(dsn, redis_url, tmp_path):
    publish(tmp_path, [*HOSTS, old_host(20, "shadow.example", state="shadow", forward_to="https://old.example")])
    settings = Settings(
        database_url=dsn,
        redis_url=redis_url,
        data_dir=str(tmp_path),
        admin_key=ADMIN_KEY,
        ip_mode="full",
        metrics_allow="203.0.113.0/24",
        _env_file=None,
    )
    app = create(settings)
    transport = httpx.ASGITransport(app, client=("203.0.113.7", 1))
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport) as opened:
        yield opened


async def reports(redis_url, count):
    return await wait_until(lambda: len(found := shipped(redis_url)) >= count and found, because=f"{count} reports are shipped")


async def test_reports_are_kept_and_answered_also_where_the_tracker_has_a_path_of_that_name(client, redis_url):
    answer = await client.get("http://affise.example/postback?clickid=5f0000000000000000000001&sum=3")
    assert (answer.status_code, answer.text) == (200, '{"status":1,"message":"Postback received"}')
    assert (answer.headers["content-type"], answer.headers["cache-control"]) == ("application/json", "no-store")
    answer = await client.post("http://firstpromoter.example/api/v1/track/sale", json={"event_id": "e1", "tid": "x", "amount": 100})
    assert (answer.status_code, answer.text) == (200, "{}")
    answer = await client.post("http://tune.example/aff_lsr", content=b"transaction_id=t1", headers=FORM)
    assert (answer.status_code, answer.text) == (200, "success=true;")
    answer = await client.get("http://webgains.example/transaction.html?wgver=1.2&wgprogramid=39", headers={"Cookie": "wg_cid=w1"})
    assert answer.content == GIF
    assert read(cookie_of(answer)[0], KEY) == ("old:w1",)
    await client.get("http://tune.example/aff_l?offer_id=7", headers={"Cookie": cookie_header(cookie_of(answer)[0])})
    kept = await reports(redis_url, 5)
    told = [(report.kind, report.platform, report.method) for report in kept]
    assert told == [("postback", "affise", "GET"), ("postback", "firstpromoter", "POST"), ("postback", "tune", "POST"),
                    ("pixel", "webgains", "GET"), ("pixel", "tune", "GET")]  # fmt: skip
    assert {report.ip for report in kept} == {"203.0.113.7"}
    assert (kept[3].old_click_id, kept[4].visits) == (b"w1", ("old:w1",))
    assert len({report.postback_id for report in kept}) == 5
    metrics = (await client.get("http://tracker/metrics")).text
    assert 'turnout_old_reports_total{kind="postback",platform="tune"} 1.0' in metrics


async def test_who_only_looks_leaves_nothing_and_a_body_that_is_too_long_is_refused(client, redis_url):
    looked = await client.head("http://tune.example/aff_lsr?transaction_id=t1")
    assert (looked.status_code, looked.content, looked.headers["content-length"]) == (200, b"", "13")
    long = await client.post("http://tune.example/aff_lsr", content=b"x" * (BODY_MAX_BYTES + 1), headers=FORM)
    assert (long.status_code, long.text) == (413, f"at most {BODY_MAX_BYTES} bytes are taken\n")
    ahead = await client.get("http://tune.example/aff_l?offer_id=7", headers={"Sec-Purpose": "prefetch;prerender"})
    assert ahead.content == GIF
    await client.get("http://tune.example/aff_lsr?transaction_id=t2", headers={"Purpose": "prefetch"})
    assert [report.target for report in await reports(redis_url, 1)] == [b"/aff_lsr?transaction_id=t2"]


async def test_where_visitors_still_go_to_the_old_platform_images_do_too_and_postbacks_are_answered(client, redis_url):
    for target in ("/aff_l?offer_id=7", "/aff_i?offer_id=7&aff_id=42"):
        answer = await client.get(f"http://shadow.example{target}")
        assert (answer.status_code, answer.headers["location"], answer.content) == (302, f"https://old.example{target}", b"")
    assert (await client.get("http://shadow.example/aff_lsr?transaction_id=t1")).text == "success=true;"
    assert [report.kind for report in await reports(redis_url, 3)] == ["pixel", "impression", "postback"]


async def test_everything_else_goes_its_way_and_clicks_are_not_served(client, redis_url):
    assert (await client.get("http://tune.example/aff_c?offer_id=7&aff_id=42")).status_code == 404
    assert (await client.get("http://tune.example/healthz")).status_code == 200
    assert (await client.get("http://tracker/aff_lsr?transaction_id=t1")).status_code == 404
    assert (await client.get("http://tune.example/api/v1/orphans")).status_code == 401
    assert (await client.get("http://tune.example/postback?txid=1")).json()["code"] == "bad_token"
    form = await client.post(
        "http://tune.example/postback", content=b"token=no&txid=1", headers=FORM
    )  # its body was looked at, and is whole
    assert form.json()["code"] == "bad_token"
    for host in ("tracker", "tune.example"):  # our own limit holds where it is ours
        padded = b"token=no&txid=1&x=" + b"y" * BODY_MAX_BYTES
        form = await client.post(f"http://{host}/postback", content=padded, headers=FORM)
        assert form.json()["code"] == "bad_token", host
    report = await client.post("http://affise.example/postback?clickid=5f0000000000000000000001", content=padded, headers=FORM)
    assert (report.status_code, report.text) == (413, f"at most {BODY_MAX_BYTES} bytes are taken\n")
    large = json.dumps({"slug": "shop", "name": "x" * BODY_MAX_BYTES, "currency": "EUR"}).encode()
    for host in ("tracker", "tune.example"):
        made = await client.post(f"http://{host}/api/v1/advertisers", content=large, headers=ADMIN)
        assert (made.status_code, made.headers["content-type"]) == (422, "application/problem+json"), host
    assert shipped(redis_url) == []
