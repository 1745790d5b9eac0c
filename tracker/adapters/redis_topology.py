"""Which server is the master for a key: the only one, the one that sentinels name, or the owner of the key's slot in a cluster.

Asked anew at each connect and never kept longer: after a failover the old answer is wrong.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import RedisError, ResponseError

from tracker.adapters.transports import connection_errors
from tracker.errors import StreamUnavailable
from tracker.redis_address import HostPort, RedisAddress

CONNECT_TIMEOUT_S = 1.0
ASK_TIMEOUT_S = 1.0  # for a sentinel or a cluster's node to tell where things are; the next one is asked then
SLOTS = 16384


@dataclass(frozen=True, slots=True)
class Server:
    """One server; `name` is empty for the only one, else host:port."""

    name: str
    url: str = field(repr=False)  # may hold a password


@dataclass(frozen=True, slots=True)
class Topology:
    """Masters with the slots they own, and all servers, replicas too."""

    masters: tuple[tuple[range, Server], ...]
    servers: tuple[Server, ...]

    def master_of(self, key: str) -> Server:
        """Whom to ask for `key`. StreamUnavailable when nobody owns its slot now."""
        slot = key_slot(key.encode())
        for slots, server in self.masters:
            if slot in slots:
                return server
        raise StreamUnavailable(f"redis: no server of the cluster owns slot {slot} now")


class Line:
    """One connection to one server, made at its first use. Raw RESP2 answers, bounded waits, nothing is sent twice.

    Below the pools of redis-py, for these connect again to the same address without a word, and that may be a master no more.
    """

    def __init__(self, url: str, answer_timeout_s: float) -> None:
        pool = ConnectionPool.from_url(
            url,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=answer_timeout_s,
            driver_info=None,  # CLIENT SETINFO costs a round trip, and a right that nobody else needs
        )
        self._connection = pool.make_connection()  # type: ignore[no-untyped-call] # redis-py does not say
        self._is_asking = False  # still, when whoever asked was cancelled: the answer to come is not for the next one

    async def ask(self, *commands: tuple[Any, ...]) -> list[Any]:
        """An answer to each command, or in its place the server's error; one round trip. After any exception it is of no more use."""
        self._is_asking = True
        with connection_errors():
            await self._connection.connect()
            await self._connection.send_packed_command(self._connection.pack_commands(commands))
            answers = [await self._answer() for _ in commands]
        self._is_asking = False
        return answers

    async def _answer(self) -> Any:
        try:
            return await self._connection.read_response()
        except ResponseError as exc:
            return exc

    async def is_closed(self) -> bool:
        """Whether it is of no more use: the server has closed it or spoken unasked, or an answer was not waited for."""
        if self._is_asking:
            return True
        try:
            with connection_errors():
                return bool(self._connection.is_connected and await self._connection.can_read())
        except (RedisError, OSError):
            return True

    async def close(self) -> None:
        """Close it, whatever state it is in. Never fails, and takes no longer than a connect may."""
        with contextlib.suppress(RedisError, OSError, TimeoutError), connection_errors():
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._connection.disconnect()


class Finder:
    """Finds the topology. Begins with another host each time, so that one that is dead or behind does not hold up the next try."""

    def __init__(self, address: RedisAddress) -> None:
        self._address, self._hosts = address, deque(address.hosts)

    async def find(self) -> Topology:
        """The topology now. StreamUnavailable when nobody can tell it."""
        if self._address.form == "server":
            only = Server("", self._address.url)
            return Topology(((range(SLOTS), only),), (only,))
        return await self._first_answer(self._from_sentinel if self._address.form == "sentinel" else self._from_node)

    async def _first_answer(self, ask: Callable[[HostPort], Awaitable[Topology]]) -> Topology:
        reasons = list[str]()
        for _ in range(len(self._hosts)):
            host = self._hosts[0]
            self._hosts.rotate(-1)
            try:
                return await ask(host)
            except (RedisError, OSError, TimeoutError, StreamUnavailable) as exc:
                reasons.append(f"{host[0]}:{host[1]}: {str(exc) or type(exc).__name__}")
        raise StreamUnavailable(f"redis: {'; '.join(reasons)}")

    async def _from_sentinel(self, host: HostPort) -> Topology:
        name = self._address.master
        master, replicas = await _ask(
            self._address.sentinel_url(*host), ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name), ("SENTINEL", "REPLICAS", name)
        )
        if isinstance(master, Exception) or master is None:
            raise master or StreamUnavailable(f"the sentinel knows no master {name!r}")
        first = self._server(master[0].decode(), int(master[1]))
        (role,) = await _ask(first.url, ("ROLE",))
        if isinstance(role, Exception):
            raise role
        if role[0] != b"master":  # a sentinel that is behind, or a failover that is not done
            raise StreamUnavailable(f"{first.name} is no master now")
        told = [dict(zip(replica[::2], replica[1::2], strict=True)) for replica in ([] if isinstance(replicas, Exception) else replicas)]
        others = [self._server(replica[b"ip"].decode(), int(replica[b"port"])) for replica in told]
        return Topology(((range(SLOTS), first),), (first, *others))

    async def _from_node(self, host: HostPort) -> Topology:
        (rows,) = await _ask(self._address.server_url(*host), ("CLUSTER", "SLOTS"))
        if isinstance(rows, Exception):
            raise rows
        if not rows:
            raise StreamUnavailable("no slot of the cluster has an owner")
        nodes = [[self._node(node, host[0]) for node in row[2:]] for row in rows]
        masters = tuple((range(row[0], row[1] + 1), servers[0]) for row, servers in zip(rows, nodes, strict=True))
        return Topology(masters, tuple(dict.fromkeys(server for servers in nodes for server in servers)))

    def _node(self, node: Any, asked: str) -> Server:
        named = (node[0] or b"").decode()
        return self._server(asked if named in ("", "?") else named, int(node[1]))  # one that does not know its own name

    def _server(self, host: str, port: int) -> Server:
        return Server(f"{host}:{port}", self._address.server_url(host, port))


async def _ask(url: str, *commands: tuple[str, ...]) -> list[Any]:
    """What a server answers that is asked nothing else."""
    line = Line(url, ASK_TIMEOUT_S)
    try:
        return await line.ask(*commands)
    finally:
        await line.close()
