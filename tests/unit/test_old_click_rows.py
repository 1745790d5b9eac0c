"""Rows of click exports: columns by any of their names, times in any of their forms, and what is refused."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from tracker.domain.old_click_rows import BadRow, NoZone, Times, columns_of, other_cases, read_row, without
from tracker.old_clicks import LINE_MAX_BYTES, rows_of
from tracker.platforms.loader import Shelf

NOW = datetime(2026, 3, 1, tzinfo=UTC)
TUNE = columns_of(Shelf().source("tune").profile)
NEUTRAL = columns_of(None)
BERLIN = Times(ZoneInfo("Europe/Berlin"))


def read(times=BERLIN, columns=NEUTRAL, **row):
    return read_row({"click_id": "c1", "clicked_at": "2026-01-31T10:00:00Z"} | row, columns, times, NOW)


def test_the_platforms_own_names_go_before_ours():
    row = {
        "stat.ad_id": "102ab", "stat.session_datetime": "2026-01-31 10:00:00", "stat.datetime": "2026-01-30 10:00:00",
        "stat.affiliate_id": " 77 ", "stat.offer_id": "5", "stat.affiliate_info1": "mail", "creative_id": "9", "sub2": "b",
        "stat.ip": "192.0.2.1",
    }  # fmt: skip
    found = read_row(row, TUNE, BERLIN, NOW)
    assert found == ("102ab", datetime(2026, 1, 31, 9, tzinfo=UTC), "77", "5", "9", {"sub1": "mail", "sub2": "b", "creative": "9"})


@pytest.mark.parametrize(("text", "at"), [
    ("2026-01-31T10:00:00Z", (10, 0)), ("2026-01-31 10:00:00+02:00", (8, 0)), ("2026-01-31 10:00:00 +0200", (8, 0)),
    ("2026-01-31 10:00:00 UTC", (10, 0)), ("2026-01-31 10:00:00 GMT", (10, 0)), ("2026-01-31 10:00:00", (9, 0)), ("2026-01-31", (-1, 0)),
    ("20260131T1000", (9, 0)), ("1769853600", (10, 0)), ("1769853600.5", (10, 0.5)), ("1769853600500", (10, 0.5)),
    ("1769853600500000", (10, 0.5)),
])  # fmt: skip
def test_times_are_read_in_many_forms(text, at):
    found = read(clicked_at=text).clicked_at
    assert (found - datetime(2026, 1, 31, tzinfo=UTC)).total_seconds() == at[0] * 3600 + at[1]
    assert found.tzinfo is UTC


def test_a_form_that_is_told_goes_before_all_others():
    assert read(Times(ZoneInfo("UTC"), "%d/%m/%Y %H:%M"), clicked_at="02/01/2026 10:30").clicked_at == datetime(
        2026, 1, 2, 10, 30, tzinfo=UTC
    )
    with pytest.raises(BadRow, match="cannot be read"):
        read(Times(ZoneInfo("UTC"), "%d/%m/%Y"), clicked_at="1769853600")


def test_a_time_without_a_zone_needs_one():
    with pytest.raises(NoZone):
        read(Times(), clicked_at="2026-01-31 10:00:00")
    assert read(Times(), clicked_at="2026-01-31 10:00:00 -01:00").clicked_at.hour == 11


@pytest.mark.parametrize(("row", "why"), [
    ({"click_id": " "}, "no click id"), ({"click_id": "x" * 256}, "more than 255"), ({"click_id": "a\x00b"}, "no text"),
    ({"partner_id": "a\ufffd"}, "partner id with characters"), ({"clicked_at": ""}, "no time"),
    ({"clicked_at": "yesterday"}, "cannot be read"),
    ({"clicked_at": "1999-12-31"}, "cannot be right"), ({"clicked_at": "2026-03-03"}, "cannot be right"),
    ({"clicked_at": "0001-01-01"}, "cannot be"), ({"clicked_at": "99999999999999999"}, "cannot be right"),
])  # fmt: skip
def test_a_row_without_a_click_is_refused(row, why):
    with pytest.raises(BadRow, match=why):
        read(**row)


def test_facts_are_cut_and_cleaned_and_addresses_are_not_kept():
    assert read(sub1="x" * 300, ref="a\tb", ip="192.0.2.1", user_agent="Mozilla", creative_id="").facts == {"sub1": "x" * 255, "ref": "ab"}


def test_what_a_header_lacks_is_told_by_all_its_names():
    assert without(NEUTRAL, ["click_id", "partner_id"]) == ["clicked_at"]
    assert without(TUNE, ["stat.ad_id", "stat.datetime"]) == []
    assert without(TUNE, []) == ["stat.ad_id or click_id", "stat.session_datetime or stat.datetime or clicked_at"]


def test_other_cases_of_an_id_are_those_that_differ():
    assert other_cases("aB1") == ["ab1", "AB1"]
    assert other_cases("ab") == ["AB"]
    assert other_cases("12-3") == []


def rows(*lines, names=None):
    seen = names if names is not None else []
    return list(rows_of(iter(line.encode() for line in lines), seen.extend))


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_told_by_the_header(separator):
    names = []
    assert rows("", f"A{separator}b c", f"1{separator}2", names=names) == [(3, {"a": "1", "b c": "2"})]
    assert names == ["a", "b c"]


def test_cells_may_hold_line_ends_and_every_line_is_told():
    found = rows("a,b", 'x,"one', 'two"', "", "y", "z,1,2", "w,3", "v," + "9" * LINE_MAX_BYTES, "u,4")
    assert found == [
        (2, {"a": "x", "b": "one\ntwo"}), (5, "fewer cells than the header has"), (6, "more cells than the header has"),
        (7, {"a": "w", "b": "3"}), (8, f"longer than {LINE_MAX_BYTES} bytes"), (9, {"a": "u", "b": "4"}),
    ]  # fmt: skip


def test_a_quote_that_is_not_closed_costs_its_row_and_no_more_than_a_cell_may_hold():
    found = rows("a,b", '"x,1', *["y" * 60_000] * 3, "z,1")
    assert found[0][0] == 2
    assert found[0][1].startswith("no CSV: ")
    assert found[-1] == (6, {"a": "z", "b": "1"})


def test_json_lines_are_flat_rows():
    found = rows(
        '{"Stat": {"ad_id": "x", "n": 5, "deep": {"b": 1.5}}, "t": true, "l": [1], "none": null}', "", '{"a": "1"', "[1]", '{"a":"b"}'
    )
    assert found[0] == (1, {"stat.ad_id": "x", "stat.n": "5", "stat.deep.b": "1.5"})
    assert found[1][0] == 3
    assert found[1][1].startswith("no JSON")
    assert found[2:] == [(4, "no JSON object"), (5, {"a": "b"})]
    assert rows('{"a": "1"}', '{"a": "' + "x" * LINE_MAX_BYTES + '"}')[1] == (2, f"longer than {LINE_MAX_BYTES} bytes")
    names = []
    assert rows("{nothing", names=names)[0][0] == 1
    assert names == []
