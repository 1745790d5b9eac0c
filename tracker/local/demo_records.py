"""From a planned visit to the record that the redirector would have made of it."""

import hashlib

from tracker import wire
from tracker.adapters.lmdb_routes import RouteTable
from tracker.adapters.user_agents import is_bot, parse
from tracker.domain import addresses, click_id, resolve
from tracker.domain.destination import destination, read_labels
from tracker.local.demo_plan import Visit

RULE_VERSION = 0  # of the verdict: no rule judged these, the plan did


def record_of(table: RouteTable, visit: Visit, ip_mode: str) -> wire.Record:
    """The record of `visit`, resolved by `table` as it is now. The same for the same visit, table and IP mode."""
    found = resolve.resolve(table, visit.host.encode(), visit.target.encode(), visit.at_us // 1000)
    labels = read_labels(visit.target.encode())
    text_id = click_id.to_text(visit.click_id)
    verdict = _verdict(visit)
    return wire.Record(
        click_id=visit.click_id,
        received_at_us=visit.at_us,
        kind="click",
        method=visit.method,
        host=visit.host.encode(),
        target=visit.target.encode(),
        link_id=found.link_id or None,
        campaign_id=found.campaign_id or None,
        partner_id=found.partner_id or None,
        advertiser_id=found.advertiser_id or None,
        creative=found.creative,
        outcome=found.outcome,
        verdict=verdict,
        rule_version=RULE_VERSION,
        counted=verdict == "valid",
        destination=destination(found, labels, text_id, lambda: _visitor(visit)),
        ip=addresses.kept(visit.address, ip_mode, _secret(table), _day(visit)),
        country=visit.country,
        network=addresses.kept_network(visit.address, ip_mode),
        user_agent=visit.user_agent.encode(),
        referrer=visit.referrer.encode(),
        language=visit.language.encode(),
        subs=labels.subs,
        ref=labels.ref,
        visitor_key=_visitor_key(table, visit),
        platform=found.platform or "",
    )


def _verdict(visit: Visit) -> str:
    if visit.method == "HEAD":
        return "head"
    if visit.is_prefetch:
        return "prefetch"
    return "bot" if is_bot(visit.user_agent) else "valid"


def _visitor(visit: Visit) -> dict[str, bytes]:
    agent = parse(visit.user_agent)
    return {
        "country": visit.country.encode(),
        "device": agent.device.encode(),
        "os": agent.os.encode(),
        "browser": agent.browser.encode(),
        "language": visit.language.encode(),
        "timestamp": b"%d" % (visit.at_us // 1_000_000),
        "random": visit.click_id[-4:].hex().encode(),
    }


def _secret(table: RouteTable) -> bytes:
    return table.installation().visitor_secret.encode() or b"-"


def _day(visit: Visit) -> str:
    return click_id.moment(visit.click_id).strftime("%Y-%m-%d")


def _visitor_key(table: RouteTable, visit: Visit) -> bytes:
    key = hashlib.blake2b(visit.address.encode(), key=_secret(table)[:64], digest_size=16, salt=_day(visit).encode())
    key.update(b"\0" + visit.user_agent.encode())
    return key.digest()
