"""Settings: every one documented, bad values refused in one sentence, unknown names warned of."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from tracker.errors import BadConfiguration
from tracker.settings import PREFIX, Settings, load, parse_bytes, parse_duration

README = Path(__file__).parents[2] / "README.md"


def default_text(field):
    value = field.default
    if value is None or value in ("", ()):
        return "empty"
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, timedelta):
        return f"{int(value.total_seconds() // 3600)}h"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value)


def table():
    return [
        f"| `{PREFIX}{name.upper()}` | `{default_text(field)}` | {field.description} |" for name, field in Settings.model_fields.items()
    ]


def test_the_table_of_settings_in_the_readme_is_true():
    rows = re.findall(r"^\| `TURNOUT_.*$", README.read_text(), re.MULTILINE)
    assert rows == table(), "the table should read:\n" + "\n".join(table())


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("REDIRECTOR_PORT", "0", "TURNOUT_REDIRECTOR_PORT"),
        ("REDIRECTOR_PORT", "eighty", "TURNOUT_REDIRECTOR_PORT"),
        ("ACK", "maybe", "journal-sync"),
        ("JOURNAL_KEEP", "soon", "24h"),
        ("JOURNAL_MAX_BYTES", "lots", "10GB"),
        ("TRUSTED_PROXIES", "10.0.0.0/99", "networks"),
        ("FALLBACK_URL", "javascript:alert(1)", "http"),
        ("TRACKER_PORT", "8080", "must differ"),
        ("NODE", "n" * 65, "64 bytes"),
        ("FALLBACK_URL", "https://x.example/{bad}", "{bad}"),
        ("DATABASE_URL", "mysql://u:secretword@h/x", "postgresql://"),
        ("DATABASE_URL", "postgresql://u:secretword@h:bad/x", "TURNOUT_DATABASE_URL"),
        ("REDIS_URL", "ftp://secretword", "redis://"),
        ("PAYOUT_DEBTOR_IBAN", "DE00secretword", "TURNOUT_PAYOUT_DEBTOR_IBAN"),
        ("PAYOUT_DEBTOR_BIC", "COBADE", "TURNOUT_PAYOUT_DEBTOR_BIC"),
    ],
)
def test_a_bad_value_is_one_sentence_that_says_what_is_allowed(monkeypatch, name, value, says):
    monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(BadConfiguration, match=re.escape(says)) as caught:
        load()
    assert "\n" not in str(caught.value)
    assert "secretword" not in str(caught.value)


def test_an_unknown_name_is_warned_of(monkeypatch):
    monkeypatch.setenv("TURNOUT_REDRECTOR_PORT", "1")
    with pytest.warns(UserWarning, match="TURNOUT_REDRECTOR_PORT"):
        load()


def test_an_empty_value_is_the_default(monkeypatch):
    monkeypatch.setenv("TURNOUT_REDIS_URL", "")
    assert load().redis_url is None


def test_secrets_do_not_show(monkeypatch):
    monkeypatch.setenv("TURNOUT_DATABASE_URL", "postgresql://u:verysecret@db/x")
    assert "verysecret" not in repr(load())


@pytest.mark.parametrize(("text", "seconds"), [("24h", 86400), ("90s", 90), ("500ms", 0.5), ("7d", 604800), ("3", 3), (5, 5)])
def test_durations(text, seconds):
    assert parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize(("text", "size"), [("10GB", 10 * 1024**3), ("512MB", 512 * 1024**2), ("64k", 65536), ("7", 7)])
def test_bytes(text, size):
    assert parse_bytes(text) == size
