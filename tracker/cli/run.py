"""Helpers of commands that talk to the database: settings, a connection for the time of the command, JSON values."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tracker.errors import RejectedInput
from tracker.settings import PREFIX, Settings, load

T = TypeVar("T")
ACTOR = "cli"


def check_arguments(arguments: Sequence[str]) -> None:
    """RejectedInput when the command line holds bytes that are not UTF-8: nothing here could be named so."""
    for number, argument in enumerate(arguments):
        if not argument.isascii() and any("\ud800" <= character <= "\udfff" for character in argument):
            raise RejectedInput("invalid_argument", f"argument {number} is not UTF-8")


def settings() -> Settings:
    """The settings in force, unknown names warned of on stderr as one line each."""
    import warnings

    check_arguments(sys.argv)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = load()
    for warning in caught:
        sys.stderr.write(f"warning: {warning.message}\n")
    return found


def set_data_dir(directory: str | None) -> None:
    """`--data-dir` counts for this process and those it starts."""
    if directory:
        os.environ[PREFIX + "DATA_DIR"] = directory


def with_database(work: Callable[[Any, Settings], Awaitable[T]]) -> T:
    """Run `work(database, settings)` on a database that is closed afterwards."""
    from tracker.adapters.postgres_pool import database

    in_force = settings()

    async def main() -> T:
        async with database(in_force.dsn, name="cli", size=2) as opened:
            return await work(opened, in_force)

    return asyncio.run(main())


def _content(name: str, text: str) -> str:
    if name != "payout" or not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text("utf-8")
    except (OSError, ValueError) as exc:
        raise RejectedInput(f"invalid_{name}", f"--{name}: {text[1:]} cannot be read: {exc}") from exc


def given(values: dict[str, Any], objects: frozenset[str]) -> dict[str, Any]:
    """Options that were given; those in `objects` are JSON. A payout is text too, or the file that `@` names."""
    found = {name: value for name, value in values.items() if value is not None}
    for name in objects & set(found):
        text = _content(name, found[name])
        if name == "payout" and not text.lstrip().startswith("{"):
            found[name] = text
            continue
        with contextlib.suppress(ValueError, RecursionError):
            found[name] = json.loads(text)
            continue
        raise RejectedInput(f"invalid_{name}", f"--{name.replace('_', '-')} must be JSON")
    return found
