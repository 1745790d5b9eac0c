"""Advertisers, campaigns, partners, links, aliases, coupons, goals, tracking hosts, and API keys: create, list, show, change."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Path, Request, Response

from tracker.adapters.postgres_programme import Programme
from tracker.adapters.postgres_programme_keys import ROLES, Keys, PostbackTokens, SigningSecrets
from tracker.api.answers import answer, paging, read_json
from tracker.api.document import (
    CAMPAIGN_PARAMETER,
    CHANGING,
    CURSORS,
    EXAMPLES,
    REFUSALS,
    body_of,
    body_of_thing,
    one_or_many,
)
from tracker.domain.signatures import SIGNING_KINDS
from tracker.errors import RejectedInput
from tracker.programme import COUPON, GOAL, LINK, LINKS_MAX, THINGS, Thing

Endpoint = Callable[[Request], Awaitable[Response]]


def routes(programme: Programme, keys: Keys, tokens: PostbackTokens, secrets: SigningSecrets) -> APIRouter:
    """Routes of all things of the programme."""
    router = APIRouter(prefix="/api/v1", responses=REFUSALS)
    _add_tokens(router, tokens)
    _add_secrets(router, secrets)
    for thing in THINGS.values():
        _add(router, programme, thing)
    _add_keys(router, keys)
    return router


def _add(router: APIRouter, programme: Programme, thing: Thing) -> None:
    named = Path(description=f"its {thing.key}, or its number", examples=[EXAMPLES.get(thing.plural, {}).get(thing.key, "1")])

    async def create(request: Request) -> Response:
        body, actor = await read_json(request), request.state.actor.name
        if isinstance(body, list):
            if thing is not LINK:
                raise RejectedInput("invalid_body", f"a {thing.name} must be a JSON object")
            return answer(await programme.create_links(body, actor), 201)
        return answer(await programme.create(thing, body, actor), 201)

    async def listed(request: Request) -> Response:
        limit, cursor, filters = paging(request)
        advertiser = request.state.actor.advertiser_id
        return answer(await programme.listed(thing, limit=limit, cursor=cursor, filters=filters, advertiser_id=advertiser))

    async def show(request: Request, key: str = named) -> Response:
        advertiser, campaign = request.state.actor.advertiser_id, request.query_params.get("campaign")
        return answer(await programme.get(thing, key, advertiser_id=advertiser, campaign=campaign))

    async def edit(request: Request, key: str = named) -> Response:
        body = await read_json(request)
        campaign = request.query_params.get("campaign")
        return answer(await programme.edit(thing, key, body, request.state.actor.name, campaign=campaign))

    path, tags = f"/{thing.plural}", [thing.plural]
    one = f"{path}/{{key}}"
    new, changed = body_of_thing(thing, changing=False), body_of_thing(thing, changing=True)
    if thing is LINK:
        new = one_or_many(new, LINKS_MAX)
    router.post(path, status_code=201, openapi_extra=new, responses=CHANGING, name=f"create {thing.name}", tags=[*tags])(create)
    router.get(path, openapi_extra={"parameters": CURSORS}, name=f"list {thing.plural}", tags=[*tags])(listed)
    which = {"parameters": [CAMPAIGN_PARAMETER]} if thing in (COUPON, GOAL) else {}
    router.get(one, openapi_extra=which, name=f"show {thing.name}", tags=[*tags])(show)
    router.patch(one, openapi_extra=changed | which, responses=CHANGING, name=f"change {thing.name}", tags=[*tags])(edit)


def _add_tokens(router: APIRouter, tokens: PostbackTokens) -> None:
    named = Path(examples=["shop"])

    @router.post("/advertisers/{slug}/rotate-token", status_code=201, tags=["advertisers"], responses=CHANGING)
    async def rotate_token(request: Request, slug: str = named) -> Response:
        """A second postback token, shown this once; the one before stays valid until it is revoked."""
        return answer(await tokens.rotate(slug, request.state.actor.name), 201)

    slot_of = body_of({"slot": {"type": "integer", "enum": [1, 2]}}, ["slot"], example={"slot": 1})

    @router.post("/advertisers/{slug}/revoke-token", tags=["advertisers"], openapi_extra=slot_of, responses=CHANGING)
    async def revoke_token(request: Request, slug: str = named) -> Response:
        """End the postback token in a slot, within 2 seconds; never the last one."""
        return answer(await tokens.revoke(slug, _slot(await read_json(request)), request.state.actor.name))


def _slot(body: Any) -> int:
    slot = body.get("slot") if isinstance(body, dict) else None
    if not isinstance(slot, int) or isinstance(slot, bool) or slot not in (1, 2):
        raise RejectedInput("invalid_slot", 'send {"slot":1} or {"slot":2}', field="slot")
    return slot


def _add_secrets(router: APIRouter, secrets: SigningSecrets) -> None:
    named = Path(examples=["shop"])
    path, tags = "/advertisers/{slug}/signing-secrets", ["advertisers"]
    kind: dict[str, Any] = {"type": "string", "enum": list(SIGNING_KINDS)}
    own = {"anyOf": [{"type": "string"}, {"type": "null"}], "description": "the shop's own; none for the kind hmac, which is made here"}
    new = body_of({"kind": kind, "secret": own}, ["kind"], example={"kind": "hmac"})
    gone = body_of({"kind": kind, "slot": {"type": "integer", "enum": [1, 2]}}, ["kind", "slot"], example={"kind": "hmac", "slot": 1})

    @router.get(path, tags=[*tags])
    async def list_signing_secrets(request: Request, slug: str = named) -> Response:
        """Kinds, slots and ages of the secrets that reports are signed with; never the secrets."""
        return answer(await secrets.listed(slug, advertiser_id=request.state.actor.advertiser_id))

    @router.post(path, status_code=201, tags=[*tags], openapi_extra=new, responses=CHANGING)
    async def add_signing_secret(request: Request, slug: str = named) -> Response:
        """A secret beside those of its kind, at most two. One of the kind hmac is `signing_secret`, shown this once."""
        body = await read_json(request)
        given, secret = _text_of(body, "kind"), body.get("secret")
        if not isinstance(secret, str | None):
            raise RejectedInput("invalid_secret", "secret must be text", field="secret")
        return answer(await secrets.add(slug, given, secret, request.state.actor.name), 201)

    @router.post(f"{path}/revoke", tags=[*tags], openapi_extra=gone, responses=CHANGING)
    async def revoke_signing_secret(request: Request, slug: str = named) -> Response:
        """End the secret of a kind in a slot, within 2 seconds, and forget it."""
        body = await read_json(request)
        return answer(await secrets.revoke(slug, _text_of(body, "kind"), _slot(body), request.state.actor.name))


def _text_of(body: Any, name: str) -> str:
    value = body.get(name) if isinstance(body, dict) else None
    if not isinstance(value, str):
        raise RejectedInput(f"invalid_{name}", f'send a JSON object with "{name}"', field=name)
    return value


def _add_keys(router: APIRouter, keys: Keys) -> None:
    text, nothing = {"type": "string"}, {"type": "null"}
    new = body_of(
        {
            "role": {"type": "string", "enum": list(ROLES)},
            "advertiser": {"anyOf": [text, nothing], "description": "its slug, for the role advertiser"},
            "name": text,
        },
        ["role"],
        example={"role": "viewer", "name": "dashboard", "advertiser": None},
    )

    @router.post("/keys", status_code=201, tags=["keys"], openapi_extra=new, responses=CHANGING)
    async def create_key(request: Request) -> Response:
        body = await read_json(request)
        if not isinstance(body, dict) or not all(isinstance(body.get(name, ""), str | None) for name in ("role", "advertiser", "name")):
            raise RejectedInput("invalid_body", 'send {"role":"viewer","name":"…","advertiser":null}')
        made = await keys.create(
            body.get("role") or "", advertiser=body.get("advertiser"), name=body.get("name") or "", actor=request.state.actor.name
        )
        return answer(made, 201)

    @router.get("/keys", tags=["keys"])
    async def list_keys() -> Response:
        return answer({"items": await keys.listed(), "next_cursor": None})

    @router.post("/keys/{number}/revoke", tags=["keys"])
    async def revoke_key(request: Request, number: str = Path(examples=["1"])) -> Response:
        return answer(await keys.revoke(number, request.state.actor.name))
