"""The `turnout` command as people run it: a process, real PostgreSQL, exit codes, one-line errors."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import launcher

pytestmark = pytest.mark.integration


class Turnout:
    """Runs `python -m tracker …` with its own data directory and database."""

    def __init__(self, dsn: str, directory: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TURNOUT_")}
        self.environment = kept | {"TURNOUT_DATABASE_URL": dsn, "TURNOUT_DATA_DIR": str(directory / "data")}
        self.directory = directory

    def run(self, *arguments: str, stdin: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        return launcher.run(["-m", "tracker", *arguments], env=self.environment | environment, cwd=self.directory, input=stdin, timeout=60)

    def json(self, *arguments: str) -> Any:
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def turnout(dsn: str, tmp_path: Path) -> Turnout:
    return Turnout(dsn, tmp_path)


def test_a_programme_is_set_up_on_the_command_line(turnout: Turnout) -> None:
    assert turnout.json("db", "current")["current"] == turnout.json("db", "current")["newest"]
    shop = turnout.json("advertiser", "add", "shop", "--name", "Shop", "--currency", "EUR", "--domains", "shop.example,b.example")
    assert shop["postback_token"]
    assert shop["domains"] == ["shop.example", "b.example"]
    turnout.json("campaign", "add", "shoes", "--advertiser", "shop", "--destination-url", "https://shop.example/", "--payout", "10%")
    assert turnout.json("campaign", "edit", "shoes", "--payout", "5.00 USD")["payout"] == {
        "type": "fixed",
        "amount": "5.00",
        "currency": "USD",
    }
    turnout.json("partner", "add", "--slug", "ada", "--name", "Ada")
    link = turnout.json("link", "add", "--partner", "ada", "--campaign", "shoes")
    assert link["url"].endswith(f"/c/{link['slug']}")
    assert turnout.json("link", "list", "--filter", "partner=ada")["items"] == [link]
    assert turnout.json("link", "show", link["slug"]) == link
    assert link["slug"] in turnout.run("link", "list").stdout
    assert turnout.json("coupon", "add", "TEN", "--partner", "ada", "--campaign", "shoes")["code"] == "TEN"
    assert turnout.json("goal", "add", "lead", "--campaign", "shoes")["slug"] == "lead"
    assert turnout.json("alias", "add", "https://old.example/x", "--link", link["slug"])["host"] == "old.example"
    assert turnout.json("report", "--group-by", "partner")["rows"] == []
    key = turnout.json("key", "create", "--role", "viewer", "--name", "dashboard")
    assert turnout.run("key", "revoke", str(key["id"])).returncode == 0
    assert [row["revoked_at"] is None for row in turnout.json("key", "list")["items"]] == [False]


@pytest.mark.parametrize(
    ("arguments", "environment", "code"),
    [
        (("link", "add", "--partner", "nobody", "--campaign", "none"), {}, 2),
        (("link", "add", "BAD SLUG"), {}, 2),
        (("link", "frobnicate"), {}, 2),
        (("work", "nonsense"), {}, 2),
        (("key", "create", "--role", "king"), {}, 2),
        (("report", "--group-by", "colour"), {}, 2),
        (("report", "--from", "9999-12-31", "--to", "9999-12-31"), {}, 2),
        (("report", "--filter", "partner=\udcff"), {}, 2),
        (("link", "show", "\udcff"), {}, 2),
        (("link", "list", "--filter", "partner=\udcff"), {}, 2),
        (("link", "add", "--partner", "ada", "--campaign", "shoes", "--name", "\udcff"), {}, 2),
        (("key", "create", "--role", "viewer", "--name", "\udcff"), {}, 2),
        (("advertiser", "rotate-token", "nobody"), {}, 2),
        (("advertiser", "signing-secret", "nobody", "--kind", "hmac"), {}, 2),
        (("advertiser", "list-signing-secrets", "nobody"), {}, 2),
        (("advertiser", "signing-secret", "nobody", "--kind", "paypal"), {}, 2),
        (("advertiser", "revoke-signing-secret", "nobody", "--kind", "hmac", "--slot", "1"), {}, 2),
        (("link", "import", "missing.csv"), {}, 2),
        (("link", "list"), {"TURNOUT_DATABASE_URL": "postgresql://x@127.0.0.1:1/x"}, 3),
        (("db", "upgrade"), {"TURNOUT_DATABASE_URL": "postgresql://x@127.0.0.1:1/x"}, 3),
        (("link", "list"), {"TURNOUT_TRACKER_PORT": "0"}, 78),
        (("serve", "tracker"), {"TURNOUT_HOST": "192.0.2.1"}, 78),
    ],
)
def test_errors_are_one_line_and_a_code(turnout: Turnout, arguments: tuple[str, ...], environment: dict[str, str], code: int) -> None:
    done = turnout.run(*arguments, **environment)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    if not done.stderr.startswith("Usage"):
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1


def test_a_lost_token_is_replaced(turnout: Turnout) -> None:
    first = turnout.json("advertiser", "add", "shop", "--currency", "EUR")["postback_token"]
    done = turnout.run("advertiser", "rotate-token", "shop")
    assert done.stdout.startswith("tok_")
    assert done.stdout.strip() != first
    assert "revoke-token shop --slot 1" in done.stderr
    assert [token["slot"] for token in turnout.json("advertiser", "revoke-token", "shop", "--slot", "1")["tokens"]] == [2]
    assert turnout.run("advertiser", "revoke-token", "shop", "--slot", "2").returncode == 2


def test_signing_secrets_are_made_read_and_ended(turnout: Turnout) -> None:
    turnout.json("advertiser", "add", "shop", "--currency", "EUR")
    command, own = ("advertiser", "signing-secret", "shop", "--kind"), "the-shops-own-secret"
    listing = ("advertiser", "list-signing-secrets", "shop")
    assert turnout.run(*listing).stderr == "no signing secrets\n"
    made = turnout.run(*command, "hmac")
    assert re.fullmatch(r"hs_[0-9a-f]{40}\n", made.stdout)
    assert "revoke-signing-secret shop --kind hmac --slot 1" in turnout.run(*command, "hmac").stderr
    told = turnout.run(*command, "stripe", stdin=f"{own}\r\n")
    assert (told.returncode, own in told.stdout + told.stderr) == (0, False)
    assert [(one["kind"], one["slot"]) for one in json.loads(turnout.run(*command, "stripe", "--json", stdin=own).stdout)["secrets"]] == [
        ("hmac", 1), ("hmac", 2), ("stripe", 1), ("stripe", 2),
    ]  # fmt: skip
    listed = turnout.json(*listing)
    assert [sorted(one) for one in listed["secrets"]] == [["created_at", "kind", "slot"]] * 4
    shown = turnout.run(*listing).stdout
    assert [line.split()[:2] for line in shown.splitlines()[1:]] == [["hmac", "1"], ["hmac", "2"], ["stripe", "1"], ["stripe", "2"]]
    assert (own in shown, made.stdout.strip() in shown) == (False, False)
    assert turnout.run(*command, "stripe", stdin=own).returncode == 2
    assert turnout.run(*command, "shopify", stdin="").returncode == 2
    ended = turnout.run("advertiser", "revoke-signing-secret", "shop", "--kind", "stripe", "--slot", "1")
    assert ended.stdout == "secret 1 of the kind stripe of shop is revoked\n"


def test_links_are_imported_all_or_none(turnout: Turnout) -> None:
    turnout.json("advertiser", "add", "shop", "--currency", "EUR")
    turnout.json("campaign", "add", "shoes", "--advertiser", "shop", "--destination-url", "https://shop.example/")
    turnout.json("partner", "add", "ada")
    file = turnout.directory / "links.csv"
    good = "".join(f"s{n},ada,shoes,https://shop.example/{n}\n" for n in range(3000))
    file.write_text("slug,partner,campaign,destination_url\n" + good + "s1,ada,shoes,\nx,nobody,shoes,\ny,ada,shoes,ftp://x/\n")
    bad = turnout.run("link", "import", str(file))
    assert bad.returncode == 1
    assert [line.split(":")[0] for line in bad.stderr.splitlines()[:3]] == ["line 3002", "line 3003", "line 3004"]
    assert turnout.json("link", "list")["items"] == []
    skipped = turnout.run("link", "import", str(file), "--skip-bad")
    assert "3000 links written, 3 rows bad" in skipped.stdout
    assert turnout.json("link", "show", "s2999")["destination_url"] == "https://shop.example/2999"


@pytest.mark.parametrize("command", [("serve", "redirector", "--help"), ("work", "--help"), ("--help",)])
def test_the_command_line_itself_loads_no_driver(turnout: Turnout, command: tuple[str, ...]) -> None:
    program = (
        "import sys; sys.argv = ['turnout', *sys.argv[1:]]\n"
        "from tracker.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "sys.exit(','.join({'asyncpg', 'fastapi', 'sqlalchemy', 'uvicorn', 'redis'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program, *command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
