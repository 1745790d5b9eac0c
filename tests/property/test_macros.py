"""Whatever a template and its values hold, the result is safe in a header and nothing escapes its slot."""

import string
from urllib.parse import unquote_to_bytes

from hypothesis import given, settings
from hypothesis import strategies as st

from tracker.domain.macros import MACROS, Template, encode

names = st.sampled_from(sorted(MACROS))
texts = st.lists(
    st.one_of(st.text(max_size=8), names.map(lambda name: f"{{{name}}}"), st.sampled_from(["{x}", "?", "#", "&", "%", "https://"]))
).map("".join)
values = st.dictionaries(names, st.binary(max_size=20))


@settings(deadline=None)  # a busy machine is no failure
@given(texts, values, st.sampled_from(["", "click_id", "é\n"]))
def test_a_filled_template_is_printable_ascii(text, filled, param):
    result = Template.compile(text, param).fill(filled)
    assert all(0x21 <= byte <= 0x7E for byte in result)
    assert b"{" not in result


@settings(deadline=None)  # a busy machine is no failure
@given(st.binary(max_size=40))
def test_a_value_comes_back_and_holds_only_unreserved_characters(value):
    encoded = encode(value)
    assert unquote_to_bytes(encoded) == value
    assert set(encoded) <= set((string.ascii_letters + string.digits + "-._~%").encode())


@settings(deadline=None)  # a busy machine is no failure
@given(texts, st.binary(min_size=1, max_size=10).map(bytes.hex))
def test_with_a_parameter_the_click_id_is_always_in_it(text, click_id):
    assert click_id.encode() in Template.compile(text, "cid").fill({"click_id": click_id.encode()})
