"""Items, sums and the kind of customer of an order."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.domain.order_details import ITEMS_MAX, InvalidDetail, read_details


def details(amount_format="point", currency="EUR", **parameters):
    return read_details(parameters, amount_format, currency)


def test_nothing_said_is_nothing_kept():
    assert details(discount=" ", items="", customer_type="") == {}


def test_everything_said_is_kept_as_decimal_text():
    items = [{"sku": "A-1", "quantity": 2, "price": 9.95, "category": "shoes", "name": "Boots", "colour": "red"}, {"sku": 7}, {}]
    assert details(items=json.dumps(items), discount="1", shipping="4.9", tax="0.5", customer_type="Existing") == {
        "discount": "1.00",
        "shipping": "4.90",
        "tax": "0.50",
        "customer_type": "returning",
        "items": [{"sku": "A-1", "name": "Boots", "category": "shoes", "quantity": "2", "price": "9.95"}, {"sku": "7"}, {}],
    }
    assert details("comma", "EUR", items='[{"price":"1.234,5"}]', tax="1,5") == {"tax": "1.50", "items": [{"price": "1234.50"}]}
    assert details("minor", "JPY", shipping="500", customer_type="new") == {"shipping": "500", "customer_type": "new"}


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("discount", "-1", "must not be negative"),
        ("tax", "1,5", "such as 12.50"),
        ("shipping", "x", "such as 12.50"),
        ("customer_type", "vip", "new or returning"),
        ("items", "x", "JSON list"),
        ("items", '{"sku":1}', "JSON list"),
        ("items", "[" * 5000, "JSON list"),
        ("items", "[1]", "objects with sku"),
        ("items", '[{"sku":["a"]}]', "have a sku"),
        ("items", '[{"sku":"a\\u0000"}]', "have a sku"),
        ("items", json.dumps([{"sku": "x" * 256}]), "have a sku"),
        ("items", '[{"quantity":"-1"}]', "have a quantity"),
        ("items", '[{"price":"-1"}]', "negative"),
        ("items", json.dumps([{}] * (ITEMS_MAX + 1)), "at most 500"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(field, value, said):
    with pytest.raises(InvalidDetail, match=said) as caught:
        details(**{field: value})
    assert caught.value.field == field
    assert str(caught.value).startswith(field)


words = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5))
fields = st.sampled_from(["sku", "price", "quantity", "x"])
values = st.recursive(words, lambda inner: st.lists(inner) | st.dictionaries(fields, inner))


@given(values)
def test_any_json_is_items_or_a_refusal(value):
    try:
        found = details(items=json.dumps(value))
    except InvalidDetail as exc:
        found = exc.field
    assert found == "items" or isinstance(found["items"], list)
