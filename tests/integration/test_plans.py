"""Payout plans: what the API takes and shows, what conversions earn by them, and how that is taken back and worked out anew."""

import asyncio
import json
import random
from datetime import timedelta

import asyncpg
import pytest
from typer.testing import CliRunner

from tests.integration.api_client import click_text
from tests.integration.desk import AT, Desk
from tracker.adapters import postgres_plans_sql
from tracker.adapters.postgres_postback_books import read as read_books
from tracker.adapters.postgres_recompute import Wanted
from tracker.adapters.postgres_recompute import run as recompute
from tracker.cli.main import app
from tracker.domain.money import MICROS

pytestmark = pytest.mark.integration
TEN = {"type": "percent", "percent": "10"}
FIVE_EUR = {"type": "fixed", "amount": "5.00", "currency": "EUR"}
LEDGER = """
    SELECT p.slug, l.status, sum(l.amount_micros)::bigint AS micros FROM ledger_entries l JOIN partners p ON p.id = l.partner_id
    GROUP BY 1, 2 HAVING sum(l.amount_micros) <> 0 ORDER BY 1, 2
"""
REASONS = "SELECT DISTINCT reason FROM ledger_entries WHERE account = 'partner' ORDER BY 1"
LONG_IN_FORCE = "UPDATE terms SET effective_from = now() - interval '60 days' WHERE id = (SELECT max(id) FROM terms)"


def plan(**parts):
    return {"type": "plan"} | parts


class Plans(Desk):
    """The desk, with partners `bob` (ada's parent) and `eve` (bob's)."""

    async def pays(self, payout):
        made = await self.api.admin("PATCH", "/api/v1/campaigns/shoes", {"payout": payout})
        assert made.status_code == 200, made.text
        await self.shop.execute(LONG_IN_FORCE)  # the desk's reports are of before
        return made.json()["payout"]

    async def adds(self, payout, status=201, **more):
        made = await self.api.admin("POST", "/api/v1/terms", {"campaign": "shoes", "payout": payout} | more)
        assert made.status_code == status, made.text
        return made.json()

    async def sells(self, txid, amount="100", minute=0, **parameters):
        """The conversion that a report makes, as it is shown."""
        verdict = await self.says(txid, minute, amount=amount, **parameters)
        assert verdict.conversion_id, verdict
        return await self.shows(verdict.conversion_id)

    async def shows(self, number):
        return (await self.api.admin("GET", f"/api/v1/conversions/{number}")).json()

    async def does(self, number, action, **body):
        return await self.api.admin("POST", f"/api/v1/conversions/{number}/{action}", body)

    async def anew(self, **more):
        days = {"from": f"{AT - timedelta(days=3):%Y-%m-%d}", "to": f"{AT + timedelta(days=2):%Y-%m-%d}"}
        done = await self.api.admin("POST", "/api/v1/campaigns/shoes/recompute", days | more)
        assert done.status_code == 200, done.text
        return done.json()

    async def owed(self):
        """partner, or partner and status where it is not approved → units"""
        rows = await self.shop.database.fetch(LEDGER)
        return {row["slug"] + ("" if row["status"] == "approved" else f" {row['status']}"): row["micros"] / MICROS for row in rows}

    async def is_sound(self):
        async with self.shop.database.connection() as connection:
            books = await read_books(connection)
        assert books
        assert not books.problems


def shares(shown):
    return [(share["partner"], share["level"], share["amount"]) for share in shown["shares"]]


@pytest.fixture
async def desk(api, shop):
    made = await Plans.opened(api, shop)
    made.api = api
    for slug, parent in (("eve", None), ("bob", "eve")):
        assert (await api.admin("POST", "/api/v1/partners", {"slug": slug, "parent": parent})).status_code == 201
    await api.admin("PATCH", "/api/v1/partners/ada", {"parent": "bob"})
    await shop.execute("UPDATE partner_parents SET effective_from = '-infinity'")
    yield made
    await made.is_sound()


ALL_PARTS = plan(
    rate={"type": "percent", "percent": "8"}, currency="EUR",
    rules=[{"categories": ["shoes"], "rate": FIVE_EUR}, {"customer": "new", "rate": TEN}],
    minimum_order="10.00", cap="50.00", levels=[{"percent": "5", "of": "child_payout"}, {"percent": "1", "of": "sale"}],
    split=[{"partner": "eve", "percent": "25"}],
)  # fmt: skip


async def test_a_plan_is_shown_as_it_was_sent_and_simple_forms_stay_what_they_were(desk):
    for payout in (ALL_PARTS, TEN, FIVE_EUR, None, plan(rate=FIVE_EUR) | {"currency": "EUR"}):
        assert await desk.pays(payout) == payout
    assert await desk.pays(plan(cap="5")) == plan(rate={"type": "percent", "percent": "0"}, currency="EUR", cap="5.00")
    assert await desk.pays("7.5 %") == {"type": "percent", "percent": "7.5"}
    rows = await desk.shop.value("SELECT count(*) FROM terms WHERE campaign_id = 1 OR true")
    await desk.pays("7.5%")
    assert await desk.shop.value("SELECT count(*) FROM terms") == rows, "the same payout makes no row"
    goal = {"slug": "lead", "campaign": "shoes", "payout": ALL_PARTS}
    assert (await desk.api.admin("POST", "/api/v1/goals", goal)).json()["payout"] == ALL_PARTS


async def test_what_is_wrong_with_a_plan_is_named(desk):
    for payout, status, code, told in (
        (plan(rules=[{"goals": ["sale"]}]), 422, "invalid_payout", "payout rules.0 rate must be"),
        (plan(levels=[{"percent": "101"}]), 422, "invalid_payout", "payout levels.0 percent must be from 0 to 100"),
        (plan(split=[{"partner": "nobody", "percent": "1"}]), 404, "unknown_partner", "'nobody'"),
        (plan(split=[{"partner": "No body", "percent": "1"}]), 422, "invalid_payout", "split.0 partner must be the slug"),
        (plan(rules=[{"skus": ["\u0000"], "rate": TEN}]), 422, "invalid_payout", "must not contain NUL"),
        ({"type": "plans"}, 422, "invalid_payout", "payout must be"),
    ):
        answer = await desk.api.admin("PATCH", "/api/v1/campaigns/shoes", {"payout": payout})
        assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (status, code, "payout")
        assert told in answer.json()["detail"]


async def test_everybody_at_every_level_gets_a_share_and_all_of_them_move_together(desk):
    await desk.pays(ALL_PARTS)
    items = [{"category": "shoes", "price": "40", "quantity": 1}, {"sku": "x", "price": "30", "quantity": "2"}]
    sale = await desk.sells("T", "100", items=json.dumps(items), customer="c-1", status="pending")
    assert shares(sale) == [("ada", 1, "8.25"), ("eve", 1, "2.75"), ("bob", 2, "0.55"), ("eve", 3, "1.00")]
    assert (sale["payout"], sale["payout_currency"]) == ("11.00", "EUR")
    assert sale["payout_reasons"] == ["item 1, rule 1: 5.00 EUR", "rule 2: 10 %"]
    assert await desk.owed() == {"ada pending": 8.25, "bob pending": 0.55, "eve pending": 3.75}
    assert [row["reason"] for row in await desk.shop.database.fetch(REASONS)] == ["", "level 2", "level 3"]
    assert await desk.shop.value("SELECT count(*) FROM ledger_entries WHERE campaign_id IS NULL") == 0
    assert (await desk.does(sale["id"], "approve")).json()["status"] == "approved"
    assert await desk.owed() == {"ada": 8.25, "bob": 0.55, "eve": 3.75}
    await desk.is_sound()
    assert (await desk.sells("U", "9.99"))["payout_reasons"] == ["below the minimum order of 10.00 EUR"]
    assert (await desk.sells("V", "9000", customer="c-1"))["payout"] == "50.00", "capped; this customer returns: 8 %"
    assert (await desk.does(sale["id"], "reverse")).json()["status"] == "reversed"
    assert await desk.owed() == {"ada": 37.5, "bob": 2.5, "eve": 12.5 + 90}


async def test_simple_terms_cost_no_statement_more(desk, monkeypatch):
    said = []
    for name in ("execute", "fetch", "fetchrow", "fetchval"):
        asked = getattr(asyncpg.Connection, name)

        def listen(self, statement, *values, _asked=asked, **more):
            said.append(statement)
            return _asked(self, statement, *values, **more)

        monkeypatch.setattr(asyncpg.Connection, name, listen)
    await desk.says("T", amount="10", customer="c-1")
    plans = {value: name for name, value in vars(postgres_plans_sql).items() if name.isupper()}
    assert [plans[statement] for statement in said if statement in plans] == ["TERMS"]
    writes = [statement for statement in said if statement.split()[0] in ("INSERT", "UPDATE", "DELETE")]
    assert len(writes) == 5, "postback, conversion, shares, ledger, the postback's verdict"
    reads = [statement for statement in said if statement.split()[0] in ("SELECT", "WITH") and statement not in plans]
    assert not [statement for statement in reads if "partner_parents" in statement or "exchange_rates" in statement]


async def test_further_payments_of_a_customer_earn_as_long_as_the_plan_says(desk):
    recurring = {"rate": {"type": "percent", "percent": "4"}, "payments": 4, "months": 2}
    await desk.pays(plan(rate=TEN, recurring=recurring))
    await desk.shop.execute("UPDATE campaigns SET attribution_window_days = 365")
    click = click_text(await desk.shop.click(clicked_at=AT - timedelta(days=30)))
    paid = []
    for number, days in enumerate((29, 20, 10, 5, 1)):
        at = (AT - timedelta(days=days)).isoformat()
        paid.append((await desk.sells(f"T{number}", "100", click_id=click, customer="c-1", ts=at))["payout"])
    assert paid == ["10.00", "4.00", "4.00", "4.00", "0.00"]
    other = await desk.sells("U", "100", customer="c-2")
    late = await desk.sells("V", "100", customer="c-2", click_id=click, ts=(AT - timedelta(days=2)).isoformat())
    assert [(sale["payout"]) for sale in (other, late)] == ["10.00", "10.00"], "what is booked stays"
    assert (await desk.anew())["changed"] == 0, "by the same terms and the facts of its time"
    assert (await desk.sells("W", "100"))["payout"] == "10.00", "nobody is named: no further payment"


async def test_a_sale_without_a_rate_of_exchange_is_paid_when_it_is_there(desk):
    await desk.pays(plan(rate=TEN, currency="EUR", levels=[{"percent": "10"}]))
    sale = await desk.sells("T", "100", currency="USD")
    assert (sale["payout"], sale["payout_currency"], shares(sale)) == ("0.00", "EUR", [])
    assert "no rate of the day from USD to EUR" in sale["payout_reasons"]
    done = await desk.anew(dry_run=True)
    assert (done["looked_at"], done["changed"], done["without_rate"]) == (1, 0, 1)
    rates = {"source": "test", "rates": [{"day": f"{AT:%Y-%m-%d}", "currency": "USD", "rate": "1.25"}]}
    assert (await desk.api.admin("POST", "/api/v1/rates", rates)).status_code == 200
    done = await desk.anew(reason="the rate came late")
    assert [(row["partner"], row["difference"], row["currency"]) for row in done["partners"]] == [
        ("ada", "8.00", "EUR"),
        ("bob", "0.80", "EUR"),
    ]
    assert await desk.shop.value("SELECT basis->>'exchange' FROM conversions") == "0.8"
    assert (await desk.sells("U", "50", currency="USD"))["payout"] == "4.00"
    assert shares(await desk.shows(sale["id"])) == [("ada", 1, "8.00"), ("bob", 2, "0.80")]


async def test_promotions_overrides_and_back_dated_terms_hold_in_their_time_and_change_nothing_booked(desk):
    before = await desk.sells("A", minute=-30)
    own = await desk.adds("12%", partner="ada", reason="agreed by mail", effective_from=AT.isoformat())
    assert (own["version"], own["partner"], own["goal"], own["actor"]) == (1, "ada", None, "admin.key")
    later = await desk.sells("B", minute=1)
    week = {"effective_from": (AT - timedelta(minutes=45)).isoformat(), "effective_to": (AT + timedelta(hours=1)).isoformat()}
    await desk.adds("20%", **week)
    await desk.adds(plan(rate=FIVE_EUR), goal="lead", status=404)
    assert (before["payout"], later["payout"]) == ("10.00", "12.00")
    assert (await desk.sells("C", minute=2))["payout"] == "12.00", "a partner's own terms go before a promotion"
    await desk.adds(None, partner="ada", effective_from=(AT + timedelta(seconds=150)).isoformat())
    assert (await desk.sells("D", minute=3))["payout"] == "20.00", "none of its own: those of the campaign hold"
    assert (await desk.sells("E", minute=61))["payout"] == "10.00"
    assert (await desk.api.admin("GET", "/api/v1/campaigns/shoes")).json()["payout"] == TEN, "the promotion is no payout of its own"
    assert (await desk.shows(before["id"]))["payout"] == "10.00"
    done = await desk.anew(dry_run=True)
    assert [row["txid"] for row in done["conversions"]] == ["A"]
    assert await desk.shop.value("SELECT count(*) FROM ledger_entries WHERE kind = 'correction'") == 0
    known_then = await desk.anew(as_of=later["created_at"], dry_run=True)
    assert [row["txid"] for row in known_then["conversions"]] == ["D", "E"], "neither the promotion, nor that ada's own terms ended"
    done = await desk.anew(reason="the promotion was agreed before")
    assert done["partners"] == [{"partner": "ada", "difference": "10.00", "currency": "EUR"}]
    assert (await desk.shows(before["id"]))["payout"] == "20.00"
    assert (await desk.anew())["changed"] == 0
    listed = (await desk.api.admin("GET", "/api/v1/terms?campaign=shoes&limit=2")).json()
    assert [row["payout"] for row in listed["items"]] == [TEN, {"type": "percent", "percent": "12"}]
    rest = (await desk.api.admin("GET", f"/api/v1/terms?partner=ada&cursor={listed['next_cursor']}")).json()
    assert [(row["partner"], row["payout"], row["version"]) for row in rest["items"]] == [("ada", None, 2)]
    events = await desk.shop.database.fetch("SELECT reason FROM events WHERE entity = 'terms' ORDER BY id")
    assert [row["reason"] for row in events] == ["agreed by mail", "", ""]


async def test_refused_terms_name_the_field(api, shop):
    for body, code in (
        ([], "invalid_body"),
        ({"payout": "1%"}, "invalid_campaign"),
        ({"campaign": "shoes"}, "invalid_payout"),
        ({"campaign": "shoes", "payout": "x"}, "invalid_payout"),
        ({"campaign": "shoes", "payout": "1%", "until": "x"}, "unknown_field"),
        ({"campaign": "nothing", "payout": "1%"}, "unknown_campaign"),
        ({"campaign": "shoes", "payout": "1%", "partner": "nobody"}, "unknown_partner"),
        ({"campaign": "shoes", "payout": "1%", "effective_from": "2026-02-01", "effective_to": "2026-02-01"}, "invalid_effective_to"),
    ):
        assert (await api.admin("POST", "/api/v1/terms", body)).json()["code"] == code
    assert await shop.value("SELECT count(*) FROM terms") == 1


async def test_a_part_that_is_taken_back_lowers_a_percentage_and_leaves_a_fixed_amount(desk):
    await desk.pays(plan(rate=TEN, levels=[{"percent": "10"}]))
    sale = await desk.sells("T", "100")
    left = (await desk.does(sale["id"], "reverse", amount="30.00", reason="two pairs came back")).json()
    assert (left["amount"], left["reversed"], left["amount_original"], left["status"]) == ("70.00", "30.00", "100", "approved")
    assert shares(left) == [("ada", 1, "7.00"), ("bob", 2, "0.70")]
    entries = [entry for entry in left["ledger"] if entry["kind"] == "reversal"]
    assert sorted((entry["amount"], entry["reason"], entry["actor"]) for entry in entries) == [
        ("-0.30", "two pairs came back; level 2", "admin.key"),
        ("-3.00", "two pairs came back", "admin.key"),
        ("-30.00", "two pairs came back", "admin.key"),
    ]
    for amount in ("70.01", "0", "-1", "x"):
        assert (await desk.does(sale["id"], "reverse", amount=amount)).json()["code"] == "invalid_amount"
    assert (await desk.does(sale["id"], "approve", amount="1")).json()["code"] == "invalid_amount"
    whole = (await desk.does(sale["id"], "reverse", amount="70")).json()
    assert (whole["status"], whole["reversed"], await desk.owed()) == ("reversed", "30.00", {})
    assert (await desk.does(sale["id"], "reverse", amount="1")).json()["code"] == "invalid_status"
    await desk.pays(FIVE_EUR)
    pending = await desk.sells("U", "100", minute=1, status="pending")
    assert (await desk.does(pending["id"], "reverse", amount="99.99")).json()["payout"] == "5.00"
    assert (await desk.does(pending["id"], "reverse", amount="0.01")).json()["status"] == "rejected"


async def test_two_at_once_never_take_back_more_than_there_is(desk):
    sale = await desk.sells("T", "100")
    answers = await asyncio.gather(*(desk.does(sale["id"], "reverse", amount="40") for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 422, 422]
    shown = await desk.shows(sale["id"])
    assert (shown["amount"], shown["payout"], await desk.owed()) == ("20.00", "2.00", {"ada": 2})


async def test_a_later_report_of_the_amount_replaces_all_of_it_and_a_repetition_nothing(desk):
    await desk.shop.execute("UPDATE goals SET duplicate_policy = 'amend'")
    sale = await desk.sells("T", "100")
    await desk.does(sale["id"], "reverse", amount="30")
    assert (await desk.says("T", 1, amount="100")).duplicate
    assert (await desk.shows(sale["id"]))["amount"] == "70.00"
    assert (await desk.says("T", 2, amount="80")).outcome == "attributed"
    shown = await desk.shows(sale["id"])
    assert (shown["amount"], shown["reversed"], shown["payout"]) == ("80.00", "0.00", "8.00")


async def test_reports_that_add_up_earn_each_by_itself_whatever_is_taken_back(desk):
    await desk.shop.execute("UPDATE goals SET duplicate_policy = 'increment'")
    await desk.pays(plan(rate=FIVE_EUR, levels=[{"percent": "10"}]))
    sale = await desk.sells("T", "10")
    for minute in (1, 2):
        await desk.says("T", minute, amount="20")
    shown = await desk.shows(sale["id"])
    assert (shown["amount"], shares(shown)) == ("50.00", [("ada", 1, "15.00"), ("bob", 2, "1.50")])
    assert (await desk.anew())["changed"] == 0
    shown = (await desk.does(sale["id"], "reverse", amount="25")).json()
    assert (shown["amount"], shares(shown)) == ("25.00", [("ada", 1, "10.00"), ("bob", 2, "1.00")])
    await desk.says("T", 3, amount="5")
    shown = await desk.shows(sale["id"])
    assert (shown["amount"], shown["reversed"], shown["payout"]) == ("30.00", "25.00", "15.00")
    assert (await desk.anew())["changed"] == 0


async def test_an_imported_payout_goes_down_in_proportion_and_is_not_worked_out_anew(desk):
    sale = await desk.sells("T", "100")
    await desk.shop.execute("UPDATE conversions SET source = 'old', source_id = '1', terms_id = NULL, basis = '{}'")
    shown = (await desk.does(sale["id"], "reverse", amount="25")).json()
    assert (shown["amount"], shown["payout"], shares(shown)) == ("75.00", "7.50", [("ada", 1, "7.50")])
    assert (await desk.anew())["looked_at"] == 0


@pytest.mark.parametrize(
    ("policy", "said", "payout"),
    [
        ("increment", {"amount": "10"}, "36.30"),
        ("amend", {"amount": "50"}, "16.50"),
        ("amend", {"amount": "60", "currency": "USD"}, "15.84"),  # by the rate of the day: 48.00 EUR
        ("amend", {"amount": "60", "currency": "GBP"}, "33.00"),  # nobody knows how much that is
    ],
)
async def test_an_imported_payout_follows_an_amended_amount_in_proportion(desk, policy, said, payout):
    await desk.pays("33%")
    sale = await desk.sells("T", "100")
    await desk.pays("10%")
    await desk.shop.execute("UPDATE conversions SET source = 'old', source_id = '1', terms_id = NULL, basis = '{}'")
    await desk.shop.execute("UPDATE goals SET duplicate_policy = $1", policy)
    rates = {"source": "test", "rates": [{"day": f"{AT:%Y-%m-%d}", "currency": "USD", "rate": "1.25"}]}
    assert (await desk.api.admin("POST", "/api/v1/rates", rates)).status_code == 200
    assert (await desk.says("T", 5, **said)).outcome == "attributed"
    shown = await desk.shows(sale["id"])
    assert (shown["payout"], shown["payout_currency"], shares(shown)) == (payout, "EUR", [("ada", 1, payout)])
    assert await desk.owed() == {"ada": float(payout)}


async def test_recomputing_as_of_its_booking_gives_what_was_booked_whatever_changed_since(desk):
    """Days apart, so that each is worked out as of its own time."""
    rng, booked = random.Random(11), {}
    click = click_text(await desk.shop.click(clicked_at=AT - timedelta(days=25)))
    rules = [{"customer": "new", "rate": {"type": "percent", "percent": "20"}}]
    parts = ({}, {"rules": rules}, {"levels": [{"percent": "10"}]}, {"split": [{"partner": "eve", "percent": "30"}]}, {"cap": "4.00"})
    for number in range(12):
        rate = rng.choice([TEN, FIVE_EUR, {"type": "percent", "percent": str(rng.randint(1, 30))}])
        payout = rng.choice([rate, plan(rate=rate, currency="EUR", **rng.choice(parts))])
        days = rng.randint(1, 24)
        more = rng.choice([{}, {"partner": "ada"}, {"goal": "sale"}, {"effective_to": (AT - timedelta(days=days - 1)).isoformat()}])
        await desk.adds(payout, effective_from=(AT - timedelta(days=days)).isoformat(), **more)
        at = (AT - timedelta(days=24 - 2 * number)).isoformat()
        sale = await desk.sells(f"T{number}", "100", click_id=click, customer=f"c-{number % 2}", ts=at)
        booked[sale["id"]] = shares(sale)
    rows = await desk.shop.database.fetch("SELECT id, converted_at, created_at FROM conversions")
    changed = 0
    for known_at in (True, False):
        for row in rows:
            wanted = Wanted(
                "shoes", row["converted_at"], row["converted_at"] + timedelta(seconds=1), row["created_at"] if known_at else None, False
            )
            done = await recompute(desk.shop.database, wanted, None, reason="r", actor="a", goes_on=lambda: True)
            assert done["looked_at"] == 1
            assert not (known_at and done["changed"]), (row["id"], done["conversions"], booked[str(row["id"])])
            changed += done["changed"]
    assert changed > 0, "by what is known now some would have earned otherwise"


async def test_a_page_that_ran_out_of_time_is_gone_on_with(desk, monkeypatch):
    monkeypatch.setattr("tracker.adapters.postgres_recompute.PAGE", 1)
    monkeypatch.setattr("tracker.payouts.recompute.BUDGET_S", 0)
    for number in range(2):
        await desk.sells(f"T{number}", minute=number)
    first = await desk.anew()
    second = await desk.anew(cursor=first["next_cursor"])
    third = await desk.anew(cursor=second["next_cursor"])
    assert [done["looked_at"] for done in (first, second, third)] == [1, 1, 0]
    assert third["next_cursor"] is None
    path = "/api/v1/campaigns/shoes/recompute"
    for body, code in (({}, "invalid_from"), ({"from": "2026-02-01", "to": "2026-01-01"}, "invalid_to"), ([], "invalid_body")):
        assert (await desk.api.admin("POST", path, body)).json()["code"] == code
    for name, value in (("cursor", "x"), ("as_of", "x"), ("from", "2026-01-01T12:00")):
        body = {"from": "2026-01-01", "to": "2026-01-02", name: value}
        assert (await desk.api.admin("POST", path, body)).json()["code"] == f"invalid_{name}"
    assert (await desk.api.admin("POST", path.replace("shoes", "x"), {"from": "2026-01-01", "to": "2026-01-02"})).status_code == 404


def test_the_command_line_takes_plans_and_terms_and_recomputes(dsn, tmp_path, monkeypatch):
    monkeypatch.setenv("TURNOUT_DATABASE_URL", dsn)
    monkeypatch.setenv("TURNOUT_DATA_DIR", str(tmp_path))
    (tmp_path / "plan.json").write_text(json.dumps(plan(rate=TEN, cap="50.00", currency="EUR")))

    def turnout(*arguments, code=0):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == code, (done.output, done.exception)
        return done.stdout

    turnout("advertiser", "add", "shop", "--currency", "EUR")
    file = f"@{tmp_path}/plan.json"
    turnout("campaign", "add", "shoes", "--advertiser", "shop", "--destination-url", "https://shop.example/", "--payout", file)
    shown = json.loads(turnout("campaign", "show", "shoes", "--json"))
    assert shown["payout"] == plan(rate=TEN, currency="EUR", cap="50.00")
    turnout("campaign", "edit", "shoes", "--payout", '{"type":"plan","rate":"5.00 EUR"}')
    turnout("campaign", "edit", "shoes", "--payout", "@/nowhere.json", code=1)
    turnout("partner", "add", "ada")
    turnout("terms", "add", "--campaign", "shoes", "--partner", "ada", "--payout", "12%", "--effective-to", "2027-01-01")
    turnout("terms", "add", "--campaign", "shoes", "--payout", "", "--json")
    listed = json.loads(turnout("terms", "list", "--campaign", "shoes", "--json"))["items"]
    assert [(row["payout"] or {}).get("type") for row in listed] == ["plan", "plan", "percent", None]
    assert "12%" in turnout("terms", "list", "--partner", "ada")
    done = json.loads(turnout("campaign", "recompute", "shoes", "--from", "2026-01-01", "--to", "2026-01-31", "--dry-run", "--json"))
    assert (done["looked_at"], done["dry_run"]) == (0, True)
    assert "0 of 0" in turnout("campaign", "recompute", "shoes", "--from", "2026-01-01", "--to", "2026-01-31")
