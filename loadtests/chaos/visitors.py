"""The visitors, as a process of their own: `python -m loadtests.chaos.visitors PORT LEDGER RATE SEED`.

Most keep their connection, some open a new one, some hang up before the answer; some are HEADs, robots, or follow a link that nobody
made. `sub1` of each is its number. Rates come by `console`; at the end all that is open is waited for, then `done N` is printed.
"""

import asyncio
import random
import sys
from pathlib import Path

from loadtests.chaos.console import Pace, conduct
from loadtests.chaos.http_client import Connection, Cut, Reply, request
from loadtests.chaos.ledger import KINDS, Visit, link_of

WEIGHTS = (78, 12, 4, 2, 2, 2)  # of KINDS
PATIENCE_S = 20.0
OPEN_MAX = 4000  # beyond, visitors wait outside, and their lateness counts
BROWSERS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148",
    "Mozilla/5.0 (X11; Linux x86_64; rv:131.0) Gecko/20100101 Firefox/131.0",
)
ROBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


class Visitors:
    """Sends and writes down."""

    def __init__(self, port: int, ledger: Path, seed: int) -> None:
        self._port, self._random = port, random.Random(seed)
        self._ledger = ledger.open("a", buffering=1, encoding="utf-8")
        self._free: list[Connection] = []
        self._open = asyncio.Semaphore(OPEN_MAX)

    async def run(self, pace: Pace) -> int:
        """Send until the end, and wait for all answers; how many were sent."""
        number = 0
        async with asyncio.TaskGroup() as group:
            while (due_at := await pace.next()) is not None:
                await self._open.acquire()
                group.create_task(self._visit(number, due_at))
                number += 1
        return number

    async def _visit(self, number: int, due_at: float) -> None:
        kind = self._random.choices(KINDS, WEIGHTS)[0]
        outcome, reply = await self._outcome(number, kind)
        click_id = reply.headers.get("x-click-id", "") if reply else ""
        done_at = asyncio.get_running_loop().time()
        self._ledger.write(Visit(number, outcome, click_id, reply.status if reply else 0, kind, due_at, done_at).line())
        self._open.release()

    async def _outcome(self, number: int, kind: str) -> tuple[str, Reply | None]:
        connection = None
        try:
            async with asyncio.timeout(PATIENCE_S):
                connection = await self._connection(kind)
                connection.send(self._request(number, kind))
                if kind == "reset":
                    await asyncio.sleep(self._random.choice((0, 0, 0.001, 0.003)))
                    connection.reset()
                    return "unknown", None
                reply = await connection.receive(has_body=kind != "head")
        except ConnectionRefusedError:
            return "refused", None
        except (Cut, OSError):
            return "unknown", None
        except TimeoutError:
            if connection is not None:
                connection.reset()
            return "hung", None
        if reply.headers.get("connection") == "close":
            connection.close()
        else:
            self._free.append(connection)
        return ("ok" if reply.status == 302 and reply.headers.get("x-click-id") else "bad"), reply

    async def _connection(self, kind: str) -> Connection:
        while self._free and kind not in ("new", "reset"):
            connection = self._free.pop()
            if connection.is_open:
                return connection
            connection.close()
        return await Connection.open("127.0.0.1", self._port)

    def _request(self, number: int, kind: str) -> bytes:
        slug = f"nobody-{number}" if kind == "stray" else link_of(number)
        agent = ROBOT if kind == "bot" else BROWSERS[number % len(BROWSERS)]
        method = "HEAD" if kind == "head" else "GET"
        return request(method, f"/c/{slug}?sub1={number}", keep=kind != "new", User_Agent=agent)


async def main(port: int, ledger: Path, rate: float, seed: int) -> None:
    """Send at the rate told until told to stop."""
    await conduct(rate, Visitors(port, ledger, seed).run)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))
