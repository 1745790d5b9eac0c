"""Real old URLs of all platforms, with the reading that the facts ask for; ids were changed where their shape allows."""

import json
from pathlib import Path

import pytest

from tracker.platforms.loader import load
from tracker.platforms.platforms import Platforms
from tracker.platforms.reading import KEYS, as_dict

ROWS = [json.loads(line) for line in (Path(__file__).parents[1] / "data/platforms/links.jsonl").read_text().splitlines()]
PLATFORMS = Platforms(load().sources)
WRONG_BY_THE_FACTS: dict[str, str] = {}  # url → why the row is wrong; none is


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['platform']}-{row['url'][:60]}")
def test_a_real_url_reads_as_the_facts_say(row):
    if row["platform"] == "none":
        expected = dict.fromkeys(KEYS) | {"sub_ids": {}}
        found = as_dict(PLATFORMS.read_url(row["url"]))
    else:
        expected = {key: row[key] for key in KEYS}
        found = as_dict(PLATFORMS.read_url(row["url"], row["platform"]))
    assert row["url"] in WRONG_BY_THE_FACTS or found == expected


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['platform']}-{row['url'][:60]}")
def test_a_host_tells_the_right_platform_or_none(row):
    told = PLATFORMS.read_url(row["url"])
    assert told.platform in (None, row["platform"])
    if told.platform is not None:
        assert as_dict(told) == {key: row[key] for key in KEYS}


def test_there_are_rows_of_each_platform_that_the_facts_have_urls_of():
    assert len(ROWS) == 171
    assert len({row["platform"] for row in ROWS}) == 39
