"""The oracle can fail: each verdict is seen on rows with one planted error, in a real PostgreSQL with the real schema."""

from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from loadtests.chaos import money, oracle, verdict
from loadtests.chaos.click_ids import moment_of, to_text, to_uuid
from loadtests.chaos.ledger import Answer, Order, Orders, Tail, Visit, Visits
from loadtests.chaos.oracle import Row
from loadtests.chaos.verdict import Books, Verdict
from loadtests.chaos.world import Episode

IDS = [to_text(UUID(int=(0x0199_0000_0000 << 80) + n)) for n in range(5)]
NOW = "2026-01-31T12:07:00Z"
CLICK = """
    INSERT INTO clicks (click_id, clicked_at, kind, method, host, url, link, partner, campaign, advertiser, creative, outcome, verdict,
        rule_version, counted, is_unique, redirected_to, ip, country, network, device, os, browser, user_agent, referrer, language, sub1,
        truncated, node, boot, seq)
    VALUES ($1, $2::text::timestamptz, 'link', 'GET', '', '', 1, 1, 1, 1, '', 'ok', 'valid', 1, true, false,
        '', '', '', '', '', '', '', '', '', '', $3, false, 'n', '00000000-0000-0000-0000-000000000001', 1)
"""
STATS = "INSERT INTO click_stats VALUES ($1::text::timestamptz, 1, 1, 1, 1, $2, 0, $2)"
DAYS = "INSERT INTO daily_stats VALUES ($1::text::timestamptz::date, 1, 1, 1, $2, 0, $2)"
ADVERTISER = "INSERT INTO advertisers (slug, currency) VALUES ('shop', 'EUR') RETURNING id"
PARTNER = "INSERT INTO partners (slug) VALUES ('blog') RETURNING id"
CONVERSION = """
    INSERT INTO conversions (id, advertiser_id, txid, postback_id, status, converted_at, received_at, amount_micros, currency,
        payout_micros, payout_currency, attribution, click_id, occurrence, goal)
    VALUES (gen_random_uuid(), $1, $2, gen_random_uuid(), $3, now(), now(), $4, 'EUR', $5, 'EUR', 'click', $6, $7, $8) RETURNING id
"""
ENTRY = """
    INSERT INTO ledger_entries (effective_on, account, partner_id, advertiser_id, conversion_id, kind, status, amount_micros,
        currency, actor)
    VALUES (now()::date, $1, $2, $3, $4, 'conversion', 'approved', $5, 'EUR', 'test')
"""


def visit(number, outcome="ok", **facts):
    click_id = IDS[number] if outcome == "ok" else ""
    return replace(Visit(number, outcome, click_id, 302 if outcome == "ok" else 0, "keep", number, number + 0.1), **facts)


def visits(*others):
    return {item.number: item for item in (visit(0), visit(1), *others)}


ROWS = [Row(IDS[0], "0"), Row(IDS[1], "1")]


def test_rows_that_match_the_ledger_are_right():
    found = oracle.judge(visits(visit(2, "unknown")), ROWS)
    assert (found.lost, found.dup, found.ghost, found.bad, found.unstored) == ([], [], [], [], 1)


def test_an_unknown_visit_may_be_stored():
    found = oracle.judge(visits(visit(2, "unknown")), [*ROWS, Row(IDS[2], "2")])
    assert (found.lost, found.dup, found.ghost, found.unstored) == ([], [], [], 0)


def test_a_302_without_a_row_is_lost():
    assert oracle.judge(visits(visit(2)), ROWS).lost == [2]


def test_a_row_of_another_click_id_is_lost_and_a_ghost():
    found = oracle.judge(visits(visit(2)), [*ROWS, Row(IDS[3], "2")])
    assert (found.lost, found.ghost) == ([2], [IDS[3]])


def test_a_request_that_is_stored_twice_is_doubled():
    assert oracle.judge(visits(visit(2, "unknown")), [*ROWS, Row(IDS[2], "2"), Row(IDS[3], "2")]).dup == [2]


def test_a_click_id_that_is_stored_twice_is_doubled():
    assert oracle.judge(visits(), [*ROWS, ROWS[1]]).dup == [1]


def test_a_row_that_nobody_asked_for_is_a_ghost():
    assert oracle.judge(visits(), [*ROWS, Row(IDS[4], "77")]).ghost == [IDS[4]]


def test_a_row_without_a_number_is_a_ghost_but_for_the_harness_itself():
    assert oracle.judge(visits(), [*ROWS, Row(IDS[4], ""), Row(IDS[3], "probe")]).ghost == [IDS[4]]


def test_what_is_no_302_is_told():
    found = oracle.judge(visits(visit(2, "bad", status=500), visit(3, "refused"), visit(4, "hung")), ROWS)
    assert (found.bad, found.refused, found.hung) == ([2], [3], [4])


async def _store(connection, told=2, told_on_the_day=2, bucket="2026-01-31T12:00:00Z"):
    await connection.execute("CREATE TABLE clicks_test PARTITION OF clicks DEFAULT")
    for number in range(2):
        await connection.execute(CLICK, to_uuid(IDS[number]), NOW, str(number))
    await connection.execute(STATS, bucket, told)
    await connection.execute(DAYS, NOW, told_on_the_day)


@pytest.mark.parametrize(
    ("planted", "drift"),
    [
        ({}, 0),
        ({"told": 3}, 2),
        ({"told_on_the_day": 1}, 2),
        ({"bucket": "2026-01-31T12:15:00Z"}, 8),
    ],
)
def test_rollups_that_differ_from_a_recount_are_drift(database, planted, drift):
    async def work(connection):
        await connection.execute("DO $$ DECLARE t text; BEGIN FOR t IN SELECT inhrelid::regclass FROM pg_inherits "
                                 "WHERE inhparent = 'clicks'::regclass LOOP EXECUTE 'DROP TABLE ' || t; END LOOP; END $$")  # fmt: skip
        await _store(connection, **planted)
        async with connection.transaction():
            found = int(await connection.fetchval(oracle.QUARTERS)) + int(await connection.fetchval(oracle.DAYS))
        return found, await oracle.read_rows(connection)

    found, rows = database.run(work)
    assert found == drift
    assert sorted(rows, key=lambda row: row.sub1) == ROWS


ORDER = Order("order-1", IDS[0], 4995, "l0", "once", 1.0, accepted_at=2.0)


@pytest.mark.parametrize(
    ("cents", "link", "payout"),
    [(4995, "l0", 500), (4985, "l0", 498), (4994, "l2", 499), (4996, "l4", 500), (1, "l0", 0), (777, "l1", 500)],
)
def test_a_payout_is_a_tenth_half_to_even_or_five(cents, link, payout):
    assert replace(ORDER, cents=cents, link=link).payout_cents == payout


def judge_orders(database, orders, *rows):
    """`rows`: (txid, status, amount, payout, click id, occurrence, owed, billed, goal), in micros."""

    async def work(connection):
        advertiser, partner = await connection.fetchval(ADVERTISER), await connection.fetchval(PARTNER)
        for txid, status, amount, payout, click, occurrence, owed, billed, goal in rows:
            number = await connection.fetchval(CONVERSION, advertiser, txid, status, amount, payout, to_uuid(click), occurrence, goal)
            await connection.execute(ENTRY, "partner", partner, advertiser, number, owed)
            await connection.execute(ENTRY, "advertiser", None, advertiser, number, billed)
        return await money.read_conversions(connection)

    return money.judge({order.txid: order for order in orders}, database.run(work))


RIGHT = ("order-1", "approved", 49_950_000, 5_000_000, IDS[0], 1, 5_000_000, 49_950_000, "sale")


def planted(**changes):
    names = ("txid", "status", "amount", "payout", "click", "occurrence", "owed", "billed", "goal")
    return tuple((dict(zip(names, RIGHT, strict=True)) | changes).values())


def test_an_order_that_is_booked_as_it_should_be(database):
    found = judge_orders(database, [ORDER], RIGHT)
    assert (found.missing, found.doubled, found.ghosts, found.wrong, found.money_error_micros) == ([], [], [], {}, 0)


def test_a_reversed_order_is_owed_nothing(database):
    order = replace(ORDER, is_reversal_sent=True, is_reversal_accepted=True)
    assert not judge_orders(database, [order], planted(status="reversed", owed=0, billed=0)).wrong
    assert judge_orders(database, [order], RIGHT).wrong


def test_an_accepted_order_that_is_missing(database):
    found = judge_orders(database, [ORDER])
    assert (found.missing, found.money_error_micros) == (["order-1"], 5_000_000)


def test_an_order_that_was_never_accepted_may_be_missing(database):
    assert judge_orders(database, [replace(ORDER, accepted_at=None)]).missing == []


def test_an_order_counted_twice(database):
    found = judge_orders(database, [ORDER], RIGHT, planted(occurrence=2))
    assert (found.doubled, found.money_error_micros) == (["order-1"], 5_000_000)


def test_an_order_that_nobody_placed(database):
    assert judge_orders(database, [ORDER], RIGHT, planted(txid="order-9")).ghosts == ["order-9"]


@pytest.mark.parametrize(
    "change", [{"owed": 4_990_000}, {"billed": 0}, {"payout": 1}, {"amount": 1}, {"status": "orphan"}, {"click": IDS[1]}]
)
def test_an_order_with_wrong_facts(database, change):
    assert next(iter(change)).split("_")[0] in judge_orders(database, [ORDER], planted(**change)).wrong["order-1"]


TOPUP = replace(ORDER, goal="topup", reports=2)
TICKET = replace(ORDER, goal="ticket", reports=2)
TWICE = {"amount": 99_900_000, "payout": 10_000_000, "owed": 10_000_000, "billed": 99_900_000, "goal": "topup"}


def tickets(count):
    return [planted(goal="ticket", occurrence=number) for number in range(1, count + 1)]


def test_reports_that_count_each_are_booked_as_they_should_be(database):
    other = replace(TICKET, txid="order-2")
    second = [(other.txid, *row[1:]) for row in tickets(2)]
    found = judge_orders(database, [TOPUP, other], planted(**TWICE), *second)
    assert (found.missing, found.doubled, found.miscounted, found.wrong, found.money_error_micros) == ([], [], {}, {}, 0)
    assert found.by_goal == {"topup": money.Counted(1, 2, 0, 2), "ticket": money.Counted(1, 2, 0, 2)}


@pytest.mark.parametrize(
    "rows", [[planted(goal="topup")], [planted(**TWICE | {"amount": 149_850_000})], [planted(**TWICE | {"amount": 1})]]
)
def test_a_report_that_was_added_too_often_or_not(database, rows):
    assert "order-1" in judge_orders(database, [TOPUP], *rows).miscounted


@pytest.mark.parametrize(("count", "error_micros"), [(1, 5_000_000), (3, 5_000_000)])
def test_a_report_that_made_too_many_conversions_or_none(database, count, error_micros):
    found = judge_orders(database, [TICKET], *tickets(count))
    assert (list(found.miscounted), found.doubled, found.money_error_micros) == (["order-1"], [], error_micros)
    assert any("miscounted" in failure for failure in verdict.failures_of_orders(whole(orders=found), Orders(Path("none"))))


@pytest.mark.parametrize("count", [2, 3])
def test_a_report_without_an_answer_may_count_or_not_but_to_the_cent(database, count):
    order = replace(TICKET, unanswered=1)
    found = judge_orders(database, [order], *tickets(count))
    assert (found.miscounted, found.wrong, found.money_error_micros) == ({}, {}, 0)
    assert judge_orders(database, [order], *tickets(4)).miscounted


@pytest.mark.parametrize(
    "change", [{"owed": 9_990_000}, {"billed": 49_950_000}, {"payout": 5_000_000}, {"click": IDS[1]}, {"goal": "sale"}]
)
def test_a_sum_of_reports_with_wrong_facts(database, change):
    assert next(iter(change)) in judge_orders(database, [TOPUP], planted(**TWICE | change)).wrong["order-1"]


def test_one_of_several_conversions_with_wrong_facts(database):
    rows = [planted(goal="ticket"), planted(goal="ticket", occurrence=2, owed=0)]
    assert "owed" in judge_orders(database, [TICKET], *rows).wrong["order-1"]


def test_money_that_the_ledger_has_and_conversions_have_not(database):
    assert judge_orders(database, [ORDER], planted(owed=5_010_000)).money_error_micros == 10_000


BALANCED = {
    "state": "balanced",
    "accepted": 2,
    "stored": 2,
    "duplicate": 0,
    "rejected": 0,
    "in_flight": 0,
    "unrecorded": 0,
    "unaccounted": 0,
}


def whole(**changes):
    books = Books(0, dict(BALANCED), dict(BALANCED), rows=2, booked=2)
    built = Verdict(oracle.ClickVerdict(), money.OrderVerdict(), 0, books)
    for name, value in changes.items():
        setattr(built, name, value)
    return built


def test_books_that_balance():
    assert verdict.failures_of_books(whole()) == []


@pytest.mark.parametrize(
    "page",
    [
        {"state": "unbalanced"},
        {"state": "unknown"},
        {"unaccounted": 1},
        {"accepted": 3},
        {"unrecorded": 1, "accepted": 3},
        {"rejected": 1, "stored": 1},
    ],
)
def test_books_that_do_not(page):
    built = whole()
    built.books.clicks |= page
    assert verdict.failures_of_books(built)


def test_an_audit_that_names_problems_of_postbacks():
    built = whole()
    built.books.told = {"state": "unbalanced", "problems": [{"name": "shares_differ", "count": 1, "ids": ["x"]}]}
    assert any("shares_differ" in failure for failure in verdict.failures_of_books(built))


def test_rows_beside_the_books():
    built = whole()
    built.books.rows = 3
    assert verdict.failures_of_books(built)


@pytest.mark.parametrize(("unrecorded", "is_right"), [(0, False), (1, True), (2, True), (3, False)])
def test_a_named_loss_must_be_counted(unrecorded, is_right):
    built = whole(permitted=[7])
    built.clicks.unstored = 1
    built.books.clicks |= {"unrecorded": unrecorded, "accepted": 2 + unrecorded}
    assert (verdict.failures_of_books(built) == []) is is_right


def test_only_losses_inside_a_named_exception_are_permitted(database, tmp_path):
    episodes = [Episode("full", 0.5, 1.5, 2.0, evidence="seen", permits_loss=True), Episode("other", 3.0, 4.0, 5.0, evidence="seen")]
    known = Visits(tmp_path / "none")
    known.by_number = {1: visit(1), 3: visit(3)}
    hopeless = database.run(lambda connection: verdict._hopeless(connection, known, episodes))
    assert hopeless == {IDS[1]}
    built = whole()
    built.clicks.lost = [1, 3]
    verdict.permit(built, hopeless, known)
    assert (built.permitted, built.clicks.lost) == ([1], [3])


def test_an_order_of_a_click_whose_loss_is_permitted_may_be_missing():
    assert money.judge({ORDER.txid: ORDER}, [], {ORDER.click_id}).missing == []


@pytest.mark.parametrize(("status", "word"), [(503, "5xx"), (401, "refused")])
def test_a_refused_postback_is_told(tmp_path, status, word):
    orders = Orders(tmp_path / "none")
    orders.answers = [Answer("order-1", "sale", status, "", 1.0, 0.1)]
    assert any(word in failure for failure in verdict.failures_of_orders(whole(), orders))


def test_a_ledger_is_read_back_as_it_was_written_and_half_a_line_waits(tmp_path):
    written = [visit(0), visit(1, "unknown"), visit(2, "bad", status=404)]
    path = tmp_path / "visits"
    text = "".join(item.line() for item in written)
    path.write_text(text[:-5])
    known = Visits(path)
    assert len(known.refresh()) == 2
    with path.open("a") as file:
        file.write(text[-5:])
    known.refresh()
    known.close()
    assert list(known.by_number.values()) == written


def test_a_ledger_that_is_not_there_yet_is_empty(tmp_path):
    assert Tail(tmp_path / "none").lines() == []


def test_a_click_id_is_read_and_written():
    text = "01m80thfkpfz0s31r2tw5mxtk4"
    assert to_text(to_uuid(text)) == text
    assert moment_of(IDS[0]) == 0x0199_0000_0000 / 1000
