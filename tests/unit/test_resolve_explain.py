"""What `turnout explain` says."""

import orjson
import pytest
from msgspec.structs import replace

from tests.unit.test_resolve import CAMPAIGN, LINK, OLD, PARTNER, Table
from tracker.cli.explain import explain
from tracker.domain.explanation import as_dict, explanation
from tracker.domain.resolve import join
from tracker.settings import Settings

JOINED = join(LINK, CAMPAIGN, PARTNER)
TABLE = Table(JOINED, aliases={("go.old.example", "/a"): JOINED}, hosts=[OLD])


@pytest.mark.parametrize(
    ("url", "outcome", "said"),
    [
        ("http://t.example/c/summer", "ok", "Slug 'summer' is a link"),
        ("/c/summer", "ok", "no host"),
        ("t.example:8080/c/summer?sub1=x", "ok", "lands on the destination: https://s.example/"),
        ("https://go.old.example/a#x", "ok", "Old URL /a is an alias"),
        ("https://go.old.example/c/summer", "unknown", "do not work on a registered old host"),
        ("https://go.old.example/zzz é", "unknown", "recorded as an orphan"),
        ("/c/summer/more", "unknown", "no new link"),
        ("", "unknown", "no alias"),
    ],
)
def test_every_step_is_said(url, outcome, said):
    found = explanation(TABLE, url, 0)
    assert found.outcome == outcome
    assert said in "\n".join(found.steps)
    assert orjson.loads(orjson.dumps(as_dict(found)))["steps"] == found.steps


def test_the_landing_is_the_redirectors_own():
    assert explanation(TABLE, "/c/summer?url=https://elsewhere.example", 0).destination == "https://s.example/?click_id=CLICK-ID"
    inside = Table(join(LINK, replace(CAMPAIGN, domains=("s.example",)), PARTNER))
    assert explanation(inside, "/c/summer?url=https://www.s.example/p", 0).destination == "https://www.s.example/p?click_id=CLICK-ID"
    told = Table(join(replace(LINK, destination="https://s.example/{country}/{sub1}"), CAMPAIGN, PARTNER))
    assert explanation(told, "/c/summer?sub1=a", 0).destination == "https://s.example/COUNTRY/a?click_id=CLICK-ID"


def test_a_host_header_may_be_given():
    assert explanation(TABLE, "/a", 0).outcome == "unknown"
    assert explanation(TABLE, "/a", 0, "go.old.example").outcome == "ok"


def test_what_is_paused_is_named():
    table = Table(join(LINK, replace(CAMPAIGN, advertiser_status="paused"), PARTNER), fallback=None)
    said = "\n".join(explanation(table, "/c/summer", 0).steps)
    assert "The advertiser is paused" in said
    assert "plain 404" in said


def test_the_command_answers_without_a_table(tmp_path, capsys):
    settings = Settings(data_dir=str(tmp_path), fallback_url="https://f.example")
    assert explain(settings, "http://t.example/c/x", False) == 0
    assert "1. t.example" in capsys.readouterr().out
    assert explain(settings, "http://t.example/c/x", True) == 0
    assert orjson.loads(capsys.readouterr().out)["destination"] == "https://f.example"
