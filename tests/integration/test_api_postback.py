"""Postbacks over HTTP on real PostgreSQL: attribution, duplicates, parking, refusals."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from tests.integration.api_client import Api, Shop, click_text

pytestmark = pytest.mark.integration


async def test_a_postback_pays_the_clicks_partner_once(api: Api, shop: Shop) -> None:
    click = await shop.click()
    answer = await api.get("/postback", token=shop.token, click_id=click_text(click), txid="A-1", amount="50.00")
    assert answer.status_code == 200
    first = answer.json()
    assert (first["status"], first["duplicate"]) == ("attributed", False)

    again = (await api.get("/postback", token=shop.token, click_id=str(click), txid="A-1", amount="50.00")).json()
    assert (again["status"], again["duplicate"], again["conversion_id"]) == ("attributed", True, first["conversion_id"])

    shown = (await api.admin("GET", f"/api/v1/conversions/{first['conversion_id']}")).json()
    assert {k: shown[k] for k in ("txid", "goal", "status", "partner", "campaign", "amount", "currency", "payout", "payout_currency")} == {
        "txid": "A-1",
        "goal": "sale",
        "status": "approved",
        "partner": "ada",
        "campaign": "shoes",
        "amount": "50.00",
        "currency": "EUR",
        "payout": "5.00",
        "payout_currency": "EUR",
    }
    assert shown["click_id"] == click_text(click)
    assert shown["sub1"] == "news"
    assert {(e["account"], e["status"], e["amount"]) for e in shown["ledger"]} == {
        ("partner", "approved", "5.00"),
        ("advertiser", "approved", "50.00"),
    }


async def test_another_amount_keeps_the_first_and_is_shown(api: Api, shop: Shop) -> None:
    click = click_text(await shop.click())
    first = (await api.get("/postback", token=shop.token, click_id=click, txid="A-1", amount="50")).json()
    second = await api.get("/postback", token=shop.token, click_id=click, txid="A-1", amount="60")
    assert second.status_code == 200
    assert second.json()["duplicate"] is True
    assert second.json()["conversion_id"] == first["conversion_id"]
    status = (await api.get("/postback/status", token=shop.token, txid="A-1")).json()
    assert [p["outcome"] for p in status["postbacks"]] == ["conflict", "attributed"]
    assert "60.00 EUR" in status["postbacks"][0]["reason"]
    assert status["conversions"][0]["amount"] == "50.00"


async def test_a_goal_may_refuse_another_amount(api: Api, shop: Shop) -> None:
    await api.admin("POST", "/api/v1/goals", {"slug": "lead", "campaign": "shoes", "duplicate_policy": "conflict"})
    click = click_text(await shop.click())
    await api.get("/postback", token=shop.token, click_id=click, txid="A-1", amount="50", goal="lead")
    second = await api.get("/postback", token=shop.token, click_id=click, txid="A-1", amount="60", goal="lead")
    assert second.status_code == 409
    assert second.json()["code"] == "conflict"


async def test_a_hundred_equal_postbacks_at_once_make_one_conversion(api: Api, shop: Shop) -> None:
    click = click_text(await shop.click())
    answers = await asyncio.gather(*(api.get("/postback", token=shop.token, click_id=click, txid="R", amount="10") for _ in range(100)))
    decided = [a.json() for a in answers if a.status_code == 200]
    kept = [a.json() for a in answers if a.status_code != 200]  # on a machine so busy that they waited too long for their order
    assert {one["status"] for one in kept} <= {"parked"}
    assert sum(not one["duplicate"] for one in decided) == 1
    assert len({one["conversion_id"] for one in decided}) == 1
    assert await shop.value("SELECT count(*) FROM conversions") == 1
    assert await shop.value("SELECT count(*) FROM postbacks") == len(decided)
    assert await shop.value("SELECT count(*) FROM ledger_entries") == 2


async def test_an_unknown_click_is_parked_and_settled_when_it_comes(api: Api, shop: Shop) -> None:
    click = shop.new_click_id()
    answer = await api.get("/postback", token=shop.token, click_id=click_text(click), txid="P-1", amount="20")
    assert answer.status_code == 202
    assert answer.json()["status"] == "parked"
    assert UUID(answer.json()["postback_id"])
    await shop.sweep()
    assert (await api.get("/postback/status", token=shop.token, txid="P-1")).json()["status"] == "parked"
    await shop.click(click)
    await shop.execute("UPDATE postbacks SET next_try_at = now()")
    await shop.sweep()
    status = (await api.get("/postback/status", token=shop.token, txid="P-1")).json()
    assert status["status"] == "attributed"
    assert status["conversions"][0]["payout"] == "2.00"


async def test_a_parked_postback_becomes_an_orphan_when_its_time_is_over(api: Api, shop: Shop) -> None:
    await api.get("/postback", token=shop.token, click_id="somebody-elses-id", txid="P-2", amount="20")
    await shop.execute("UPDATE postbacks SET next_try_at = now(), parked_until = now()")
    await shop.sweep()
    status = (await api.get("/postback/status", token=shop.token, txid="P-2")).json()
    assert status["status"] == "orphan"
    assert await shop.value("SELECT count(*) FROM ledger_entries") == 0


async def test_a_click_outside_its_window_makes_an_orphan(api: Api, shop: Shop) -> None:
    old = await shop.click(clicked_at=datetime.now(UTC) - timedelta(days=31))
    answer = await api.get("/postback", token=shop.token, click_id=click_text(old), txid="O-1", amount="20")
    assert answer.status_code == 200
    assert answer.json()["status"] == "orphan"
    assert (await api.admin("GET", "/api/v1/conversions?status=orphan")).json()["items"][0]["payout"] == "0.00"


async def test_a_coupon_earns_without_a_click(api: Api, shop: Shop) -> None:
    made = await api.admin("POST", "/api/v1/coupons", {"code": "ADA10", "partner": "ada", "campaign": "shoes"})
    assert made.status_code == 201
    answer = await api.get("/postback", token=shop.token, coupon="ada10", txid="C-1", amount="100")
    assert answer.json()["status"] == "attributed"
    nobody = await api.get("/postback", token=shop.token, coupon="NOBODY", txid="C-2", amount="100")
    assert nobody.json()["status"] == "orphan"


async def test_the_click_of_another_advertiser_never_pays(api: Api, shop: Shop) -> None:
    click = click_text(await shop.click())
    other = (await api.admin("POST", "/api/v1/advertisers", {"slug": "other", "currency": "USD"})).json()
    answer = await api.get("/postback", token=other["postback_token"], click_id=click, txid="X", amount="9")
    assert answer.json()["status"] == "orphan"


async def test_statuses_move_along_the_lifecycle_by_postback(api: Api, shop: Shop) -> None:
    click = click_text(await shop.click())
    first = (await api.get("/postback", token=shop.token, click_id=click, txid="L", amount="10", status="pending")).json()
    await api.get("/postback", token=shop.token, click_id=click, txid="L", status="approved")
    await api.get("/postback", token=shop.token, click_id=click, txid="L", status="reversed")
    shown = (await api.admin("GET", f"/api/v1/conversions/{first['conversion_id']}")).json()
    assert shown["status"] == "reversed"
    assert sum(float(e["amount"]) for e in shown["ledger"]) == 0
    assert await shop.value("SELECT count(*) FROM ledger_entries") == 8


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"amount": "12,50"}, "invalid_amount"),
        ({"amount": "-1"}, "invalid_amount"),
        ({"amount": "NaN"}, "invalid_amount"),
        ({"amount": "1e3"}, "invalid_amount"),
        ({"amount": "0.1234567"}, "invalid_amount"),
        ({"currency": "EURO"}, "invalid_currency"),
        ({"status": "paid"}, "invalid_status"),
        ({"ts": "yesterday"}, "invalid_ts"),
        ({"txid": "a\x00b"}, "invalid_txid"),
        ({"txid": "x" * 256}, "invalid_txid"),
        ({"click_id": "x" * 256}, "invalid_click_id"),
        ({"click_id": ""}, "invalid_click_id"),
    ],
)
async def test_bad_parameters_are_refused_and_kept(api: Api, shop: Shop, parameters: dict[str, str], code: str) -> None:
    answer = await api.get("/postback", **({"token": shop.token, "click_id": "c", "txid": "t"} | parameters))
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == code
    assert await shop.value("SELECT count(*) FROM postbacks WHERE outcome = 'rejected'") == 1


async def test_form_json_and_query_mean_the_same(api: Api, shop: Shop) -> None:
    click = click_text(await shop.click())
    body = {"token": shop.token, "click_id": click, "amount": "7.10", "order": "kept"}
    form = await api.client.post("/postback", data=body | {"txid": "1"})
    text = await api.client.post("/postback", json=body | {"txid": 2, "amount": 7.10})
    for answer in (form, text):
        shown = (await api.admin("GET", f"/api/v1/conversions/{answer.json()['conversion_id']}")).json()
        assert shown["amount"] == "7.10"
        assert shown["parameters"]["order"] == "kept"
        assert "token" not in shown["parameters"]


async def test_a_missing_txid_takes_the_click_as_key(api: Api, shop: Shop) -> None:
    click = await shop.click()
    first = (await api.get("/postback", token=shop.token, click_id=click_text(click))).json()
    again = (await api.get("/postback", token=shop.token, click_id=str(click))).json()
    assert again["conversion_id"] == first["conversion_id"]
    assert await shop.value("SELECT txid FROM conversions") == f"click:{click_text(click)}"


async def test_a_wrong_token_is_refused(api: Api, shop: Shop) -> None:
    for token in ("", "wrong", "x" * 5000, "ü\x00"):
        answer = await api.get("/postback", token=token, click_id="c", txid="t")
        assert (answer.status_code, answer.json()["code"]) == (401, "bad_token")
    signed = await api.get("/postback", sig="00", ts="1", click_id="c", txid="t")
    assert (signed.status_code, signed.json()["code"]) == (401, "bad_signature")


async def test_the_pixel_always_answers_a_gif_and_makes_pending_conversions(api: Api, shop: Shop) -> None:
    click = click_text(await shop.click())
    answer = await api.get("/pixel.gif", pixel_key=shop.pixel_key, click_id=click, txid="G", amount="5", status="approved")
    wrong = await api.get("/pixel.gif", pixel_key="nobody")
    for one in (answer, wrong):
        assert (one.status_code, one.headers["content-type"]) == (200, "image/gif")
        assert one.content[:6] == b"GIF89a"
    assert await shop.value("SELECT status FROM conversions") == "pending"


async def test_payout_terms_are_those_in_force_at_the_time_of_the_sale(api: Api, shop: Shop) -> None:
    click = click_text(await shop.click())
    before = datetime.now(UTC).isoformat()
    await asyncio.sleep(0.05)
    changed = await api.admin("PATCH", "/api/v1/campaigns/shoes", {"payout": {"type": "fixed", "amount": "3", "currency": "USD"}})
    assert changed.json()["payout"] == {"type": "fixed", "amount": "3.00", "currency": "USD"}
    old = (await api.get("/postback", token=shop.token, click_id=click, txid="1", amount="10", ts=before)).json()
    new = (await api.get("/postback", token=shop.token, click_id=click, txid="2", amount="10")).json()
    payouts = [(await api.admin("GET", f"/api/v1/conversions/{c['conversion_id']}")).json() for c in (old, new)]
    assert [(p["payout"], p["payout_currency"]) for p in payouts] == [("1.00", "EUR"), ("3.00", "USD")]
