"""From a link to the books over HTTP: on a `turnout up` of its own, or on the deployment that `--base-url` names."""

import pytest

from tests.e2e.programme import make_programme
from tests.wait import wait_until_sync

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
WITHIN_S = 60
MISSING = ("unaccounted", "unrecorded")


@pytest.fixture
def programme(deployment):
    made = make_programme(deployment)
    yield made
    made.archive()


def test_link_click_postback_its_repeat_report_and_audit(programme):
    turnout = programme.turnout
    before = turnout.api("/audit")
    programme.wait_until_live()
    first, destination = programme.click("?sub1=a")
    second, _ = programme.click("?sub1=b")
    assert destination == f"{programme.shop}?click_id={first}"
    assert first != second
    for click in (first, second):
        wait_until_sync(lambda click=click: turnout.has_click(click), within_s=WITHIN_S, because="the click is stored")

    order = {"token": programme.token, "click_id": first, "txid": f"{programme.slug}-1", "amount": "49.90", "currency": "EUR"}
    (status, told), (again, repeated) = turnout.postback(**order), turnout.postback(**order)
    assert (status, told["status"], told["duplicate"]) == (200, "attributed", False)
    assert (again, repeated["duplicate"], repeated["conversion_id"]) == (200, True, told["conversion_id"])
    status, refused = turnout.postback(**order | {"token": "wrong"})
    assert (status, refused["code"]) == (401, "bad_token")
    conversion = turnout.api(f"/conversions/{told['conversion_id']}")
    assert (conversion["click_id"], conversion["partner"], conversion["payout"]) == (first, programme.slug, "4.99")

    wait_until_sync(lambda: [row["clicks"] for row in programme.reported("partner")] == [2], within_s=WITHIN_S, because="reported")
    (row,) = programme.reported("partner")
    assert (row["partner"], row["conversions"], row["revenue"], row["payout"]) == (programme.slug, 1, "49.90", "4.99")
    wait_until_sync(lambda: books_are_kept(turnout, before), within_s=WITHIN_S, because="the books know it and miss nothing new")


def books_are_kept(turnout, before):
    """On a deployment others click too: it may never be still, and what it had lost before is not this walk's."""
    after = turnout.api("/audit")
    if after["state"] == "unknown":
        return False
    stored, missing = after["stored"] - (before["stored"] or 0), {name: after[name] - (before[name] or 0) for name in MISSING}
    return stored >= 2 and max(missing.values()) <= 0
