"""Laws of old hosts: whatever a visitor sends to one, nothing raises, what goes back is a header, and the record can be stored."""

import re
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from redirector.handler import Handler
from redirector.limits import FloodLimiter
from redirector.request import Request
from tests.thorough import examples
from tracker.adapters.countries import CountryLookup
from tracker.adapters.lmdb_route_store import RouteStore
from tracker.adapters.lmdb_routes import RouteTable
from tracker.domain import routes
from tracker.domain.explanation import explanation
from tracker.domain.old_reports import read_report
from tracker.platforms.loader import Shelf, load
from tracker.platforms.platforms import split_url
from tracker.wire import RECORD_MAX_BYTES, encode_frame, fit

SOURCES = load().sources
DAMAGED_CASES = 20_000  # deterministic, beside Hypothesis' own
LOCATION = re.compile(rb"https?://[\x21-\x7e]+")
SHOP_HOSTS = (b"shop.example", b"fallback.example", b"old.example")
TARGETS = [split_url(one.url)[2] for source in SOURCES.values() for one in source.profile.example]
CHROME = b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"


def published():
    yield routes.PartnerRoute(partner_id=1, slug="blog")
    yield routes.CampaignRoute(
        campaign_id=1, slug="spring", advertiser_id=1, destination="https://shop.example/", domains=("shop.example",)
    )
    ids = [("partner", 1, None), ("offer", None, 1)]
    known = {one.partner_id for source in SOURCES.values() for one in source.profile.example} | {"", "42", "1"}
    offers = {one.offer_id for source in SOURCES.values() for one in source.profile.example} | {"", "7", "1"}
    number = 0
    for kind, partner, campaign in ids:
        for source_id in sorted(filter(lambda found: found is not None, known if kind == "partner" else offers)):
            number += 1
            yield routes.OldIdRoute(
                old_id=number, source="all", kind=kind, source_id=source_id, partner_id=partner, campaign_id=campaign
            )  # fmt: skip
    for number, name in enumerate(SOURCES):
        state = {"state": "shadow", "forward_to": "https://old.example"} if number % 7 == 0 else {}
        yield routes.HostRoute(
            host_id=number, host=f"{name}.example", platform=name, source="all", fallback="https://fallback.example/", **state
        )


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("old") / "routes" / "routes.mdb"
    store = RouteStore(path)
    store.apply(list(published()), [], None)
    store.close()
    table = RouteTable(path, platforms=Shelf())
    table.refresh()
    yield table
    table.close()


@pytest.fixture(scope="module")
def handler(table):
    return Handler(table, CountryLookup(), FloodLimiter(0), ip_mode="truncate", trusted=[])


def check(handler, table, name, target):
    request = Request(b"GET", target, "203.0.113.9")
    request.read_headers([(b"host", f"{name}.example".encode()), (b"user-agent", CHROME)])
    answer = handler.handle(request)
    if answer.outcome == "anchor":
        assert answer.record is None
        return answer
    if answer.told is not None:
        assert answer.told.report.target == target
        assert read_report(table.source_of(table.host(f"{name}.example")), answer.told.report).kind == answer.outcome
        assert (answer.record, b"\n" in answer.cookie.encode() + answer.location) == (None, False)
        assert bool(answer.location) is (answer.status == 302) is bool(answer.told.location)
        return answer
    assert answer.record is not None
    assert LOCATION.fullmatch(answer.location) or (answer.status == 200 and not answer.location), answer
    if answer.location:
        host = answer.location.split(b"/")[2].rpartition(b"@")[2]
        assert host in SHOP_HOSTS or host.endswith(b".shop.example"), answer.location
    assert len(encode_frame(1, [fit(answer.record)])) < RECORD_MAX_BYTES + 64
    assert all(name and isinstance(value, bytes) for name, value in answer.record.extra.items())
    assert (answer.outcome == "ok") == (answer.record.partner_id is not None and answer.record.campaign_id is not None)
    return answer


def test_examples_of_every_platform_with_known_ids_lead_to_the_shop(handler, table):
    """Clicks that name what the map knows are somebody's; the rest falls back, and says what is missing."""
    found = dict.fromkeys(SOURCES, 0)
    for name, source in SOURCES.items():
        for one in source.profile.example:
            answer = check(handler, table, name, split_url(one.url)[2])
            found[name] += answer.outcome == "ok"
    without = sorted(name for name, count in found.items() if not count)
    keyed = {name for name, source in SOURCES.items() if all(one.link_key for one in source.profile.example if one.kind == "click")}
    assert set(without) <= keyed | {"adcell"}, without  # keys are not mapped here; Adcell is only a pixel and a landing page


def test_damaged_links_never_raise(handler, table):
    random, names = Random(7), list(SOURCES)
    for number in range(DAMAGED_CASES):
        target = bytearray(random.choice(TARGETS))
        for _ in range(random.randrange(1, 5)):
            at = random.randrange(len(target) + 1)
            target[at : at + random.randrange(3)] = random.choice((b"", b"%", b"&", b"%00", b"\xff", b"#", b"://", b"{x}", b"\r\n", b"="))
        check(handler, table, names[number % len(names)], b"/" + bytes(target))


@settings(max_examples=examples(500, 1500), deadline=None)
@given(st.sampled_from(sorted(SOURCES)), st.binary(max_size=300))
@example("tune", b"aff_c?aff_id=42&offer_id=7&url=https://shop.example@evil.example/")
@example("tune", b"aff_c?aff_id=42&offer_id=7&url=https://shop.example%00.evil.example/")
@example("postaffiliatepro", b"x?turnout_anchor=a_aid%3D%25%00%0d%0a")
def test_no_bytes_raise(handler, table, name, tail):
    check(handler, table, name, b"/" + tail)
    text = f"https://{name}.example/{tail.decode('latin-1')}"
    assert explanation(table, text, 0).steps
