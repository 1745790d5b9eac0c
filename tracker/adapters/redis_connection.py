"""How everything of ours talks to Redis or Valkey, in any of its forms: a connection a server, no silent retries, raw RESP2 answers,
one error for every outage."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redis.exceptions import RedisError, ResponseError

from tracker.adapters.redis_topology import Finder, Line, Server, Topology
from tracker.errors import StreamUnavailable
from tracker.redis_address import parse

ANSWER_TIMEOUT_S = 5.0  # above the longest BLOCK; a server that is silent for longer is as good as gone
# Refusals that mean "not now": the same command may be sent again later. MOVED and ASK come from a cluster that is being changed.
REFUSALS = (
    "LOADING", "READONLY", "MISCONF", "OOM", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", "BUSY ", "MASTERDOWN", "NOREPLICAS", "UNBLOCKED",
    "NOAUTH", "WRONGPASS", "NOPERM", "ACL failure in script", "The user executing the script can't",  # so Redis 7.0
)  # fmt: skip
# Where the key stands in the commands that we use, if not first; and those that have none.
KEY_AT = {"XGROUP": 2, "XINFO": 2, "EVAL": 3, "EVALSHA": 3}
KEYLESS = frozenset({"PING", "INFO", "TIME", "CONFIG", "SCRIPT"})


@contextmanager
def outages(what: str) -> Iterator[None]:
    """Raise StreamUnavailable for whatever means that the server cannot be used now. A syntax error stays what it is: a bug."""
    try:
        yield
    except ResponseError as exc:
        if not str(exc).startswith(REFUSALS) and not isinstance(exc, _NAMED_REFUSALS):
            raise
        raise StreamUnavailable(f"redis: {what}: {exc}") from exc
    except (RedisError, OSError, TimeoutError) as exc:
        raise StreamUnavailable(f"redis: {what}: {type(exc).__name__} {exc}") from exc


def _named_refusals() -> tuple[type[Exception], ...]:
    from redis import exceptions

    names = (
        "ReadOnlyError",
        "OutOfMemoryError",
        "ClusterDownError",
        "TryAgainError",
        "MovedError",
        "AskError",
        "NoPermissionError",
        "MasterDownError",
    )
    return tuple(getattr(exceptions, name) for name in names if hasattr(exceptions, name))


_NAMED_REFUSALS = _named_refusals()


class RedisConnection:
    """Connections for one task: one to each server that it needs. After StreamUnavailable call `drop`; the next command asks anew where
    the keys are, and connects anew.

    In a cluster a command goes to the master of its key, and must have one key only.
    """

    def __init__(self, url: str, *, answer_timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self._address = parse(url)
        self._answer_timeout_s = answer_timeout_s
        self._finder = Finder(self._address)
        self._topology: Topology | None = None
        self._lines: dict[Server, Line] = {}
        self._one_at_a_time = asyncio.Lock()

    async def command(self, *arguments: Any, near: str = "", what: str = "") -> Any:
        """The raw answer to one command: bytes, ints, lists. StreamUnavailable on an outage, when it may have taken effect or not.

        `near`: the key whose master is meant, for commands that have none themselves (INFO, TIME …).
        """
        with outages(what or str(arguments[0])):
            async with self._one_at_a_time:
                topology = await self._current()
                return _good(await self._line_to(self._master(topology, arguments, near)).ask(arguments))[0]

    async def each(self, commands: Sequence[tuple[Any, ...]], what: str = "") -> list[Any]:
        """The raw answers to commands of one key each, in their order; all that go to one server take one round trip.

        StreamUnavailable on an outage, when any of them may have taken effect or not.
        """
        answers: list[Any] = [None] * len(commands)
        with outages(what or str(commands[0][0] if commands else "")):
            async with self._one_at_a_time:
                topology, by_server = await self._current(), dict[Server, list[int]]()
                for number, command in enumerate(commands):
                    by_server.setdefault(self._master(topology, command), []).append(number)
                for server, numbers in by_server.items():
                    told = await self._line_to(server).ask(*(commands[number] for number in numbers))
                    for number, answer in zip(numbers, _good(told), strict=True):
                        answers[number] = answer
        return answers

    async def _current(self) -> Topology:
        if any([await line.is_closed() for line in self._lines.values()]):
            await self.drop()  # nothing is under way: no reason to fail, but one to ask anew who is the master
        if self._topology is None:
            self._topology = await self._finder.find()
        return self._topology

    def _master(self, topology: Topology, arguments: tuple[Any, ...], near: str = "") -> Server:
        return topology.master_of(near or _key_of(arguments)) if self._address.form == "cluster" else topology.servers[0]

    def _line_to(self, server: Server) -> Line:
        if server not in self._lines:
            self._lines[server] = Line(server.url, self._answer_timeout_s)
        return self._lines[server]

    async def servers(self) -> tuple[Server, ...]:
        """All servers that are known now, replicas too. StreamUnavailable when nobody can tell them."""
        with outages("find the servers"):
            return (await self._finder.find()).servers

    async def drop(self) -> None:
        """Close the connections, whatever state they are in, and forget where the keys are. Never fails."""
        lines, self._lines, self._topology = self._lines, {}, None
        for line in lines.values():
            await line.close()


def _good(answers: list[Any]) -> list[Any]:
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


def _key_of(arguments: tuple[Any, ...]) -> str:
    name = arguments[0]
    if name in KEYLESS:
        raise ValueError(f"{name} has no key: say near which one")
    return str(arguments[arguments.index("STREAMS") + 1 if name == "XREADGROUP" else KEY_AT.get(name, 1)])
