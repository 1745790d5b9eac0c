"""Lists of approvals, rejections, reversals and adjustments: all of a list or nothing, again and again without harm."""

import asyncio
import csv
import json

import pytest

from tests.integration.desk import Desk
from tracker.adapters import postgres_bulk
from tracker.adapters.audit import audit
from tracker.cli import main
from tracker.errors import RejectedInput
from tracker.payouts.bulk import BadRows, Bulk

pytestmark = pytest.mark.integration
PATH = "/api/v1/conversions/bulk"
STATUSES = "SELECT txid, status, amount_micros / 1000000 AS amount, payout_micros / 1000000 AS payout FROM conversions ORDER BY txid"
OWED = "SELECT coalesce(sum(amount_micros), 0)::bigint FROM ledger_entries WHERE account = 'partner' AND status = $1"


@pytest.fixture
async def desk(api, shop):
    """The orders P1, P2 (pending) and A1 to A3 (approved), each of 100.00 EUR, 10 % of which are ada's."""
    opened = await Desk.opened(api, shop)
    for txid in ("A1", "A2", "A3", "P1", "P2"):
        await opened.says(txid, amount="100", status="pending" if txid.startswith("P") else "approved")
    return opened


ROWS = [
    {"txid": "P1", "action": "approve"},
    {"txid": "P2", "action": "reject", "reason": "fraud"},
    {"txid": "A1", "action": "reverse", "advertiser": "shop", "goal": "sale", "occurrence": 1},
    {"txid": "A2", "action": "adjust", "amount": "80.00", "currency": "EUR"},
    {"txid": "A3", "action": "reverse", "amount": "30"},
]
AFTER = {
    "A1": ("reversed", 100, 10),
    "A2": ("approved", 80, 8),
    "A3": ("approved", 70, 7),
    "P1": ("approved", 100, 10),
    "P2": ("rejected", 100, 10),
}


async def posts(api, rows, *, dry_run=False, status=200, key=None, **more):
    path = f"{PATH}?dry_run=true" if dry_run else PATH
    body = {"rows": rows} | more
    told = await (api.call(key, "POST", path, body) if key else api.admin("POST", path, body))
    assert told.status_code == status, told.text
    return told.json()


async def state(shop):
    return {row["txid"]: (row["status"], row["amount"], row["payout"]) for row in await shop.database.fetch(STATUSES)}


async def everything(shop):
    tables = ("conversions", "conversion_shares", "ledger_entries", "events")
    return [await shop.database.fetch(f"SELECT * FROM {table} t ORDER BY t::text") for table in tables]


async def test_a_list_is_done_as_by_hand_and_a_second_time_nothing_is(api, shop, desk, dsn, redis_url):
    before = await everything(shop)
    foreseen = await posts(api, ROWS, dry_run=True, reason="list of October")
    assert await everything(shop) == before
    told = await posts(api, ROWS, reason="list of October")
    assert (foreseen.pop("dry_run"), told.pop("dry_run")) == (True, False)
    assert foreseen == told
    assert (told["changed"], told["unchanged"]) == (5, 0)
    assert told["partners"] == [{"partner": "ada", "currency": "EUR", "pending": "-20.00", "approved": "-5.00"}]
    assert [row["row"] for row in told["rows"]] == [1, 2, 3, 4, 5]
    assert told["rows"][3] | {"id": ""} == {
        "row": 4, "id": "", "txid": "A2", "action": "adjust", "result": "changed", "status_before": "approved", "status_after": "approved",
        "amount_before": "100.00", "amount_after": "80.00", "currency": "EUR",
        "payout_before": "10.00", "payout_after": "8.00", "payout_currency": "EUR",
    }  # fmt: skip
    assert (told["rows"][2]["payout_before"], told["rows"][2]["payout_after"]) == ("10.00", "0.00")
    assert await state(shop) == AFTER
    assert (await shop.value(OWED, "pending"), await shop.value(OWED, "approved")) == (0, 25_000_000)
    audited = await shop.database.fetch("SELECT action, reason, actor FROM events WHERE entity = 'conversion' ORDER BY action, reason")
    assert [tuple(row.values()) for row in audited] == [
        ("adjust", "list of October", "admin.key"), ("approve", "list of October", "admin.key"), ("reject", "fraud", "admin.key"),
        ("reverse", "list of October", "admin.key"), ("reverse", "list of October", "admin.key"),
    ]  # fmt: skip
    assert await shop.value("SELECT count(*) FROM ledger_entries WHERE actor <> 'postback' AND actor <> 'admin.key'") == 0
    assert (await audit(dsn, redis_url, 1))["postbacks"]["state"] == "balanced"
    done = await everything(shop)
    again = await posts(api, ROWS)
    assert (again["changed"], again["unchanged"], again["partners"]) == (0, 5, [])
    assert await everything(shop) == done


async def test_a_list_books_what_a_person_books(api, shop, desk):
    number = await shop.value("SELECT id FROM conversions WHERE txid = 'P1'")
    await api.admin("POST", f"/api/v1/conversions/{number}/approve", {"reason": "fine"})
    await posts(api, [{"txid": "P2", "action": "approve"}], reason="fine")
    columns = "effective_on, account, partner_id, e.advertiser_id, campaign_id, kind, e.status, e.amount_micros, e.currency, reason, actor"
    entries = f"SELECT {columns} FROM ledger_entries e JOIN conversions c ON c.id = conversion_id WHERE txid = $1 ORDER BY e.id"
    by_hand, by_list = [await shop.database.fetch(entries, txid) for txid in ("P1", "P2")]
    assert len(by_hand) == 6
    assert by_hand == by_list


async def test_one_bad_row_and_nothing_is_done_and_each_bad_row_is_told(api, shop, desk):
    before = await everything(shop)
    bad = [
        {"txid": "A2", "action": "approve", "currency": "USD"},
        {"txid": "nobody's", "action": "approve"},
        {"txid": "P1", "action": "reverse"},
        {"txid": "P1", "goal": "lead", "action": "approve"},
        {"id": "0198f6a0-0000-7000-8000-000000000000", "action": "approve"},
        {"txid": "P2", "action": "pay"},
        7,
        {"txid": "P2", "action": "reject"},
    ]
    for dry_run in (False, True):
        told = await posts(api, [*ROWS, *bad], status=422, dry_run=dry_run)
        assert told["code"] == "bad_rows"
        assert [(one["row"], one["problem"]) for one in told["problems"]] == [
            (6, "the conversion is in EUR, not in USD"),
            (7, "there is no conversion with the txid nobody's"),
            (8, "row 1 says what is to become of this conversion already"),
            (9, "there is no conversion with the txid P1, goal lead"),
            (10, "there is no conversion 0198f6a0-0000-7000-8000-000000000000"),
            (11, "action must be one of approve, reject, reverse, adjust"),
            (12, 'must be a JSON object such as {"id":"…","action":"approve"}'),
            (13, "row 2 says what is to become of this conversion already"),
        ]
    assert await everything(shop) == before


async def test_an_amount_and_a_status_of_one_order_may_stand_in_one_list(api, shop, desk):
    rows = [{"txid": "P1", "action": "adjust", "amount": "50"}, {"txid": "P1", "action": "approve"}]
    told = await posts(api, rows)
    assert [(row["amount_after"], row["status_after"], row["payout_after"]) for row in told["rows"]] == [
        ("50.00", "pending", "5.00"), ("50.00", "approved", "5.00"),
    ]  # fmt: skip
    assert told["partners"] == [{"partner": "ada", "currency": "EUR", "pending": "-10.00", "approved": "5.00"}]
    assert (await posts(api, rows))["unchanged"] == 2


@pytest.mark.parametrize("names_by_id", [False, True])
async def test_a_part_that_is_taken_back_and_another_amount_stand_in_two_lists(api, shop, desk, names_by_id):
    before = await everything(shop)
    number = str(await shop.value("SELECT id FROM conversions WHERE txid = 'A1'"))
    part = ({"id": number} if names_by_id else {"txid": "A1"}) | {"action": "reverse", "amount": "30"}
    other = {"txid": "A1", "action": "adjust", "amount": "80"}
    for rows, said in (
        ((part, other), "row 1 takes back a part of this conversion; adjust it in another list"),
        ((other, part), "row 1 adjusts this conversion; take back a part of it in another list"),
    ):
        assert (await posts(api, list(rows), status=422))["problems"] == [{"row": 2, "problem": said}]
    assert await everything(shop) == before
    whole = {"txid": "A1", "action": "reverse"}
    assert (await posts(api, [other, whole]))["changed"] == 2
    assert (await posts(api, [other, whole]))["unchanged"] == 2


async def test_an_order_number_that_several_have_must_say_which(api, shop, desk):
    await shop.execute("UPDATE goals SET duplicate_policy = 'always_new'")
    await desk.says("P1", 1, amount="100", status="pending")
    told = await posts(api, [{"txid": "P1", "action": "approve"}], status=422)
    assert told["problems"] == [{"row": 1, "problem": "2 conversions have the txid P1; say which by occurrence"}]
    await posts(api, [{"txid": "P1", "action": "approve", "occurrence": 2}])
    assert await shop.value("SELECT status FROM conversions WHERE txid = 'P1' AND occurrence = 2") == "approved"


async def test_an_advertisers_key_changes_its_own_only(api, shop, desk):
    assert (await api.admin("POST", "/api/v1/advertisers", {"slug": "rival", "currency": "EUR"})).status_code == 201
    number = str(await shop.value("SELECT id FROM conversions WHERE txid = 'P1'"))
    keys = {}
    for slug in ("shop", "rival"):
        keys[slug] = (await api.admin("POST", "/api/v1/keys", {"role": "advertiser", "advertiser": slug})).json()["key"]
    for wanted in ({"txid": "P1"}, {"id": number}):
        told = await posts(api, [wanted | {"action": "approve"}], key=keys["rival"], status=422)
        assert told["problems"][0]["problem"].startswith("there is no conversion")
    assert (await posts(api, [{"id": number, "action": "approve"}], key=keys["shop"]))["changed"] == 1


@pytest.mark.parametrize(
    "body", [[], {"rows": []}, {"rows": "x"}, {"rows": [{}] * 1001}, {"rows": [{}], "x": 1}, {"rows": [{}], "reason": 7}]
)
async def test_what_is_no_list_is_refused(api, body):
    refused = await api.admin("POST", PATH, body)
    assert refused.status_code == 422, refused.text


async def test_two_lists_at_once_do_each_step_once(shop, desk, dsn, redis_url, monkeypatch):
    monkeypatch.setattr(postgres_bulk, "CHUNK", 2)
    bulk = Bulk(shop.database)
    done = await asyncio.gather(*(bulk.run(list(enumerate(rows, start=1)), "a") for rows in (ROWS, ROWS[::-1], ROWS)))
    assert sum(one["changed"] for one in done) == 5
    assert await state(shop) == AFTER
    assert (await audit(dsn, redis_url, 1))["postbacks"]["state"] == "balanced"


async def test_a_held_conversion_that_a_list_approves_waits_no_longer(api, shop, desk):
    assert (await api.admin("PATCH", "/api/v1/campaigns/shoes", {"hold_days": 14})).status_code == 200
    await desk.says("H", amount="100")
    assert (await posts(api, [{"txid": "H", "action": "approve"}]))["rows"][0]["status_before"] == "pending"
    assert await shop.value("SELECT approve_at FROM conversions WHERE txid = 'H'") is None


def rows_of(file):
    return list(csv.DictReader(file.read_text().splitlines()))


async def test_the_command_reads_a_file_and_writes_what_became_of_each_row(shop, desk, dsn, redis_url, tmp_path, monkeypatch, capsys):
    for name, value in (("DATABASE_URL", dsn), ("REDIS_URL", redis_url), ("DATA_DIR", str(tmp_path))):
        monkeypatch.setenv(f"TURNOUT_{name}", value)
    file, out = tmp_path / "list.csv", tmp_path / "out.csv"
    header = "txid,action,amount,reason\n"

    async def said(*options):
        code = await asyncio.to_thread(main.app, ["conversions", "import", str(file), *options], standalone_mode=False)
        return code or 0, *capsys.readouterr()

    file.write_text(f"{header}P1,approve,,\nA2,adjust,80,agreed\nA1,pay,,\nX,approve,,\n")
    code, told, problems = await said("--result", str(out))
    assert (code, told) == (2, "")
    assert problems.splitlines() == [
        "line 4: action must be one of approve, reject, reverse, adjust",
        "line 5: there is no conversion with the txid X",
        "nothing was changed: 2 rows are bad",
    ]
    assert [(row["row"], row["result"]) for row in rows_of(out)] == [("4", "bad"), ("5", "bad")]
    file.write_text(f"{header}P1,approve,,\nA2,adjust,80,agreed\nA3,reverse,30,\n")
    code, told, _ = await said("--dry-run")
    assert (code, "pending → approved" in told, "100.00 → 80.00 EUR" in told) == (0, True, True)
    assert told.splitlines()[-1] == "3 conversions would be changed, 0 unchanged"
    assert (await state(shop))["P1"][0] == "pending"
    code, told, _ = await said("--json", "--result", str(out), "--reason", "October")
    assert (code, json.loads(told)["changed"]) == (0, 3)
    rows = rows_of(out)
    assert (rows[1]["row"], rows[1]["txid"], rows[1]["payout_before"], rows[1]["payout_after"]) == ("3", "A2", "10.00", "8.00")
    assert await shop.value("SELECT string_agg(DISTINCT actor || ' ' || reason, ', ') FROM events WHERE entity = 'conversion'") == (
        "cli October, cli agreed"
    )
    assert (await said())[1].splitlines()[-1] == "0 conversions changed, 3 unchanged"
    file.write_text("txid,colour\n")
    with pytest.raises(RejectedInput, match="unknown column 'colour'"):
        await said()
    file.write_text(f"{header}P1,approve,,,\n")
    code, _, problems = await said()
    assert (code, problems.splitlines()[0]) == (2, "line 2: more cells than the header has")
    before = await everything(shop)
    file.write_text(f"{header}P1,approve,,\nA1,reverse\n")  # an amount that is cut off is not the whole order
    code, told, problems = await said()
    assert (code, told) == (2, "")
    assert problems.splitlines() == ["line 3: fewer cells than the header has", "nothing was changed: 1 rows are bad"]
    assert await everything(shop) == before
    file.write_text("txid,action,amount,amount\nA1,reverse,30,\n")
    with pytest.raises(RejectedInput, match="'amount' twice"):
        await said()


def test_bad_rows_are_told_by_number_and_not_all_of_them_in_one_sentence():
    assert str(BadRows([(3, "c"), (1, "a"), (2, "b"), (9, "d")])) == "nothing was changed: row 1: a; row 2: b; row 3: c; and 1 more"
