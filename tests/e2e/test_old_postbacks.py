"""TUNE's clicks are imported, its store's postback comes to the old host as it always did, and the partner is paid once."""

import json

import pytest

from tests.cluster import give_cluster
from tests.e2e.conftest import named
from tests.e2e.installation import Installation
from tests.e2e.programme import make_programme
from tests.wait import wait_until_sync

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
WITHIN_S = 60
CLICK = "102d41aa00b54c7e91f2a36c7788de"
EXPORT = """Stat.ad_id,Stat.session_datetime,Stat.affiliate_id,Stat.offer_id,Stat.affiliate_info1
{click},{at},42,7,news
10220766184662150819,{at},42,7,
10220766184662150820,{at},,7,
"""


@pytest.fixture(scope="module")
def installation(request, tmp_path_factory):
    """A `turnout up` whose command line can be used too: exports are imported by it."""
    if named(request.config) is not None:
        pytest.skip("imports a file by the command line: not on the deployment that --base-url names")
    directory = tmp_path_factory.mktemp("up") / "data"
    give_cluster(directory)
    built = Installation(directory)
    try:
        built.up()
        yield built
        built.down()
    finally:
        built.close()


@pytest.fixture
def programme(installation):
    made = make_programme(installation.deployment())
    yield made
    made.archive()


def test_a_postback_for_a_click_of_before_the_move_pays_its_partner_once(installation, programme, tmp_path):
    turnout, slug = programme.turnout, programme.slug
    host = f"go.{slug}.example"
    turnout.api("/tracking-hosts", {"host": host, "platform": "tune", "source": slug, "advertiser": slug})
    turnout.api("/old-ids", {"source": slug, "kind": "offer", "source_id": "7", "campaign": slug})
    turnout.api("/old-ids", {"source": slug, "kind": "partner", "source_id": "42", "partner": slug})
    export = tmp_path / "clicks.csv"
    export.write_text(EXPORT.format(click=CLICK, at=f"{programme.began_at:%Y-%m-%d %H:%M:%S}"))
    for imported, there in ((3, 0), (0, 3)):
        done = installation.turnout("old-clicks", "import", str(export), "--host", host, "--time-zone", "UTC", "--json")
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert (told["imported"], told["already_there"], told["refused"], told["unknown"]) == (imported, there, 0, 1), told

    impression = "/aff_i?offer_id=7&aff_id=42"
    is_gif = lambda: turnout.visit(impression, method="HEAD", Host=host)[1]["Content-Type"] == "image/gif"  # noqa: E731
    wait_until_sync(is_gif, within_s=WITHIN_S, because="the old host is published")
    postback = f"/aff_lsr?offer_id=7&transaction_id={CLICK}&adv_sub=O-1&amount=20.00&status=approved"
    for _ in range(2):
        assert answer_of(turnout, postback, host) == (200, "text/html; charset=UTF-8", b"success=true;")
    (order,) = wait_until_sync(lambda: conversions(turnout, slug), within_s=WITHIN_S, because="the order is stored")
    assert (order["txid"], order["status"], order["partner"], order["campaign"]) == ("O-1", "approved", slug, slug)
    assert (order["amount"], order["currency"], order["payout"]) == ("20.00", "EUR", "2.00")

    last = postback.replace("O-1", "O-2").replace(CLICK, "10220766184662150819")
    assert answer_of(turnout, last, host)[0] == 200
    orders = wait_until_sync(
        lambda: len(found := conversions(turnout, slug)) >= 2 and found, within_s=WITHIN_S, because="what was sent last is stored"
    )
    assert sorted(order["txid"] for order in orders) == ["O-1", "O-2"]


def answer_of(turnout, path, host):
    status, headers, body = turnout.visit(path, Host=host)
    return status, headers["Content-Type"], body


def conversions(turnout, slug):
    return turnout.api(f"/conversions?partner={slug}")["items"]
