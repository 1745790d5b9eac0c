"""Reading postbacks: what is accepted, what is refused, what is kept."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from tracker.domain import money
from tracker.domain.postback import Advertiser, InvalidPostback, Postback, advertiser_of, from_row, read
from tracker.domain.postback_settings import PostbackSettings

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
SHOP = Advertiser(1, "shop", "EUR")
CLICK = "01kg9yvqm8fe5b7h6ajt0pcw3x"


def a_postback(source: str = "postback", **parameters: str) -> Postback:
    base = {"click_id": CLICK, "txid": "T"}
    return read(base | parameters, SHOP, postback_id=UUID(int=1), received_at=AT, source=source)  # type: ignore[arg-type]


def test_what_is_not_said_has_its_default() -> None:
    found = a_postback()
    assert (found.goal, found.status, found.status_original, found.amount_micros, found.currency) == ("sale", "approved", "", 0, "EUR")
    assert found.converted_at == AT


@pytest.mark.parametrize("text", [CLICK, CLICK.upper(), CLICK.replace("1", "l", 1), f" {CLICK} "])
def test_our_click_ids_are_kept_in_one_form(text: str) -> None:
    assert a_postback(click_id=text, txid="").txid == f"click:{CLICK}"


def test_long_click_ids_that_differ_at_their_end_make_different_keys() -> None:
    keys = {a_postback(click_id="x" * 249 + end, txid="").txid for end in ("", "a", "b", "aaaaaa", "aaaaab")}
    assert len(keys) == 5
    assert max(map(len, keys)) <= 255


def test_a_txid_of_the_stores_own_is_not_taken_for_a_click() -> None:
    assert a_postback(txid="").is_keyed_by_click
    assert not a_postback(txid=f"click:{CLICK}").is_keyed_by_click
    assert not a_postback(txid="click:7").is_keyed_by_click
    assert not a_postback(click_id="", coupon="TEN").is_keyed_by_click


@pytest.mark.parametrize(
    ("text", "micros"), [("12.5", 12_500_000), (".5", 500_000), ("7.", 7_000_000), ("+1", 1_000_000), ("0.000001", 1), ("", 0)]
)
def test_amounts_are_exact(text: str, micros: int) -> None:
    assert a_postback(amount=text).amount_micros == micros


@pytest.mark.parametrize("text", ["-1", "1,5", "1e3", "NaN", "inf", "1_000", "٣", "0.0000001", "9" * 20, "1 000"])
def test_other_amounts_are_refused(text: str) -> None:
    with pytest.raises(InvalidPostback) as caught:
        a_postback(amount=text)
    assert caught.value.code == "invalid_amount"


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-inf"])
def test_money_is_finite(text: str) -> None:
    with pytest.raises(ValueError, match="decimal number"):
        money.parse_micros(text)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("1769860800", AT),
        ("1769860800.5", AT + timedelta(seconds=0.5)),
        ("1769860800000", AT),
        ("2026-01-31T12:00:00Z", AT),
        ("2026-01-31T13:00:00+01:00", AT),
        ("2026-01-31T13:00:00 01:00", AT),  # a plus that was not percent-encoded
        ("2026-01-31 12:00:00", AT),
    ],
)
def test_instants_come_in_several_forms(text: str, at: datetime) -> None:
    assert a_postback(ts=text).happened_at == at


@pytest.mark.parametrize("text", ["tomorrow", "2026-02-02T12:00:00Z", "1990-01-01", "99999999999999999999", "0"])
def test_other_instants_are_refused(text: str) -> None:
    with pytest.raises(InvalidPostback) as caught:
        a_postback(ts=text)
    assert caught.value.code == "invalid_ts"


def test_a_pixel_cannot_approve_itself() -> None:
    found = a_postback(source="pixel", status="approved")
    assert (found.status, found.status_original, found.unverified) == ("pending", "", True)


def test_everything_else_is_kept_but_secrets() -> None:
    found = a_postback(token="secret", sig="s", pixel_key="p", colour="red", broken="a\x00\ud800", long="x" * 5000)
    assert not {"token", "sig", "pixel_key"} & found.parameters.keys()
    assert (found.parameters["colour"], found.parameters["broken"], len(found.parameters["long"])) == ("red", "a\ufffd\ufffd", 1024)


def test_a_coupon_needs_a_txid() -> None:
    with pytest.raises(InvalidPostback) as caught:
        a_postback(click_id="", coupon="TEN", txid="")
    assert caught.value.code == "invalid_txid"


def test_without_click_id_and_coupon_there_is_nothing_to_attribute() -> None:
    with pytest.raises(InvalidPostback) as caught:
        a_postback(click_id="")
    assert caught.value.code == "invalid_click_id"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("txid", "x" * 256),
        ("txid", "a\x00b"),
        ("goal", "a\nb"),
        ("click_id", "y" * 256),
        ("currency", "EURO"),
        ("currency", "E1R"),
        ("status", "paid"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(InvalidPostback) as caught:
        a_postback(**{name: value})
    assert caught.value.code == f"invalid_{name}"


def test_a_row_becomes_the_postback_that_it_was() -> None:
    import dataclasses

    found = a_postback(amount="3", currency="usd")
    assert from_row(dataclasses.asdict(found) | {"another_column": 1}) == found


@pytest.mark.parametrize(
    ("settings", "status"), [({}, "pending"), ({"pixel_status": "approved"}, "approved"), ({"pixel_status": "x"}, "pending")]
)
def test_an_advertisers_settings_say_what_a_pixel_makes(settings, status):
    assert advertiser_of(7, "shop", "EUR", settings) == Advertiser(7, "shop", "EUR", status)


def test_a_report_names_its_customer_event_and_details() -> None:
    found = a_postback(click_id="", customer=" c-1 ", event_id="e", tax="1", items='[{"sku":"A"}]', cookie="secret")
    assert (found.click_id, found.customer, found.event_id, found.details) == (None, "c-1", "e", {"tax": "1.00", "items": [{"sku": "A"}]})
    assert found.parameters == {"click_id": "", "txid": "T", "customer": " c-1 ", "event_id": "e", "tax": "1"}
    with pytest.raises(InvalidPostback) as caught:
        a_postback(tax="x")
    assert caught.value.code == "invalid_tax"


def test_the_visitors_cookie_stands_for_a_click_id() -> None:
    found = read({"amount": "5"}, SHOP, postback_id=UUID(int=1), received_at=AT, visits=[CLICK, "other"])
    assert (found.click_id, found.visits, found.txid, found.is_keyed_by_click) == (None, [CLICK, "other"], f"click:{CLICK}", True)
    with pytest.raises(InvalidPostback, match="customer who bought before"):
        read({}, SHOP, postback_id=UUID(int=1), received_at=AT)


def test_effects_are_in_the_order_of_what_happened() -> None:
    early, late = a_postback(ts="2026-01-30T00:00:00Z"), a_postback()
    assert early.order < late.order
    assert early.identity == late.identity == (1, "sale", "T")


@pytest.mark.parametrize(
    ("source", "text", "told_at"),
    [
        ("webhook", "2026-01-31T11:00:00Z", AT - timedelta(hours=1)),
        ("webhook", "", AT - timedelta(days=1)),
        ("webhook", "2027-01-31T11:00:00Z", AT),  # not believed: it was told when we heard of it
        ("postback", "2026-01-31T11:00:00Z", AT - timedelta(days=1)),
    ],
)
def test_the_webhooks_of_an_order_take_effect_by_when_the_shop_says_they_came_about(source: str, text: str, told_at: datetime) -> None:
    found = a_postback(source, ts="2026-01-30T12:00:00Z", stated_at=text)
    assert (found.order[0], found.converted_at) == (told_at, AT - timedelta(days=1))


def test_a_shops_own_words_are_read() -> None:
    settings = PostbackSettings({"order": "txid"}, {"2": "pending", "": "pending"}, "comma")
    shop = Advertiser(1, "shop", "EUR", settings=settings)
    found = read({"click_id": CLICK, "order": "7", "amount": "1.000,5", "status": "2"}, shop, postback_id=UUID(int=1), received_at=AT)
    assert (found.txid, found.amount_micros, found.status, found.status_original) == ("7", 1_000_500_000, "pending", "2")
    assert read({"click_id": CLICK}, shop, postback_id=UUID(int=1), received_at=AT).status == "pending"
    with pytest.raises(InvalidPostback, match="a word of the shop's: , 2"):
        read({"click_id": CLICK, "status": "3"}, shop, postback_id=UUID(int=1), received_at=AT)
