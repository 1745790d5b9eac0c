"""Output of commands: JSON for programs, tables for people."""

import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson

WIDE = frozenset(("id", "settings", "rules", "source", "source_id", "created_at", "updated_at", "revision", "trace", "parameters"))


def as_json(value: Any) -> None:
    """Print `value` as one JSON document on stdout."""
    sys.stdout.write(orjson.dumps(value, str, orjson.OPT_UTC_Z | orjson.OPT_INDENT_2).decode() + "\n")


def table(rows: Sequence[Mapping[str, Any]], *, empty: str = "nothing found", keep: Collection[str] = ()) -> None:
    """Print `rows` as a table; columns that people rarely need are left out (`--json` has all), but those of `keep`."""
    from rich.console import Console
    from rich.table import Table

    if not rows:
        sys.stderr.write(empty + "\n")
        return
    columns = [
        name for name in rows[0] if (name not in WIDE or name in keep) and any(row.get(name) not in (None, "", [], {}) for row in rows)
    ]
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        shown.add_column(name, overflow="fold")
    for row in rows:
        shown.add_row(*(text(row.get(name)) for name in columns))
    Console(soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 10_000, markup=False, highlight=False).print(shown)


def record(row: Mapping[str, Any]) -> None:
    """Print one thing, a line a field."""
    width = max(map(len, row), default=0)
    for name, value in row.items():
        sys.stdout.write(f"{name.ljust(width)}  {text(value)}\n")


def text(value: Any) -> str:
    """A value as people read it."""
    if value is None:
        return ""
    if isinstance(value, Mapping) and value.get("type") == "fixed":
        return f"{value['amount']} {value['currency']}"
    if isinstance(value, Mapping) and value.get("type") == "percent":
        return f"{value['percent']}%"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return orjson.dumps(value, str).decode() if isinstance(value, dict | list) else str(value)
