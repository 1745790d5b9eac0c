"""Resolving is total: whatever a client sends, there is an answer."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.test_resolve import CAMPAIGN, LINK, OLD, PARTNER, Table
from tracker.domain.resolve import join, resolve

TABLE = Table(join(LINK, CAMPAIGN, PARTNER), hosts=[OLD])
targets = st.one_of(st.binary(max_size=60), st.binary(max_size=20).map(lambda tail: b"/c/" + tail), st.just(b"/c/summer"))
hosts = st.one_of(st.binary(max_size=30), st.sampled_from([b"go.old.example", b"t.example", b""]))


@settings(deadline=None)  # a busy machine is no failure
@given(hosts, targets, st.integers(-(2**62), 2**62))
def test_there_is_always_an_answer(host, target, now_ms):
    found = resolve(TABLE, host, target, now_ms)
    assert found.outcome in ("ok", "unknown")
    assert (found.outcome == "ok") == (found.link_id == 1)
    assert found.template is not None
