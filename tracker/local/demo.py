"""`turnout up --demo`: a small programme, a month of history, and a trickle of visitors and orders.

Everything goes the way of real traffic; nothing is written past it.
"""

import asyncio
import contextlib
import http.client
import logging
import signal
import sys
import time

from tracker.errors import TransientError
from tracker.local import demo_history
from tracker.local.demo_page import page
from tracker.local.demo_programme import Programme
from tracker.local.demo_traffic import Traffic
from tracker.settings import Settings

log = logging.getLogger(__name__)

RETRY_S = 1.0


def run(settings: Settings) -> int:
    """Make the programme, print the page, send the history if it was not sent yet, then the traffic, until SIGTERM."""
    programme = Programme(settings)
    _make(programme)
    with contextlib.suppress(BrokenPipeError):  # `turnout up --demo | head -1`
        sys.stdout.write(page(settings, programme.tokens))
        sys.stdout.flush()
    if asyncio.run(_send_history(settings, programme.tokens)):
        Traffic(settings, programme.tokens).run()
    return 0


def _make(programme: Programme) -> None:
    while True:
        try:
            programme.make()
        except (TransientError, OSError, http.client.HTTPException) as exc:
            log.info("demo.waiting", extra={"error": str(exc)})
            time.sleep(RETRY_S)
        else:
            return


async def _send_history(settings: Settings, tokens: dict[str, str]) -> bool:
    """Whether it was let finish; False after SIGTERM. An unfinished history goes on at the next start."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    try:
        await demo_history.send(settings, tokens, stop)
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
    return not stop.is_set()
