"""What `turnout coverage` prints: a summary and tables for people, JSON for programs."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tracker.cli import show

NONE = "(none)"
WORDS = {
    "robot": "by robots",
    "method": "of other methods",
    "asset": "for files of pages",
    "other_host": "for other hosts",
    "unreadable": "unreadable",
    "too_long": "too long",
}
MISSING = {"anchor": "ids behind #, in no log", "platform": "platform of the host"}
SHARES = {"clicks": "clicks", "resolved": "resolve", "resolved_percent": "%"}
UNRESOLVED = {
    "clicks": "clicks", "refused": "refused before", "missing": "missing", "host": "host", "shape": "shape", "example": "example",
}  # fmt: skip


def write(found: Mapping[str, Any], notes: Mapping[str, Any], *, top: int, as_json: bool) -> None:
    """Print the counts `found` (see `Coverage.as_dict`): with `notes` as JSON, or the first `top` rows of each table."""
    if as_json:
        show.as_json({**found, **notes})
        return
    for line in _summary(found):
        sys.stdout.write(line + "\n")
    _table("by platform", found["by_platform"], top, {"platform": "platform"} | SHARES)
    _table("by partner", found["by_partner"], top, {"partner": "partner", "old_partner_id": "old id", "platform": "platform"} | SHARES)
    _table("by shape", found["by_shape"], top, {"platform": "platform", "shape": "shape"} | SHARES)
    unresolved = [{**row, "missing": MISSING.get(row["missing"], row["missing"])} for row in found["unresolved"]]
    _table("what does not resolve", unresolved, top, UNRESOLVED)


def _summary(found: Mapping[str, Any]) -> Iterator[str]:
    """Lines that say the whole: what resolves, where to, and what did not count."""
    clicks, urls = found["clicks"], found["distinct_urls"]
    about = "about " if urls["is_estimate"] else ""
    yield (
        f"{clicks['seen']:,} clicks, {clicks['resolved']:,} resolve: {clicks['resolved_percent']:.2f} %; "
        f"{about}{urls['seen']:,} distinct URLs, {urls['resolved']:,} resolve: {urls['resolved_percent']:.2f} %"
    )
    states = [f"{count:,} {outcome.replace('_', ' ')}" for outcome, count in found["outcomes"].items() if outcome != "ok"]
    if states:
        yield f"of those that resolve, to a fallback today: {', '.join(states)}"
    refused = sum(row["refused"] for row in found["unresolved"])
    if refused:
        yield f"of those that do not, {refused:,} the old host refused too (4xx, 5xx)"
    apart = [f"{count:,} {kind}{'s' if count > 1 else ''}" for kind, count in found["not_clicks"].items() if count]
    if apart:
        yield f"not clicks: {', '.join(apart)}"
    left_out = [f"{count:,} {WORDS[reason]}" for reason, count in found["left_out"].items() if count]
    if left_out:
        yield f"left out: {', '.join(left_out)}"


def _table(title: str, rows: Sequence[Mapping[str, Any]], top: int, columns: Mapping[str, str]) -> None:
    """A heading and the first `top` rows, numbers to the right; nothing when there are no rows."""
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    names = [name for name in columns if any(row[name] != "" for row in rows)]
    for name in names:
        shown.add_column(columns[name], justify="left" if isinstance(rows[0][name], str) else "right", overflow="fold")
    for row in rows[:top]:
        shown.add_row(*(_cell(row[name]) or (NONE if name == names[0] else "") for name in names))
    width = None if sys.stdout.isatty() else 10_000  # a file is not folded
    sys.stdout.write(f"\n{title}\n")
    sys.stdout.flush()
    Console(soft_wrap=width is not None, width=width, markup=False, highlight=False, emoji=False).print(shown)
    if len(rows) > top:
        sys.stdout.write(f"… and {len(rows) - top:,} more; --top N, or --json\n")


def _cell(value: Any) -> str:
    """What logs hold comes from anybody: what would steer a terminal is not printed."""
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, int):
        return f"{value:,}"
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in value)
