"""The visitor's cookie over HTTP: who gets one, what it says, and whom an order without a click id is attributed to by it."""

import re
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.integration.api_client import ADMIN_KEY, click_text
from tests.integration.visitors import SECRET, cookie_of, publish_installation
from tracker.api.app import create
from tracker.api.tokens import Tokens
from tracker.domain.routes import CampaignRoute
from tracker.domain.visitor_cookie import derive, read, with_click
from tracker.errors import StoreUnavailable
from tracker.settings import Settings

pytestmark = pytest.mark.integration
KEY = derive(SECRET.encode())
SHOES = CampaignRoute(campaign_id=1, slug="shoes", advertiser_id=1, destination="https://shop.example/", domains=("shop.example",))
CLOSED = CampaignRoute(
    campaign_id=2, slug="hats", advertiser_id=2, destination="https://hats.example/", domains=("hats.example",), advertiser_status="paused"
)
PLAIN = CampaignRoute(campaign_id=3, slug="socks", advertiser_id=3, destination="https://socks.example/")


@pytest.fixture(autouse=True)
def published(tmp_path):
    publish_installation(tmp_path)


async def visit(api, shop, *clicks, cookie="", **headers):
    """The cookie after a visit for each click."""
    for click in clicks:
        answer = await api.client.get(
            "/visit.gif",
            params={"pixel_key": shop.pixel_key, "click_id": click},
            headers={"Cookie": f"a=b; turnout_visitor={cookie}", **headers},
        )
        cookie = cookie_of(answer)[0]
    return cookie


async def conversion_of(shop, txid):
    """How an order was attributed, and by which click."""
    row = await shop.database.fetchrow("SELECT attribution, click_id, status FROM conversions WHERE txid = $1", txid)
    return row and (row["attribution"], click_text(row["click_id"]), row["status"])


async def test_a_visit_puts_the_click_in_front(api, shop):
    first, second = (click_text(shop.new_click_id()) for _ in range(2))
    cookie = await visit(api, shop, first, second.upper())
    assert read(cookie, KEY) == (second, first)
    assert await shop.value("SELECT count(*) FROM postbacks") == 0


async def test_the_gif_is_not_kept_and_the_cookie_is_of_a_plain_site(api, shop):
    ask = {"pixel_key": shop.pixel_key, "click_id": click_text(shop.new_click_id())}
    answer = await api.get("/visit.gif", **ask)
    assert (answer.headers["content-type"], answer.headers["cache-control"], answer.content[:6]) == ("image/gif", "no-store", b"GIF89a")
    assert cookie_of(answer)[1] == {"Path": "/", "Max-Age": "7776000", "HttpOnly": "", "SameSite": "Lax"}
    looked = await api.client.head("/visit.gif", params=ask)
    assert (looked.status_code, "set-cookie" in looked.headers) == (200, False)


@pytest.mark.parametrize(("trusted", "is_secure"), [("127.0.0.0/8", True), ("192.0.2.0/24", False)])
async def test_only_a_trusted_proxy_says_that_it_was_https(dsn, tmp_path, shop, trusted, is_secure):
    settings = Settings(database_url=dsn, data_dir=str(tmp_path), admin_key=ADMIN_KEY, trusted_proxies=trusted, _env_file=None)
    app = create(settings)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t") as client:
        ask = {"pixel_key": shop.pixel_key, "click_id": click_text(shop.new_click_id())}
        answer = await client.get("/visit.gif", params=ask, headers={"X-Forwarded-Proto": "https"})
    policy = cookie_of(answer)[1]
    assert ("Secure" in policy, policy["SameSite"]) == ((True, "None") if is_secure else (False, "Lax"))


async def test_the_tracker_itself_on_https_sets_a_secure_cookie(api, shop):
    ask = {"pixel_key": shop.pixel_key, "click_id": click_text(shop.new_click_id())}
    answer = await api.client.get("https://tracker/visit.gif", params=ask)
    assert cookie_of(answer)[1] == {"Path": "/", "Max-Age": "7776000", "Secure": "", "HttpOnly": "", "SameSite": "None"}


async def test_a_wrong_key_or_id_gets_the_gif_and_no_cookie(api, shop):
    click = click_text(shop.new_click_id())
    asked = [
        {},
        {"click_id": click},
        {"click_id": click, "pixel_key": "px_wrong"},
        {"click_id": click, "pixel_key": shop.token},
        {"click_id": click, "pixel_key": "\ud800".encode("utf-8", "surrogatepass")},
        {"click_id": "old-platform-77", "pixel_key": shop.pixel_key},
        {"click_id": click + "\r\nSet-Cookie: a=b", "pixel_key": shop.pixel_key},
    ]
    for ask in asked:
        answer = await api.client.get("/visit.gif", params=ask)
        assert (answer.status_code, answer.headers["content-type"], "set-cookie" in answer.headers) == (200, "image/gif", False), ask


async def test_no_cookie_is_made_before_the_installation_has_its_secret(api, shop, tmp_path):
    publish_installation(tmp_path, "")
    answer = await api.get("/visit.gif", pixel_key=shop.pixel_key, click_id=click_text(shop.new_click_id()))
    assert (answer.status_code, "set-cookie" in answer.headers) == (200, False)
    signed_by_nothing = with_click("", derive(b""), click_text(await shop.click()))
    await api.get("/pixel.gif", pixel_key=shop.pixel_key, txid="A", cookie=signed_by_nothing)
    assert await conversion_of(shop, "A") is None


async def test_a_pixel_that_names_nothing_is_attributed_by_the_cookie(api, shop):
    old = click_text(await shop.click(clicked_at=datetime.now(UTC) - timedelta(days=2)))
    new = click_text(await shop.click(clicked_at=datetime.now(UTC) - timedelta(days=1)))
    cookie = await visit(api, shop, old, new)
    ask = {"pixel_key": shop.pixel_key, "amount": "10"}
    await api.client.get("/pixel.gif", params=ask | {"txid": "A"}, headers={"Cookie": f"turnout_visitor={cookie}"})
    await api.client.post("/pixel.gif", data=ask | {"txid": "B"}, headers={"Cookie": f"turnout_visitor={cookie}"})
    await shop.execute("UPDATE campaigns SET attribution_model = 'first'")
    await api.client.get("/pixel.gif", params=ask | {"txid": "C"}, headers={"Cookie": f"turnout_visitor={cookie}"})
    assert [await conversion_of(shop, txid) for txid in "ABC"] == [
        ("cookie", new, "pending"), ("cookie", new, "pending"), ("cookie", old, "pending"),
    ]  # fmt: skip


async def test_a_pixel_with_neither_order_number_nor_click_counts_once_a_click(api, shop):
    cookie = await visit(api, shop, click_text(await shop.click()))
    for _ in range(2):
        await api.client.get("/pixel.gif", params={"pixel_key": shop.pixel_key}, headers={"Cookie": f"turnout_visitor={cookie}"})
    assert await shop.value("SELECT count(*) FROM conversions") == 1


async def test_a_cookie_that_somebody_made_is_passed_over(api, shop):
    click = click_text(await shop.click())
    forged = with_click("", derive(b"guessed"), click)
    for cookie in (forged, f"1.{click}.{'0' * 32}", "x", ""):
        await api.client.get(
            "/pixel.gif", params={"pixel_key": shop.pixel_key, "txid": "A"}, headers={"Cookie": f"turnout_visitor={cookie}"}
        )
    assert await conversion_of(shop, "A") is None


async def test_a_store_may_pass_the_cookie_on(api, shop):
    click = click_text(await shop.click())
    cookie = await visit(api, shop, click)
    answer = await api.get("/postback", token=shop.token, txid="A", amount="10", cookie=cookie)
    assert answer.json()["status"] == "attributed"
    assert await conversion_of(shop, "A") == ("cookie", click, "approved")
    assert cookie not in await shop.value("SELECT parameters::text FROM postbacks WHERE txid = 'A'")
    many = await api.client.post(
        "/postback", params={"token": shop.token}, json=[{"txid": "B", "cookie": cookie}, {"txid": "C", "cookie": "x"}]
    )
    assert [result["http_status"] for result in many.json()["results"]] == [200, 422]


async def test_a_store_may_call_the_cookie_otherwise(api, shop):
    await api.admin("PATCH", "/api/v1/advertisers/shop", {"settings": {"postbacks": {"parameters": {"visitor": "cookie"}}}})
    cookie = await visit(api, shop, click_text(await shop.click()))
    assert (await api.get("/postback", token=shop.token, txid="A", visitor=cookie)).json()["status"] == "attributed"


async def test_a_postback_takes_the_cookie_from_what_it_says_alone(api, shop):
    """Its headers are not signed."""
    cookie = await visit(api, shop, click_text(await shop.click()))
    answer = await api.client.get("/postback", params={"token": shop.token, "txid": "A"}, headers={"Cookie": f"turnout_visitor={cookie}"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_click_id")


async def asked(api, shop, **headers):
    """Whether a visit got the cookie."""
    ask = {"pixel_key": shop.pixel_key, "click_id": click_text(shop.new_click_id())}
    answer = await api.client.get("/visit.gif", params=ask, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/gif")
    return "set-cookie" in answer.headers


async def visits_counted(api):
    told = (await api.get("/metrics")).text
    return {
        outcome: int(float(count)) for outcome, count in re.findall(r'^turnout_visits_total\{outcome="(\w+)"\} (\S+)', told, re.MULTILINE)
    }


async def test_only_a_page_of_a_shop_gets_the_cookie(api, shop, tmp_path):
    publish_installation(tmp_path, campaigns=[SHOES, CLOSED, PLAIN])
    for headers in ({"Referer": "https://shop.example/"}, {"Referer": "https://m.shop.example/a?b"}, {"Origin": "https://shop.example"}):
        assert await asked(api, shop, **headers), headers
    for headers in (
        {"Referer": "https://thief.example/"},
        {"Referer": "https://thief.example/?https://shop.example/"},
        {"Referer": "https://hats.example/"},
        {"Referer": "https://socks.example/"},
        {"Origin": "https://thief.example", "Referer": "https://shop.example/"},
        {"Origin": "null"},
        {},
    ):
        assert not await asked(api, shop, **headers), headers
    assert await visits_counted(api) == {"kept": 3, "other_page": 6, "no_page": 1, "rejected": 0, "unavailable": 0}


async def test_where_only_a_paused_advertiser_declares_its_domains_nobody_gets_the_cookie(api, shop, tmp_path):
    publish_installation(tmp_path, campaigns=[CLOSED, PLAIN])
    assert not await asked(api, shop, Referer="https://hats.example/")


async def test_where_nobody_declares_domains_every_page_gets_the_cookie(api, shop, tmp_path):
    publish_installation(tmp_path, campaigns=[PLAIN])
    assert [await asked(api, shop), await asked(api, shop, Referer="https://anywhere.example/")] == [True, True]
    assert (await visits_counted(api))["kept"] == 2


async def test_visits_that_are_not_kept_are_counted_by_why(api, shop, monkeypatch):
    await api.get("/visit.gif", pixel_key=shop.pixel_key, click_id="old-platform-77")
    await api.get("/visit.gif", pixel_key="px_wrong", click_id=click_text(shop.new_click_id()))

    async def away(*_):
        raise StoreUnavailable("away")

    monkeypatch.setattr(Tokens, "advertiser", away)
    assert not await asked(api, shop)
    assert await visits_counted(api) == {"kept": 0, "other_page": 0, "no_page": 0, "rejected": 2, "unavailable": 1}
