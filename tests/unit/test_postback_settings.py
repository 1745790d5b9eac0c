"""What an advertiser's settings may say of its reports."""

import pytest

from tracker.domain.postback_settings import AS_IS, PostbackSettings, checked, of_settings, renamed


def test_settings_are_read_and_damaged_ones_count_as_none():
    said = {
        "parameters": {"order": "txid"},
        "statuses": {"1": "approved"},
        "amount_format": "comma",
        "allow_ips": ["192.0.2.0/24", "2001:db8::1"],
    }
    assert of_settings({"postbacks": said}) == PostbackSettings(
        {"order": "txid"}, {"1": "approved"}, "comma", ["192.0.2.0/24", "2001:db8::1"]
    )
    assert of_settings({}) is not None
    assert of_settings({"postbacks": {"x": 1}}) == of_settings({"postbacks": None}) == of_settings({}) == AS_IS


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ([], "cannot be used"),
        ({"x": 1}, "the fields are parameters"),
        ({"amount_format": "x"}, "one of point, comma, thousands, minor"),
        ({"statuses": {"1": "paid"}}, "cannot be used"),
        ({"parameters": {"order": "order_id"}}, "they can lead to amount"),
        ({"parameters": {str(n): "txid" for n in range(201)}}, "at most 200"),
        ({"allow_ips": ["10.0.0.1/8"]}, "no address or network"),
        ({"allow_ips": ["10.0.0.1"] * 101}, "100 networks"),
        ({"statuses": {str(n): "approved" for n in range(201)}}, "at most 200"),
    ],
)
def test_what_cannot_be_used_is_refused_with_what_is_allowed(said, why):
    with pytest.raises(ValueError, match=why):
        checked(said)


def test_our_own_names_win_over_aliases():
    settings = PostbackSettings({"order": "txid", "sum": "amount"})
    assert renamed({"order": "7", "sum": "5", "x": "1"}, settings) == {"order": "7", "sum": "5", "x": "1", "txid": "7", "amount": "5"}
    assert renamed({"order": "7", "txid": "8", "amount": " "}, settings)["txid"] == "8"
    assert renamed({"sum": "5", "amount": " "}, settings)["amount"] == "5"
