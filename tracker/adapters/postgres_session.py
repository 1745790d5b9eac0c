"""One PostgreSQL connection of a worker: made when needed, thrown away on the least suspicion."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg

from tracker.adapters.postgres_pool import OUTAGE, SCHEMA_MISSING, Connection
from tracker.errors import StoreUnavailable

CONNECT_TIMEOUT_S = 5.0


class PostgresSession:
    """A connection that is used by one task at a time. A frozen server costs one timeout, never a hang: `terminate`, not `close`."""

    def __init__(self, dsn: str, *, name: str, prepare: Callable[[Connection], Awaitable[None]] | None = None) -> None:
        """`prepare` is done with each new connection."""
        self._dsn, self._name, self._prepare = dsn, name, prepare
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    @asynccontextmanager
    async def use(self, timeout_s: float) -> AsyncIterator[Connection]:
        """The connection, for at most `timeout_s`. StoreUnavailable on an outage; the connection is then gone."""
        try:
            async with asyncio.timeout(timeout_s):
                yield await self._connected()
        except asyncpg.exceptions.DataError:
            raise  # the server is well, it is the row
        except OUTAGE as exc:
            self.drop()
            hint = "; run: turnout db upgrade" if isinstance(exc, SCHEMA_MISSING) else ""
            raise StoreUnavailable(f"postgres: {type(exc).__name__} {exc}{hint}") from exc
        except asyncio.CancelledError:
            self.drop()
            raise

    @asynccontextmanager
    async def transaction(self, timeout_s: float, undo: type[Exception] = asyncpg.PostgresError) -> AsyncIterator[Connection]:
        """A transaction: committed at the end of the block, rolled back on `undo` and on any error of PostgreSQL.

        StoreUnavailable may also mean that the COMMIT took effect and its answer was lost.
        """
        async with self.use(timeout_s) as connection:
            await connection.execute("BEGIN")
            try:
                yield connection
            except (asyncpg.PostgresError, OverflowError, undo):
                await connection.execute("ROLLBACK")
                raise
            await connection.execute("COMMIT")

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(
                self._dsn,
                timeout=CONNECT_TIMEOUT_S,
                server_settings={"application_name": f"turnout {self._name}", "plan_cache_mode": "force_custom_plan", "timezone": "UTC"},
            )
            if self._prepare is not None:
                await self._prepare(self._connection)
        return self._connection

    def drop(self) -> None:
        """Throw the connection away at once; the next use makes a new one."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
