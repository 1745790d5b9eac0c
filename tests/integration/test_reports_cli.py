"""`turnout report` on the terminal."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from tests.integration.api_client import Api, Shop
from tests.integration.test_reports import DAY, NOON, Reports, click, sale
from tracker.cli import main, reports
from tracker.errors import TurnoutError

pytestmark = pytest.mark.integration
ASKED = ("--from", str(DAY), "--to", str(DAY))


class Terminal:
    """Runs `turnout report` with this test's database; the exit code is that of the command line's own table."""

    def __init__(self, dsn: str, directory: Path) -> None:
        self.app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
        self.app.command()(reports.report)
        self.environment = {"TURNOUT_DATABASE_URL": dsn, "TURNOUT_DATA_DIR": str(directory)}

    def run(self, *arguments: str, **environment: str) -> Result:
        return CliRunner().invoke(self.app, arguments, env=self.environment | environment)

    def code(self, *arguments: str, **environment: str) -> int:
        done = self.run(*arguments, **environment)
        return main.exit_code(done.exception) if isinstance(done.exception, TurnoutError) else done.exit_code


@pytest.fixture
async def found(api: Api, shop: Shop, dsn: str) -> Reports:
    """Three clicks and two sales of one day, and a click of today."""
    found = Reports(api, shop, dsn)
    clicks = [click(sub1="news"), click(sub1="=1+1"), click(sub1="\x1b[31mred :smile: [b]"), click(datetime.now(UTC), sub1="today")]
    await found.put(clicks, [sale("1234.5", payout="10", sub1="news"), sale("7", sub1="news", currency="USD")])
    return found


@pytest.fixture
def terminal(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.chdir(tmp_path)
    return Terminal(dsn, tmp_path)


def test_a_table_has_right_aligned_numbers_and_ends_with_totals(found: Reports, terminal: Terminal) -> None:
    done = terminal.run(
        *ASKED, "--group-by", "sub1", "--metrics", "clicks,conversions,revenue", "--filter", "sub1=news", "--filter", "sub1=x"
    )
    assert done.exit_code == 0
    header, *rows = done.stdout.splitlines()
    assert header.split() == ["sub1", "clicks", "conversions", "revenue", "currency"]
    assert [row.split() for row in rows] == [
        ["news", "1", "1", "1234.50", "EUR"],
        ["news", "0", "1", "7.00", "USD"],
        ["total", "1", "2"],
        ["total", "1", "1234.50", "EUR"],
        ["total", "1", "7.00", "USD"],
    ]
    end = header.index("revenue") + len("revenue")
    assert [row[:end].endswith(amount) for row, amount in ((rows[0], " 1234.50"), (rows[1], "    7.00"))] == [True, True]


def test_nothing_in_a_sub_id_steers_the_terminal(found: Reports, terminal: Terminal) -> None:
    out = terminal.run(*ASKED, "--group-by", "sub1", "--metrics", "clicks").stdout
    assert "\N{REPLACEMENT CHARACTER}[31mred :smile: [b]" in out
    assert "\x1b" not in out


def test_without_options_it_is_the_last_seven_days_by_partner(found: Reports, terminal: Terminal) -> None:
    week = json.loads(terminal.run("--json").stdout)
    assert week["rows"] == [{"partner": "ada", "clicks": 1, "all_clicks": 1, "unique_clicks": 1, "conversions": 0}
        | {"revenue": "0.00", "currency": None, "payout": "0.00", "payout_currency": None}]  # fmt: skip
    past = json.loads(terminal.run("--json", "--to", str(DAY + timedelta(days=6)), "--metrics", "clicks").stdout)
    assert past == {"rows": [{"partner": "ada", "clicks": 3}], "totals": {"clicks": 3}}
    past = json.loads(terminal.run("--json", "--to", str(DAY + timedelta(days=7)), "--metrics", "clicks").stdout)
    assert past == {"rows": [], "totals": {"clicks": 0}}


def test_json_and_csv_are_those_of_the_api(found: Reports, terminal: Terminal) -> None:
    options = (*ASKED, "--group-by", "sub1,hour", "--metrics", "clicks,cr", "--sort=-cr", "--tz", "Asia/Kolkata", "--limit", "2")
    done = terminal.run(*options, "--json")
    shown = json.loads(done.stdout)
    assert shown["rows"][0] == {"sub1": "news", "hour": f"{NOON:%Y-%m-%d}T17:00", "clicks": 1, "cr": "2.000000"}
    assert (len(shown["rows"]), shown["rows_left_out"], shown["totals"]["clicks"]) == (2, 1, 3)
    assert done.stderr == "note: 1 more rows; totals are of all\n"
    rows = list(csv.reader(io.StringIO(terminal.run(*ASKED, "--group-by", "sub1", "--metrics", "clicks", "--csv").stdout)))
    assert rows[0] == ["sub1", "clicks"]
    assert ["'=1+1", "1"] in rows


def test_money_in_one_currency_and_what_has_no_rate(found: Reports, terminal: Terminal) -> None:
    options = (*ASKED, "--group-by", "sub1", "--metrics", "revenue", "--filter", "sub1=news", "--currency", "EUR", "--time", "click")
    done = terminal.run(*options)
    header, row, total = done.stdout.splitlines()
    assert header.split() == ["sub1", "revenue", "currency", "unconverted"]
    assert row.split() == ["news", "1234.50", "EUR", "1", "conversion:", "revenue", "7.00", "USD"]
    assert total.split()[:3] == ["total", "1234.50", "EUR"]
    assert done.stderr == f"note: no rate for USD on {DAY}: not in the sums, see unconverted; turnout rates import brings rates\n"
    assert "unconverted" not in terminal.run(*ASKED, "--metrics", "revenue", "--filter", "sub1=none", "--currency", "EUR").stdout


def test_exit_codes(found: Reports, terminal: Terminal) -> None:
    assert terminal.code(*ASKED) == 0
    for wrong in (("--group-by", "colour"), ("--sort", "revenue", "--metrics", "clicks"), ("--limit", "no"), ("--filter", "partner"),
                  ("--filter", "colour=red"), ("--tz", "Mars/Base"), ("--currency", "euro"), ("--time", "noon"),
                  ("--from", "monday"), ("--frobnicate",)):  # fmt: skip
        assert terminal.code(*wrong) == 2, wrong
    assert terminal.code(*ASKED, TURNOUT_DATABASE_URL="postgresql://x@127.0.0.1:1/x") == 3
    assert terminal.code(*ASKED, TURNOUT_TRACKER_PORT="0") == 78
