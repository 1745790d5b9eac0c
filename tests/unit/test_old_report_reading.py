"""Old platforms' postbacks, pixels and impressions: read as their documents say, answered in their words, made postbacks of ours."""

from decimal import Decimal

import pytest

from tests.old_reports import CONVERSIONS, FIELDS, POSTBACK_ID, ROWS, SOURCES, answer_of, label, old_report
from tracker.domain.old_reports import (
    AS_IT_CAME,
    LOOKUP_MS,
    ReportSettings,
    checked,
    coupon_of,
    is_right_token,
    order_number,
    postback_of,
    read_report,
    settings_of,
    status_of,
    token_hash,
    visits_of,
)
from tracker.domain.postback import TXID_MAX, Advertiser, InvalidPostback
from tracker.domain.postback_settings import PostbackSettings
from tracker.platforms.replies import answer_to

SHOP = Advertiser(7, "shop", "EUR")
TUNE = "/aff_lsr?offer_id=26&transaction_id=102d41aa00b54c7e91f2a36c7788de&adv_sub=ORD-1&amount=10"
TAKEABLE = {name for name, source in SOURCES.items() if source.profile.klass == "takeable"}


def told(source, report):
    """What a report says, by the names of the data file."""
    found = read_report(source, report)
    facts = {name: getattr(found.reading, name, None) or getattr(found.conversion, name, None) for name in FIELDS}
    facts["coupon"] = coupon_of(source, found)
    if source.profile.outcomes.items and not facts["amount"] and found.outcome.amount is not None:
        facts["amount"] = f"{found.outcome.amount:f}"
    facts["status"] = status_of(found, AS_IT_CAME) if found.kind != "impression" else None
    return found, {name: value for name, value in facts.items() if value}


def test_every_takeable_platform_has_rows_of_all_that_it_documents():
    kinds = {name: {row["kind"] for row in ROWS if row["platform"] == name} for name in TAKEABLE}
    shapes = {name: {shape.kind for shape in SOURCES[name].profile.shape} - {"click"} for name in TAKEABLE}
    assert kinds == shapes
    assert len({label(row) for row in ROWS}) == len(ROWS)
    posted = {row["platform"] for row in ROWS if row["method"] == "POST"}
    assert posted == TAKEABLE


def test_every_row_reads_as_the_facts_say_and_is_answered_in_the_platforms_words():
    wrong = []
    for row in ROWS:
        source = SOURCES[row["platform"]]
        found, facts = told(source, old_report(row))
        if (found.kind, facts) != (row["kind"], row["expect"]):
            wrong.append(f"{label(row)}: read as {found.kind} {facts}, expected {row['kind']} {row['expect']}")
        answer = answer_to(source.profile, found.reading)
        if answer != answer_of(row):
            wrong.append(f"{label(row)}: answered {answer}")
    assert not wrong, "\n".join(wrong)


def test_every_row_becomes_the_postback_that_it_says_or_is_refused_for_the_reason_that_it_has():
    wrong = []
    for row in CONVERSIONS:
        source, expect = SOURCES[row["platform"]], row["expect"]
        is_pixel, click = row["kind"] == "pixel", expect.get("click_id", "")
        if expect["status"] == "ignored":
            continue
        report = old_report(row, visits=("01k7z3m8q0aaaaaaaaaaaaaaaa",))
        found = read_report(source, report)
        try:
            made = postback_of(source, report, found, SHOP, AS_IT_CAME, goal="sale", campaign=3, partner=5)
        except InvalidPostback as exc:
            reason = row.get("refused") or ("click_id" if not (is_pixel or click or expect.get("coupon")) else "nothing")
            if exc.field != reason:
                wrong.append(f"{label(row)}: refused, {exc}")
            continue
        amount = Decimal(expect.get("amount", "0")) if expect.get("amount") != "auto" else Decimal(0)
        is_verified = not is_pixel and bool(click)
        status = expect["status"] if is_verified or expect["status"] != "approved" else "pending"
        seen = (made.click_id or "", made.coupon or "", made.amount_micros, made.currency, made.status, made.unverified, made.campaign)
        expected = (
            click, expect.get("coupon", ""), int(amount * 10**6), expect.get("currency", "EUR").upper(), status, not is_verified, 3,
        )  # fmt: skip
        order = expect.get("order_id", "")
        if seen != expected or (order and not made.txid.endswith(order)) or made.partner is not None or row.get("refused"):
            wrong.append(f"{label(row)}: made {made}, expected {expected} and order {order!r}")
        if expect.get("token") and expect["token"] in str(made):
            wrong.append(f"{label(row)}: keeps the token")
        if made.visits != (list(report.visits) if is_pixel else []) or made.postback_id != POSTBACK_ID or made.source != "old":
            wrong.append(f"{label(row)}: made {made}")
    assert not wrong, "\n".join(wrong)


def postback(target, settings=AS_IT_CAME, platform="tune", *, shop=SHOP, goal="sale", campaign=None, partner=None, **facts):
    row = {
        "kind": "postback",
        "platform": platform,
        "method": "GET",
        "host": "old.example",
        "target": target,
        "content_type": "",
        "body": "",
    }
    report = old_report(row, **facts)
    source = SOURCES[platform]
    return postback_of(source, report, read_report(source, report), shop, settings, goal=goal, campaign=campaign, partner=partner)


def test_a_token_is_asked_for_where_one_is_set_and_only_of_postbacks():
    secured = ReportSettings(token_hashes=(token_hash("one"), token_hash("tk")))
    assert not postback(TUNE + "&security_token=tk", secured).unverified
    for wrong in ("", "&security_token=", "&security_token=no", "&security_token={token}"):
        with pytest.raises(InvalidPostback, match="the token is missing or wrong") as raised:
            postback(TUNE + wrong, secured)
        assert raised.value.code == "invalid_token"
    assert is_right_token(secured, "one")
    assert not is_right_token(secured, None)
    assert not is_right_token(AS_IT_CAME, "")
    pixel = TUNE.replace("aff_lsr", "aff_l")
    assert postback(pixel, secured, visits=("v",)).unverified


def test_a_partner_counts_only_with_a_token_and_a_campaign():
    secured, own = ReportSettings(token_hashes=(token_hash("tk"),)), "/aff_lsr?offer_id=26&aff_id=2&adv_sub=O1&security_token=tk"
    named = postback(own, secured, campaign=3, partner=5)
    assert (named.partner, named.campaign, named.txid, named.unverified, named.click_id) == (5, 3, "O1", False, None)
    for settings, campaign in ((AS_IT_CAME, 3), (secured, None)):
        with pytest.raises(InvalidPostback) as raised:
            postback(own, settings, campaign=campaign, partner=5)
        assert raised.value.field == "click_id"
    with_click = postback(TUNE, campaign=3, partner=5)
    assert (with_click.partner, with_click.campaign, with_click.unverified) == (None, 3, False)


def test_without_token_and_click_a_report_waits_for_approval_as_a_pixel_does():
    by_coupon = "/aff_lsr?offer_id=26&adv_sub=O1&promo_code=SPRING&status="
    trusting = Advertiser(7, "shop", "EUR", "approved")
    for status, made, stated in (("approved", "pending", ""), ("pending", "pending", ""), ("rejected", "rejected", "rejected")):
        found = postback(by_coupon + status)
        assert (found.status, found.unverified, found.status_original) == (made, True, stated)
    assert postback(by_coupon, shop=trusting).status == "approved"
    assert not postback(TUNE).unverified


def test_a_click_that_proves_nothing_makes_a_report_unverified_and_its_word_unsaid():
    source, report = SOURCES["tune"], old_report(CONVERSIONS[0], target=(TUNE + "&status=approved").encode())
    found, secured = read_report(source, report), ReportSettings(token_hashes=(token_hash("tk"),))
    made = postback_of(source, report, found, SHOP, AS_IT_CAME, goal="sale", campaign=None, partner=None, is_proven=False)
    assert (made.unverified, made.status, made.status_original) == (True, "pending", "")
    report = old_report(CONVERSIONS[0], target=(TUNE + "&status=approved&security_token=tk").encode())
    made = postback_of(
        source, report, read_report(source, report), SHOP, secured, goal="sale", campaign=None, partner=None, is_proven=False
    )
    assert (made.unverified, made.status, made.status_original) == (False, "approved", "approved")


def test_no_word_of_the_operators_makes_a_sale_of_what_is_none():
    settings = ReportSettings(statuses={"": "approved", "sale": "approved"})
    for platform, target, status, is_by_word in (
        ("cj", "/u?CID=1&METHOD=S2S&CJEVENT=b7&OID=R1&AMOUNT=-4.50", "reversed", False),
        ("binom", "/click.php?upd_clickid=1&add_event1=1", "ignored", False),
        ("cj", "/u?CID=1&METHOD=S2S&CJEVENT=b7&OID=R1&AMOUNT=4.50", "approved", True),
    ):
        found = read_report(SOURCES[platform], old_report(CONVERSIONS[0], target=target.encode()))
        assert (status_of(found, settings), found.outcome.is_by_word) == (status, is_by_word), target


def test_an_amount_is_named_where_the_store_names_one_or_the_orders_lines_do():
    items = "/Advertisers/IRsid77/Conversions?CampaignId=17221&ClickId=ck1&OrderId=IM-1&CurrencyCode=EUR"
    for platform, target, named, micros in (
        ("tune", TUNE, "10", 10_000_000),
        ("tune", TUNE.replace("&amount=10", ""), "", 0),
        ("binom", "/click.php?cnv_id=clk1&payout=auto", "", 0),
        ("binom", "/click.php?cnv_id=clk1&payout=AUTO", "", 0),
        ("binom", "/click.php?cnv_id=clk1&payout=2.5", "2.5", 2_500_000),
        ("impact", items + "&ItemSubTotal1=20.00&ItemSubTotal2=1.5", "21.50", 21_500_000),
        ("impact", items, "", 0),
    ):
        made = postback(target, platform=platform)
        assert (made.amount_original, made.amount_micros) == (named, micros), target


def test_a_pixel_of_the_cookie_and_a_postback_of_the_click_are_of_one_order():
    ours, source = "01k8000000000000000000000z", SOURCES["everflow"]
    target = b"/?nid=2409&oid=26&amount=5&order_id=A1"
    for facts, number in (
        ({"old_click_id": b"AbC", "visits": (ours, "old:zz")}, "abc:A1"),
        ({"visits": (ours, "old:AbC")}, "abc:A1"),
        ({"visits": (ours,)}, f"{ours}:A1"),
        ({"old_click_id": b"x" * 200, "visits": (ours,)}, f"{ours}:A1"),
        ({}, "A1"),
    ):
        report = old_report(CONVERSIONS[0], target=target, **facts)
        found = read_report(source, report)
        assert (found.kind, order_number(source, report, found)) == ("pixel", number), facts
    by_click = "/?nid=2409&transaction_id={}&amount=5&order_id=A1"
    assert postback(by_click.format("AbC"), platform="everflow").txid == "abc:A1"


def test_without_an_order_number_the_click_is_the_key_in_any_case_and_from_any_cookie():
    made = postback("/aff_lsr?transaction_id=102F&amount=1")
    assert (made.txid, made.click_id, made.is_keyed_by_click) == ("click:102f", "102F", True)
    for visits, old_click in (((), b"102F"), (("old:102F",), b"")):
        pixel = postback("/aff_l?offer_id=26&amount=1", visits=visits, old_click_id=old_click)
        assert (pixel.txid, pixel.click_id, pixel.is_keyed_by_click) == ("click:102f", None, True)
    named = postback("/aff_lsr?transaction_id=102F&adv_sub=click:1")
    assert (named.txid, named.is_keyed_by_click) == ("click:1", False)
    uuid = "019a0000-0000-7000-8000-000000000002"
    keys = {postback(f"/aff_lsr?transaction_id={spelt}").txid for spelt in (uuid, uuid.upper(), uuid.replace("-", ""))}
    assert len(keys) == 1


def test_the_operators_words_go_before_the_profiles():
    settings = ReportSettings(statuses={"Done": "approved", "new": "pending", "": "pending", "rejected": "ignored"}, currency="usd")
    assert [postback(TUNE + f"&status={word}", settings).status for word in ("Done", "NEW", "", "approved", "done")] == [
        "approved", "pending", "pending", "approved", "approved",
    ]  # fmt: skip
    assert postback(TUNE, settings).currency == "USD"
    assert postback(TUNE + "&currency=gbp", settings).currency == "GBP"
    report = read_report(SOURCES["tune"], old_report(CONVERSIONS[0], target=(TUNE + "&status=rejected").encode()))
    assert status_of(report, settings) == "ignored"


def test_an_advertisers_own_names_and_words_are_not_those_of_the_old_platform():
    own = PostbackSettings(parameters={"click_id": "coupon"}, statuses={"approved": "rejected"}, amount_format="comma")
    assert postback(TUNE, shop=Advertiser(7, "shop", "EUR", settings=own)).status == "approved"
    assert postback(TUNE + ".50", shop=Advertiser(7, "shop", "EUR", settings=own)).amount_micros == 10_500_000


def test_what_is_no_amount_or_too_long_is_refused_with_its_name():
    for change, field in (("amount=ten", "amount"), ("amount=-1", "amount"), ("amount=1&currency=EURO", "currency")):
        with pytest.raises(InvalidPostback) as raised:
            postback(TUNE.replace("amount=10", change))
        assert raised.value.field == field
    with pytest.raises(InvalidPostback, match="txid must have at most 255"):
        postback(TUNE.replace("ORD-1", "x" * 256))


def test_the_click_stands_before_the_order_where_the_platform_numbers_each_clicks_orders():
    def number(target, platform):
        report = old_report(CONVERSIONS[0], target=target.encode())
        return order_number(SOURCES[platform], report, read_report(SOURCES[platform], report))

    assert number(TUNE, "tune") == "ORD-1"
    assert number("/postback?cid=c1&txid=7", "voluum") == "c1:7"
    assert number("/postback?cid=c1", "voluum") == ""
    assert number("/postback?txid=7", "voluum") == "7"
    longest = "7" * (TXID_MAX - 3)
    assert number(f"/postback?cid=c1&txid={longest}", "voluum") == f"c1:{longest}"
    hashed = number(f"/postback?cid=c1&txid={longest}7", "voluum")
    assert hashed.startswith("sha256:")
    assert len(hashed) == 7 + 64
    assert hashed != number(f"/postback?cid=c2&txid={longest}7", "voluum")


def test_what_is_kept_of_a_report_can_be_stored_and_holds_no_secret_and_nothing_unknown():
    target = "/pixel.track?CID=9&AFID=4&ClickID=04_1_a&MerchantReferenceID=O%00&email=a%40b.example"
    made = postback(target, platform="linktrust")
    assert made.parameters == {
        "click_id": "04_1_a", "txid": "04_1_a:O%00", "goal": "sale", "status": "approved", "old_offer": "9", "old_partner": "4",
        "old_order": "O%00",
    }  # fmt: skip
    made = postback(TUNE + "&security_token=tk&adv_sub2=" + "y" * 2000, ReportSettings(token_hashes=(token_hash("tk"),)))
    assert made.parameters["adv_sub2"] == "y" * 1024
    assert "tk" not in made.parameters.values()


def test_the_visits_of_a_pixel_are_ours_first_then_the_old_platforms():
    report = old_report(CONVERSIONS[0], visits=("v1", "old:a"), old_click_id=b"b")
    assert visits_of(report) == ("v1", "old:a", "old:b")
    assert visits_of(old_report(CONVERSIONS[0], visits=("old:b",), old_click_id=b"b")) == ("old:b",)
    assert visits_of(old_report(CONVERSIONS[0], visits=("v1",))) == ("v1",)
    assert visits_of(old_report(CONVERSIONS[0], old_click_id=b"\xff")) == ("old:�",)
    pixel = postback(TUNE.replace("aff_lsr", "aff_l").replace("transaction_id", "x"), visits=("v1",), old_click_id=b"b")
    assert (pixel.visits, pixel.click_id) == (["v1", "old:b"], None)


def test_a_report_knows_when_it_came_and_what_its_body_adds():
    report = old_report(CONVERSIONS[0])
    assert report.received_at.isoformat() == "2026-09-21T14:13:20+00:00"
    assert report.uuid == POSTBACK_ID
    assert report.whole_target == report.target
    assert old_report(CONVERSIONS[0], target=b"/p", body=b"a=1").whole_target == b"/p?a=1"


def test_what_is_no_report_of_the_platform_reads_as_none():
    for target in (b"/aff_c?offer_id=1&aff_id=2", b"/nothing", b"", b"\xff"):
        found = read_report(SOURCES["tune"], old_report(CONVERSIONS[0], target=target))
        assert (found.kind, found.conversion.order_id, found.outcome.amount) == (None, None, None)


def test_settings_of_a_host_that_cannot_be_read_count_as_none():
    assert settings_of({}) == AS_IT_CAME == settings_of({"reports": {"no_such": 1}}) == settings_of({"reports": "x"})
    assert settings_of({"reports": {"tee": True, "goals": {"4": "lead"}}}) == ReportSettings(tee=True, goals={"4": "lead"})
    assert AS_IT_CAME.lookup_ms == LOOKUP_MS


def test_tokens_are_kept_as_hashes_and_settings_are_checked_when_they_are_written():
    kept = checked({"tokens": ["a", "b", "a"], "token_hashes": [token_hash("b"), "f" * 64], "tee": True, "goals": {"1": "sale"}})
    assert kept == {"tee": True, "goals": {"1": "sale"}, "token_hashes": [token_hash("b"), "f" * 64, token_hash("a")]}
    assert settings_of({"reports": kept}).token_hashes == tuple(kept["token_hashes"])
    assert checked({}) == {}
    assert checked({"lookup_ms": 50, "currency": "EUR", "statuses": {"x": "ignored"}}) == {
        "lookup_ms": 50, "currency": "EUR", "statuses": {"x": "ignored"},
    }  # fmt: skip
    for wrong, said in [
        ({"no_such": 1}, "its fields are tokens,"),
        ([], "cannot be used"),
        ({"statuses": {"x": "maybe"}}, "cannot be used"),
        ({"lookup_ms": 49}, "within 50 to 2000"),
        ({"lookup_ms": 2001}, "within 50 to 2000"),
        ({"currency": "EURO"}, "three letters"),
        ({"currency": "E1R"}, "three letters"),
        ({"currency": "ÄÖÜ"}, "three letters"),
        ({"tokens": ["a", ""]}, "empty token"),
    ]:
        with pytest.raises(ValueError, match=said):
            checked(wrong)


def test_a_mistyped_path_of_a_report_is_read_as_the_report_and_not_as_a_landing():
    for platform, target in [
        ("tune", "//aff_lsr?transaction_id=102d41&offer_id=1"),
        ("tune", "/AFF_LSR?transaction_id=102d41"),
        ("affise", "//postback?clickid=5f1a"),
        ("scaleo", "/track//conv?click_id=c760"),
        ("trackdesk", "//Tracking/conversion/v1/?cid=x"),
        ("linktrust", "/PIXEL.track?ClickID=04_1_a"),
    ]:
        found = read_report(SOURCES[platform], old_report(ROWS[0], target=target.encode()))
        assert (found.kind, bool(found.reading.click_id)) == ("postback", True), target
    assert read_report(SOURCES["linktrust"], old_report(ROWS[0], target=b"/Pixel.Track?ClickID=1")).reading.is_certain
    assert not read_report(SOURCES["tune"], old_report(ROWS[0], target=b"//aff_lsr?transaction_id=1")).reading.is_certain
    clicks = read_report(SOURCES["tune"], old_report(ROWS[0], target=b"//aff_c?offer_id=1&aff_id=2"))
    assert (clicks.kind, clicks.reading.kind, clicks.reading.partner_id) == (None, "click", "2")
