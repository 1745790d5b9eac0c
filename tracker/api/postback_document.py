"""What the OpenAPI document says of postbacks and pixels."""

from typing import Any

from tracker.api.document import CHANGING, Described, refusals

TOKEN = "token"  # noqa: S105 - the name of a parameter
EXAMPLE = {
    "token": "tok_of_the_shop",
    "click_id": "01k8zq3m5n7p9r1s3t5v7w9x1y",
    "txid": "ORDER-1",
    "amount": "49.90",
    "currency": "EUR",
    "goal": "sale",
    "status": "approved",
    "ts": "2026-01-31T12:00:00Z",
}
SAID = (
    ("token", "the advertiser's postback token"),
    ("click_id", "this or coupon is needed"),
    ("coupon", "a coupon's code"),
    ("txid", "the store's number of the order; without it the click id is the key"),
    ("amount", "a decimal such as 12.50, default 0"),
    ("currency", "ISO 4217, default the advertiser's"),
    ("goal", "default sale"),
    ("status", "approved (default), pending, rejected or reversed"),
    ("customer", "the shop's own reference of the customer"),
    ("customer_type", "new or returning"),
    ("items", 'a JSON list such as [{"sku":"A-1","quantity":2,"price":"9.95","category":"boots"}]'),
    ("discount", "a decimal, as amount"),
    ("shipping", "a decimal, as amount"),
    ("tax", "a decimal, as amount"),
    ("event_id", "of goals whose policy is by_event_id: counts once"),
    ("cookie", "the value of the visitor's cookie turnout_visitor"),
    ("ts", "when it happened: seconds since 1970, or an ISO 8601 instant; default now"),
)


def answers(**refused: str) -> Described:
    """The answers to a report: it is kept, or `refused` for one of these reasons."""
    kept: Described = {202: {"description": "Kept: nobody knows the click id yet, or the database is not there"}}
    return kept | CHANGING | refusals(_403="The advertiser takes no reports from this address", **refused)


ANSWERS = answers(
    _401="The token or signature is missing, wrong or too old",
    _415="The body is neither JSON nor a form",
    _422="A parameter is not acceptable; `code` and `field` say which",
    _503="Neither database nor journal nor Redis take it: to be sent again",
)
STATUS_ANSWERS = refusals(_401="The token is wrong", _404="No postback has this txid", _422="txid is missing", _503="The database is away")
GIF_ANSWER: Described = {200: {"description": "A 1×1 GIF, whatever becomes of it", "content": {"image/gif": {}}}}


def query(named: str = TOKEN, *, only: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """The parameters of a query; `named` is what the token is called."""
    said = [(named if name == TOKEN else name, name, text) for name, text in SAID if not only or name in only]
    return [
        {"name": shown, "in": "query", "schema": {"type": "string"}, "description": text, "example": EXAMPLE.get(name, "SPRING10")}
        for shown, name, text in said
    ]


def described(named: str = TOKEN) -> dict[str, Any]:
    """What a GET takes."""
    return {"parameters": query(named)}


def with_body(named: str = TOKEN) -> dict[str, Any]:
    """What a POST takes: the same in a body, JSON or a form, or in the query."""
    properties = {named if name == TOKEN else name: {"type": "string", "description": text} for name, text in SAID}
    schema = {"type": "object", "properties": properties}
    example = {named if name == TOKEN else name: value for name, value in EXAMPLE.items()}
    kinds = ("application/json", "application/x-www-form-urlencoded")
    body = {"required": False, "content": {kind: {"schema": schema, "example": example} for kind in kinds}}
    return described(named) | {"requestBody": body}
