"""`turnout platforms list|read`: what is printed, and what is said when the input is bad."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from tracker.cli.main import app
from tracker.errors import RejectedInput
from tracker.platforms.reading import KEYS

LINK = "https://acme.go2cloud.org/aff_c?offer_id=7&aff_id=42&aff_sub=x"


@pytest.fixture(autouse=True)
def _away(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TURNOUT_PLATFORMS_DIR", raising=False)


def turnout(*arguments):
    return CliRunner().invoke(app, ["platforms", *map(str, arguments)])


def test_list_names_every_platform():
    found = json.loads(turnout("list", "--json").stdout)
    assert {"tune", "awin", "bitly"} <= {row["name"] for row in found["items"]}
    assert "TUNE (HasOffers)" in turnout("list").stdout


def test_read_prints_the_public_keys():
    found = json.loads(turnout("read", LINK, "--json").stdout)
    assert tuple(found) == KEYS
    assert (found["platform"], found["partner_id"], found["sub_ids"]) == ("tune", "42", {"aff_sub": "x"})


def test_read_tells_people_whether_it_is_certain():
    assert "certain     yes" in turnout("read", LINK).stdout
    assert "no: damaged link was repaired" in turnout("read", "https://acme.go2cloud.org/aff_c?aff_id=42).").stdout
    assert "no profile has this host" in turnout("read", "https://nobody.example/").stdout
    assert "no URL of that platform" in turnout("read", "https://acme.go2cloud.org/x/y").stdout


def test_with_a_platform_the_host_is_not_looked_at():
    found = json.loads(turnout("read", "https://anything.example/aff_c?aff_id=1", "--platform", "tune", "--json").stdout)
    assert (found["platform"], found["kind"], found["partner_id"]) == ("tune", "click", "1")
    found = json.loads(turnout("read", "https://anything.example/aff_c?aff_id=1", "--json").stdout)
    assert found == dict.fromkeys(KEYS) | {"sub_ids": {}}


def test_a_file_gives_a_line_for_each_line(tmp_path):
    lines = [
        {"url": LINK},
        {"url": "https://x/click?pid=1&offer_id=2", "platform": "affise"},
        {"url": "https://x/", "platform": None},
        {"url": LINK, "platform": "none", "note": "told by the host"},
        {"url": "https://x/aff_c?aff_sub=\ud800"},
    ]
    path = tmp_path / "f.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    found = [json.loads(line) for line in turnout("read", "--file", path).stdout.splitlines()]
    assert [row["platform"] for row in found] == ["tune", "affise", None, "tune", None]
    assert [json.loads(line)["platform"] for line in turnout("read", "--file", path, "--platform", "tune").stdout.splitlines()] == [
        "tune"
    ] * 5


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"url": "https://x/"}\nnonsense\n', "line 2 is not JSON"),
        (b"[1]\n", "line 1 is not a JSON object"),
        (b'{"link": "x"}\n', "line 1 must be a JSON object"),
        (b'{"url": 7}\n', "line 1 must be a JSON object"),
        (b'{"url": "x", "platform": 7}\n', "line 1 must be a JSON object"),
        (b'{"url": "x", "platform": "tun"}\n', "line 1: there is no platform 'tun'"),
        (b"\xff\n", "line 1 is not JSON"),
        (b"[" * 100_000 + b"\n", "line 1 is not JSON"),
        (b'"' + b"a" * 1_100_000 + b'"\n', "longer than 1 MB"),
    ],
)
def test_a_bad_line_is_named(tmp_path, content, says):
    path = tmp_path / "f.jsonl"
    path.write_bytes(content)
    found = turnout("read", "--file", path)
    assert isinstance(found.exception, RejectedInput)
    assert says in str(found.exception)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("read",), "either a URL or --file"),
        (("read", LINK, "--file", "x"), "either a URL or --file"),
        (("read", "--file", "nowhere.jsonl"), "cannot be read: No such file"),
        (("read", LINK, "--platform", "tun"), "there is no platform 'tun'"),
    ],
)
def test_wrong_usage_is_one_sentence(arguments, says):
    found = turnout(*arguments)
    assert isinstance(found.exception, RejectedInput)
    assert says in str(found.exception)


def test_a_broken_profile_is_a_warning_and_the_rest_goes_on(monkeypatch, tmp_path):
    (tmp_path / "broken.toml").write_text("name =\n")
    monkeypatch.setenv("TURNOUT_PLATFORMS_DIR", str(tmp_path))
    found = turnout("read", LINK, "--json")
    assert found.exit_code == 0
    assert json.loads(found.stdout)["platform"] == "tune"
    assert "warning:" in found.stderr
    assert "broken.toml line 1: is not TOML" in found.stderr


def test_the_exit_code_of_bad_input_is_2_with_one_line():
    found = subprocess.run(
        [sys.executable, "-m", "tracker", "platforms", "read", LINK, "--platform", "tun"], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == "error: there is no platform 'tun'; turnout platforms list names them\n"
