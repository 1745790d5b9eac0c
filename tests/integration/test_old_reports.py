"""What stores send to old hosts: each platform's postback is the right conversion, and what is none says why."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from tests.integration.api_client import click_text
from tests.integration.old_hosts import OldHosts, old_report
from tracker.adapters.audit import audit
from tracker.adapters.postgres_books import Overlap
from tracker.cli.main import app
from tracker.domain.old_reports import token_hash

pytestmark = pytest.mark.integration
OWED = "SELECT coalesce(sum(amount_micros), 0)::bigint FROM ledger_entries"


@pytest.fixture
async def old(api, shop, dsn):
    opened = OldHosts.opened(api, shop, dsn)
    for path, body in {"partners": {"slug": "bob"}, "goals": {"slug": "sale", "campaign": "shoes"}}.items():
        await opened.make(path, **body)
    yield opened
    opened.sink.close()


# platform, old click id, postback, then the conversion: txid, goal, status, cents, currency
POSTBACKS = [
    (
        "tune", "102f5a7c31", "old.example/aff_lsr?transaction_id=102f5a7c31&offer_id=26&amount=12.50&adv_sub=O-1&status=pending",
        ("O-1", "sale", "pending", 1250, "EUR"),
    ),
    (
        "scaleo", "c7601cf259fbc45952352043959ef200",
        "old.example/track/conv-addchange?click_id=c7601cf259fbc45952352043959ef200&amount=9.90&conv_status=approved&currency=USD",
        ("click:c7601cf259fbc45952352043959ef200", "sale", "approved", 990, "USD"),
    ),
    (
        "keitaro", "3sh8so4er0", "old.example/25123a/postback?subid=3sh8so4er0&payout=2.61&status=lead&tid=7&currency=eur",
        ("3sh8so4er0:7", "sale", "pending", 261, "EUR"),
    ),
    ("cake", "771239901", "old.example/p.ashx?f=pb&o=9&e=2&r=771239901&t=A-1&p=12.00", ("A-1", "2", "approved", 1200, "EUR")),
    (
        "everflow", "4b0f8c1d2e3a4f5b8c9d0e1f2a3b4c00",
        "old.example/?nid=2409&transaction_id=4b0f8c1d2e3a4f5b8c9d0e1f2a3b4c00&amount=5&adv_event_id=reg&order_id=A1",
        ("4b0f8c1d2e3a4f5b8c9d0e1f2a3b4c00:A1", "reg", "approved", 500, "EUR"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("platform", "click", "url", "becomes"), POSTBACKS, ids=[row[0] for row in POSTBACKS])
async def test_a_postback_of_each_platform_is_the_conversion_that_it_reports(old, platform, click, url, becomes):
    await old.host("old.example", platform, source="olds")
    await old.means("olds", "offer", "26", campaign="shoes")
    clicked_at = datetime.now(UTC) - timedelta(days=2)
    await old.old_click("olds", click, clicked_at)
    report = await old.sends(url, platform=platform)
    found = await old.conversion(report)
    assert (found["txid"], found["goal"], found["status"], found["cents"], found["currency"]) == becomes
    assert (found["attribution"], found["partner"], found["campaign"]) == ("click", "ada", "shoes")
    assert (found["clicked_at"], found["trace"][0].split(",")[0]) == (clicked_at, "the old platform's click")
    row = await old.row(report)
    assert (row["state"], row["platform"], row["source"], row["click_id"]) == ("read", platform, "olds", click)
    assert old.counted("turnout_old_reports_decided_total", platform=platform, outcome="attributed") == 1


async def test_idevaffiliate_names_the_partner_and_its_secret_proves_it(old):
    await old.host("old.example", "idevaffiliate", tokens=["s3cret"])
    await old.means("idevaffiliate", "offer", "", campaign="shoes")
    await old.means("idevaffiliate", "partner", "100", partner="bob")
    url = "old.example/sale.php?profile=72198&idev_saleamt=9.99&idev_ordernum=A7&affiliate_id=100&idev_secret={}"
    found = await old.conversion(await old.sends(url.format("s3cret"), platform="idevaffiliate"))
    assert (found["attribution"], found["partner"], found["campaign"], found["cents"]) == ("named", "bob", "shoes", 999)
    assert found["trace"] == ["the partner whom the report names, with a token of the store"]
    shares = "SELECT p.slug FROM conversion_shares s JOIN partners p ON p.id = s.partner_id"
    assert await old.shop.value(shares) == "bob"
    wrong = await old.sends(url.format("guessed").replace("A7", "A8"), platform="idevaffiliate")
    assert (await old.postback(wrong))["outcome"] == "rejected"
    assert len(await old.conversions()) == 1


async def test_a_click_goes_before_the_partner_whom_the_report_names(old):
    await old.host("old.example", "tune", tokens=["t"])
    await old.means("tune", "offer", "26", campaign="shoes")
    await old.means("tune", "partner", "7", partner="bob")
    await old.old_click("tune", "102f")
    report = await old.sends("old.example/aff_lsr?transaction_id=102f&offer_id=26&aff_id=7&adv_sub=1&security_token=t")
    found = await old.conversion(report)
    assert found["partner"] == "ada"
    assert found["trace"][1] == "the partner whom the report names: the old platform's click goes before it"


async def test_a_named_partner_counts_only_with_a_token(old):
    await old.host("old.example", "tune")
    await old.means("tune", "offer", "26", campaign="shoes")
    await old.means("tune", "partner", "7", partner="bob")
    report = await old.sends("old.example/aff_lsr?offer_id=26&aff_id=7&adv_sub=1&amount=3")
    postback = await old.postback(report)
    assert (postback["outcome"], postback["reason"]) == ("rejected", "click_id or coupon is required, or a customer who bought before")


@pytest.mark.parametrize("token", ["", "&security_token=guessed"])
async def test_a_wrong_token_is_a_rejected_postback_that_says_so(old, token):
    await old.host("old.example", "tune", tokens=["right"])
    await old.old_click("tune", "102f")
    report = await old.sends(f"old.example/aff_lsr?transaction_id=102f&adv_sub=O-1&amount=5{token}")
    postback, row = await old.postback(report), await old.row(report)
    assert (postback["outcome"], postback["reason"], postback["txid"]) == ("rejected", "the token is missing or wrong", "O-1")
    assert (row["state"], row["reason"]) == ("refused", "the token is missing or wrong")
    assert "guessed" not in str(postback)
    assert old.counted("turnout_old_reports_decided_total", platform="tune", outcome="rejected") == 1
    assert not await old.conversions()


async def test_an_amount_that_is_no_number_is_a_rejected_postback(old):
    await old.host("old.example", "tune")
    await old.old_click("tune", "102f")
    postback = await old.postback(await old.sends("old.example/aff_lsr?transaction_id=102f&amount=12,50"))
    assert (postback["outcome"], postback["reason"]) == ("rejected", "amount '12,50' is no number such as 10.50")
    assert (postback["amount_original"], postback["amount_micros"]) == ("12,50", None)


async def test_goals_are_the_operators_else_those_with_the_platforms_id_else_its_word(old):
    await old.host("old.example", "tune", goals={"4": "lead"})
    await old.means("tune", "offer", "26", campaign="shoes")
    await old.make("goals", slug="trial", campaign="shoes", source="tune", source_id="5")
    await old.old_click("tune", "102f")
    for goal, ours in (("4", "lead"), ("5", "trial"), ("6", "6"), ("", "sale")):
        report = await old.sends(f"old.example/aff_lsr?transaction_id=102f&offer_id=26&adv_sub=O&goal_id={goal}")
        assert (await old.conversion(report))["goal"] == ours


async def test_of_many_clicks_of_an_id_those_of_the_offer_go_first_and_of_these_the_latest_inside_the_window(old):
    await old.host("old.example", "cake")
    await old.make(
        "campaigns", slug="hats", advertiser="shop", destination_url="https://shop.example/", payout={"type": "percent", "percent": "5"}
    )
    await old.means("cake", "offer", "9", campaign="shoes")
    await old.means("cake", "offer", "8", campaign="hats")
    await old.means("cake", "partner", "20", partner="bob")
    now = datetime.now(UTC)
    for days, partner, campaign in ((40, "ada", "hats"), (3, "ada", "shoes"), (2, "bob", "shoes"), (1, "ada", "hats")):
        await old.old_click("cake", "5512", now - timedelta(days=days), partner=partner, campaign=campaign)
    await old.old_click("cake", "5512", now - timedelta(hours=1), partner=None, campaign=None, old_partner="20", old_offer="8")
    await old.shop.execute("UPDATE old_clicks SET grade = 'raw'")  # the old platform's own word: it may number several alike
    for offer, partner, campaign in (("9", "bob", "shoes"), ("8", "bob", "hats"), ("", "bob", "hats"), ("77", "bob", "hats")):
        report = await old.sends(f"old.example/p.ashx?f=pb&o={offer}&r=5512&t=T{offer}", platform="cake")
        found = await old.conversion(report)
        assert (found["partner"], found["campaign"]) == (partner, campaign), offer
    await old.shop.execute("DELETE FROM old_clicks WHERE clicked_at > $1", now - timedelta(days=30))
    late = await old.conversion(await old.sends("old.example/p.ashx?f=pb&o=8&r=5512&t=late", platform="cake"))
    assert (late["status"], late["trace"]) == ("orphan", ["the old platform's click: outside its window of 30 days"])


async def test_the_same_order_twice_is_one_conversion_and_a_later_status_moves_it(old):
    await old.host("old.example", "cake")
    await old.old_click("cake", "5512")
    url = "old.example/p.ashx?f=pb&o=9&r=5512&t=A-1&p=12.00"
    first, second = await old.sends(url, platform="cake"), await old.sends(url, platform="cake")
    assert [(await old.postback(one))["outcome"] for one in (first, second)] == ["attributed", "duplicate"]
    await old.shop.execute("UPDATE tracking_hosts SET settings = $1", {"reports": {"statuses": {"": "reversed"}}})
    await old.sends(url, platform="cake")
    assert (await old.conversion())["status"] == "reversed"
    assert await old.shop.value(OWED) == 0


async def test_a_negative_amount_takes_a_sale_back_where_the_platform_means_that(old):
    await old.host("old.example", "cj")
    await old.old_click("cj", "b7f2a9d4")
    url = "old.example/u?CID=15&METHOD=S2S&CJEVENT=b7f2a9d4&OID=R1&AMOUNT={}&CURRENCY=EUR"
    await old.sends(url.format("10.00"), platform="cj")
    assert (await old.conversion())["status"] == "approved"
    await old.sends(url.format("-10.00"), platform="cj")
    assert (await old.conversion())["status"] == "reversed"
    assert await old.shop.value(OWED) == 0


async def test_a_pixel_earns_by_the_cookies_and_waits_for_approval(old):
    await old.host("old.example", "tune")
    click = await old.shop.click()
    await old.old_click("tune", "102f", datetime.now(UTC) - timedelta(hours=2), partner="bob")
    url = "old.example/aff_l?offer_id=135&adv_sub={}&amount=10.00"
    ours = await old.sends(url.format("P1"), "pixel", visits=(click_text(click), "old:102f"))
    found = await old.conversion(ours)
    assert (found["attribution"], found["partner"], found["status"], found["click_id"]) == ("cookie", "ada", "pending", click)
    theirs = await old.conversion(await old.sends(url.format("P2"), "pixel", visits=("old:102f",)))
    assert (theirs["attribution"], theirs["partner"], theirs["click_id"]) == ("cookie", "bob", None)
    assert theirs["trace"][0].startswith("click 102f of the cookie, inside its window")
    platforms = await old.conversion(await old.sends(url.format("P3"), "pixel", old_click_id=b"102f"))
    assert platforms["partner"] == "bob"


@pytest.mark.parametrize("first", ["approved", "pending"])
async def test_nobody_without_proof_changes_what_a_store_said(old, first):
    """Not even where the advertiser takes pixels for approved."""
    await old.shop.execute("UPDATE advertisers SET settings = settings || jsonb_build_object('pixel_status', 'approved')")
    await old.host("old.example", "tune")
    await old.old_click("tune", "102f")
    await old.sends(f"old.example/aff_lsr?transaction_id=102f&adv_sub=O-1&amount=5&status={first}")
    owed = await old.shop.value(OWED)
    for kind, path in (("pixel", "aff_l?offer_id=26"), ("postback", "aff_lsr?promo_code=NONE")):
        for word in ("rejected", "approved"):
            report = await old.sends(f"old.example/{path}&adv_sub=O-1&amount=50&status={word}", kind, visits=("old:zzz",))
            if word == "rejected":
                row = await old.row(report)
                assert (row["state"], "without proof" in row["reason"]) == ("ignored", True)
            else:
                found = await old.postback(report)
                assert (found["outcome"], found["unverified"]) == ("conflict", True)  # its amount differs
    found = await old.conversion()
    assert (found["status"], found["cents"], found["partner"]) == (first, 500, "ada")
    assert await old.shop.value(OWED) == owed


async def test_without_proof_nothing_is_taken_back_not_even_before_the_store_speaks(old):
    await old.host("old.example", "tune")
    await old.old_click("tune", "102f")
    pixel = "old.example/aff_l?offer_id=26&adv_sub={}&amount=5&status={}"
    for txid in ("P1", "P2", "P3"):
        await old.sends(pixel.format(txid, "approved"), "pixel", visits=("old:102f",))
    await old.shop.execute("UPDATE conversions SET status = 'approved' WHERE txid = 'P2'")
    await old.sends("old.example/aff_lsr?transaction_id=unknown&adv_sub=P3&status=pending")  # the store's own word of a pixel's order
    first = await old.sends(pixel.format("P4", "rejected"), "pixel", visits=("old:102f",))
    again = [await old.sends(pixel.format(txid, "rejected"), "pixel", visits=("old:102f",)) for txid in ("P1", "P2", "P3")]
    assert {row["txid"]: row["status"] for row in await old.conversions()} == {"P1": "pending", "P2": "approved", "P3": "pending"}
    assert [(await old.row(one))["state"] for one in (first, *again)] == ["ignored"] * 4
    late = await old.sends(pixel.format("P1", "approved"), "pixel", visits=("old:102f",))
    assert (await old.postback(late))["outcome"] == "duplicate"  # it states nothing


async def test_a_click_of_ours_proves_a_report_only_where_its_own_host_gave_it(old):
    for host, source in (("a.example", "one"), ("b.example", "one"), ("c.example", "two")):
        await old.host(host, "tune", source=source)
    await old.host("d.example", "tune", source="one", tokens=["t"])
    await old.host("e.example", "tune", source="two", advertiser=None)
    clicks = [await old.shop.click() for _ in range(3)]
    for click, host in zip(clicks, ("B.example:443", "c.example", "links.example"), strict=True):
        await old.shop.execute("UPDATE clicks SET host = $2 WHERE click_id = $1", click, host)
    url = "{}/aff_lsr?transaction_id={}&adv_sub={}&amount=5&status=approved"
    statuses = []
    for number, click in enumerate(clicks):
        found = await old.conversion(await old.sends(url.format("a.example", click_text(click), f"O-{number}")))
        statuses.append((found["status"], found["partner"]))
    assert statuses == [("approved", "ada"), ("pending", "ada"), ("pending", "ada")]
    report = await old.sends(url.format("d.example", click_text(clicks[2]), "T-1") + "&security_token=t")
    assert (await old.conversion(report))["status"] == "approved"
    nobodys = await old.sends(url.format("e.example", click_text(clicks[2]), "N-1"))
    assert (await old.row(nobodys))["reason"].startswith("nobody knows yet")
    known = await old.sends(url.format("e.example", click_text(clicks[1]), "N-2"))
    assert (await old.conversion(known))["status"] == "approved"
    uuid = str(clicks[2]).upper()
    await old.old_click("one", uuid.lower())  # of a platform that numbers its clicks as we do
    assert (await old.conversion(await old.sends(url.format("a.example", uuid, "U-1"))))["status"] == "approved"


async def test_a_click_that_may_prove_a_report_is_waited_for_and_then_it_goes_on_without(old):
    await old.host("old.example", "tune")
    number, never = old.shop.new_click_id(), old.shop.new_click_id()
    url = "old.example/aff_lsr?transaction_id={}&adv_sub={}&amount=5"
    soon, late = [await old.sends(url.format(click_text(one), txid)) for one, txid in ((number, "O-1"), (never, "O-2"))]
    row = await old.row(soon)
    assert (row["state"], row["reason"]) == ("waiting", "the click is not stored yet")
    assert (await old.retry()).taken == []
    await old.shop.click(number)
    await old.shop.execute("UPDATE clicks SET host = 'old.example'")
    assert [taken.outcome for taken in (await old.retry()).taken] == ["attributed"]
    assert (await old.conversion(soon))["status"] == "approved"
    await old.shop.execute("UPDATE old_reports SET received_at = received_at - interval '11 minutes'")
    assert [taken.outcome for taken in (await old.retry()).taken] == ["parked"]
    assert ((await old.postback(late))["unverified"], (await old.row(late))["state"]) == (True, "read")


async def test_a_pixel_by_the_cookie_and_the_postback_of_the_click_are_one_order(old):
    click = "4b0f8c1d2e3a4f5b8c9d0e1f2a3b4c00"
    await old.host("old.example", "everflow")
    await old.old_click("everflow", click)
    await old.sends("old.example/?nid=2409&oid=26&amount=5&order_id=A1", "pixel", "everflow", visits=(f"old:{click}",))
    assert (await old.conversion())["status"] == "pending"
    for spelt in (click, click.upper()):
        await old.sends(f"old.example/?nid=2409&transaction_id={spelt}&amount=5&order_id=A1", platform="everflow")
    found = await old.conversion()
    assert (found["status"], found["txid"], found["cents"]) == ("approved", f"{click}:A1", 500)


async def test_a_click_counts_as_the_source_of_its_host_has_it(old):
    hosts = {"a.example": ("cake-a", "ada"), "b.example": ("cake-b", "bob")}
    for host, (source, partner) in hosts.items():
        await old.host(host, "cake", source=source, advertiser=None)
        await old.old_click(source, "5512", datetime.now(UTC) - timedelta(hours=len(await old.conversions()) + 1), partner=partner)
    await old.make("advertisers", slug="other", currency="EUR")
    await old.make("campaigns", slug="others", advertiser="other", destination_url="https://other.example/")
    await old.old_click("cake-c", "5512", campaign="others")
    for host, (source, partner) in hosts.items():
        report = await old.sends(f"{host}/p.ashx?f=pb&r=5512&t={source}&p=12.00", platform="cake")
        assert (await old.conversion(report))["partner"] == partner
        assert (await old.postback(report))["old_source"] == source


async def test_an_unknown_old_click_waits_and_earns_once_it_is_imported(old):
    await old.host("old.example", "tune")
    report = await old.sends("old.example/aff_lsr?transaction_id=102F&adv_sub=O-1&amount=5")
    postback = await old.postback(report)
    assert (postback["outcome"], postback["reason"]) == ("parked", "no click has this id")
    await old.shop.execute("UPDATE postbacks SET next_try_at = now(), tries = 3")
    await old.shop.sweep()
    assert (await old.postback(report))["outcome"] == "parked"
    await old.old_click("tune", "102f", datetime.now(UTC) - timedelta(days=1), partner="bob")
    await old.shop.execute("UPDATE postbacks SET next_try_at = now()")
    await old.shop.sweep()
    assert (await old.conversion(report))["partner"] == "bob"


async def test_a_report_of_nobody_waits_and_is_read_once_its_offer_is_mapped(old):
    await old.host("old.example", "tune", advertiser=None)
    report = await old.sends("old.example/aff_lsr?transaction_id=102f&offer_id=26&adv_sub=O-1&amount=5")
    row = await old.row(report)
    assert (row["state"], row["reason"].split(":")[0], row["tries"]) == ("waiting", "nobody knows yet whose order this is", 1)
    assert (await old.retry()).taken == []
    assert (await old.row(report))["tries"] == 2
    await old.means("tune", "offer", "26", campaign="shoes")
    await old.old_click("tune", "102f")
    swept = await old.retry()
    assert [taken.outcome for taken in swept.taken] == ["attributed"]
    assert ((await old.row(report))["state"], (await old.conversion(report))["partner"]) == ("read", "ada")


async def test_the_old_click_tells_whose_order_it_is(old):
    await old.host("old.example", "tune", advertiser=None)
    await old.old_click("tune", "102f")
    assert (await old.conversion(await old.sends("old.example/aff_lsr?transaction_id=102f&adv_sub=1")))["partner"] == "ada"
    click = click_text(await old.shop.click())
    await old.shop.execute("UPDATE clicks SET host = 'old.example'")
    ours = await old.conversion(await old.sends(f"old.example/aff_lsr?transaction_id={click}&adv_sub=2"))
    assert ours["trace"][0].startswith("the click, inside")


async def test_a_report_that_nobody_ever_knew_is_refused_when_the_longest_window_is_over(old):
    await old.host("old.example", "tune", advertiser=None)
    report = await old.sends("old.example/aff_lsr?transaction_id=102f&adv_sub=O-1")
    await old.shop.execute("UPDATE old_reports SET waits_until = now()")
    assert [taken.outcome for taken in (await old.retry()).taken] == ["refused"]
    assert (await old.row(report))["state"] == "refused"


@pytest.mark.parametrize(("platform", "reason"), [(None, "this host has no platform any more"), ("gone", "no old host of this name")])
async def test_a_host_that_is_no_old_host_any_more_refuses_with_the_reason(old, platform, reason):
    if platform is None:
        await old.make("tracking-hosts", host="old.example", kind="old")
    row = await old.row(await old.sends("old.example/aff_lsr?transaction_id=102f&adv_sub=O-1"))
    assert row["state"] == "refused"
    assert row["reason"].startswith(reason)


async def test_a_status_that_reports_no_conversion_is_ignored(old):
    await old.host("old.example", "keitaro", statuses={"nothing": "ignored"})
    row = await old.row(await old.sends("old.example/25123a/postback?subid=3sh8so4er0&status=nothing", platform="keitaro"))
    assert (row["state"], row["reason"]) == ("ignored", "status 'nothing' reports no conversion")


async def test_a_host_with_a_port_goes_before_the_same_host_without(old):
    await old.host("old.example", "tune", source="a")
    await old.host("old.example:8443", "tune", source="b")
    sources = [(await old.row(await old.sends(f"{host}/aff_lsr?transaction_id=1&adv_sub=1")))["source"] for host in (
        "OLD.example", "old.example:8443", "old.example:9000",
    )]  # fmt: skip
    assert sources == ["a", "b", "a"]


async def test_impressions_are_counted_once_however_often_their_batch_is_stored(old):
    await old.host("old.example", "cake")
    await old.means("cake", "creative", "513", campaign="shoes")
    await old.means("cake", "partner", "46", partner="ada")
    known = [old_report("old.example/i.ashx?a=46&c=513", "impression", "cake") for _ in range(5)]
    nobodys = [old_report("gone.example/i.ashx?a=46&c=1", "impression", "cake")]
    boot = bytes(16)
    assert (await old.store(*known, *nobodys, boot=boot)).impressions == 6
    with pytest.raises(Overlap):
        await old.store(*known, *nobodys, boot=boot)
    rows = await old.shop.database.fetch(
        "SELECT sum(impressions)::int AS impressions, m.slug, max(slot) AS slot FROM impression_stats s"
        " LEFT JOIN campaigns m ON m.id = s.campaign GROUP BY m.slug ORDER BY 1"
    )
    assert [(row["slug"], row["impressions"], row["slot"]) for row in rows] == [(None, 1, 3), ("shoes", 5, 3)]
    assert old.counted("turnout_impressions_total") == 6
    assert await old.shop.value("SELECT count(*) FROM clicks") == 0


async def test_a_landing_links_the_old_id_to_our_click_as_soon_as_that_is_stored(old):
    await old.host("old.example", "tune", source="olds")
    number = old.shop.new_click_id()
    facts = {"visits": (click_text(number),), "old_click_id": b"102f"}
    waits = await old.sends("old.example/-/seen.gif", "landing", **facts)
    assert (await old.row(waits))["state"] == "waiting"
    assert (await old.retry()).taken == []
    await old.shop.click(number)
    assert [taken.outcome for taken in (await old.retry()).taken] == ["landing"]
    await old.sends("old.example/-/seen.gif", "landing", **facts)
    rows = await old.shop.database.fetch("SELECT source, old_click_id, click_id FROM old_clicks")
    assert [tuple(row.values()) for row in rows] == [("olds", "102f", number)]
    found = await old.conversion(await old.sends("old.example/aff_lsr?transaction_id=102f&adv_sub=1"))
    assert (found["partner"], found["click_id"]) == ("ada", number)


async def test_a_landing_whose_click_never_comes_is_ignored_after_an_hour(old):
    await old.host("old.example", "tune")
    report = await old.sends("old.example/-/seen.gif", "landing", visits=(click_text(old.shop.new_click_id()),), old_click_id=b"1")
    await old.shop.execute("UPDATE old_reports SET waits_until = now()")
    await old.retry()
    assert (await old.row(report))["state"] == "ignored"


async def test_what_postgresql_refuses_is_a_dead_letter_and_a_report_that_says_so(old, dsn, redis_url):
    await old.host("old.example", "tune")
    await old.old_click("tune", "102f")
    await old.shop.execute("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'internal detail'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON conversions FOR EACH ROW WHEN (NEW.txid = 'unlucky') EXECUTE FUNCTION refuse();
    """)
    unlucky, good = (old_report(f"old.example/aff_lsr?transaction_id=102f&adv_sub={txid}") for txid in ("unlucky", "good"))
    stored = await old.store(unlucky, good)
    assert (stored.stored, [letter.reason for letter in stored.letters]) == (1, ["refused"])
    row = await old.row(unlucky)
    assert (row["state"], row["reason"].split(":")[0]) == ("refused", "an error on our side")
    assert ((await old.postback(unlucky))["outcome"], (await old.conversion(good))["partner"]) == ("rejected", "ada")
    assert (await audit(dsn, redis_url, 1))["postbacks"]["state"] == "balanced"


async def test_a_refused_report_is_passed_on_all_the_same_and_read_when_it_comes_again(old, monkeypatch, dsn, redis_url):
    await old.make(
        "tracking-hosts", host="old.example", kind="old", platform="tune", advertiser="shop", forward_to="https://tune.example",
        settings={"reports": {"tee": True}},
    )  # fmt: skip
    await old.old_click("tune", "102f")

    async def refuses(*_, **__):
        raise ValueError("a bug of ours")

    url = "old.example/aff_lsr?transaction_id=102f&adv_sub={}&amount=5"
    with monkeypatch.context() as patch:
        patch.setattr("tracker.adapters.postgres_old_reports.take", refuses)
        replayed = await old.sends(url.format("O-1"))
        patch.setattr("tracker.adapters.postgres_receipts.keep_refused", refuses)
        lost = await old.sends(url.format("O-2"))
    passed_on = await old.shop.database.fetch("SELECT postback_id FROM tee_deliveries ORDER BY received_at")
    assert [row["postback_id"] for row in passed_on] == [replayed.uuid, lost.uuid]
    assert ((await old.row(replayed))["state"], (await old.postback(replayed))["outcome"]) == ("refused", "rejected")
    for report in (replayed, lost):
        assert (await old.store(report)).stored == 1
        assert ((await old.row(report))["state"], (await old.row(report))["click_id"]) == ("read", "102f")
        assert (await old.conversion(report))["partner"] == "ada"
        assert (await old.store(report)).duplicate == 1
    assert await old.shop.value("SELECT count(*) FROM tee_deliveries") == 2
    assert (await audit(dsn, redis_url, 1))["postbacks"]["state"] == "balanced"


async def test_a_report_that_was_refused_can_be_tried_again_once_its_host_is_put_right(old):
    again = "UPDATE old_reports SET state = 'waiting', next_try_at = now() WHERE state = 'refused'"
    await old.host("old.example", "tune", tokens=["rihgt"])
    await old.old_click("tune", "102f")
    token, amount = [
        await old.sends(f"old.example/aff_lsr?transaction_id=102f&adv_sub=O-1&amount={amount}&security_token=right")
        for amount in ("5", "5,00")
    ]
    await old.shop.execute(again)
    assert [taken.outcome for taken in (await old.retry()).taken] == ["rejected"] * 2
    settings = {"reports": {"token_hashes": [token_hash("right")]}}
    await old.shop.execute("UPDATE tracking_hosts SET settings = $1", settings)
    await old.shop.execute(again)
    assert sorted(taken.outcome for taken in (await old.retry()).taken) == ["attributed", "rejected"]
    assert ((await old.row(token))["state"], (await old.conversion(token))["cents"]) == ("read", 500)
    assert (await old.postback(amount))["reason"] == "amount '5,00' is no number such as 10.50"
    assert ((await old.row(amount))["state"], await old.shop.value("SELECT count(*) FROM postbacks")) == ("refused", 2)


async def test_every_report_is_in_the_audit_and_none_can_vanish_from_it(old, dsn, redis_url):
    async def told():
        return (await audit(dsn, redis_url, 1))["postbacks"]

    await old.host("old.example", "tune", tokens=["right"])
    await old.host("nobodys.example", "tune", advertiser=None)
    await old.old_click("tune", "102f")
    good, parked = [
        await old.sends(f"old.example/aff_lsr?transaction_id={click}&security_token=right&adv_sub={click}") for click in ("102f", "none")
    ]
    await old.sends("old.example/aff_lsr?transaction_id=102f&security_token=wrong")
    await old.sends("nobodys.example/aff_lsr?transaction_id=none&adv_sub=1")
    await old.sends("old.example/aff_i?offer_id=1&aff_id=2", "impression")
    books = await told()
    assert books["old_reports"] == {"read": 2, "waiting": 1, "refused": 1, "ignored": 0, "impressions": 1}
    assert (books["effective"], books["parked"], books["rejected"], books["state"]) == (1, 1, 1, "balanced")
    for statement, problem in (
        ("DELETE FROM old_reports WHERE postback_id = $1", "postback_without_old_report"),
        ("UPDATE old_reports SET state = 'ignored' WHERE postback_id = $1", "postback_without_old_report"),
        ("DELETE FROM postbacks WHERE postback_id = $1", "old_report_without_postback"),
    ):
        row = await old.row(parked)
        await old.shop.execute(statement, parked.uuid)
        books = await told()
        assert ([one["name"] for one in books["problems"]], books["unexplained"], books["state"]) == ([problem], 1, "unbalanced")
        await old.shop.execute("DELETE FROM old_reports WHERE postback_id = $1", parked.uuid)
        columns = ", ".join(row)
        places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
        await old.shop.execute(f"INSERT INTO old_reports ({columns}) VALUES ({places})", *row.values())
    assert (await old.row(good))["state"] == "read"


async def test_a_postback_is_passed_on_once_with_what_we_answered(old):
    await old.make(
        "tracking-hosts", host="old.example", kind="old", platform="cake", advertiser="shop", forward_to="https://cake.example",
        settings={"reports": {"tee": True}},
    )  # fmt: skip
    report = old_report("old.example/p.ashx?f=pb&o=9&r=5512&t=A-1", platform="cake")
    await old.store(report)
    await old.store(report)
    await old.sends("old.example/i.ashx?a=1&c=2", "impression", "cake")
    rows = await old.shop.database.fetch("SELECT postback_id, target, our_status, our_body FROM tee_deliveries")
    assert [tuple(row.values()) for row in rows] == [(report.uuid, report.target, 200, b"SUCCESS")]


@pytest.mark.parametrize(
    ("state", "tee", "passed_on"),
    [("none", False, []), ("none", True, ["postback", "pixel"]), ("shadow", False, ["postback"]), ("rolled_back", True, ["postback"])],
)
async def test_while_visitors_still_go_to_the_old_platform_postbacks_do_too(old, state, tee, passed_on):
    await old.make(
        "tracking-hosts", host="old.example", kind="old", platform="tune", advertiser="shop", forward_to="https://tune.example",
        settings={"reports": {"tee": tee}},
    )  # fmt: skip
    await old.shop.execute("UPDATE tracking_hosts SET state = $1", state)
    await old.sends("OLD.example:443/aff_lsr?transaction_id=102f&adv_sub=O-1")
    await old.sends("old.example/aff_l?offer_id=26&adv_sub=O-2&amount=1", "pixel", visits=("old:102f",))
    assert [row["kind"] for row in await old.shop.database.fetch("SELECT kind FROM tee_deliveries ORDER BY received_at")] == passed_on
    assert await old.shop.value("SELECT count(*) FROM old_reports WHERE host = 'old.example'") == 2


async def test_a_report_that_is_stored_again_is_a_duplicate_in_the_books(old):
    await old.host("old.example", "tune")
    await old.old_click("tune", "102f")
    report = old_report("old.example/aff_lsr?transaction_id=102f&adv_sub=O-1")
    first, second = await old.store(report), await old.store(report)
    assert ((first.stored, first.duplicate), (second.stored, second.duplicate)) == ((1, 0), (0, 1))
    assert await old.shop.value("SELECT count(*) FROM postbacks") == 1


async def test_reports_are_listed_and_shown_without_their_tokens(old):
    await old.host("old.example", "tune", tokens=["s3cret-token"])
    body = b"security_token=s3cret-token&amount=5"
    posted = await old.sends("old.example/aff_lsr?transaction_id=102f&adv_sub=O-1", method="POST", body=body)
    wrong = await old.sends("old.example/aff_lsr?transaction_id=102f&security_token=guessed-one&adv_sub=O-2")
    page = (await old.api.admin("GET", "/api/v1/old-reports?limit=1")).json()
    (first,) = page["items"]
    assert (first["postback_id"], first["state"], first["outcome"]) == (str(wrong.uuid), "refused", "rejected")
    assert first["url"] == "old.example/aff_lsr?transaction_id=102f&security_token=***&adv_sub=O-2"
    second = (await old.api.admin("GET", f"/api/v1/old-reports?cursor={page['next_cursor']}")).json()
    assert ([row["outcome"] for row in second["items"]], second["next_cursor"]) == (["parked"], None)
    shown = await old.api.admin("GET", f"/api/v1/old-reports/{posted.uuid}")
    assert shown.json()["body"] == "security_token=***&amount=5"
    assert shown.json()["reading"]["conversion"] == {"order_id": "O-1", "amount": "5", "token": "***"}
    assert "s3cret" not in shown.text
    for query, found in {"state=refused": 1, "host=OLD.example": 2, "platform=cake": 0, "from=2020-01-01&to=2020-01-02": 0}.items():
        assert len((await old.api.admin("GET", f"/api/v1/old-reports?{query}")).json()["items"]) == found, query
    for query in ("state=gone", "cursor=x", "from=never", "colour=red"):
        assert (await old.api.admin("GET", f"/api/v1/old-reports?{query}")).status_code == 422, query
    assert (await old.api.admin("GET", f"/api/v1/old-reports/{bytes(16).hex()}")).status_code == 404


async def test_the_command_shows_what_came(old, dsn):
    await old.host("old.example", "tune", tokens=["s3cret"])
    report = await old.sends("old.example/aff_lsr?transaction_id=102f&security_token=guessed&adv_sub=O-2")

    def turnout(*arguments):
        return CliRunner().invoke(app, ["old-report", *arguments], env={"TURNOUT_DATABASE_URL": dsn})

    listed = await asyncio.to_thread(turnout, "list", "--state", "refused")
    assert listed.exit_code == 0, listed.output
    assert str(report.uuid) in listed.output
    assert "the token is missing or wrong" in listed.output
    shown = await asyncio.to_thread(turnout, "show", str(report.uuid), "--json")
    assert json.loads(shown.stdout)["reading"]["conversion"]["order_id"] == "O-2"
    assert "guessed" not in shown.stdout
