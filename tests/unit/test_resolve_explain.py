"""What `turnout explain` says."""

import orjson
import pytest
from msgspec.structs import replace

from tests.unit.test_resolve import CAMPAIGN, LINK, OLD, PARTNER, Table
from tracker.cli.explain import as_dict, explain, explanation, steps
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
    assert said in "\n".join(steps(TABLE, url, 0))
    assert orjson.loads(orjson.dumps(as_dict(found)))["steps"] == found.steps


def test_what_is_paused_is_named():
    table = Table(join(LINK, replace(CAMPAIGN, advertiser_status="paused"), PARTNER), fallback=None)
    said = "\n".join(steps(table, "/c/summer", 0))
    assert "The advertiser is paused" in said
    assert "plain 404" in said


def test_the_command_answers_without_a_table(tmp_path, capsys):
    settings = Settings(data_dir=str(tmp_path), fallback_url="https://f.example")
    assert explain(settings, "http://t.example/c/x", False) == 0
    assert "1. t.example" in capsys.readouterr().out
    assert explain(settings, "http://t.example/c/x", True) == 0
    assert orjson.loads(capsys.readouterr().out)["destination"] == "https://f.example"
