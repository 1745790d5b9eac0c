"""Counting what resolves: bounded tables, estimates, platforms that are tried out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.unit.test_resolve import CAMPAIGN, LINK, OLD, PARTNER, Table
from tracker.domain import coverage
from tracker.domain.access_logs import LogLine
from tracker.domain.coverage import CACHE_MAX, REASONS, REST, ROWS_MAX, Coverage
from tracker.domain.distinct_urls import DistinctUrls, percent
from tracker.domain.resolve import join, resolve
from tracker.domain.with_platform import WithPlatform

BARE = replace(OLD, host="bare.example", platform=None)
NEW = replace(OLD, host="t.example", kind="tracking", platform=None)
TABLE = Table(join(LINK, CAMPAIGN, PARTNER), hosts=[OLD, BARE, NEW])


def counts(table=TABLE, **options):
    return Coverage(table, 0, lambda agent: "bot" in agent, **options)


def get(target, host=b"t.example", **more):
    return LogLine(host, more.pop("method", b"GET"), target, **more)


lines = st.builds(
    LogLine,
    st.sampled_from([b"", b"t.example", b"go.old.example", b"\xff", b"bare.example:81"]),
    st.sampled_from([b"GET", b"HEAD", b"POST"]),
    st.one_of(
        st.sampled_from([b"/c/summer", b"/aff_c?aff_id=1&offer_id=2", b"/aff_lsr", b"/favicon.ico", b"/x.css", b"/x.css?a#b", b"/-/x"]),
        st.binary(max_size=30).map(lambda data: b"/" + data),
    ),
    st.one_of(st.none(), st.integers(100, 599)),
    st.one_of(st.none(), st.sampled_from([b"", b"bot", b"Mozilla", b"\xff" * 600])),
)
options = st.fixed_dictionaries(
    {"host": st.sampled_from([b"", b"t.example", b"go.old.example:80"]), "all_methods": st.booleans(), "with_robots": st.booleans()}
)


@given(st.lists(lines, max_size=30), st.integers(0, 5), options)
def test_every_line_is_counted_once_and_tables_add_up(given_lines, unreadable, chosen):
    found = counts(**chosen)
    for line in given_lines:
        found.add(line)
    for _ in range(unreadable):
        found.leave_out(coverage.UNREADABLE)
    told = found.as_dict()
    seen, resolved = told["clicks"]["seen"], told["clicks"]["resolved"]
    assert told["lines"] == len(given_lines) + unreadable == seen + sum(told["not_clicks"].values()) + sum(told["left_out"].values())
    assert set(told["left_out"]) == set(REASONS)
    for table in ("by_platform", "by_partner", "by_shape"):
        assert (sum(row["clicks"] for row in told[table]), sum(row["resolved"] for row in told[table])) == (seen, resolved)
    assert sum(row["clicks"] for row in told["unresolved"]) == seen - resolved
    assert sum(told["outcomes"].values()) == resolved
    assert all(row["missing"] and row["example"] and row["shape"] for row in told["unresolved"])
    assert told["distinct_urls"]["seen"] <= seen
    assert found.reaches(0) == (seen > 0)


def test_full_tables_count_what_is_new_under_the_rest():
    found = counts()
    for number in range(ROWS_MAX + 5):
        found.add(get(b"/x", b"h%d.example" % number))
    rows = found.as_dict()["unresolved"]
    assert len(rows) == ROWS_MAX + 1
    assert (rows[0]["host"], rows[0]["shape"], rows[0]["clicks"]) == (REST, REST, 5)


def test_the_memory_of_resolutions_is_bounded():
    found = counts()
    for number in range(CACHE_MAX + 1):
        found.add(get(b"/c/%d" % number))
    found.add(get(b"/c/summer?" + b"x" * 2000))
    found.add(get(b"/c/summer"))
    assert found.as_dict()["clicks"] == {"seen": CACHE_MAX + 3, "resolved": 2, "resolved_percent": percent(2, CACHE_MAX + 3)}


def test_a_host_that_is_named_stands_in_for_lines_without_one():
    assert not counts().has_host
    found = counts(host=b"go.example")
    assert found.has_host
    found.add(get(b"/c/summer", b""))
    found.add(get(b"/c/summer", b"other.example"))
    assert found.as_dict()["clicks"]["seen"] == 1


def test_files_of_pages_are_left_out_only_where_nothing_resolves():
    found = counts()
    for target in (b"/style.css", b"/favicon.ico", b"/-/healthz", b"/c/summer"):
        found.add(get(target))
    assert found.as_dict()["clicks"]["seen"] == 1
    assert sum(found.as_dict()["left_out"].values()) == 3


def test_stores_reports_are_counted_apart_by_their_kind():
    found = counts()
    for target in (b"/aff_lsr?transaction_id=1", b"/aff_lsr", b"/aff_c?aff_id=1&offer_id=2"):
        found.add(get(target, b"go.old.example"))
    told = found.as_dict()
    assert (told["clicks"]["seen"], {kind: count for kind, count in told["not_clicks"].items() if count}) == (1, {"postback": 2})


def test_robots_are_left_out_unless_they_are_wanted():
    for options, left_out in (({}, 1), ({"with_robots": True}, 0)):
        found = counts(**options)
        found.add(get(b"/c/summer", user_agent=b"a bot"))
        found.add(get(b"/c/summer", user_agent=None))
        assert (found.as_dict()["left_out"][coverage.ROBOT], found.as_dict()["clicks"]["seen"]) == (left_out, 2 - left_out)


def test_long_examples_are_cut():
    found = counts()
    found.add(get(b"/" + b"x" * 600, b""))
    (row,) = found.as_dict()["unresolved"]
    assert len(row["example"]) == 500
    assert row["example"].endswith("x...")


@pytest.mark.parametrize(("part", "whole", "told"), [(0, 0, 0.0), (1, 3, 33.33), (2, 3, 66.66), (99_999, 100_000, 99.99), (7, 7, 100.0)])
def test_percent_never_says_all_when_one_is_missing(part, whole, told):
    assert percent(part, whole) == told


def test_many_urls_are_estimated():
    exact, small = DistinctUrls(), DistinctUrls(1000)
    for number in range(20_000):
        for _ in range(2):
            exact.add("h", b"/%d" % number, is_resolved=number % 4 > 0)
            small.add("h", b"/%d" % number, is_resolved=number % 4 > 0)
    assert exact.as_dict() == {"seen": 20_000, "resolved": 15_000, "resolved_percent": 75.0, "is_estimate": False}
    told = small.as_dict()
    assert told["is_estimate"]
    assert 17_000 < told["seen"] < 23_000  # the digest is the same everywhere: this can not fail now and then
    assert 70 < told["resolved_percent"] < 80


def test_a_platform_stands_in_where_there_is_none():
    table = WithPlatform(TABLE, "everflow")
    assert resolve(table, b"nobody.example:8080", b"/x", 0).platform == "everflow"
    assert resolve(table, b"bare.example:8080", b"/x", 0).platform == "everflow"
    assert resolve(table, b"go.old.example:8080", b"/x", 0).platform == "tune"
    assert resolve(table, b"t.example", b"/c/summer", 0).link_slug == "summer"
    assert resolve(table, b"t.example", b"/x", 0).platform is None
