"""What is recorded of a visit: of a request that the redirector answers, and of one of the demo's past."""

import hashlib

import msgspec

from tracker import wire
from tracker.adapters.user_agents import is_bot, parse
from tracker.domain import addresses
from tracker.domain.destination import Labels
from tracker.domain.resolve import Resolution
from tracker.domain.routes import Installation
from tracker.platforms.reading import RawIds

KIND = "click"
VALID, BOT, PREFETCH, HEAD, RATE_LIMITED = "valid", "bot", "prefetch", "head", "rate_limited"
DAY_US = 86_400_000_000
_VISITOR_KEY_BYTES = 16
NO_IDS = RawIds()
NO_SUB_IDS: dict[str, bytes] = {}


class Visitor(msgspec.Struct, gc=False):
    """Who came. `address` is whole, and only ever in memory; the bytes are as they were sent."""

    address: str
    country: str
    user_agent: bytes
    language: bytes
    referrer: bytes

    def macros(self, at_s: float, random: bytes) -> dict[str, bytes]:
        """The values of those macros that tell of the visitor and of now."""
        agent = parse(self.user_agent.decode("utf-8", "replace"))
        return {
            "country": self.country.encode(),
            "device": agent.device.encode(),
            "os": agent.os.encode(),
            "browser": agent.browser.encode(),
            "language": self.language,
            "timestamp": b"%d" % at_s,
            "random": random.hex().encode(),
        }

    def key(self, secret: bytes, at_us: int) -> bytes:
        """A pseudonym of (address, browser) that holds for one UTC day: enough to tell a first click from a repeat."""
        digest = hashlib.blake2b(self.address.encode(), key=secret[:64], digest_size=_VISITOR_KEY_BYTES, salt=b"%016d" % (at_us // DAY_US))
        digest.update(b"\0" + self.user_agent)
        return digest.digest()


def secret_of(installation: Installation) -> bytes:
    """What visitors are made pseudonyms with; never empty.

    Before the table is there it is one that anybody can guess: the address then still is what the IP mode makes of it, never more.
    """
    return installation.visitor_secret.encode() or b"-"


def verdict_of(method: str, visitor: Visitor, *, is_prefetch: bool) -> str:
    """What the request itself says of its visitor."""
    if method == "HEAD":
        return HEAD
    if is_prefetch:
        return PREFETCH
    return BOT if is_bot(visitor.user_agent.decode("latin-1")) else VALID


def click_record(
    found: Resolution, labels: Labels, visitor: Visitor, *, click_id: bytes, at_us: int, method: str, host: bytes, target: bytes,
    destination: bytes, verdict: str, rule_version: int, ip_mode: str, secret: bytes, day: str,
) -> wire.Record:  # fmt: skip
    """The record of a visit that resolved to `found`. `day` is the UTC day of `at_us`, such as `2026-01-31`.

    What an old link says stays with it: the old ids as bytes, and in `extra` its sub ids by the old platform's names.
    """
    ids, sub_ids = NO_IDS, NO_SUB_IDS
    if found.source is not None and found.reading is not None and found.reading.kind is not None:
        # What the profile does not know by name may be personal data: it is kept only where the source's settings say so.
        unknown = () if found.source.settings.keep_unknown else found.reading.others
        ids, sub_ids = found.reading.raw, {name: value.encode() for name, value in found.reading.sub_ids.items() if name not in unknown}
    return wire.Record(
        click_id=click_id,
        received_at_us=at_us,
        kind=KIND,
        method=method,
        host=host,
        target=target,
        link_id=found.link_id or None,
        campaign_id=found.campaign_id or None,
        partner_id=found.partner_id or None,
        advertiser_id=found.advertiser_id or None,
        creative=found.creative,
        outcome=found.outcome,
        verdict=verdict,
        rule_version=rule_version,
        counted=verdict == VALID,
        destination=destination,
        ip=addresses.kept(visitor.address, ip_mode, secret, day),
        country=visitor.country,
        network=addresses.kept_network(visitor.address, ip_mode),
        user_agent=visitor.user_agent,
        referrer=visitor.referrer,
        language=visitor.language,
        subs=labels.subs,
        ref=labels.ref,
        visitor_key=visitor.key(secret, at_us),
        platform=found.platform or "",
        old_partner=ids.partner_id or b"",
        old_offer=ids.offer_id or b"",
        old_creative=ids.creative_id or b"",
        old_click_id=ids.click_id or b"",
        extra=sub_ids,
    )
