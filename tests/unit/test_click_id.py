"""Click ids: the text form, what is read as one, and the bounds that partitions and queries use."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.domain import click_id

instants = st.integers(0, click_id.MAX_MS)
randoms = st.binary(min_size=10, max_size=10)


def test_a_known_id_has_the_text_it_always_had():
    raw = UUID("019a0000-0000-7000-8000-000000000001").bytes
    assert click_id.to_text(raw) == b"01k8000000e008000000000001"
    assert click_id.from_text("01K8OOOOOOEOO8OOOOOOOOOOOI") == raw


@given(instants, randoms)
def test_every_id_reads_back_in_any_case_and_keeps_its_time(ms, random):
    raw = click_id.compose(ms, random)
    text = click_id.to_text(raw)
    assert len(text) == click_id.TEXT_LENGTH
    assert click_id.from_text(text) == click_id.from_text(text.upper()) == raw
    assert click_id.from_any(text.decode()) == click_id.from_any(str(UUID(bytes=raw))) == raw
    assert click_id.unix_ms(raw) == ms
    assert UUID(bytes=raw).version == 7


@given(randoms, randoms)
def test_different_randomness_makes_different_ids(one, other):
    kept = (1 << 74) - 1
    same = int.from_bytes(one, "big") & kept == int.from_bytes(other, "big") & kept
    assert (click_id.compose(1, one) == click_id.compose(1, other)) == same


@given(instants, instants, randoms)
def test_text_sorts_as_time_does(early, late, random):
    if early < late:
        assert click_id.to_text(click_id.compose(early, random)) < click_id.to_text(click_id.compose(late, random))


@pytest.mark.parametrize("text", ["", "x", "8" + "0" * 25, "u" * 26, "0" * 26, "0" * 27, "é" * 26, "01k8000000e00800000000000!"])
def test_what_is_no_id_of_ours_is_none(text):
    assert click_id.from_text(text) is None
    assert click_id.from_any(text) is None


def test_a_uuid_of_another_version_is_none():
    assert click_id.from_any("6ba7b810-9dad-11d1-80b4-00c04fd430c8") is None


@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)), randoms)
def test_no_id_of_an_instant_is_below_its_floor(at, random):
    raw = click_id.compose(int((at - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1)), random)
    floor = click_id.floor(click_id.moment(raw))
    assert floor.bytes <= raw
    assert click_id.floor(click_id.moment(raw) + timedelta(milliseconds=1)).bytes > raw


def test_floors_stay_inside_the_range_of_uuids():
    assert click_id.floor(datetime(1, 1, 1, tzinfo=UTC)) == UUID(int=0)
    assert click_id.floor(datetime(9999, 1, 1, tzinfo=UTC)).bytes[:6] <= b"\xff" * 6
