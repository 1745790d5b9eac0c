"""turnout.js: served, and run in node on a page that is as much of a browser as the script looks at."""

from urllib.parse import parse_qs, urlsplit

import pytest

from tests.integration.api_client import click_text
from tests.integration.test_visits import SHOES
from tests.integration.visitors import SCRIPT, browse, cookie_of, needs_node, publish_installation

pytestmark = pytest.mark.integration
CLICK = "01k8zq3m5n7p9r1s3t5v7w9x1y"
LANDED = {"url": f"https://shop.example/boots?click_id={CLICK}&x=1", "data": {"pixelKey": "px_1"}}
LATER = {"url": "https://shop.example/thanks", "data": {"pixelKey": "px_1"}}


async def test_it_is_served_with_a_strong_tag_for_an_hour(api):
    answer = await api.get("/turnout.js")
    assert (answer.content, answer.headers["cache-control"]) == (SCRIPT.read_bytes(), "public, max-age=3600")
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    tag = answer.headers["etag"]
    assert tag.startswith('"')
    assert len(answer.content) < 4 * 1024
    for known in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        again = await api.client.get("/turnout.js", headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert (await api.client.get("/turnout.js", headers={"If-None-Match": '"other"'})).status_code == 200
    assert (await api.client.head("/turnout.js")).status_code == 200


@needs_node
def test_the_click_of_the_address_is_kept_and_told_to_the_tracker():
    landed, later = browse(LANDED, LATER)
    assert landed["cookies"] == [f"turnout_click_id={CLICK}; Path=/; Max-Age=7776000; SameSite=Lax; Secure"]
    assert landed["images"] == [f"https://track.example/visit.gif?pixel_key=px_1&click_id={CLICK}"]
    assert landed["policies"] == ["origin"]  # else a page that names itself to nobody would get no cookie
    assert (later["cookies"], later["images"], later["clickId"]) == ([], [], CLICK)


@needs_node
def test_parameter_domain_and_place_are_the_shops_to_say():
    data = {"pixelKey": "px_1", "parameter": "sid", "domain": "shop.example"}
    (found,) = browse({"url": "http://shop.example/?click_id=no&sid=old%3B%207", "data": data, "src": "https://shop.example/t/turnout.js"})
    assert found["cookies"] == ["turnout_click_id=old%3B%207; Path=/; Max-Age=7776000; SameSite=Lax; Domain=shop.example"]
    assert found["clickId"] == "old; 7"
    assert found["images"] == ["https://shop.example/t/visit.gif?pixel_key=px_1&click_id=old%3B+7"]


@needs_node
def test_orders_go_by_beacon_else_by_image():
    order = {"txid": "ORDER 1", "amount": 49.9, "goal": None, "items": [{"sku": "A", "quantity": 2}]}
    said = {"pixel_key": ["px_1"], "click_id": [CLICK], "txid": ["ORDER 1"], "amount": ["49.9"], "items": ['[{"sku":"A","quantity":2}]']}
    _, beacon, refused, none = browse(LANDED, *(LATER | {"conversions": [order], "beacon": how} for how in ("", "refused", "none")))
    ((url, body),) = beacon["beacons"]
    assert (url, parse_qs(body), beacon["images"], beacon["sent"]) == ("https://track.example/pixel.gif", said, [], [True])
    for found in (refused, none):
        (image,) = found["images"]
        assert (image.partition("?")[0], parse_qs(urlsplit(image).query)) == ("https://track.example/pixel.gif", said)


@needs_node
def test_orders_that_were_told_before_the_script_came_are_sent_and_later_ones_too():
    page = LATER | {"window": {"turnoutConversions": [{"txid": "1"}]}, "pushed": [{"txid": "2"}]}
    (found,) = browse(page)
    assert [parse_qs(body)["txid"] for _, body in found["beacons"]] == [["1"], ["2"]]


@needs_node
def test_hidden_inputs_are_filled_also_those_of_forms_that_come_late():
    for state in ({}, {"readyState": "loading"}):
        (found,) = browse(LANDED | {"inputs": ["", "old"]} | state)
        assert found["inputs"] == [CLICK, CLICK]
    (late,) = browse(LANDED | {"inputs": [""], "late": True})
    assert late["inputs"] == [CLICK, CLICK]
    (nobody,) = browse(LATER | {"inputs": ["", "own"]})
    assert nobody["inputs"] == ["", "own"]


@needs_node
def test_a_shopify_cart_gets_the_attribute_once():
    shopify = {"window": {"Shopify": {}}}
    first, again, elsewhere, failing = browse(
        LANDED | shopify, LATER | shopify | {"cart": {"attributes": {"click_id": CLICK}}}, LATER, LATER | shopify | {"shopifyFails": True}
    )
    assert first["fetched"] == [["GET", "/cart.js", ""], ["POST", "/cart/update.js", f'{{"attributes":{{"click_id":"{CLICK}"}}}}']]
    assert again["fetched"] == [["GET", "/cart.js", ""]]
    assert (elsewhere["fetched"], failing["errors"]) == ([], [])


@needs_node
def test_nothing_is_thrown_into_a_page_whatever_it_is_like():
    pages = [
        LANDED | {"broken": True, "conversions": [{"txid": "1"}]},
        LANDED | {"src": "not a url", "conversions": [{"txid": "1"}]},
        LATER | {"data": {}, "conversions": [{"txid": "1"}, None]},
        LANDED | {"window": {"turnoutConversions": 7}},
    ]
    found = browse(*pages)
    assert [page["errors"] for page in found] == [[], [], [], []]
    assert found[0]["clickId"] == CLICK
    assert (found[2]["sent"], found[2]["beacons"]) == ([False, False], [])


@needs_node
def test_the_old_platforms_click_id_is_told_to_the_old_host_once():
    data = {"oldHost": "go.brand.example", "oldParams": "transaction_id, tid"}
    landed = {"url": "https://shop.example/?tid=a%2B1", "data": data}
    pages = browse(
        landed, landed, landed | {"url": "https://shop.example/?tid=2&transaction_id="}, landed | {"url": "https://shop.example/"}
    )
    told = "https://go.brand.example/-/seen.gif?old_click_id="
    assert [page["images"] for page in pages] == [[told + "a%2B1"], [], [told + "2"], []]
    assert pages[0]["cookies"] == ["turnout_old_click_id=a%2B1; Path=/; Max-Age=7776000; SameSite=Lax; Secure"]
    for incomplete in ({"oldHost": "go.brand.example"}, {"oldParams": "tid"}, data | {"oldParams": ","}):
        (page,) = browse(landed | {"data": incomplete})
        assert (page["images"], page["cookies"], page["errors"]) == ([], [], [])


@needs_node
async def test_what_the_script_sends_makes_a_conversion(api, shop, tmp_path):
    publish_installation(tmp_path, campaigns=[SHOES])
    click, data = click_text(await shop.click()), {"pixelKey": shop.pixel_key}
    landed = {"url": f"https://shop.example/?click_id={click}", "data": data, "src": "http://tracker/turnout.js"}
    thanks = landed | {"url": "https://shop.example/thanks", "conversions": [{"txid": "A", "amount": 10, "currency": "EUR"}]}
    first, second = browse(landed, thanks)
    referer = {"Referer": {"origin": "https://shop.example/"}[first["policies"][0]]}
    assert cookie_of(await api.client.get(first["images"][0], headers=referer))[0].startswith(f"1.{click}.")
    ((url, body),) = second["beacons"]
    kind = {"Content-Type": "application/x-www-form-urlencoded;charset=UTF-8"}
    assert (await api.client.post(url, content=body, headers=kind)).headers["content-type"] == "image/gif"
    row = await shop.database.fetchrow("SELECT txid, amount_micros, status FROM conversions")
    assert dict(row) == {"txid": "A", "amount_micros": 10_000_000, "status": "pending"}
