"""From a planned visit to the record that the redirector would have made of it."""

from tracker import wire
from tracker.adapters.lmdb_routes import RouteTable
from tracker.click_record import Visitor, click_record, secret_of, verdict_of
from tracker.domain import click_id, resolve
from tracker.domain.destination import destination, read_labels
from tracker.local.demo_plan import Visit

RULE_VERSION = 0  # of the verdict: no rule judged these, the plan did


def record_of(table: RouteTable, visit: Visit, ip_mode: str) -> wire.Record:
    """The record of `visit`, resolved by `table` as it is now. The same for the same visit, table and IP mode."""
    host, target = visit.host.encode(), visit.target.encode()
    found = resolve.resolve(table, host, target, visit.at_us // 1000)
    labels = read_labels(target)
    visitor = Visitor(visit.address, visit.country, visit.user_agent.encode(), visit.language.encode(), visit.referrer.encode())
    return click_record(
        found,
        labels,
        visitor,
        click_id=visit.click_id,
        at_us=visit.at_us,
        method=visit.method,
        host=host,
        target=target,
        destination=destination(
            found, labels, click_id.to_text(visit.click_id), lambda: visitor.macros(visit.at_us // 1_000_000, visit.click_id[-4:])
        ),
        verdict=verdict_of(visit.method, visitor, is_prefetch=visit.is_prefetch),
        rule_version=RULE_VERSION,
        ip_mode=ip_mode,
        secret=secret_of(table.installation()),
        day=click_id.moment(visit.click_id).strftime("%Y-%m-%d"),
    )
