"""What the OpenAPI document says beside the operations themselves: refusals, bodies, and an example of each thing that can be sent."""

from typing import Any

from tracker.programme import Thing

Described = dict[int | str, dict[str, Any]]
PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "one sentence for people"},
        "code": {"type": "string", "description": "stable; for programs"},
        "field": {"type": "string", "description": "what it is about"},
    },
}
CURSORS: list[dict[str, Any]] = [
    {
        "name": "limit",
        "in": "query",
        "schema": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
        "example": 50,
    },
    {"name": "cursor", "in": "query", "schema": {"type": "string"}, "description": "next_cursor of the answer before", "example": "1"},
]
POSTBACK_CURSORS = [CURSORS[0], CURSORS[1] | {"example": "019a8e4e-0000-7000-8000-000000000000"}]
HOST_PARAMETER = {
    "name": "host",
    "in": "query",
    "schema": {"type": "string"},
    "description": "only what came to this host",
    "example": "go.old.example",
}
HOST_FIELD = {"type": "string", "description": "only what came to this host"}
REASON_FIELD = {"type": "string", "description": "for the audit trail"}
CAMPAIGN_PARAMETER = {
    "name": "campaign",
    "in": "query",
    "schema": {"type": "string"},
    "description": "slug; where several have the same name",
    "example": "spring",
}
EXAMPLES: dict[str, dict[str, Any]] = {
    "advertisers": {"slug": "shop", "name": "Shop", "currency": "EUR", "domains": ["shop.example"]},
    "campaigns": {
        "slug": "spring",
        "advertiser": "shop",
        "name": "Spring sale",
        "destination_url": "https://shop.example/?c={click_id}",
        "payout": {"type": "percent", "percent": "10"},
        "attribution_window_days": 30,
    },
    "partners": {"slug": "blog", "name": "A blog", "email": "blog@partners.example", "parent": None},
    "links": {"slug": "blog-spring", "partner": "blog", "campaign": "spring", "destination_url": None},
    "aliases": {"url": "https://go.old.example/aff_c?offer_id=1&aff_id=2", "link": "blog-spring"},
    "coupons": {"code": "BLOG10", "partner": "blog", "campaign": "spring", "valid_from": "2026-01-01T00:00:00Z", "valid_to": None},
    "goals": {"slug": "lead", "campaign": "spring", "payout": {"type": "fixed", "amount": "5.00", "currency": "EUR"}},
    "tracking-hosts": {"host": "go.old.example", "kind": "old", "advertiser": "shop", "platform": "tune", "source": "tune"},
    "old-ids": {"source": "tune", "kind": "partner", "source_id": "42", "partner": "blog"},
}
"""A body that makes one of each; in this order, they make a programme."""

CHANGES: dict[str, dict[str, Any]] = {
    "advertisers": {"domains": ["shop.example", "www.shop.example"]},
    "campaigns": {"expires_at": "2026-12-31T23:00:00Z"},
    "partners": {"email": "ada@partners.example"},
    "links": {"destination_url": "https://shop.example/shoes"},
    "aliases": {"status": "paused"},
    "coupons": {"valid_to": "2026-12-31T23:00:00Z"},
    "goals": {"payout": {"type": "fixed", "amount": "6.00", "currency": "EUR"}},
    "tracking-hosts": {"fallback_url": "https://shop.example/"},
    "old-ids": {"status": "archived"},
}


def refusals(**codes: str) -> Described:
    """Answers that are problems, by status: `_404="…"` says when."""
    content = {"application/problem+json": {"schema": PROBLEM}}
    return {int(status.strip("_")): {"description": when, "content": content} for status, when in codes.items()}


REFUSALS = refusals(
    _401="No key, or one that is unknown or revoked",
    _403="The key's role may not do this",
    _404="There is no such thing, or not for this key",
    _422="What was sent is not acceptable; `code` and `field` say why",
    _503="The database cannot be reached; nothing is known to be changed",
)
WITH_BODY = refusals(_408="The body took too long", _413="The body is too large")
CHANGING = WITH_BODY | refusals(_409="It would contradict what is there")


def body_of(properties: dict[str, Any], required: list[str] | None = None, *, example: Any = None) -> dict[str, Any]:
    """OpenAPI description of a JSON body."""
    schema = {"type": "object", "properties": properties, **({"required": required} if required else {})}
    return _body(schema, {"example": example} if example is not None else {})


def body_of_thing(thing: Thing, *, changing: bool) -> dict[str, Any]:
    """The body that makes or changes a thing."""
    fields = [item for item in thing.fields if not (changing and item.fixed)]
    required = [item.name for item in fields if item.required and not changing]
    properties = {
        item.name: (_or_null(item.schema) if item.nullable else item.schema) | ({"description": item.help} if item.help else {})
        for item in fields
    }
    return body_of(properties, required, example=(CHANGES if changing else EXAMPLES).get(thing.plural))


def one_or_many(body: dict[str, Any], many_max: int) -> dict[str, Any]:
    """The same body, or an array of it."""
    content = body["requestBody"]["content"]["application/json"]
    one = content["schema"]
    examples = {"one": {"value": content["example"]}, "many": {"value": [content["example"] | {"slug": "blog-summer"}]}}
    return _body(one | {"type": ["object", "array"], "items": one, "maxItems": many_max}, {"examples": examples})


def _body(schema: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema, **example}}}}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}
