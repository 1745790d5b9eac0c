"""What an advertiser's settings say of its reports: names, words and numbers as its shop writes them. Pure."""

from collections.abc import Mapping
from ipaddress import ip_network
from typing import Any, Final, Literal

import msgspec

from tracker.domain.amounts import FORMATS, AmountFormat

KEY: Final = "postbacks"  # where they stand in an advertiser's settings
Status = Literal["approved", "pending", "rejected", "reversed"]
OURS: Final = frozenset(
    (
        "click_id", "coupon", "txid", "amount", "currency", "goal", "status", "ts", "customer", "customer_type", "items", "discount",
        "shipping", "tax", "event_id", "cookie",
    )
)  # fmt: skip
NETWORKS_MAX = 100
NAMES_MAX = 200


class PostbackSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`parameters`: the shop's name → ours. `statuses`: the shop's word → ours. `allow_ips`: networks that may report (empty: all)."""

    parameters: dict[str, str] = {}
    statuses: dict[str, Status] = {}
    amount_format: AmountFormat = "point"
    allow_ips: list[str] = []


AS_IS: Final = PostbackSettings()


def checked(value: Any) -> PostbackSettings:
    """The settings in `value`. ValueError says what is wrong."""
    try:
        found = msgspec.convert(value, PostbackSettings)
    except msgspec.ValidationError as exc:
        fields = ", ".join(PostbackSettings.__struct_fields__)
        raise ValueError(f"cannot be used: {exc}; the fields are {fields}; amount_format is one of {', '.join(FORMATS)}") from None
    unknown = sorted(set(found.parameters.values()) - OURS)
    if unknown:
        raise ValueError(f"has parameters that lead to {unknown[0]!r}; they can lead to {', '.join(sorted(OURS))}")
    if len(found.parameters) > NAMES_MAX or len(found.statuses) > NAMES_MAX or len(found.allow_ips) > NETWORKS_MAX:
        raise ValueError(f"may have at most {NAMES_MAX} parameters and statuses and {NETWORKS_MAX} networks")
    for network in found.allow_ips:
        try:
            ip_network(network)
        except ValueError:
            raise ValueError(f"has {network[:50]!r} in allow_ips, which is no address or network such as 192.0.2.0/24") from None
    return found


def of_settings(settings: Mapping[str, Any]) -> PostbackSettings:
    """The settings in an advertiser's; what cannot be read counts as not set: the API refuses it, so it is from elsewhere."""
    try:
        return checked(settings.get(KEY) or {})
    except ValueError:
        return AS_IS


def renamed(parameters: Mapping[str, str], settings: PostbackSettings) -> dict[str, str]:
    """`parameters` by our names; one that stands there by our name already wins over an alias. What is not ours is kept as it is."""
    found = dict(parameters)
    for theirs, ours in settings.parameters.items():
        if theirs in parameters and not found.get(ours, "").strip():
            found[ours] = parameters[theirs]
    return found
