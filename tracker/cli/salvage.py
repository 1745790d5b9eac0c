"""`turnout drain` and `turnout replay`: journals shipped by hand."""

import asyncio
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import Progress

from tracker.adapters.journal import salvage
from tracker.errors import EXIT_FAILED, RejectedInput
from tracker.settings import Settings, parse_duration

DRAIN_WAIT_S = 600.0


def drain(settings: Settings, directory: str, *, as_json: bool) -> int:
    """Ship what a dead node left in `directory`; 0 when PostgreSQL has all of it, 1 when some is open, in use or damaged."""
    with _Bar("shipping") as progress:
        done = asyncio.run(
            salvage.drain(Path(directory), settings.stream_url, shards=settings.stream_shards, wait_s=DRAIN_WAIT_S, progress=progress.step)
        )
    _tell(done, as_json=as_json)
    return EXIT_FAILED if done.open or done.busy or done.damaged or done.unclosed else 0


def replay(settings: Settings, since: str, *, as_json: bool) -> int:
    """Ship the kept journal of this machine again, from `since` on; harmless."""
    begin = _moment(since)
    directory = settings.directory.root
    with _Bar("replaying") as progress:
        done = asyncio.run(
            salvage.replay(directory, settings.stream_url, since=begin, shards=settings.stream_shards, progress=progress.step)
        )
    _tell(done, as_json=as_json)
    return EXIT_FAILED if done.damaged else 0


def _moment(text: str) -> float:
    """`2h`, `7d` ago, or an ISO date or time (UTC unless it says otherwise), as Unix time."""
    try:
        if re.fullmatch(r"\d+\s*(ms|s|m|h|d)", text.strip().lower()):
            return time.time() - parse_duration(text).total_seconds()
        at = datetime.fromisoformat(text.strip())
    except ValueError as exc:
        raise RejectedInput(
            "invalid_since", f"--since {text!r}: give a time such as 2026-01-31T12:00 or an age such as 2h", field="since"
        ) from exc
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


class _Bar:
    """A progress bar on a terminal, silence elsewhere."""

    def __init__(self, title: str) -> None:
        self._progress = Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True)
        self._task = self._progress.add_task(title, total=None)

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def step(self, done: int, total: int) -> None:
        self._progress.update(self._task, completed=done, total=total)


def _tell(done: salvage.Salvage, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(msgspec.json.encode(done).decode() + "\n")
        return
    console = Console()
    console.print(f"{len(done.boots)} boots, {done.batches} batches shipped, {done.open} not covered yet")
    for boot in done.unclosed:
        console.print(f"not closed in the books yet: boot {boot}")
    for path in done.busy:
        console.print(f"in use by a running process, which ships it itself: {path}")
    for path in done.damaged:
        console.print(f"damaged or unreadable; keep the volume: {path}")
