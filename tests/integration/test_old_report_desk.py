"""What operators do with old hosts' reports: have refused ones read again, look for those of a host; nobody is shown a secret."""

import asyncio
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from tests.integration.old_hosts import OldHosts
from tracker.adapters import postgres_old_report_desk
from tracker.adapters.postgres_old_report_desk import forget
from tracker.cli.main import app

pytestmark = pytest.mark.integration
HOST = "/api/v1/tracking-hosts/old.example"
RETRY = "/api/v1/old-reports/retry"
SALE = "old.example/aff_lsr?transaction_id=102f&adv_sub={}&amount=5&security_token={}"


@pytest.fixture
async def old(api, shop, dsn):
    opened = OldHosts.opened(api, shop, dsn)
    for path, body in {"partners": {"slug": "bob"}, "goals": {"slug": "sale", "campaign": "shoes"}}.items():
        await opened.make(path, **body)
    yield opened
    opened.sink.close()


async def states(old):
    return [row["state"] for row in await old.shop.database.fetch("SELECT state FROM old_reports ORDER BY postback_id")]


async def test_a_wrong_token_in_the_settings_costs_a_correction_and_no_report(old):
    await old.host("old.example", "tune", tokens=["mistyped"])
    await old.old_click("tune", "102f")
    report = await old.sends(SALE.format("O-1", "right"))
    other = await old.sends(SALE.format("O-2", "right").replace("old.example", "other.example"))
    assert await states(old) == ["refused", "refused"]
    changed = await old.api.admin("PATCH", HOST, {"settings": {"reports": {"tokens": ["right"]}}})
    assert changed.status_code == 200, changed.text
    made = await old.api.admin("POST", RETRY, {"host": "OLD.example:443", "reason": "mistyped"})
    assert made.json() == {"retried": 1, "is_complete": True, "next_cursor": None}
    assert await states(old) == ["waiting", "refused"]
    await old.retry()
    assert (await old.row(report))["state"] == "read"
    found = await old.conversion(report)
    assert (found["txid"], found["cents"], found["partner"]) == ("O-1", 500, "ada")
    (event,) = await old.shop.database.fetch("SELECT actor, entity, entity_id, reason, after FROM events WHERE action = 'retry'")
    assert event.pop("after")["retried"] == 1
    assert event == {"actor": "admin.key", "entity": "old_report", "entity_id": "old.example", "reason": "mistyped"}
    again = await old.api.admin("POST", RETRY, {"postback_id": str(report.uuid)})
    assert (again.status_code, again.json()["code"]) == (409, "not_refused")
    assert (await old.api.admin("POST", RETRY, {"postback_id": str(other.uuid)})).json()["retried"] == 1
    assert (await old.row(other))["state"] == "waiting"


async def test_reports_are_read_again_in_rounds_each_of_them_once(old, dsn, monkeypatch):
    monkeypatch.setattr("tracker.adapters.postgres_old_report_desk.RETRY_ROUND", 2)
    monkeypatch.setattr("tracker.old_reports.RETRY_ROUND", 2)
    await old.host("old.example", "tune", statuses={"void": "ignored"})
    for number in range(3):
        await old.sends(f"old.example/nothing/{number}", platform="tune")
    await old.shop.execute("UPDATE old_reports SET state = 'ignored' WHERE target = '/nothing/2'")
    first = (await old.api.admin("POST", RETRY, {"since": "2020-01-01"})).json()
    assert (first["retried"], first["is_complete"]) == (2, False)
    await old.retry()
    assert await states(old) == ["refused", "refused", "ignored"]
    second = (await old.api.admin("POST", RETRY, {"cursor": first["next_cursor"]})).json()
    assert second == {"retried": 1, "is_complete": True, "next_cursor": None}
    await old.retry()

    def turnout(*words):
        return CliRunner().invoke(app, ["old-report", "retry", *words], env={"TURNOUT_DATABASE_URL": dsn})

    done = await asyncio.to_thread(turnout, "--host", "old.example", "--since", "2020-01-01", "--reason", "again")
    assert done.output == "3 reports are read again by turnout work conversions\n"
    assert await states(old) == ["waiting"] * 3
    none = await asyncio.to_thread(turnout, "--since", "2099-01-01", "--json")
    assert none.stdout.replace(" ", "").replace("\n", "") == '{"retried":0}'


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"postback_id": "x"}, 422, "invalid_postback_id"),
        ({"postback_id": str(uuid4())}, 404, "not_found"),
        ({"postback_id": str(uuid4()), "host": "a.example"}, 422, "invalid_postback_id"),
        ({"since": "yesterday"}, 422, "invalid_since"),
        ({"cursor": 7}, 422, "invalid_cursor"),
        ({"host": 7}, 422, "invalid_host"),
        ({"colour": "red"}, 422, "unknown_field"),
        ([], 422, "invalid_body"),
    ],
)
async def test_what_cannot_be_read_again_is_said(api, body, status, code):
    answer = await api.admin("POST", RETRY, body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_reports_are_found_by_their_host_however_it_is_written(old):
    await old.host("old.example", "tune")
    await old.sends(SALE.format("O-1", "x").replace("old.example", "OLD.example:80"))
    for asked in ("old.example", "Old.Example.", "old.example:443"):
        assert len((await old.api.admin("GET", f"/api/v1/old-reports?host={asked}")).json()["items"]) == 1, asked


async def test_no_secret_is_shown_in_what_a_report_is_read_as(old):
    await old.host("old.example", "linktrust")
    report = await old.sends("old.example/pixel.track?CID=1&MerchantReferenceID=O-1&my_secret=hunter22", "pixel", "linktrust")
    shown = await old.api.admin("GET", f"/api/v1/old-reports/{report.uuid}")
    assert shown.json()["reading"]["sub_ids"]["my_secret"] == "***"
    assert "hunter22" not in shown.text


async def test_the_keeper_forgets_reports_in_rounds(old, monkeypatch):
    monkeypatch.setattr(postgres_old_report_desk, "FORGET_ROUND", 2)
    sent = [await old.sends(f"old.example/nothing/{number}") for number in range(5)]
    await old.shop.execute("UPDATE old_reports SET received_at = now() - interval '181 days' WHERE postback_id <> $1", sent[0].uuid)
    assert await old.shop.database.transaction(forget) == 4
    assert await states(old) == ["refused"]
