"""What clients send that nobody should: every answer is a refusal that says why, none is a 5xx."""

import asyncio
from typing import Any

import pytest
from fastapi import Request

from tests.integration.api_client import ADMIN_KEY, Api, Shop, click_text
from tracker.adapters.postgres_pool import BAD_VALUE
from tracker.api.answers import RefusedBody, read_body
from tracker.api.parameters import BODY_TIMEOUT_S
from tracker.errors import RejectedInput

pytestmark = pytest.mark.integration
LINK = {"partner": "ada", "campaign": "shoes"}


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("links", LINK | {"expires_at": "0001-01-01T00:00:00+14:00"}, 422, "invalid_expires_at"),
        ("links", LINK | {"expires_at": "9999-12-31T23:59:59-14:00"}, 422, "invalid_expires_at"),
        ("links", LINK | {"expires_at": "0001-01-01"}, 422, "invalid_expires_at"),
        ("links", LINK | {"rules": nested(33)}, 422, "invalid_rules"),
        ("links", LINK | {"rules": nested(300)}, 422, "invalid_rules"),
        ("links", LINK | {"rules": nested(32)}, 201, None),
        ("partners", {"settings": {"a": [[[nested(30)]]]}}, 422, "invalid_settings"),
        ("keys", {"role": "viewer", "name": "a\x00b"}, 422, "invalid_name"),
        ("keys", {"role": "viewer", "name": "n" * 256}, 422, "invalid_name"),
        ("keys", {"role": "advertiser", "advertiser": "a\x00b"}, 404, "unknown_advertiser"),
        ("aliases", {"url": "https://old.example/" + "é" * 600, "link": "adas"}, 422, "invalid_url"),
        ("aliases", {"url": "https://" + "é" * 600 + ".example/", "link": "adas"}, 422, "invalid_url"),
        ("aliases", {"url": "https://old.example/" + "a" * 1900, "link": "adas"}, 201, None),
        ("coupons", {"code": "A", "valid_from": "2026-02-01", "valid_to": "2026-01-01"} | LINK, 422, "invalid_valid_to"),
        (
            "campaigns",
            {"advertiser": "shop", "destination_url": "https://x.example/", "starts_at": "2026-02-01", "expires_at": "2026-01-01"},
            422,
            "invalid_expires_at",
        ),
        ("advertisers", {"currency": "EUR", "domains": ["shop.example:8443"]}, 422, "invalid_domains"),
        ("advertisers", {"currency": "EUR", "domains": ["https://shop.example"]}, 422, "invalid_domains"),
        ("tracking-hosts", {"host": "old.example:99999"}, 422, "invalid_host"),
        ("tracking-hosts", {"host": "old example"}, 422, "invalid_host"),
    ],
)
async def test_strange_bodies_are_refused_by_name(
    api: Api, shop: Shop, path: str, body: dict[str, Any], status: int, code: str | None
) -> None:
    answer = await api.admin("POST", f"/api/v1/{path}", body)
    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text[:300]


@pytest.mark.parametrize("depth", [1000, 100_000])
async def test_no_nesting_is_too_deep_for_an_answer(api: Api, shop: Shop, depth: int) -> None:
    content = b'{"partner":"ada","campaign":"shoes","rules":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"
    answer = await api.client.post("/api/v1/links", content=content, headers={"Authorization": f"Bearer {ADMIN_KEY}"})
    assert (answer.status_code, answer.json()["code"]) in ((422, "invalid_rules"), (422, "invalid_json"))


async def test_a_body_that_never_ends_is_not_waited_for() -> None:
    async def receive() -> dict[str, Any]:
        await asyncio.sleep(60)
        return {}

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    with pytest.raises(RefusedBody) as caught:
        await read_body(request, timeout_s=0.01)
    assert (caught.value.status, caught.value.code) == (408, "too_slow")
    assert BODY_TIMEOUT_S == 10


async def test_a_token_of_half_a_character_is_a_wrong_token(api: Api, shop: Shop) -> None:
    for name in ("token", "txid"):
        content = f'{{"token":"{shop.token}","click_id":"c","{name}":"\\ud800"}}'.encode()
        answer = await api.client.post("/postback", content=content, headers={"content-type": "application/json"})
        assert answer.status_code in (401, 422), answer.text


async def test_a_value_that_no_column_holds_is_the_senders_fault(shop: Shop) -> None:
    for value in (2**70, "a\x00b"):
        with pytest.raises(RejectedInput):
            await shop.database.fetch(f"SELECT $1::{'bigint' if isinstance(value, int) else 'text'}", value)
    assert OverflowError in BAD_VALUE


async def test_hosts_are_kept_as_they_are_compared(api: Api, shop: Shop) -> None:
    made = await api.admin("POST", "/api/v1/tracking-hosts", {"host": "Old.Example:80"})
    assert made.json()["host"] == "old.example"
    assert (await api.admin("POST", "/api/v1/tracking-hosts", {"host": "old.example:443"})).status_code == 409
    assert (await api.admin("GET", "/api/v1/tracking-hosts/OLD.example:80")).json()["host"] == "old.example"
    assert (await api.admin("POST", "/api/v1/tracking-hosts", {"host": "münchen.example:8080"})).json()[
        "host"
    ] == "xn--mnchen-3ya.example:8080"
    body = {"slug": "bavaria", "currency": "EUR", "domains": ["München.example", "b.example."]}
    assert (await api.admin("POST", "/api/v1/advertisers", body)).json()["domains"] == ["xn--mnchen-3ya.example", "b.example"]


async def test_a_change_cannot_make_a_coupon_ambiguous(api: Api, shop: Shop) -> None:
    spans = [("2026-01-01", "2026-02-01"), ("2026-02-01", "2026-03-01")]
    ids = []
    for start, end in spans:
        made = await api.admin("POST", "/api/v1/coupons", {"code": "TEN", "valid_from": start, "valid_to": end} | LINK)
        ids.append(made.json()["id"])

    async def change(index: int, **values: Any) -> tuple[int, str | None]:
        answer = await api.admin("PATCH", f"/api/v1/coupons/{ids[index]}", values)
        return answer.status_code, answer.json().get("code", "")[:99] if answer.status_code > 299 else None

    assert await change(1, valid_from="2026-01-15") == (409, "code_taken")
    assert await change(0, valid_to=None) == (409, "code_taken")
    assert await change(0, valid_to="2025-01-01") == (422, "invalid_valid_to")
    assert await change(1, status="archived") == (200, None)
    assert await change(0, valid_to=None) == (200, None)
    assert await change(1, status="active") == (409, "code_taken")
    many = [api.admin("POST", "/api/v1/coupons", {"code": "ONE"} | LINK) for _ in range(8)]
    assert sorted(answer.status_code for answer in await asyncio.gather(*many)) == [201, *[409] * 7]


async def test_a_campaign_cannot_be_made_to_end_before_it_starts(api: Api, shop: Shop) -> None:
    assert (await api.admin("PATCH", "/api/v1/campaigns/shoes", {"starts_at": "2026-02-01"})).status_code == 200
    answer = await api.admin("PATCH", "/api/v1/campaigns/shoes", {"expires_at": "2026-02-01"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_expires_at")
    assert (await api.admin("GET", "/api/v1/campaigns/shoes")).json()["expires_at"] is None


async def test_a_lost_token_is_replaced_without_a_gap(api: Api, shop: Shop) -> None:
    rotate, revoke = "/api/v1/advertisers/shop/rotate-token", "/api/v1/advertisers/shop/revoke-token"
    made = await api.admin("POST", rotate)
    new = made.json()["postback_token"]
    assert (made.status_code, made.json()["slot"], [t["slot"] for t in made.json()["tokens"]]) == (201, 2, [1, 2])

    async def works(token: str) -> bool:
        return (await api.get("/postback", token=token, click_id="c", txid="t")).status_code != 401

    assert [await works(token) for token in (shop.token, new)] == [True, True]
    assert (await api.admin("POST", rotate)).json()["code"] == "two_tokens"
    assert (await api.admin("POST", revoke, {"slot": 1})).status_code == 200
    await asyncio.sleep(1.1)
    assert [await works(token) for token in (shop.token, new)] == [False, True]
    assert (await api.admin("POST", revoke, {"slot": 2})).json()["code"] == "last_token"
    assert (await api.admin("POST", revoke, {"slot": 1})).json()["code"] == "unknown_token"
    for slot in (3, "1", None, True, 1.0):
        assert (await api.admin("POST", revoke, {"slot": slot})).json()["code"] == "invalid_slot"
    events = await shop.database.fetch("SELECT action, after::text AS after FROM events WHERE action LIKE '%-token' ORDER BY id")
    assert [event["action"] for event in events] == ["rotate-token", "revoke-token"]
    assert all(new not in event["after"] for event in events)
    viewer = (await api.admin("POST", "/api/v1/keys", {"role": "viewer"})).json()["key"]
    assert (await api.call(viewer, "POST", rotate)).status_code == 403


async def test_the_pixel_answers_a_gif_to_every_method_and_keeps_what_it_refused(api: Api, shop: Shop) -> None:
    click = click_text(await shop.click())
    ask = {"pixel_key": shop.pixel_key, "click_id": click}
    assert (await api.client.head("/pixel.gif", params=ask)).status_code == 200
    assert await shop.value("SELECT count(*) FROM conversions") == 0
    beacon = await api.client.post("/pixel.gif", data=ask | {"txid": "B1"})
    text = await api.client.post("/pixel.gif", params=ask, content="txid=B2", headers={"content-type": "text/plain;charset=UTF-8"})
    form = await api.client.post(
        "/pixel.gif", params={"pixel_key": shop.pixel_key}, files={"click_id": (None, click), "txid": (None, "B3")}
    )
    bad = await api.get("/pixel.gif", **ask, txid="B4", amount="12,50")
    huge = await api.client.post("/pixel.gif", content=b"a" * 2_000_000)
    for answer in (beacon, text, form, bad, huge):
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/gif")
    assert await shop.value("SELECT array_agg(txid ORDER BY txid) FROM conversions") == ["B1", "B2", "B3"]
    row = (await shop.database.fetch("SELECT source, outcome, reason, unverified FROM postbacks WHERE txid = 'B4'"))[0]
    assert (row["source"], row["outcome"], row["unverified"]) == ("pixel", "rejected", True)
    assert "amount" in row["reason"]


async def test_multipart_forms_are_read_and_other_bodies_refused(api: Api, shop: Shop) -> None:
    click = click_text(await shop.click())
    fields: dict[str, Any] = {"token": shop.token, "click_id": click, "txid": "Ä 1", "amount": "3"}
    form = await api.client.post("/postback", files={n: (None, v) for n, v in fields.items()} | {"upload": ("a.txt", b"passed over")})
    assert form.json()["status"] == "attributed", form.text
    assert await shop.value("SELECT txid FROM conversions") == "Ä 1"
    for content, kind, status, code in (
        (b"<x/>", "application/xml", 415, "unsupported_media_type"),
        (b"--x", "multipart/form-data", 422, "invalid_body"),
        (b"nonsense", "multipart/form-data; boundary=x", 422, "invalid_body"),
        (b"a=" + b"b" * 1024**2, "application/x-www-form-urlencoded", 413, "too_large"),
        (b"[" * 100_000, "application/json", 422, "invalid_json"),
    ):
        answer = await api.client.post("/postback", content=content, headers={"content-type": kind})
        assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_goals_of_the_same_name_are_told_apart(api: Api, shop: Shop) -> None:
    for plural, body in {
        "advertisers": {"slug": "other", "currency": "EUR"},
        "campaigns": {"slug": "hats", "advertiser": "other", "destination_url": "https://other.example/"},
    }.items():
        await api.admin("POST", f"/api/v1/{plural}", body)
    for campaign in ("shoes", "hats"):
        await api.admin("POST", "/api/v1/goals", {"slug": "lead", "campaign": campaign})
    assert (await api.admin("GET", "/api/v1/goals/lead")).status_code == 409
    assert (await api.admin("GET", "/api/v1/goals/lead?campaign=hats")).json()["campaign"] == "hats"
    assert (await api.admin("PATCH", "/api/v1/goals/lead?campaign=hats", {"name": "Lead"})).json()["name"] == "Lead"
    assert (await api.admin("GET", "/api/v1/goals/lead?campaign=nothing")).status_code == 404
    assert (await api.admin("GET", "/api/v1/links/adas?campaign=shoes")).status_code == 422
    key = (await api.admin("POST", "/api/v1/keys", {"role": "advertiser", "advertiser": "shop"})).json()["key"]
    assert (await api.call(key, "GET", "/api/v1/goals/lead")).json()["campaign"] == "shoes"


async def test_a_key_cannot_pose_as_another_actor(api: Api, shop: Shop) -> None:
    key = (await api.admin("POST", "/api/v1/keys", {"role": "operator", "name": "admin.key"})).json()["key"]
    await api.call(key, "POST", "/api/v1/partners", {"slug": "bob"})
    assert await shop.value("SELECT actor FROM events WHERE entity_id = 'bob'") == "key:admin.key"
