"""`turnout audit` and `turnout doctor`: do the numbers add up, and does the machine keep what we promise."""

import asyncio
import json
import sys
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.table import Table

from tracker.adapters.audit import COUNTS, POSTBACK_COUNTS
from tracker.adapters.audit import audit as read_books
from tracker.adapters.health import Check, examine
from tracker.adapters.postgres_books import close_silent
from tracker.adapters.postgres_session import PostgresSession
from tracker.domain.books import State
from tracker.errors import EXIT_CANNOT_TELL, EXIT_FAILED, RejectedInput, StoreUnavailable
from tracker.settings import Settings

CLOSE_TIMEOUT_S = 10.0
EXIT_CODES = {State.BALANCED: 0, State.IN_FLIGHT: 0, State.UNKNOWN: EXIT_CANNOT_TELL, State.UNBALANCED: EXIT_FAILED}
STYLES = {
    "balanced": "green",
    "in_flight": "green",
    "unknown": "yellow",
    "unbalanced": "red",
    "ok": "green",
    "warn": "yellow",
    "fail": "red",
}


def audit(settings: Settings, as_json: bool) -> int:
    """Print the books; 0 balanced or in flight, 1 unbalanced, 3 cannot tell (PostgreSQL away, a node silent)."""
    try:
        books = asyncio.run(read_books(settings.dsn, settings.stream_url, settings.stream_shards))
    except StoreUnavailable as exc:
        Console(stderr=True).print(f"cannot tell: {exc}", highlight=False)
        return EXIT_CANNOT_TELL
    if as_json:
        _print_json(books)
    else:
        _print_books(books)
    codes = (EXIT_CODES[State(part["state"])] for part in (books, books["conversions"], books["postbacks"]))
    return max(codes, key=(0, EXIT_CANNOT_TELL, EXIT_FAILED).index)


def close(settings: Settings, boot: str, reason: str) -> int:
    """Close the books of a boot whose journal is gone for good; 1 when it is not silent or not open."""
    try:
        identity = UUID(boot).bytes
    except ValueError:
        raise RejectedInput("invalid_boot", f"{boot!r} is no boot; `turnout audit --json` names them", field="boot") from None
    if not reason:
        raise RejectedInput("invalid_reason", "--reason is required: it stays in the audit trail", field="reason")
    closed = asyncio.run(_close(settings.dsn, identity, reason))
    if closed is None:
        Console(stderr=True).print("nothing closed: the boot is closed, unknown, or was heard of in the last minute", highlight=False)
        return EXIT_FAILED
    Console().print(f"closed: {closed['accepted']} accepted, {closed['unrecorded']} of them unrecorded", highlight=False)
    return 0


async def _close(dsn: str, boot: bytes, reason: str) -> dict[str, Any] | None:
    session = PostgresSession(dsn, name="books")
    try:
        async with session.transaction(CLOSE_TIMEOUT_S) as connection:
            return await close_silent(connection, boot, actor="cli", reason=reason)
    finally:
        session.drop()


def doctor(settings: Settings, as_json: bool) -> int:
    """Print what was checked and what to change; 1 when something fails, 3 when something cannot be told, else 0."""
    checks = asyncio.run(
        examine(settings.dsn, settings.stream_url, settings.directory.root, host=settings.host, trusted=settings.trusted_proxies)
    )
    results = {check.result for check in checks}
    if as_json:
        _print_json({"ok": not results & {"fail", "unknown"}, "checks": [check.as_dict() for check in checks]})
    else:
        _print_checks(checks)
    if "fail" in results:
        return EXIT_FAILED
    return EXIT_CANNOT_TELL if "unknown" in results else 0


def _print_json(facts: dict[str, Any]) -> None:
    Console(soft_wrap=True, highlight=False, markup=False, no_color=True).print(json.dumps(facts))


def _print_books(books: dict[str, Any]) -> None:
    console = Console() if sys.stdout.isatty() else Console(width=200)  # a file or a pipe has no edge to cut at
    for title, part in (("clicks", books), ("conversions", books["conversions"])):
        table = Table("node", "boot", *(name.replace("_", " ") for name in COUNTS), "state", title=title, title_justify="left")
        for node in part["nodes"]:
            boot = node["boot"][:8] if node["boot"] else f"{node['boots']} closed"
            table.add_row(node["node"], boot, *(str(node[name]) for name in COUNTS), _coloured(node["state"]))
        table.add_section()
        table.add_row("all", "", *(str(part[name]) for name in COUNTS), _coloured(part["state"]))
        console.print(table)
        console.print(f"{title}: {_coloured(part['state'])}")
        for node in part["nodes"]:
            for gap in node["missing"]:
                console.print(f"missing: node {node['node']} boot {node['boot']} batches {gap['seq_from']} to {gap['seq_to']}")
    _print_postbacks(console, books["postbacks"])


def _print_postbacks(console: Console, part: dict[str, Any]) -> None:
    table = Table(*(name.replace("_", " ") for name in POSTBACK_COUNTS), "state", title="postbacks", title_justify="left")
    counts = ("cannot tell" if part[name] is None else str(part[name]) for name in POSTBACK_COUNTS)
    table.add_row(*counts, _coloured(part["state"]))
    console.print(table)
    console.print(f"postbacks: {_coloured(part['state'])}")
    for problem in part["problems"]:
        rest = f" and {problem['count'] - len(problem['ids'])} more" if problem["count"] > len(problem["ids"]) else ""
        console.print(f"{problem['name']}: {problem['count']}: {', '.join(problem['ids'])}{rest}")


def _print_checks(checks: list[Check]) -> None:
    table = Table("check", "result", "found", "what to change")
    for check in checks:
        table.add_row(check.name, _coloured(check.result), check.found, check.advice)
    Console().print(table)


def _coloured(word: str) -> str:
    return f"[{STYLES.get(word, 'magenta')}]{word}[/]"
