"""Files for banks, read back: sums, ids, accounts; each payment in one file only; and what is wrong with an account is said."""

import csv
import io
from datetime import date
from xml.etree import ElementTree as ET

import httpx
import pytest

from tests.integration.api_client import ADMIN_KEY, Api
from tests.integration.payout_books import IBANS, RUNS, amounts, assert_all_adds_up, does, earns, key_of, paid_to, partner, runs
from tracker.api.app import create
from tracker.settings import Settings

pytestmark = pytest.mark.integration
SPACE = "{urn:iso:std:iso:20022:tech:xsd:pain.001.001.09}"
TOLD = """
    SELECT string_agg(action || coalesce(before::text, '') || coalesce(after::text, ''), ' ' ORDER BY id) FROM events
    WHERE entity = 'payout-details'
"""
DEBTOR = {"payout_debtor_name": "Turnout & Söhne GmbH", "payout_debtor_iban": "DE02 1203 0000 0000 2020 51"}


@pytest.fixture
async def api(dsn, tmp_path):
    """The application with an account to pay from."""
    settings = Settings(database_url=dsn, data_dir=str(tmp_path), admin_key=ADMIN_KEY, **DEBTOR, _env_file=None)
    app = create(settings)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://tracker") as client:
        yield Api(client)


def texts(document, tag):
    return [node.text for node in document.iter(SPACE + tag)]


async def test_a_sepa_file_pays_each_partner_what_its_statement_says(api, shop):
    for slug, iban, more in (("bea", IBANS[1], {"bic": "BNPAFRPPXXX"}), ("cal", None, {}), ("dan", IBANS[2], {})):
        await partner(api, slug, iban, **more)
    await paid_to(api, "ada", name="Ada Löwe <&> Co", iban="de89 3704 0044 0532 0130 00", method="sepa")
    for slug, amount in (("ada", "1234.56"), ("bea", "0.01"), ("cal", "7.00"), ("dan", "-3.00")):
        await earns(shop, slug, amount)
    run = (await runs(api))["run"]
    file = await does(api, run, "export", format="sepa", execution_on="2025-11-05")
    assert (file.headers["content-type"], file.headers["x-batch"], file.headers["x-left-due"]) == ("application/xml", "1", "1")
    document = ET.fromstring(file.text)
    assert texts(document, "MsgId") == texts(document, "PmtInfId") == ["EUR-2025-10-31-B1"]
    assert (texts(document, "NbOfTxs"), texts(document, "CtrlSum")) == (["2", "2"], ["1234.57", "1234.57"])
    assert texts(document, "InstdAmt") == ["1234.56", "0.01"]
    assert texts(document, "IBAN") == ["DE02120300000000202051", *IBANS[:2]]
    assert texts(document, "Nm") == ["Turnout Sohne GmbH", "Turnout Sohne GmbH", "Ada Lowe Co", "Bea"]
    assert (texts(document, "BICFI"), texts(document, "Dt")) == (["BNPAFRPPXXX"], ["2025-11-05"])
    numbers = [row["id"] for row in await shop.database.fetch("SELECT id FROM partners WHERE slug IN ('ada', 'bea') ORDER BY slug")]
    assert texts(document, "EndToEndId") == [f"EUR-2025-10-31-P{number}" for number in numbers]
    assert all(len(text) <= 35 for text in texts(document, "EndToEndId"))
    assert (await does(api, run, "export", format="sepa")).content == file.content
    shown = (await api.admin("GET", f"{RUNS}/{run}?status=due")).json()
    assert [(one["partner"], one["details"]) for one in shown["statements"]] == [("cal", None)]
    await paid_to(api, "cal", name="Cal", iban=IBANS[3])
    second = await does(api, run, "export", format="sepa")
    assert (texts(ET.fromstring(second.text), "InstdAmt"), second.headers["x-batch"]) == (["7.00"], "2")
    assert (await does(api, run, "export", format="sepa", batch=1)).content == file.content
    assert (second.headers["x-other-batches"], file.headers["x-other-batches"]) == ("1", "")
    assert (await api.admin("GET", f"{RUNS}/{run}")).json()["totals"]["unpaid_batches"] == [1, 2]
    refused = await does(api, run, "mark-paid", 409)
    assert (refused["code"], "1, 2" in refused["detail"]) == ("several_batches", True)
    assert (await does(api, run, "mark-paid", 404, batch=3))["code"] == "unknown_batch"
    assert (await does(api, run, "mark-paid", 422, batch=1, partner="ada"))["field"] == "batch"
    assert (await does(api, run, "mark-failed", 422, batch=1, partner="ada"))["field"] == "batch"
    assert [(await does(api, run, "mark-paid", batch=2))["changed"] for _ in range(2)] == [1, 0]
    assert (await does(api, run, "mark-paid"))["changed"] == 2
    await assert_all_adds_up(shop)


async def test_a_payment_that_failed_is_in_no_file_again(api, shop):
    for slug, iban in (("bea", IBANS[1]), ("cal", IBANS[2]), ("dan", IBANS[3])):
        await partner(api, slug, iban)
    await paid_to(api, "ada", name="Ada", iban=IBANS[0])
    for slug in ("ada", "bea", "cal", "dan"):
        await earns(shop, slug, "5.00")
    run = (await runs(api))["run"]
    await does(api, run, "export", format="sepa")
    assert (await does(api, run, "export", 409, format="sepa", batch=1, renew=True))["code"] == "batch_unchanged"
    await does(api, run, "mark-failed", partner="ada")
    await does(api, run, "mark-paid", partner="bea")
    for more in ({}, {"batch": 1}, {"batch": 1, "execution_on": "2025-11-07"}):
        refused = await does(api, run, "export", 409, format="csv", **more)
        assert (refused["code"], refused["field"]) == ("batch_changed", "batch")
        assert [word in refused["detail"] for word in ("ada", "bea", "--batch 1 --renew")] == [True, False, True]
    assert (await does(api, run, "export", 422, format="sepa", renew=True))["field"] == "batch"
    assert (await does(api, run, "export", 404, format="sepa", renew=True, batch=9))["code"] == "unknown_batch"
    file = await does(api, run, "export", format="sepa", renew=True, batch=1)
    document = ET.fromstring(file.text)
    assert (texts(document, "MsgId"), texts(document, "IBAN")[1:]) == (["EUR-2025-10-31-B2"], [IBANS[2], IBANS[3]])
    assert (await does(api, run, "export", format="sepa")).content == file.content
    again = await does(api, run, "export", 409, format="sepa", renew=True, batch=1)
    assert (again["code"], "batches: 2" in again["detail"]) == ("nothing_to_export", True)
    assert (await does(api, run, "mark-paid"))["changed"] == 2
    await does(api, run, "mark-returned", partner="cal")
    assert (await does(api, run, "export", 409, format="sepa"))["code"] == "batch_changed"
    assert (await does(api, run, "export", 409, format="sepa", renew=True, batch=2))["code"] == "nothing_to_export"
    after = await runs(api, "2025-11")
    assert amounts(after) == dict.fromkeys(("ada", "cal"), ("0.00", "5.00", "5.00", "0.00", "due"))
    await assert_all_adds_up(shop)


async def test_a_csv_file_pays_in_any_currency_and_runs_nothing(api, shop):
    await paid_to(api, "ada", name="=cmd()", method="paypal", account="ada@example.com")
    await earns(shop, "ada", "1500", currency="JPY")
    run = (await runs(api, currency="JPY"))["run"]
    assert (await does(api, run, "export", 409, format="sepa"))["code"] == "nothing_to_export"
    file = await does(api, run, "export", format="csv")
    (row,) = csv.DictReader(io.StringIO(file.text))
    assert (row["amount"], row["currency"], row["name"], row["account"], row["end_to_end_id"][:14]) == (
        "1500", "JPY", "'=cmd()", "ada@example.com", "JPY-2025-10-31",
    )  # fmt: skip
    assert (await does(api, run, "export", 409, format="sepa", batch=1))["code"] == "not_sepa"
    assert (await does(api, run, "export", 404, format="csv", batch=2))["code"] == "unknown_batch"
    assert (await does(api, run, "export", 422, format="pdf"))["field"] == "format"


async def test_a_partner_without_an_iban_is_in_no_sepa_file_and_one_in_csv_is_not_paid_again(api, shop):
    await paid_to(api, "ada", name="Ada", method="bank", account="12-34-56 789")
    await partner(api, "bea", IBANS[1])
    for slug in ("ada", "bea"):
        await earns(shop, slug, "5.00")
    run = (await runs(api))["run"]
    assert (await does(api, run, "export", format="csv")).text.count("EUR-2025-10-31-P") == 2
    assert (await does(api, run, "export", 409, format="sepa"))["code"] == "not_sepa"
    assert amounts((await api.admin("GET", f"{RUNS}/{run}")).json())["bea"][4] == "exported"


async def test_a_payment_goes_to_the_account_of_when_the_run_was_made(api, shop):
    """Who approves a payment approves its account; one that was wrong fails, and the next run has the new one."""
    ann, ben = await key_of(api, "ann"), await key_of(api, "ben")
    await partner(api, "bea")
    await paid_to(api, "ada", name="Ada", iban=IBANS[0])
    for slug in ("ada", "bea"):
        await earns(shop, slug, "5.00")
    run = (await runs(api, key=ann, two_person=True))["run"]
    for slug in ("ada", "bea"):
        await paid_to(api, slug, name=slug, iban=IBANS[1])
    await does(api, run, "approve", key=ben)
    assert texts(ET.fromstring((await does(api, run, "export", format="sepa")).text), "IBAN")[1:] == [IBANS[0]]
    for slug in ("ada", "bea"):
        await does(api, run, "mark-failed", partner=slug)
    after = (await runs(api, "2025-11"))["run"]
    assert texts(ET.fromstring((await does(api, after, "export", format="sepa")).text), "IBAN")[1:] == [IBANS[1], IBANS[1]]
    await assert_all_adds_up(shop)


async def test_without_an_account_to_pay_from_nothing_is_exported(dsn, tmp_path, shop):
    app = create(Settings(database_url=dsn, data_dir=str(tmp_path), admin_key=ADMIN_KEY, _env_file=None))
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://tracker") as client:
        api = Api(client)
        await paid_to(api, "ada", name="Ada", iban=IBANS[0])
        await earns(shop, "ada", "5.00")
        run = (await runs(api))["run"]
        assert (await does(api, run, "export", 409, format="sepa"))["code"] == "no_debtor"
        assert amounts((await api.admin("GET", f"{RUNS}/{run}")).json())["ada"][4] == "due"
        assert await shop.value("SELECT count(*) FROM payout_batches") == 0


@pytest.mark.parametrize(
    ("details", "field"),
    [
        ({"iban": "DE89370400440532013001"}, "iban"), ({"iban": "DE00"}, "iban"), ({"iban": ""}, "iban"), ({"iban": 7}, "iban"),
        ({}, "iban"),
        ({"iban": IBANS[0], "bic": "COBADE"}, "bic"), ({"iban": IBANS[0], "name": ""}, "name"),
        ({"iban": IBANS[0], "name": "x" * 71}, "name"),
        ({"iban": IBANS[0], "name": None}, "name"), ({"method": "cash"}, "method"), ({"method": "bank"}, "account"),
        ({"method": "paypal", "account": "x" * 65}, "account"), ({"iban": IBANS[0], "pin": "1"}, "pin"),
    ],
)  # fmt: skip
async def test_a_wrong_account_is_refused_with_the_field_that_is_wrong(api, shop, details, field):
    refused = await api.admin("PUT", "/api/v1/payout-details/ada", {"name": "Ada"} | details)
    assert (refused.status_code, refused.json()["field"]) == (422, field), refused.text
    assert "DE89370400440532013001" not in refused.text
    assert await shop.value("SELECT count(*) FROM payout_details") == 0


async def test_an_account_is_forgotten_and_never_stands_in_full_in_the_audit_trail(api, shop):
    await paid_to(api, "ada", name="Ada", iban=IBANS[0], bic="COBADEFFXXX")
    shown = (await api.admin("GET", "/api/v1/payout-details/ada")).json()
    assert (shown["iban"], shown["method"], shown["updated_by"], date.fromisoformat(shown["updated_at"][:10]).year >= 2024) == (
        IBANS[0], "sepa", "admin.key", True,
    )  # fmt: skip
    await paid_to(api, "ada", name="Ada", method="paypal", account="ada@example.com")
    for _ in range(2):
        assert (await api.admin("DELETE", "/api/v1/payout-details/ada")).status_code == 204
    assert (await api.admin("GET", "/api/v1/payout-details/ada")).json()["code"] == "no_details"
    told = await shop.value(TOLD)
    assert [word in told for word in ("DE…3000", "ad….com", IBANS[0], "ada@example.com", "delete")] == [True, True, False, False, True]
