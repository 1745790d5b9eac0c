"""PostgreSQL connections: one pool a process, one place that turns driver outages into `StoreUnavailable`.

The pool connects lazily, so a process starts, and says that it is not ready, while PostgreSQL is away.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast
from uuid import UUID

import asyncpg
import orjson

from tracker.errors import RejectedInput, StoreBusy, StoreUnavailable

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
else:
    Connection: TypeAlias = asyncpg.Connection

T = TypeVar("T")

OUTAGE = (
    OSError,  # refused, reset, no such socket
    TimeoutError,  # our own budget
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutting down, starting up, cancelled by statement_timeout
    asyncpg.InsufficientResourcesError,  # too many connections, disk full
    asyncpg.ReadOnlySQLTransactionError,  # a fail-over left us on a standby
    asyncpg.LockNotAvailableError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,  # the database is not there (yet)
    asyncpg.UndefinedTableError,  # the schema is not there (yet)
    asyncpg.UndefinedColumnError,  # the schema is older than this code
    asyncpg.InterfaceError,  # the pool or the connection is closed, or closing
    asyncpg.InternalClientError,  # the connection broke in the middle of a message
)
# What a value does that no column can hold. The driver's own DataError is an InterfaceError too, which else means an outage.
BAD_VALUE = (asyncpg.DataError, asyncpg.exceptions._base.DataError, asyncpg.ProgramLimitExceededError, OverflowError)
SCHEMA_MISSING = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError)
AGAIN = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError, asyncpg.InvalidCachedStatementError)
TRIES = 5
PAUSE_S = 0.02  # before the second try, doubled each time, with jitter: two deadlocked transactions part ways
CONNECT_TIMEOUT_S = 5.0
STATEMENT_TIMEOUT_S = 30.0
IDLE_IN_TRANSACTION_S = 60
POOL_SIZE = 10


@contextmanager
def outages() -> Iterator[None]:
    """Raise `StoreUnavailable`, with what to do, in place of any driver error that means an outage.

    A value that PostgreSQL cannot hold is `RejectedInput`: a net below the checks of each field.
    """
    try:
        yield
    except BAD_VALUE as exc:
        raise RejectedInput("invalid_value", f"a value cannot be stored: {str(exc)[:200]}") from exc
    except SCHEMA_MISSING as exc:
        raise StoreUnavailable(f"PostgreSQL lacks the schema ({exc}); run: turnout db upgrade") from exc
    except asyncpg.LockNotAvailableError as exc:
        raise StoreBusy(f"somebody else holds what was asked for ({exc}); try again") from exc
    except OUTAGE as exc:
        detail = str(exc).strip() or "no answer in time"
        raise StoreUnavailable(
            f"PostgreSQL cannot be reached or refuses to work ({detail}); check TURNOUT_DATABASE_URL and the server"
        ) from exc


def is_its_own_fault(exc: Exception) -> bool:
    """Whether `exc` is about the one thing that was to be stored: no outage, and no reason to try its whole transaction again."""
    return isinstance(exc, BAD_VALUE) or not isinstance(exc, (*OUTAGE, *AGAIN))


def plain(value: Any) -> str:
    """What orjson does not know by itself: the driver's own UUID class."""
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _dump(value: Any) -> str:
    return orjson.dumps(value, plain, orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS).decode()


async def prepare(connection: Connection) -> None:
    """Let `jsonb` be read and written as Python values."""
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=_dump, decoder=orjson.loads)


async def _committed(connection: Connection, work: Callable[[Connection], Awaitable[T]], lock_wait_s: float | None) -> T:
    transaction = connection.transaction()
    await transaction.start()
    try:
        if lock_wait_s is not None:
            await connection.execute(f"SET LOCAL lock_timeout = {int(lock_wait_s * 1000)}")
        result = await work(connection)
    except asyncio.CancelledError:
        connection.terminate()  # out of time: a rollback would wait for a server that may be frozen
        raise
    except BaseException:
        await transaction.rollback()
        raise
    await transaction.commit()
    return result


class Database:
    """A lazily connecting pool; `jsonb` is read and written as Python values.

    All methods raise `StoreUnavailable` on an outage.
    """

    def __init__(self, dsn: str, *, name: str, size: int = POOL_SIZE) -> None:
        self._dsn, self._name, self._size = dsn, name, size
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._opening = asyncio.Lock()

    async def _ready(self) -> "asyncpg.Pool[asyncpg.Record]":
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._dsn,
                    min_size=0,  # nothing is connected before it is needed
                    max_size=self._size,
                    timeout=CONNECT_TIMEOUT_S,
                    command_timeout=STATEMENT_TIMEOUT_S,
                    max_inactive_connection_lifetime=300,
                    init=prepare,
                    server_settings={
                        "application_name": f"turnout {self._name}",
                        "plan_cache_mode": "force_custom_plan",  # generic plans look at every partition of `clicks`
                        "timezone": "UTC",
                        "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_S * 1000),
                    },
                )
        return self._pool

    @asynccontextmanager
    async def connection(self, timeout_s: float = STATEMENT_TIMEOUT_S) -> AsyncIterator[Connection]:
        """A connection for at most `timeout_s`, the wait for a free one included.

        A connection whose time is up is dropped, not handed back: a frozen server would never confirm that it gave up.
        """
        with outages():
            async with asyncio.timeout(timeout_s):
                pool = await self._ready()
                connection = await pool.acquire()
                try:
                    yield connection
                except asyncio.CancelledError:
                    connection.terminate()
                    raise
                finally:
                    await pool.release(connection)

    async def transaction(
        self, work: Callable[[Connection], Awaitable[T]], *, timeout_s: float = STATEMENT_TIMEOUT_S, lock_wait_s: float | None = None
    ) -> T:
        """Run `work` in one transaction and commit.

        The whole is repeated on a deadlock or serialisation failure, so `work` must be repeatable. `timeout_s` bounds one try,
        `lock_wait_s` each wait for somebody else's lock (StoreBusy). Raises what `work` raises, after a rollback.
        """
        for attempt in range(TRIES):
            try:
                async with self.connection(timeout_s) as connection:
                    return await _committed(connection, work, lock_wait_s)
            except AGAIN as exc:
                if attempt == TRIES - 1:
                    raise StoreUnavailable(f"PostgreSQL refused the transaction {TRIES} times ({exc}); try again") from exc
                await asyncio.sleep(PAUSE_S * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
        raise AssertionError("unreachable")

    async def fetch(self, query: str, *arguments: Any) -> list[dict[str, Any]]:
        """All rows."""
        async with self.connection() as connection:
            return [dict(row) for row in await connection.fetch(query, *arguments)]

    async def fetchrow(self, query: str, *arguments: Any) -> dict[str, Any] | None:
        """The first row, or None."""
        async with self.connection() as connection:
            row = await connection.fetchrow(query, *arguments)
            return dict(row) if row else None

    async def is_ready(self, timeout_s: float = 1.0) -> bool:
        """Whether PostgreSQL answers and has a schema."""
        try:
            async with self.connection(timeout_s) as connection:
                return bool(await connection.fetchval("SELECT count(*) FROM alembic_version"))
        except StoreUnavailable:
            return False

    async def revision(self) -> str | None:
        """The schema's revision; None: there is no schema. StoreUnavailable when that cannot be told."""
        async with self.connection() as connection:
            if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
                return None
            return cast("str | None", await connection.fetchval("SELECT version_num FROM alembic_version"))

    async def close(self) -> None:
        """Close all connections; those in use get 5 seconds."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            try:
                async with asyncio.timeout(5):
                    await pool.close()
            except TimeoutError:
                pool.terminate()


@asynccontextmanager
async def database(dsn: str, *, name: str, size: int = POOL_SIZE) -> AsyncIterator[Database]:
    """A `Database` that is closed at the end of the block."""
    opened = Database(dsn, name=name, size=size)
    try:
        yield opened
    finally:
        await opened.close()
