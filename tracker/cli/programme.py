"""`turnout advertiser|campaign|… add|list|show|edit`, made from the descriptions in `tracker.programme`."""

import inspect
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from tracker.cli import run, show
from tracker.errors import RejectedInput
from tracker.programme import THINGS, Field, Thing

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout")]
OBJECTS = frozenset(("payout", "settings", "rules"))
LIST_MAX = 1000


def add_to(app: typer.Typer) -> dict[str, typer.Typer]:
    """Add a command group for each thing; returns them by name."""
    groups = {}
    for thing in THINGS.values():
        group = groups[thing.name] = typer.Typer(no_args_is_help=True)
        app.add_typer(group, name=thing.name, help=f"{thing.plural.replace('-', ' ').capitalize()} of the programme.")
        group.command("add", help=f"Create a {thing.name}.")(_adding(thing))
        group.command("edit", help=f"Change a {thing.name}; only what is given.")(_editing(thing))
        group.command("list", help=f"List {thing.plural}.")(_listing(thing))
        group.command("show", help=f"Show one {thing.name}.")(_showing(thing))
    groups["advertiser"].command("rotate-token")(rotate_token)
    groups["advertiser"].command("revoke-token")(revoke_token)
    groups["advertiser"].command("signing-secret")(signing_secret)
    groups["advertiser"].command("list-signing-secrets")(list_signing_secrets)
    groups["advertiser"].command("revoke-signing-secret")(revoke_signing_secret)
    return groups


Slug = Annotated[str, typer.Argument(metavar="SLUG")]


def rotate_token(slug: Slug, json: Json = False) -> None:
    """Make a second postback token, shown this once; the one before stays valid until it is revoked."""
    made = run.with_database(lambda database, _: _tokens(database).rotate(slug, run.ACTOR))
    if json:
        show.as_json(made)
        return
    typer.echo(made["postback_token"])
    if len(made["tokens"]) > 1:
        other = next(token["slot"] for token in made["tokens"] if token["slot"] != made["slot"])
        typer.echo(f"when the store uses it: turnout advertiser revoke-token {slug} --slot {other}", err=True)


def revoke_token(slug: Slug, slot: Annotated[int, typer.Option(min=1, max=2)], json: Json = False) -> None:
    """End the postback token in a slot, within 2 seconds; never the last one."""
    left = run.with_database(lambda database, _: _tokens(database).revoke(slug, slot, run.ACTOR))
    if json:
        show.as_json(left)
    else:
        typer.echo(f"token {slot} of {slug} is revoked")


Kind = Annotated[str, typer.Option(metavar="KIND", help="hmac, shopify, woocommerce or stripe")]


def signing_secret(slug: Slug, kind: Kind, json: Json = False) -> None:
    """Add what reports are signed with: a secret made here (hmac), shown this once, or the shop's own, read from stdin."""
    secret = None if kind == "hmac" else _read_secret(kind)
    made = run.with_database(lambda database, _: _secrets(database).add(slug, kind, secret, run.ACTOR))
    if json:
        show.as_json(made)
        return
    typer.echo(made.get("signing_secret") or f"secret {made['slot']} of the kind {kind} of {slug} is set")
    others = [other["slot"] for other in made["secrets"] if other["kind"] == kind and other["slot"] != made["slot"]]
    if others:
        typer.echo(f"when the store uses it: turnout advertiser revoke-signing-secret {slug} --kind {kind} --slot {others[0]}", err=True)


def list_signing_secrets(slug: Slug, json: Json = False) -> None:
    """Kinds, slots and ages of the secrets that reports are signed with; never the secrets."""
    found = run.with_database(lambda database, _: _secrets(database).listed(slug))
    if json:
        show.as_json(found)
    else:
        show.table(found["secrets"], empty="no signing secrets")


def revoke_signing_secret(slug: Slug, kind: Kind, slot: Annotated[int, typer.Option(min=1, max=2)], json: Json = False) -> None:
    """End the secret of a kind in a slot, within 2 seconds, and forget it."""
    left = run.with_database(lambda database, _: _secrets(database).revoke(slug, kind, slot, run.ACTOR))
    if json:
        show.as_json(left)
    else:
        typer.echo(f"secret {slot} of the kind {kind} of {slug} is revoked")


def _read_secret(kind: str) -> str:
    """From a prompt that hides it, or the first line of stdin; never from the command line, which others can see."""
    if sys.stdin.isatty():
        return str(typer.prompt(f"secret of {kind}", hide_input=True, err=True))
    return sys.stdin.readline().rstrip("\r\n")


def _secrets(database: Any) -> Any:
    from tracker.adapters.postgres_programme_keys import SigningSecrets

    return SigningSecrets(database)


def _tokens(database: Any) -> Any:
    from tracker.adapters.postgres_programme_keys import PostbackTokens

    return PostbackTokens(database)


def _programme(database: Any, settings: Any) -> Any:
    from tracker.adapters.postgres_programme import Programme

    return Programme(database, link_base=settings.link_base)


def _print(found: dict[str, Any], *, as_json: bool) -> None:
    (show.as_json if as_json else show.record)(found)


def _adding(thing: Thing) -> Callable[..., None]:
    named = next((item for item in thing.fields if item.name == thing.key), thing.fields[0])

    def add(key: str | None = None, json: bool = False, **values: Any) -> None:
        if key is not None and values.get(named.name) is not None and values[named.name] != key:
            raise RejectedInput(f"invalid_{named.name}", f"the {named.name} is given twice, {key!r} and {values[named.name]!r}")
        body = run.given({**values, named.name: key if key is not None else values.get(named.name)}, OBJECTS)
        made = run.with_database(lambda database, settings: _programme(database, settings).create(thing, body, run.ACTOR))
        _print(made, as_json=json)

    first = Annotated[str | None, typer.Argument(metavar=named.name.upper(), help=named.help)]
    return _signed(add, {"key": first}, thing.fields)


def _editing(thing: Thing) -> Callable[..., None]:
    def edit(key: str, json: bool = False, **values: Any) -> None:
        body = {name: None if value == "" and _nullable(thing, name) else value for name, value in run.given(values, OBJECTS).items()}
        if not body:
            raise RejectedInput("invalid_body", "say what to change, see --help")
        changed = run.with_database(lambda database, settings: _programme(database, settings).edit(thing, key, body, run.ACTOR))
        _print(changed, as_json=json)

    first = Annotated[str, typer.Argument(metavar=thing.key.upper())]
    return _signed(edit, {"key": first}, [item for item in thing.fields if not item.fixed])


def _nullable(thing: Thing, name: str) -> bool:
    return any(item.name == name and item.nullable for item in thing.fields)


def _showing(thing: Thing) -> Callable[..., None]:
    def show_one(key: Annotated[str, typer.Argument(metavar=thing.key.upper())], json: Json = False) -> None:
        _print(run.with_database(lambda database, settings: _programme(database, settings).get(thing, key)), as_json=json)

    return show_one


def _listing(thing: Thing) -> Callable[..., None]:
    def list_all(
        limit: Annotated[int, typer.Option(min=1, max=LIST_MAX)] = 100,
        cursor: Annotated[str | None, typer.Option(help="next_cursor of the page before")] = None,
        where: Annotated[list[str] | None, typer.Option("--filter", metavar="NAME=VALUE", help="such as source=tune")] = None,
        json: Json = False,
    ) -> None:
        filters = dict(_pair(item) for item in where or ())
        page = run.with_database(
            lambda database, settings: _programme(database, settings).listed(thing, limit=limit, cursor=cursor, filters=filters)
        )
        if json:
            show.as_json(page)
            return
        needed = [thing.key, *(item.name for item in thing.fields if item.required)]
        show.table(page["items"], empty=f"no {thing.plural}", keep=needed)
        if page["next_cursor"]:
            typer.echo(f"more: --cursor {page['next_cursor']}", err=True)

    return list_all


def _pair(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found:
        raise RejectedInput("invalid_filter", f"--filter must be NAME=VALUE, got {text!r}")
    return name, value


def _signed(function: Callable[..., None], first: dict[str, Any], fields: Any) -> Callable[..., None]:
    """Give `function` the parameters that typer reads: `first`, an option a field, `--json`."""
    annotations: dict[str, Any] = dict(first) | {item.name: _option(item) for item in fields} | {"json": Json}
    kind = inspect.Parameter.KEYWORD_ONLY
    optional = dict.fromkeys(annotations) | {"json": False}
    if function.__name__ == "edit":
        optional.pop("key")
    parameters = [
        inspect.Parameter(name, kind, annotation=annotation, default=optional.get(name, inspect.Parameter.empty))
        for name, annotation in annotations.items()
    ]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads it
    function.__annotations__ = annotations
    return function


def _option(item: Field) -> Any:
    text = item.help + (" (needed)" if item.required and not item.help else "")
    return Annotated[str | None, typer.Option(f"--{item.name.replace('_', '-')}", help=text, show_default=False)]
