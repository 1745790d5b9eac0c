"""Conversions by hand, reports, and what happens when PostgreSQL is away."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from tests.integration.api_client import ADMIN_KEY, Api, Shop, click_text
from tests.integration.conftest import Servers
from tests.wait import wait_until
from tracker.adapters.journal.segment import SegmentReader
from tracker.api.app import create
from tracker.settings import Settings

pytestmark = pytest.mark.integration


async def _sale(api: Api, shop: Shop, txid: str, amount: str, **more: str) -> str:
    click = click_text(await shop.click())
    answer = await api.get("/postback", token=shop.token, click_id=click, txid=txid, amount=amount, **more)
    return str(answer.json()["conversion_id"])


async def test_conversions_move_along_their_lifecycle_by_ledger_entries(api: Api, shop: Shop) -> None:
    sale = await _sale(api, shop, "1", "10", status="pending")
    assert (await api.admin("POST", f"/api/v1/conversions/{sale}/reverse", {"reason": "x"})).status_code == 409
    assert (await api.admin("POST", f"/api/v1/conversions/{sale}/approve", {"reason": "fine"})).json()["status"] == "approved"
    assert (await api.admin("POST", f"/api/v1/conversions/{sale}/approve")).status_code == 409
    shown = (await api.admin("POST", f"/api/v1/conversions/{sale}/reverse", {"reason": "sent back"})).json()
    assert shown["status"] == "reversed"
    assert sum(float(entry["amount"]) for entry in shown["ledger"]) == 0
    assert {entry["reason"] for entry in shown["ledger"]} == {"", "fine", "sent back"}
    rejected = await _sale(api, shop, "2", "10", status="pending")
    assert (await api.admin("POST", f"/api/v1/conversions/{rejected}/reject", {"reason": "no"})).json()["status"] == "rejected"
    unknown = await api.admin("POST", "/api/v1/conversions/0198f6a0-0000-7000-8000-000000000000/approve")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_conversion")


async def test_conversions_are_listed_newest_first_with_filters(api: Api, shop: Shop) -> None:
    sales = [await _sale(api, shop, str(n), "1") for n in range(3)]
    page = (await api.admin("GET", "/api/v1/conversions?limit=2")).json()
    rest = (await api.admin("GET", f"/api/v1/conversions?limit=2&cursor={page['next_cursor']}")).json()
    assert [c["id"] for c in page["items"] + rest["items"]] == sales[::-1]
    assert len((await api.admin("GET", "/api/v1/conversions?txid=1&partner=ada")).json()["items"]) == 1
    assert (await api.admin("GET", "/api/v1/conversions?partner=nobody")).json()["items"] == []
    assert (await api.admin("GET", "/api/v1/conversions?colour=red")).status_code == 422


async def test_a_click_is_found_in_both_forms(api: Api, shop: Shop) -> None:
    click = await shop.click()
    for text in (click_text(click), click_text(click).upper(), str(click)):
        shown = (await api.admin("GET", f"/api/v1/clicks/{text}")).json()
        assert (shown["click_id"], shown["partner"], shown["sub1"]) == (click_text(click), "ada", "news")
    assert (await api.admin("GET", "/api/v1/clicks/nonsense")).json()["code"] == "unknown_click"


async def test_a_report_merges_clicks_and_money(api: Api, shop: Shop) -> None:
    today = datetime.now(UTC).date()
    for table, when in (("click_stats (bucket", "date_trunc('day', now())"), ("daily_stats (day", "current_date")):
        link = ", link" if "bucket" in table else ""
        await shop.execute(
            f"INSERT INTO {table}, slot, campaign, partner{link}, clicks, unique_clicks, total) "
            f"VALUES ({when}, 0, 1, 1{', 1' if link else ''}, 7, 5, 9)"
        )
    await _sale(api, shop, "1", "10")
    await _sale(api, shop, "2", "20", status="pending")
    gone = await _sale(api, shop, "3", "40")
    await api.admin("POST", f"/api/v1/conversions/{gone}/reverse", {"reason": "sent back"})
    expected = {"clicks": 7, "unique_clicks": 5, "conversions": 2, "revenue": "30.00", "payout": "3.00"}
    asked = f"from={today}&to={today}&metrics=clicks,unique_clicks,conversions,revenue,payout"
    for group_by, tz in (("partner,day", "UTC"), ("partner,link", "UTC"), ("partner", "Asia/Kolkata"), ("campaign,advertiser", "UTC")):
        report = (await api.admin("GET", f"/api/v1/reports?{asked}&group_by={group_by}&tz={tz}")).json()
        if tz == "UTC":
            assert len(report["rows"]) == 1, group_by
            assert expected.items() <= report["rows"][0].items()
            assert expected.items() <= report["totals"].items()
    assert (await api.admin("GET", f"/api/v1/reports?{asked}&group_by=partner")).json()["rows"][0]["partner"] == "ada"
    assert (await api.admin("GET", f"/api/v1/reports?{asked}&filter[partner]=nobody")).json()["totals"]["clicks"] == 0
    text = await api.admin("GET", f"/api/v1/reports?{asked}&group_by=partner,day&format=csv")
    assert text.text.splitlines()[1] == f"ada,{today},7,5,2,30.00,3.00,EUR,EUR"
    for query in (
        "group_by=colour",
        "metrics=x",
        "tz=Mars/Base",
        "from=yesterday",
        "from=2026-02-02&to=2026-02-01",
        "format=xml",
        "filter[x]=1",
        "q=1",
    ):
        assert (await api.admin("GET", f"/api/v1/reports?{query}")).status_code == 422, query


async def test_a_group_of_two_currencies_has_a_row_for_each_and_its_clicks_once(api: Api, shop: Shop) -> None:
    await shop.execute(
        "INSERT INTO daily_stats (day, slot, campaign, partner, clicks, unique_clicks, total) VALUES (current_date, 0, 1, 1, 7, 5, 9)"
    )
    for txid, amount, currency in (("1", "10", "EUR"), ("2", "20", "EUR"), ("3", "5", "USD")):
        await _sale(api, shop, txid, amount, currency=currency)
    report = (await api.admin("GET", "/api/v1/reports?group_by=partner&metrics=clicks,conversions,revenue,payout")).json()
    eur = {"conversions": 2, "revenue": "30.00", "currency": "EUR", "payout": "3.00", "payout_currency": "EUR"}
    usd = {"conversions": 1, "revenue": "5.00", "currency": "USD", "payout": "0.50", "payout_currency": "USD"}
    assert report == {
        "rows": [{"partner": "ada", "clicks": 7} | eur, {"partner": "ada", "clicks": 0} | usd],
        "totals": {"clicks": 7, "conversions": 3},
        "totals_by_currency": [eur, usd],
    }
    text = (await api.admin("GET", "/api/v1/reports?group_by=partner&metrics=clicks,revenue&format=csv")).text
    assert text.splitlines()[1:] == ["ada,7,30.00,EUR", "ada,0,5.00,USD"]
    for metrics, expected in (("conversions", {"conversions": 3}), ("clicks", {"clicks": 7})):
        report = (await api.admin("GET", f"/api/v1/reports?group_by=partner&metrics={metrics}")).json()
        assert report == {"rows": [{"partner": "ada"} | expected], "totals": expected}


async def test_no_sum_is_too_large(api: Api, shop: Shop) -> None:
    sale = await _sale(api, shop, "1", "10")
    await shop.execute("UPDATE conversions SET amount_micros = 9e18 WHERE id = $1", UUID(sale))
    other = await _sale(api, shop, "2", "10")
    await shop.execute("UPDATE conversions SET amount_micros = 9e18 WHERE id = $1", UUID(other))
    assert (await api.admin("GET", "/api/v1/reports")).json()["totals"]["revenue"] == "18000000000000.00"


@pytest.mark.parametrize(
    "path",
    [
        "reports?filter[partner]=%00",
        "reports?from=9999-12-31&to=9999-12-31",
        "reports?from=0001-01-01&tz=Asia/Tokyo",
        "conversions?to=9999-12-31",
        "conversions?from=0001-01-01T00:00:00%2B14:00",
        "conversions?to=9999-12-31T23:59:59-14:00",
    ],
)
async def test_no_question_is_too_strange_for_an_answer(api: Api, path: str) -> None:
    answer = await api.admin("GET", f"/api/v1/{path}")
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json"), answer.text


async def test_without_postgresql_everything_answers_503_and_says_when_to_come_back(tmp_path: Path) -> None:
    settings = Settings(database_url="postgresql://x@127.0.0.1:1/x", data_dir=str(tmp_path), admin_key=ADMIN_KEY, _env_file=None)
    app = create(settings)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://tracker") as client:
        api = Api(client)
        for answer in (await api.get("/postback", token="t", click_id="c", txid="t"), await api.admin("GET", "/api/v1/links")):
            assert answer.status_code == 503
            assert answer.headers["retry-after"]
            assert answer.json()["code"] == "unavailable"
        assert (await api.call("some-key", "GET", "/api/v1/links")).status_code == 503
        assert (await api.get("/pixel.gif", pixel_key="x")).status_code == 200
        assert (await client.get("/healthz")).status_code == 200
        assert [(await client.head(path)).status_code for path in ("/healthz", "/readyz")] == [200, 503]
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/metrics")).status_code == 200


async def test_a_frozen_postgresql_costs_no_store_its_order(api: Api, shop: Shop, servers: Servers, tmp_path: Path) -> None:
    if servers.local is None:
        pytest.skip("only an embedded server can be paused")
    click = click_text(await shop.click())
    assert (await api.get("/postback", token=shop.token, click_id=click, txid="before")).status_code == 200
    servers.local.postgres.pause()
    try:
        frozen = await api.get("/postback", token=shop.token, click_id=click, txid="F")
    finally:
        servers.local.postgres.resume()
    assert (frozen.status_code, frozen.json()["status"]) == (202, "parked")
    (path,) = (tmp_path / "journal" / "conversions" / "slot-0").glob("*.seg")
    assert SegmentReader(path).records == 1
    await wait_until(lambda: answered(api, shop, click), because="the breaker closes")
    again = await api.get("/postback", token=shop.token, click_id=click, txid="F")
    assert (again.status_code, again.json()["duplicate"]) == (200, True)


async def answered(api: Api, shop: Shop, click: str) -> bool:
    return (await api.get("/postback", token=shop.token, click_id=click, txid="F")).status_code == 200


async def test_explain_answers_without_recording(api: Api) -> None:
    answer = await api.admin("POST", "/api/v1/explain", {"url": "http://localhost/c/nothing", "headers": {}})
    assert answer.status_code == 200
    assert answer.json()["outcome"] == "unknown"
    assert (await api.admin("POST", "/api/v1/explain", {})).status_code == 422
