"""How a URL is resolved, step by step in plain words, and where its visitor would land. Pure; records nothing."""

from typing import Any

from msgspec import Struct

from tracker.domain.destination import destination, labels_of
from tracker.domain.resolve import (
    LINK_PATH,
    NO_CLICK,
    NOT_STARTED,
    OK,
    OLD_HOST,
    PAUSED,
    Resolution,
    RouteReader,
    find_alias,
    resolve,
    slug_of,
)
from tracker.domain.routes import ACTIVE, HostRoute
from tracker.domain.urls import host_key, printable, split_absolute, target_key
from tracker.domain.with_platform import WithPlatform
from tracker.platforms.reading import Reading
from tracker.platforms.reading import as_dict as reading_as_dict

CLICK_ID = b"CLICK-ID"  # stands for the id that a click would get
# Stand for what depends on the visitor.
VISITOR = {name: name.upper().encode() for name in ("country", "device", "os", "browser", "language", "timestamp", "random")}
WAYS = {
    OK: "the destination",
    PAUSED: "the fallback, because something is paused",
    NOT_STARTED: "the fallback, because the campaign has not started",
}


class Explanation(Struct, frozen=True, kw_only=True):
    """What a URL leads to. `destination` is None where the visitor gets a plain 404 page; CLICK-ID, COUNTRY and the like stand
    for what depends on the visitor. `reading` is what the platform of the host reads, with the keys of `turnout platforms read`;
    `missing` what nobody knows (see `Resolution`), None when something was identified."""

    url: str
    outcome: str
    destination: str | None
    link: str | None
    campaign: str | None
    partner: str | None
    platform: str | None
    reading: dict[str, Any] | None
    missing: str | None
    steps: list[str]


def explanation(
    table: RouteReader, url: str, now_ms: int, host: str = "", platform: str | None = None, source: str | None = None
) -> Explanation:
    """How `url` (or a path, then on `host` or no particular one) is resolved at `now_ms`. A `host` given is the Host header's.

    `platform`: take a host that has none, or is not registered, as one of it, with the ids of `source` (the platform's name without
    one): for a shop's own page, whose URL carries a partner of an on-page platform.
    """
    if platform is not None:
        table = WithPlatform(table, platform, source or "")
    asked, target = _request(url)
    asked = host.encode("utf-8", "surrogatepass") or asked
    found = resolve(table, asked, target, now_ms)
    landing = destination(found, labels_of(found, target), CLICK_ID, lambda: VISITOR).decode("ascii")
    return Explanation(
        url=url,
        outcome=found.outcome,
        destination=landing or None,
        link=found.link_slug or None,
        campaign=found.campaign_slug or None,
        partner=found.partner_slug or None,
        platform=found.platform,
        reading=reading_as_dict(found.reading) if found.reading is not None else None,
        missing=found.missing or None,
        steps=_steps(table, asked, target, found, landing),
    )


def as_dict(found: Explanation) -> dict[str, Any]:
    """For JSON."""
    return {name: getattr(found, name) for name in found.__struct_fields__}


def _steps(table: RouteReader, host: bytes, target: bytes, found: Resolution, landing: str) -> list[str]:
    name = host_key(host)
    bare = name.partition(":")[0]
    registered = table.host(name) or table.host(bare)
    return [
        _host_step(name, registered),
        _link_step(table, registered, target),
        *_alias_step(table, name, bare, target, is_found=_is_new_link(table, registered, target)),
        *_reading_steps(found),
        *_state_steps(found),
        _landing(found, landing),
    ]


def _request(url: str) -> tuple[bytes, bytes]:
    data = url.strip().encode("utf-8", "surrogatepass")
    if not data.startswith(b"/") and b"://" not in data:
        data = b"http://" + data
    host, target = split_absolute(b"", data) if not data.startswith(b"/") else (b"", data)
    return host, printable(target)


def _is_new_link(table: RouteReader, registered: HostRoute | None, target: bytes) -> bool:
    is_old = registered is not None and registered.kind == OLD_HOST
    return target.startswith(LINK_PATH) and not is_old and table.get_link(slug_of(target)) is not None


def _host_step(name: str, registered: HostRoute | None) -> str:
    if registered is None:
        return f"{name or 'no host'}: not a registered old host, so it is a tracking host"
    platform = f" of platform {registered.platform}" if registered.platform else ""
    if not registered.host_id:
        return f"{name}: nobody registered it; taken as a host{platform}, as you asked"
    return f"{name}: registered {registered.kind} host{platform}, switch-over state {registered.state}"


def _link_step(table: RouteReader, registered: HostRoute | None, target: bytes) -> str:
    if not target.startswith(LINK_PATH):
        return "The path is not /c/SLUG, so this is no new link"
    if registered is not None and registered.kind == OLD_HOST:
        return "Links of ours (/c/SLUG) do not work on a registered old host"
    slug = slug_of(target)
    if not slug:
        return "There is no slug behind /c/, or more path behind the slug: no new link"
    known = "is a link" if table.get_link(slug) else "is no link (slugs are matched exactly)"
    return f"Slug {slug.decode('utf-8', 'replace')!r} {known}"


def _alias_step(table: RouteReader, name: str, bare: str, target: bytes, *, is_found: bool) -> list[str]:
    if is_found:
        return []
    key = target_key(target)
    known = "is an alias" if find_alias(table, name, bare, key) else "is no alias, neither of this host nor of any host"
    return [f"Old URL {key} {known}"]


def _reading_steps(found: Resolution) -> list[str]:
    if found.host is None or found.host.platform is None:
        return []
    if found.source is None or found.reading is None:
        return [f"There is no profile of a platform {found.host.platform!r}: turnout platforms list names them"]
    reading, title = found.reading, found.source.profile.title
    if reading.kind is None:
        anchor = "; a page asks the browser for what stands behind #" if found.wants_anchor else ""
        return [f"{title} has no link of this shape{anchor}"]
    lines = [f"{title} reads a {reading.kind} ({reading.shape}): {_ids(reading)}"]
    lines += [f"Careful: {doubt}" for doubt in reading.doubts]
    if found.missing == NO_CLICK:
        lines.append("That is no click, so no link is looked for")
    elif found.missing:
        lines.append(f"Not known under source {found.host.id_source}: {found.missing}; map it with turnout orphans map")
    elif found.link is not None and not found.link_id:
        lines.append("Partner and campaign are known, so the link is made on the fly")
    return lines


def _ids(reading: Reading) -> str:
    names = ("partner", "offer", "creative", "click id", "link key")
    told = [f"{name} {value}" for name, value in zip(names, reading.ids, strict=True) if value is not None]
    told += [f"{name}={value}" for name, value in reading.sub_ids.items()]
    if reading.destination is not None:
        told.append(f"destination {reading.destination}")
    return ", ".join(told) or "no ids"


def _state_steps(found: Resolution) -> list[str]:
    if found.link is None or found.campaign is None or found.partner is None:
        return ["Nobody knows this URL: the click is recorded as an orphan"] if not found.wants_anchor or found.forward else []
    states = {
        f"link {found.link_slug or 'made on the fly'}": found.link.status,
        f"campaign {found.campaign_slug}": found.campaign.status,
        f"partner {found.partner_slug}": found.partner.status,
        "the advertiser": found.campaign.advertiser_status,
    }
    link = f"Link {found.link_slug}" if found.link_slug else "A link"
    lines = [f"{link} of partner {found.partner_slug} for campaign {found.campaign_slug}"]
    lines += [f"{name[:1].upper() + name[1:]} is {state}" for name, state in states.items() if state != ACTIVE]
    return lines


def _landing(found: Resolution, landing: str) -> str:
    if found.forward and found.host is not None:
        return f"The switch-over state is {found.host.state}: the click is recorded, and the visitor goes on to the old platform: {landing}"
    if not landing:
        return f"Outcome {found.outcome}: there is no fallback, so the visitor sees a plain 404 page"
    way = WAYS.get(found.outcome, f"the fallback, because the outcome is {found.outcome}")
    return f"Outcome {found.outcome}: the visitor lands on {way}: {landing}"
