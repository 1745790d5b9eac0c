"""The format of a platform profile. README.md explains it field by field; this is what the loader holds a file to.

An unknown key is an error, so that a typing mistake cannot pass for a setting.
"""

from typing import Literal

from msgspec import Struct

Kind = Literal["click", "impression", "postback", "pixel"]
Confidence = Literal["documented", "code", "inferred"]
Class = Literal["takeable", "network", "on-page", "shortener"]
Style = Literal["query", "fragment", "pairs", "segments", "parentheses"]
Status = Literal["approved", "pending", "rejected", "reversed", "ignored"]


class Hosts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose host names tell the platform. `suffix` matches whole labels below the name, never the name itself."""

    exact: tuple[str, ...] = ()
    suffix: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()


class Reads(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which parameter holds what. `a|b`: the first of these that is not empty, in this order.

    Sub ids keep their own names: `x` as it is, `x|y` both as `x`, `x1..5` a run, `x*` every name that begins so.
    """

    partner_id: str = ""
    offer_id: str = ""
    creative_id: str = ""
    click_id: str = ""
    link_key: str = ""
    destination: str = ""
    fragment: str = ""
    sub_ids: tuple[str, ...] = ()
    order_id: str = ""
    amount: str = ""
    currency: str = ""
    status: str = ""
    goal: str = ""
    token: str = ""


class Shape(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of URL of the platform."""

    name: str
    kind: Kind
    reads: Reads = Reads()
    path: tuple[str, ...] = ("*",)
    host: str = ""
    hosts: tuple[str, ...] = ()
    style: Style = "query"
    needs: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    equals: dict[str, str] = {}
    own: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    forms: dict[str, str] = {}
    page: Literal["", "same", "cut"] = ""
    stays: tuple[str, ...] = ()
    others: Literal["drop", "sub_ids"] = "drop"
    destination_form: Literal["absolute", "relative", "schemeless"] = "absolute"
    answer: str = ""
    doubt: str = ""
    confidence: Confidence = "documented"
    source: str = ""


class Reply(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the platform's server answers, byte for byte: partners' servers match on it."""

    to: str
    outcome: Literal["accepted", "refused"] = "accepted"
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"
    body: str = ""
    gif: bool = False
    confidence: Confidence = "documented"
    source: str = ""


class Outcomes(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the platform's words for a conversion's status become ours, and what its amounts mean.

    `coupon`: the sub ids that hold a coupon's code. `items`: how the names of the sub ids begin that hold the lines of an order, which
    are its amount where none is sent. `no_conversion`: the shapes that report none, whatever they say.
    """

    approved: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    reversed: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    default: Status = "approved"
    lists: dict[Status, str] = {}
    negative_is_reversal: bool = False
    default_amount: tuple[str, ...] = ()
    same_conversion: tuple[str, ...] = ("order_id",)
    coupon: tuple[str, ...] = ()
    items: str = ""
    no_conversion: tuple[str, ...] = ()
    confidence: Confidence = "documented"
    source: str = ""


class Macros(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The platform's own placeholders: those it fills in offer URLs and partner postbacks, and how an unfilled one looks."""

    syntax: tuple[str, ...] = ()
    literals: tuple[str, ...] = ()
    names: dict[str, str] = {}
    confidence: Confidence = "documented"
    source: str = ""


class Export(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The columns of one export: our name → the platform's names for it, in the order of preference."""

    columns: dict[str, tuple[str, ...]]
    title: str = ""
    time_zone: str = ""
    time_format: str = ""
    window: str = ""
    separator: str = ","
    confidence: Confidence = "documented"
    source: str = ""


class ClickId(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The platform's click id: how it looks, and whether it names one click.

    `landing`: the parameters that bring it to the shop; `cookies`: those of the platform's own, on its host, that hold it.
    """

    format: str = ""
    landing: tuple[str, ...] = ()
    cookies: tuple[str, ...] = ()
    unique: bool = True
    samples: tuple[str, ...] = ()
    confidence: Confidence = "documented"
    source: str = ""


class Example(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A URL with the reading that is expected of it, as tests check it. Fields left out are expected to be null."""

    url: str
    kind: Kind | None = None
    partner_id: str | None = None
    offer_id: str | None = None
    creative_id: str | None = None
    sub_ids: dict[str, str] = {}
    destination: str | None = None
    click_id: str | None = None
    link_key: str | None = None
    conversion: dict[str, str] | None = None
    certain: bool | None = None
    note: str = ""


class Profile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A platform, as its file describes it."""

    name: str
    title: str
    klass: Class
    shape: tuple[Shape, ...]
    example: tuple[Example, ...]
    hosts: Hosts = Hosts()
    ids: Literal["text", "numeric", "folded"] = "text"
    case: Literal["exact", "folded"] = "exact"
    renamed: dict[str, tuple[str, ...]] = {}
    ref: str = ""
    click_id: ClickId = ClickId()
    reply: tuple[Reply, ...] = ()
    outcomes: Outcomes = Outcomes()
    macros: Macros = Macros()
    export: dict[str, Export] = {}
    confidence: Confidence = "documented"
    source: str = ""
    notes: str = ""


class SourceSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one operator changed on a platform. Data of the source, never a new profile.

    Args:
        hosts: further host names of this source.
        parameters: the profile's parameter name → its name at this source.
        base_path: folder under which the platform is installed, such as `/affiliate`.
        paths: a path of the profile → the path in its place, in the same notation.
        partner_ids, offer_ids, creative_ids, link_keys: id in the URL → id to use.
        time_zone: IANA name of the zone in which the platform writes times; empty: the profile's.
        keep_unknown: keep parameters that the profile does not know as sub ids; None: as the profile says.
        sub_ids: the platform's sub id → where it is recorded, `sub1` to `sub10` or `ref`; else as `Source.labels` has it.
    """

    hosts: tuple[str, ...] = ()
    parameters: dict[str, str] = {}
    base_path: str = ""
    paths: dict[str, str] = {}
    partner_ids: dict[str, str] = {}
    offer_ids: dict[str, str] = {}
    creative_ids: dict[str, str] = {}
    link_keys: dict[str, str] = {}
    time_zone: str = ""
    keep_unknown: bool | None = None
    sub_ids: dict[str, Literal["sub1", "sub2", "sub3", "sub4", "sub5", "sub6", "sub7", "sub8", "sub9", "sub10", "ref"]] = {}


AS_SHIPPED = SourceSettings()
