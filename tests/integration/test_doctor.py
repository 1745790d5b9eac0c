"""`turnout doctor`."""

import json

import pytest

from tracker.cli import books as cli
from tracker.settings import Settings

pytestmark = pytest.mark.integration


def examine(dsn, redis_url, tmp_path, capsys) -> tuple[int, dict[str, dict[str, str]]]:
    code = cli.doctor(Settings(database_url=dsn, redis_url=redis_url, data_dir=str(tmp_path), _env_file=None), as_json=True)
    return code, {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}


def test_every_check_has_a_result_and_bad_ones_say_what_to_change(dsn, redis_url, tmp_path, capsys):
    _, checks = examine(dsn, redis_url, tmp_path, capsys)
    assert {"PostgreSQL version", "PostgreSQL fsync", "Redis version", "partitions ahead", "clock against Redis"} <= checks.keys()
    assert checks["partitions ahead"]["result"] == "ok"
    assert all(check["result"] == "ok" or check["advice"] for check in checks.values())


def test_servers_that_are_away_are_failures_and_not_errors(tmp_path, capsys):
    code, checks = examine("postgresql://x@127.0.0.1:1/x", "redis://127.0.0.1:1", tmp_path, capsys)
    assert (code, checks["PostgreSQL"]["result"], checks["Redis"]["result"]) == (1, "fail", "fail")
