"""What an old URL says: the result of reading, and nothing that depends on how it was read."""

from typing import Any, Final

from msgspec import Struct

KEYS: Final = (
    "platform", "kind", "partner_id", "offer_id", "creative_id", "sub_ids", "destination", "click_id", "link_key", "conversion",
)  # fmt: skip


class Conversion(Struct, frozen=True, kw_only=True, gc=False):
    """What a postback or pixel reports, as its URL has it: `status` and `goal` in the platform's own words.

    `amount` is a decimal string in major units (or the platform's own word, such as `auto`); minor units and lists are
    already summed where the profile says so. `token` is the secret that the store sent, if any.
    """

    order_id: str | None = None
    amount: str | None = None
    currency: str | None = None
    status: str | None = None
    goal: str | None = None
    token: str | None = None


class RawIds(Struct, frozen=True, gc=False):
    """The ids as bytes, after the one decoding and before the rule for broken UTF-8: what a look-up compares.

    A source's id maps do not show here: these are the old platform's own ids.
    """

    partner_id: bytes | None = None
    offer_id: bytes | None = None
    creative_id: bytes | None = None
    click_id: bytes | None = None
    link_key: bytes | None = None


class Reading(Struct, frozen=True, kw_only=True, gc=False):
    """An old URL, read. `kind` is `click`, `impression`, `postback` or `pixel`; None: no shape of the platform fits.

    `platform` is None when no host and nobody tells it. Ids are text after one percent-decoding, verbatim otherwise;
    bytes that are no UTF-8, and NUL, stand in the text as `%XX`. `sub_ids` keeps present-but-empty values as `""`.
    `destination` is an absolute http(s) URL (Daisycon: a path; ShareASale: without scheme); None: the offer's default.

    `shape` is the name of the shape that was read, `""` for none. `answer` names a reply of the profile that is due in place of a
    redirect, `""` if none. `hints` are values that other rules of the profile need (words of a status mapping, the text of `return=`).
    `others` names those sub ids that the profile does not know by name: they may be personal data, do not store them unless the
    source says so.
    `broken` has the bytes of ids that are no UTF-8, or that a map of the source replaced; see `raw`.
    `doubts` says why the reading may be wrong; a reading with doubts should count only if its ids are known.
    """

    platform: str | None = None
    kind: str | None = None
    partner_id: str | None = None
    offer_id: str | None = None
    creative_id: str | None = None
    sub_ids: dict[str, str] = {}
    destination: str | None = None
    click_id: str | None = None
    link_key: str | None = None
    conversion: Conversion | None = None
    broken: RawIds | None = None
    shape: str = ""
    answer: str = ""
    hints: dict[str, str] = {}
    others: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def is_certain(self) -> bool:
        """Nothing had to be repaired or guessed."""
        return not self.doubts

    @property
    def raw(self) -> RawIds:
        """The ids as bytes, for look-ups."""
        if self.broken is not None:
            return self.broken
        return RawIds(*(None if found is None else found.encode() for found in self.ids))

    @property
    def ids(self) -> tuple[str | None, ...]:
        """Partner, offer, creative, click id, link key."""
        return self.partner_id, self.offer_id, self.creative_id, self.click_id, self.link_key


NOTHING: Final = Reading()


def as_dict(reading: Reading) -> dict[str, Any]:
    """The ten public keys, in their order; a conversion without the fields that the URL does not give."""
    found: dict[str, Any] = {key: getattr(reading, key) for key in KEYS}
    if reading.conversion is not None:
        given = {name: getattr(reading.conversion, name) for name in reading.conversion.__struct_fields__}
        found["conversion"] = {name: value for name, value in given.items() if value is not None}
    return found
