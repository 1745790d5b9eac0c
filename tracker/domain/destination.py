"""Where a visitor is sent: the deep link if it is allowed, else the template of the resolution, with its macros filled. Pure."""

from collections.abc import Callable, Mapping

from msgspec import Struct

from tracker.domain.macros import with_click_id
from tracker.domain.resolve import CLICK, OK, Resolution
from tracker.domain.urls import allowed_deep_link, host_of, percent_decoded
from tracker.platforms.compiled import REF, SUBS_MAX, Source
from tracker.platforms.reading import Reading

SUBS = tuple(f"sub{number}".encode() for number in range(1, 11))


class Labels(Struct, gc=False, frozen=True):
    """What a partner put into the query: sub ids (trailing empty ones left out), the own click id, a deep link. `old_click_id`: the
    old platform's, where its link carries one."""

    subs: tuple[bytes, ...] = ()
    ref: bytes = b""
    deep_link: bytes = b""
    old_click_id: bytes = b""


NO_LABELS = Labels()


def labels_of(found: Resolution, target: bytes) -> Labels:
    """The labels of a click: as its platform writes them, else as ours are. No deep link of an old host leads back to it."""
    if found.source is None or found.reading is None or found.reading.kind != CLICK:
        return read_labels(target)
    return _old_labels(found.source, found.reading, found.host.host if found.host is not None else "")


def _old_labels(source: Source, reading: Reading, host: str) -> Labels:
    ref, subs = b"", [b""] * SUBS_MAX
    for name, value in reading.sub_ids.items():
        place = source.labels.get(name)
        if place == REF:
            ref = value.encode()
        elif place is not None:
            subs[place - 1] = value.encode()
    while subs and not subs[-1]:
        subs.pop()
    deep_link = (reading.destination or "").encode()
    if deep_link and host_of(deep_link) == host:
        deep_link = b""
    return Labels(tuple(subs), ref, deep_link, reading.raw.click_id or b"")


def read_labels(target: bytes) -> Labels:
    """`sub1`…`sub10`, `ref` and `url` of a query, percent-decoded once, `+` as a space; of two of a name the first counts."""
    query = target.partition(b"?")[2].partition(b"#")[0]
    if not query:
        return NO_LABELS
    found: dict[bytes, bytes] = {}
    for pair in query.split(b"&"):
        name, _, value = pair.partition(b"=")
        if name not in found:
            found[name] = value
    subs = [_decoded(found.get(name, b"")) for name in SUBS]
    while subs and not subs[-1]:
        subs.pop()
    return Labels(tuple(subs), _decoded(found.get(b"ref", b"")), _decoded(found.get(b"url", b"")))


def _decoded(value: bytes) -> bytes:
    if b"+" in value:
        value = value.replace(b"+", b" ")
    return percent_decoded(value)


def destination(found: Resolution, labels: Labels, click_id: bytes, visitor: Callable[[], Mapping[str, bytes]]) -> bytes:
    """The Location of one click; empty: there is none, a plain 404 page.

    `visitor` gives the macros that depend on who asks (country, device, os, browser, language, timestamp, random); it is only
    called when the template wants more than the click id.
    """
    if found.forward:
        return found.forward
    if labels.deep_link and found.outcome == OK and found.domains:
        deep_link = allowed_deep_link(labels.deep_link, found.domains)
        if deep_link is not None:
            return with_click_id(deep_link, found.click_id_param, click_id)
    if found.template is None:
        return b""
    if not found.template.needs - {"click_id"}:
        return found.template.fill({"click_id": click_id})
    return found.template.fill({**visitor(), **_named(found, labels), "click_id": click_id})


def _named(found: Resolution, labels: Labels) -> dict[str, bytes]:
    values = {
        "partner": found.partner_slug.encode(),
        "campaign": found.campaign_slug.encode(),
        "link": found.link_slug.encode(),
        "creative": found.creative.encode(),
        "ref": labels.ref,
        "old_click_id": labels.old_click_id,
    }
    values.update((f"sub{number}", sub) for number, sub in enumerate(labels.subs, 1))
    return values
