"""Old hosts of three platforms that are ours now: links lead to the shop, orders are paid, and what is missing can be mapped."""

import pytest

from tests.e2e.programme import make_programme
from tests.wait import wait_until_sync

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
WITHIN_S = 60
# Platform; the old ids to map; a link; where it leads, below the shop; what is recorded of it.
PLATFORMS = [
    (
        "tune",
        {"partner": ("42", "partner"), "offer": ("7", "campaign")},
        "/aff_c?offer_id=7&aff_id=42&aff_sub=news&aff_sub2=a%20b&aff_click_id=R1",
        "",
        {"sub1": "news", "sub2": "a b", "ref": "R1"},
    ),
    (
        "everflow",
        {"partner": ("ABC123", "partner"), "offer": ("XYZ456", "campaign")},
        "/ABC123/XYZ456/?sub1=news&source_id=9&url=https%3A%2F%2F{slug}.example%2Fshoes%3Fsize%3D44",
        "shoes?size=44",
        {"sub1": "news", "sub6": "9"},
    ),
    (
        "cake",
        {"partner": ("31", "partner"), "creative": ("700", "campaign")},
        "/?a=31&c=700&s1=news&s2=x",
        "",
        {"sub1": "news", "sub2": "x"},
    ),
]


@pytest.fixture
def programme(deployment):
    made = make_programme(deployment)
    yield made
    made.archive()


@pytest.mark.parametrize(("platform", "ids", "link", "landing", "labels"), PLATFORMS, ids=[row[0] for row in PLATFORMS])
def test_an_old_host_goes_on_working(programme, platform, ids, link, landing, labels):
    turnout, slug = programme.turnout, programme.slug
    host, link = f"go.{slug}.example", link.format(slug=slug)
    turnout.api("/tracking-hosts", {"host": host, "platform": platform, "source": slug, "fallback_url": f"{programme.shop}lost"})
    for kind, (number, target) in ids.items():
        if kind != "partner":
            turnout.api("/old-ids", {"source": slug, "kind": kind, "source_id": number, target: slug})
    lost = f"{programme.shop}lost"
    wait_until_sync(lambda: turnout.visit(link, method="HEAD", Host=host)[1]["Location"] == lost, within_s=WITHIN_S, because="it is live")

    _, headers, _ = turnout.visit(link, Host=host)
    early = headers["X-Click-Id"]
    wait_until_sync(lambda: turnout.has_click(early), within_s=WITHIN_S, because="the orphan is stored")
    assert turnout.api(f"/clicks/{early}")["partner"] is None
    status, told = turnout.postback(token=programme.token, click_id=early, txid=f"{slug}-early", amount="10.00")
    assert (status, told["status"]) == (202, "parked")
    (heap,) = [heap for heap in turnout.api("/orphans?days=2&limit=1000")["items"] if heap["source"] == slug]
    number = ids["partner"][0]
    assert (heap["missing"], heap["partner"], heap["platform"], heap["clicks"]) == ("partner", number, platform, 1)

    mapped = turnout.api("/orphans/map", {"source": slug, "kind": "partner", "source_id": number, "partner": slug})
    assert mapped["attributed"]["clicks"] == 2  # the HEAD too, which counts for nobody
    wait_until_sync(lambda: is_paid(turnout, slug, "early"), within_s=WITHIN_S, because="the order is paid")

    wait_until_sync(lambda: turnout.visit(link, method="HEAD", Host=host)[1]["Location"] != lost, within_s=WITHIN_S, because="mapped")
    status, headers, _ = turnout.visit(link, Host=host)
    click = headers["X-Click-Id"]
    mark = "&" if "?" in landing else "?"
    assert (status, headers["Location"]) == (302, f"{programme.shop}{landing}{mark}click_id={click}")
    shown = wait_until_sync(lambda: turnout.has_click(click) and turnout.api(f"/clicks/{click}"), within_s=WITHIN_S, because="stored")
    assert (shown["partner"], shown["campaign"], shown["platform"]) == (slug, slug, platform)
    assert {name: shown[name] for name in labels} == labels
    status, told = turnout.postback(token=programme.token, click_id=click, txid=f"{slug}-late", amount="20.00")
    assert (status, told["status"]) == (200, "attributed")
    wait_until_sync(lambda: [row["clicks"] for row in programme.reported("partner")] == [2], within_s=WITHIN_S, because="reported")
    (row,) = programme.reported("partner")
    assert (row["conversions"], row["revenue"], row["payout"]) == (2, "30.00", "3.00")


def is_paid(turnout, slug, name):
    """Whether the partner has a conversion of that order."""
    return any(one["txid"] == f"{slug}-{name}" for one in turnout.api(f"/conversions?partner={slug}")["items"])
