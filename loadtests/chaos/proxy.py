"""A TCP proxy with faults, as a process of its own: `python -m loadtests.chaos.proxy NAME=LISTEN_PORT:TARGET_PORT …`.

A JSON line on stdin sets a mode, a JSON line on stdout answers with the counts since the last one:
{"name": "redis", "mode": "delay", "seconds": 0.5, "share": 1.0}  →  {"open": 3, "held": 12, "cut": 0}

pass        bytes go through
delay       each piece waits `seconds`
blackhole   nothing goes through; new connections hang; what was held goes on when the mode ends
reset       all connections are reset, new ones at once
half_close  open connections see our end closed, what they send disappears; new ones pass
truncate    of the next reply on each connection half arrives, then it is reset

`share`: the fraction of connections that are touched, new ones included.
"""

import asyncio
import contextlib
import json
import random
import socket
import struct
import sys
from dataclasses import dataclass, field
from typing import Any

PIECE = 65536
LINGER_0 = struct.pack("ii", 1, 0)


@dataclass(eq=False, slots=True)
class Link:
    """One proxied connection."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    is_touched: bool = True
    is_deaf: bool = False
    is_cut: bool = False

    def reset(self) -> None:
        """RST to both ends."""
        self.is_cut = True
        for writer in filter(None, (self.client, self.server)):
            with contextlib.suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
            writer.transport.abort()


@dataclass(slots=True)
class Proxy:
    """One port."""

    port: int
    target: int
    mode: str = "pass"
    seconds: float = 0.0
    share: float = 1.0
    held: int = 0
    cut: int = 0
    links: set[Link] = field(default_factory=set)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    truncated: set[Link] = field(default_factory=set)

    async def start(self) -> None:
        """Listen."""
        await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=PIECE)

    def set(self, mode: str, seconds: float = 0.0, share: float = 1.0) -> dict[str, int]:
        """Change the mode; the counts since the last change."""
        told = {"open": len(self.links), "held": self.held, "cut": self.cut}
        self.mode, self.seconds, self.share, self.held, self.cut = mode, seconds, share, 0, 0
        self.truncated.clear()
        for link in list(self.links):
            link.is_touched = random.random() < share
            if link.is_touched:
                self._touch(link)
        self.changed.set()
        self.changed = asyncio.Event()
        return told

    def _touch(self, link: Link) -> None:
        if self.mode == "reset":
            self._cut(link)
        elif self.mode == "half_close":
            self.cut += 1
            link.is_deaf = True
            with contextlib.suppress(OSError, RuntimeError):
                link.client.write_eof()

    def _cut(self, link: Link) -> None:
        if not link.is_cut:
            self.cut += 1
        link.reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(writer, is_touched=random.random() < self.share)
        self.links.add(link)
        try:
            await self._hold(link)
            if self.mode == "reset" and link.is_touched:
                self._cut(link)
                return
            answers, link.server = await asyncio.open_connection("127.0.0.1", self.target, limit=PIECE)
            await asyncio.gather(self._pump(reader, link.server, link, is_reply=False), self._pump(answers, writer, link, is_reply=True))
        except OSError:
            link.reset()
        finally:
            self.links.discard(link)
            for end in filter(None, (link.client, link.server)):
                end.close()

    async def _hold(self, link: Link) -> None:
        while self.mode == "blackhole" and link.is_touched and not link.is_cut:
            self.held += 1
            await self.changed.wait()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: Link, *, is_reply: bool) -> None:
        try:
            while piece := await reader.read(PIECE):
                await self._hold(link)
                if self.mode == "delay" and link.is_touched:
                    self.held += 1
                    await asyncio.sleep(self.seconds)
                if link.is_deaf:
                    self.held += 1
                    continue
                if self.mode == "truncate" and is_reply and link.is_touched and link not in self.truncated:
                    await self._truncate(piece, writer, link)
                    return
                writer.write(piece)
                await writer.drain()
            with contextlib.suppress(OSError, RuntimeError):
                writer.write_eof()
        except OSError:
            link.reset()

    async def _truncate(self, piece: bytes, writer: asyncio.StreamWriter, link: Link) -> None:
        self.truncated.add(link)
        writer.write(piece[: len(piece) // 2])
        with contextlib.suppress(OSError):
            await writer.drain()
        await asyncio.sleep(0.01)  # the half must leave before the reset overtakes it
        self._cut(link)


async def main(words: list[str]) -> None:
    """Serve until stdin ends."""
    proxies = {}
    for word in words:
        name, _, ports = word.partition("=")
        listen, _, target = ports.partition(":")
        proxies[name] = Proxy(int(listen), int(target))
        await proxies[name].start()
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    _say({"ready": True})
    while line := await reader.readline():
        asked = json.loads(line)
        _say(proxies[asked.pop("name")].set(**asked))


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
