"""The programme over HTTP: create, list, show, change, refuse; who may do what; the audit trail."""

import asyncio
from typing import Any

import pytest

from tests.integration.api_client import Api, Shop

pytestmark = pytest.mark.integration
SHORT_ONE = {"advertiser": "shop", "destination_url": "https://x.example/"}


async def test_a_key_is_asked_for_before_anything_else(api: Api) -> None:
    for path in ("/api/v1/links", "/api/v1/nothing", "/api", "/api/v1/links/x"):
        answer = await api.client.request("POST", path, content=b"{broken")
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "unauthorized"
    for header in ("Bearer", "Bearer wrong", "Basic abc", "Bearer \xff", ""):
        answer = await api.client.get("/api/v1/links", headers={"Authorization": header.encode("latin-1")})
        assert answer.status_code == 401


async def test_an_advertiser_comes_with_secrets_that_are_shown_once(api: Api, shop: Shop) -> None:
    assert shop.token
    shown = (await api.admin("GET", "/api/v1/advertisers/shop")).json()
    assert shown["pixel_key"] == shop.pixel_key
    assert "postback_token" not in shown
    assert await shop.value("SELECT count(*) FROM events WHERE after::text LIKE $1", f"%{shop.token}%") == 0


async def test_links_have_urls_and_made_slugs(api: Api, shop: Shop) -> None:
    made = (await api.admin("POST", "/api/v1/links", {"partner": "ada", "campaign": "shoes"})).json()
    assert len(made["slug"]) == 8
    assert made["url"] == f"http://127.0.0.1:8080/c/{made['slug']}"
    many = await api.admin("POST", "/api/v1/links", [{"slug": f"m{n}", "partner": "ada", "campaign": "shoes"} for n in range(1000)])
    assert many.status_code == 201
    assert [link["slug"] for link in many.json()] == [f"m{n}" for n in range(1000)]
    assert await shop.value("SELECT count(*) FROM events WHERE entity = 'link'") == 1002


async def test_an_array_is_all_or_nothing(api: Api, shop: Shop) -> None:
    good, bad = {"slug": "good", "partner": "ada", "campaign": "shoes"}, {"slug": "bad", "partner": "nobody", "campaign": "shoes"}
    answer = await api.admin("POST", "/api/v1/links", [good, bad])
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (404, "unknown_partner", "1.partner")
    assert (await api.admin("GET", "/api/v1/links/good")).status_code == 404
    assert (await api.admin("POST", "/api/v1/links", [good, good])).status_code == 409
    assert (await api.admin("POST", "/api/v1/links", [good] * 1001)).status_code == 422
    assert (await api.admin("POST", "/api/v1/links", [])).status_code == 422


@pytest.mark.parametrize(
    ("plural", "body", "status", "code"),
    [
        ("advertisers", {"slug": "shop", "currency": "EUR"}, 409, "slug_taken"),
        ("advertisers", {"slug": "Shop", "currency": "EUR"}, 422, "invalid_slug"),
        ("advertisers", {"slug": "x"}, 422, "invalid_currency"),
        ("advertisers", {"slug": "x", "currency": "EUR", "name": "a\x00b"}, 422, "invalid_name"),
        ("advertisers", {"slug": "x", "currency": "EUR", "colour": "red"}, 422, "unknown_field"),
        ("campaigns", {"advertiser": "nobody", "destination_url": "https://x.example/"}, 404, "unknown_advertiser"),
        ("campaigns", {"advertiser": "shop", "destination_url": "ftp://x.example/"}, 422, "invalid_destination_url"),
        ("campaigns", {"advertiser": "shop", "destination_url": "https://u:p@x.example/"}, 422, "invalid_destination_url"),
        ("campaigns", {"advertiser": "shop", "destination_url": "https://x.example/{secret}"}, 422, "invalid_destination_url"),
        ("campaigns", {"advertiser": "shop", "destination_url": "https://x.example/" + "a" * 2048}, 422, "invalid_destination_url"),
        ("campaigns", {"advertiser": "shop", "destination_url": "https:///path"}, 422, "invalid_destination_url"),
        ("campaigns", SHORT_ONE | {"payout": {"type": "percent", "percent": "101"}}, 422, "invalid_payout"),
        ("campaigns", SHORT_ONE | {"attribution_window_days": 0}, 422, "invalid_attribution_window_days"),
        ("links", {"partner": "ada", "campaign": "nothing"}, 404, "unknown_campaign"),
        ("links", {"campaign": "shoes"}, 422, "invalid_partner"),
        ("links", {"slug": "adas", "partner": "ada", "campaign": "shoes"}, 409, "slug_taken"),
        ("aliases", {"url": "https://old.example/x", "link": "nothing"}, 404, "unknown_link"),
        ("goals", {"slug": "lead", "campaign": "nothing"}, 404, "unknown_campaign"),
        ("coupons", {"code": "X", "partner": "nobody", "campaign": "shoes"}, 404, "unknown_partner"),
        ("partners", {"slug": "x", "parent": "nobody"}, 404, "unknown_partner"),
        ("partners", [], 422, "invalid_body"),
    ],
)  # fmt: skip
async def test_refusals_name_the_field(api: Api, shop: Shop, plural: str, body: Any, status: int, code: str) -> None:
    answer = await api.admin("POST", f"/api/v1/{plural}", body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


async def test_every_thing_can_be_made_listed_shown_and_changed(api: Api, shop: Shop) -> None:
    made = {
        "aliases": {"url": "https://go.old.example/aff?x=1", "link": "adas"},
        "coupons": {"code": "TEN", "partner": "ada", "campaign": "shoes", "valid_from": "2026-01-01", "valid_to": None},
        "goals": {"slug": "lead", "campaign": "shoes", "payout": {"type": "fixed", "amount": "5.00", "currency": "EUR"}},
        "tracking-hosts": {"host": "Go.Old.Example", "platform": "tune"},
        "partners": {"slug": "bob", "parent": "ada", "source": "tune", "source_id": "77"},
    }
    keys = {"aliases": "1", "coupons": "ten", "goals": "lead", "tracking-hosts": "go.old.example", "partners": "bob"}
    change = {"goals": {"name": "A lead"}, "tracking-hosts": {"platform": "other"}}
    for plural, body in made.items():
        answer = await api.admin("POST", f"/api/v1/{plural}", body)
        assert answer.status_code == 201, answer.text
        shown = await api.admin("GET", f"/api/v1/{plural}/{keys[plural]}")
        assert shown.json() == answer.json()
        assert answer.json() in (await api.admin("GET", f"/api/v1/{plural}")).json()["items"]
        changes = change.get(plural, {"status": "paused"})
        changed = await api.admin("PATCH", f"/api/v1/{plural}/{keys[plural]}", changes)
        assert changed.status_code == 200, changed.text
        assert changes.items() <= changed.json().items()
        assert (await api.admin("POST", f"/api/v1/{plural}", body)).status_code == 409
    found = (await api.admin("GET", "/api/v1/partners?source=tune&source_id=77")).json()["items"]
    assert [partner["slug"] for partner in found] == ["bob"]


async def test_lists_have_pages(api: Api, shop: Shop) -> None:
    await api.admin("POST", "/api/v1/links", [{"slug": f"m{n}", "partner": "ada", "campaign": "shoes"} for n in range(6)])
    seen, cursor = [], ""
    for _ in range(4):
        page = (await api.admin("GET", f"/api/v1/links?limit=2{cursor}")).json()
        seen += [link["slug"] for link in page["items"]]
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == ["adas", *(f"m{n}" for n in range(6))]
    assert page["next_cursor"] is None
    for query in ("limit=0", "limit=1001", "limit=x", "cursor=x", "colour=red", "source=a%00b"):
        assert (await api.admin("GET", f"/api/v1/links?{query}")).status_code == 422


async def test_every_change_is_in_the_audit_trail(api: Api, shop: Shop) -> None:
    await api.admin("PATCH", "/api/v1/campaigns/shoes", {"name": "Shoes"})
    await api.admin("PATCH", "/api/v1/campaigns/shoes", {"name": "Shoes"})
    events = await shop.database.fetch("SELECT actor, action, entity_id, before, after FROM events WHERE entity = 'campaign' ORDER BY id")
    assert [(e["actor"], e["action"], e["entity_id"]) for e in events] == [("admin.key", "create", "shoes"), ("admin.key", "edit", "shoes")]
    assert (events[1]["before"]["name"], events[1]["after"]["name"]) == ("", "Shoes")


async def test_two_payout_changes_at_once_leave_one_in_force(api: Api, shop: Shop) -> None:
    changes = [{"payout": {"type": "percent", "percent": str(n)}} for n in range(1, 9)]
    answers = await asyncio.gather(*(api.admin("PATCH", "/api/v1/campaigns/shoes", change) for change in changes))
    assert {answer.status_code for answer in answers} == {200}
    rows = await shop.database.fetch("SELECT version, percent_micros FROM terms WHERE effective_to = 'infinity' ORDER BY effective_from")
    assert [row["version"] for row in rows] == list(range(1, 10)), "none is closed, the last is in force"
    shown = (await api.admin("GET", "/api/v1/campaigns/shoes")).json()["payout"]
    assert int(shown["percent"]) * 1_000_000 == rows[-1]["percent_micros"]


async def test_roles_are_kept(api: Api, shop: Shop) -> None:
    await api.admin("POST", "/api/v1/advertisers", {"slug": "other", "currency": "USD"})

    async def made(role: str, **more: str) -> str:
        return (await api.admin("POST", "/api/v1/keys", {"role": role} | more)).json()["key"]

    viewer, operator = await made("viewer"), await made("operator")
    owner, stranger = await made("advertiser", advertiser="shop"), await made("advertiser", advertiser="other")
    body = {"slug": "new", "name": "New"}
    assert (await api.call(viewer, "POST", "/api/v1/partners", body)).status_code == 403
    assert (await api.call(owner, "POST", "/api/v1/partners", body)).status_code == 403
    assert (await api.call(operator, "POST", "/api/v1/partners", body)).status_code == 201
    assert (await api.call(operator, "GET", "/api/v1/keys")).status_code == 403
    assert (await api.call(owner, "GET", "/api/v1/campaigns/shoes")).status_code == 200
    assert (await api.call(stranger, "GET", "/api/v1/campaigns/shoes")).status_code == 404
    assert (await api.call(stranger, "GET", "/api/v1/links")).json()["items"] == []
    assert [a["slug"] for a in (await api.call(owner, "GET", "/api/v1/advertisers")).json()["items"]] == ["shop"]
    numbers = [key["id"] for key in (await api.admin("GET", "/api/v1/keys")).json()["items"]]
    await api.admin("POST", f"/api/v1/keys/{numbers[0]}/revoke")
    await asyncio.sleep(1.1)
    assert (await api.call(viewer, "GET", "/api/v1/partners")).status_code == 401
    assert (await api.admin("POST", f"/api/v1/keys/{numbers[0]}/revoke")).status_code == 404


async def test_the_openapi_document_and_the_docs_page_need_nothing_from_elsewhere(api: Api) -> None:
    document = (await api.client.get("/openapi.json")).json()
    assert {"/api/v1/links", "/postback", "/api/v1/reports"} <= document["paths"].keys()
    page = (await api.client.get("/docs")).text
    assert "/api/v1/links" in page
    assert "<script" not in page
    assert "https://" not in page


async def test_metrics_are_for_allowed_networks_alone(api: Api, shop: Shop) -> None:
    assert "turnout_conversions_parked 0.0" in (await api.client.get("/metrics")).text
    assert (await api.client.get("/readyz")).status_code == 200
