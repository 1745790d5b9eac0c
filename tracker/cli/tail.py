"""`turnout tail`: the last clicks and conversions, then each new one on a line of its own."""

import asyncio
import json
import os
import select
import signal
import sys
import unicodedata
from collections.abc import Callable
from datetime import datetime
from typing import Any, TextIO

from tracker.adapters.postgres_pool import database
from tracker.adapters.postgres_tail import CLICK, Choice, Tail, choose
from tracker.errors import StoreUnavailable
from tracker.settings import Settings

POLL_S = 0.5
RETRY_S = 1.0
URL_SHOWN = 60  # characters of the address of a click that names no link
HIDDEN = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))  # controls, marks that turn text round, halves of characters, line ends
WIDTHS = (25, 10, 16, 30, 2, 8, 12, 26)
DIM, GREEN, RED, YELLOW, RESET = "\x1b[2m", "\x1b[32m", "\x1b[31m", "\x1b[33m", "\x1b[0m"
COLOURS = {"approved": GREEN, "pending": YELLOW, "rejected": RED, "reversed": RED, "orphan": YELLOW}
Write = Callable[[dict[str, Any]], None]


def tail(settings: Settings, kinds: tuple[str, ...], slugs: dict[str, str | None], count: int, *, as_json: bool) -> int:
    """Print the last `count` events, then all new ones until SIGINT, SIGTERM or the end of the reader; 0.

    NotFound when a slug names nothing. An outage is told once on stderr and waited out.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)  # raises out of a blocked write too, which a handler of the loop would wait for
    line = json_line if as_json else _plain_line(sys.stdout)
    try:
        asyncio.run(_Follower(settings, kinds, slugs, _writer(line)).run(count))
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:  # `turnout tail | head`: what is in the buffer has no reader, also not at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def _writer(line: Callable[[dict[str, Any]], str]) -> Write:
    def write(event: dict[str, Any]) -> None:
        sys.stdout.write(line(event) + "\n")
        sys.stdout.flush()

    return write


class _Follower:
    """Reads, writes, and waits out outages."""

    def __init__(self, settings: Settings, kinds: tuple[str, ...], slugs: dict[str, str | None], write: Write) -> None:
        self._settings, self._kinds, self._slugs, self._write = settings, kinds, slugs, write
        self._choice: Choice | None = None
        self._tail: Tail | None = None
        self._is_away = False

    async def run(self, count: int) -> None:
        """Until the reader is gone: BrokenPipeError."""
        async with database(self._settings.dsn, name="tail", size=1) as opened:
            while True:
                try:
                    for event in await self._next(opened, count):
                        self._write(event)
                    self._tell_back()
                    await _pause(POLL_S)
                except StoreUnavailable as exc:
                    self._tell_away(exc)
                    await _pause(RETRY_S)

    async def _next(self, opened: Any, count: int) -> list[dict[str, Any]]:
        if self._tail is not None:
            return await self._tail.fresh()
        self._choice = self._choice or await choose(opened, self._kinds, self._slugs)
        started = Tail(opened, self._choice)
        found = await started.last(count)
        self._tail = started
        return found

    def _tell_away(self, exc: StoreUnavailable) -> None:
        if not self._is_away:
            sys.stderr.write(f"waiting: {' '.join(str(exc).split())}\n")
            self._is_away = True

    def _tell_back(self) -> None:
        if self._is_away:
            sys.stderr.write("PostgreSQL is back\n")
            self._is_away = False


async def _pause(seconds: float) -> None:
    """Wait; BrokenPipeError when nobody reads what we write, which a quiet hour would not tell otherwise."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    if any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0)):
        raise BrokenPipeError
    await asyncio.sleep(seconds)


def printable(text: str) -> str:
    """`text` without what could drive a terminal: each control or turning character becomes U+FFFD."""
    return text if text.isascii() and text.isprintable() else "".join("\ufffd" if unicodedata.category(c) in HIDDEN else c for c in text)


def json_line(event: dict[str, Any]) -> str:
    """One JSON object; everything but printable ASCII is escaped, so that its values are exact and harmless."""
    return json.dumps(event, default=_as_text, separators=(",", ":")).replace("\x7f", "\\u007f")


def _as_text(value: object) -> str:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)


def _plain_line(out: TextIO) -> Callable[[dict[str, Any]], str]:
    """How a line is made for `out`: in colour on a terminal that wants it."""
    is_coloured = out.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    return coloured_line if is_coloured else text_line


def coloured_line(event: dict[str, Any]) -> str:
    """`text_line`, coloured by what became of the event."""
    colour = (DIM if not event["counted"] else "") if event["kind"] == CLICK else COLOURS.get(event["status"], "")
    return f"{colour}{text_line(event)}{RESET}" if colour else text_line(event)


def text_line(event: dict[str, Any]) -> str:
    """One event on one line: time, kind, partner, campaign/link, country, device, outcome or status, amount+payout, id (and txid)."""
    is_click = event["kind"] == CLICK
    columns = (
        event["at"].astimezone().isoformat(" ", "seconds"),
        event["kind"],
        event["partner"],
        _place(event),
        event["country"],
        event["device"],
        _outcome(event) if is_click else event["status"],
        "" if is_click else f"{event['amount']} {event['currency']} + {event['payout']} {event['payout_currency']}",
    )
    shown = [printable(value or "-").ljust(width) for value, width in zip(columns, WIDTHS, strict=True)]
    return " ".join([*shown, event["id"], *([] if is_click else [printable(event["txid"])])])


def _place(event: dict[str, Any]) -> str:
    if event["campaign"]:
        return f"{event['campaign']}/{event['link'] or '-'}"
    return (event["host"] + event["url"])[:URL_SHOWN] if event["kind"] == CLICK else ""


def _outcome(event: dict[str, Any]) -> str:
    """`ok`, `ok/bot`, `unknown` …: where it led, and why it does not count."""
    return event["outcome"] if event["counted"] else f"{event['outcome']}/{event['verdict']}"
