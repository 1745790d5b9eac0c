"""Databases for tests: one each, emptied and given to another test where that test left no more than rows behind.

To make and drop one costs more than most tests do: it has a thousand tables and indexes, for every day has partitions.
"""

import asyncio
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg

LARGEST_BYTES = 64 * 1024**2  # one that grew beyond this is quicker made than emptied
_numbers = count(1)

# All that may differ beside rows: whatever a test altered, disabled, dropped or made.
SHAPE = """
    SELECT md5(concat_ws(' ',
        (SELECT sum(hashtextextended(concat_ws(' ', oid, relname, relkind, relpersistence, relowner, reloptions, relacl), 0))
            FROM pg_class WHERE relkind <> 't' AND relnamespace = 'public'::regnamespace),
        (SELECT sum(hashtextextended(concat_ws(' ', attrelid, attname, atttypid, attnotnull, attisdropped, attstattarget), 0))
            FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
            WHERE relkind IN ('r', 'p', 'v') AND relnamespace = 'public'::regnamespace),
        (SELECT sum(hashtextextended(concat_ws(' ', oid, conname, convalidated), 0)) FROM pg_constraint),
        (SELECT sum(hashtextextended(concat_ws(' ', oid, tgname, tgenabled), 0)) FROM pg_trigger),
        (SELECT sum(hashtextextended(concat_ws(' ', oid, prosrc), 0)) FROM pg_proc WHERE pronamespace = 'public'::regnamespace),
        (SELECT sum(hashtextextended(concat_ws(' ', indexrelid, indisvalid), 0)) FROM pg_index),
        (SELECT sum(hashtextextended(i::text, 0)) FROM pg_inherits i),
        (SELECT sum(hashtextextended(n::text, 0)) FROM pg_namespace n WHERE nspname NOT LIKE 'pg_%'),
        (SELECT sum(hashtextextended(concat_ws(' ', adrelid, adnum, pg_get_expr(adbin, adrelid)), 0)) FROM pg_attrdef),
        (SELECT count(*) FROM pg_statistic s JOIN pg_class c ON c.oid = s.starelid WHERE relnamespace = 'public'::regnamespace),
        (SELECT count(*) FROM pg_extension),
        (SELECT sum(hashtextextended(concat_ws(' ', setrole, setconfig), 0)) FROM pg_db_role_setting
            WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()))
    ))
"""
# Partitions one by one: those that never had a row are not looked into, which is quicker than to open all of them.
TABLES = """
    SELECT oid::regclass::text AS name, pg_relation_size(oid) AS bytes FROM pg_class
    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND pg_relation_size(oid) > 0
"""
SEQUENCES = "SELECT format('%I.%I', schemaname, sequencename) AS name, last_value FROM pg_sequences"
OTHERS = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()"


def database_url(dsn: str, database: str) -> str:
    """`dsn` with another database."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{database}"))


@dataclass
class Databases:
    """Copies of `template`, on the server of `dsn`. `name` starts the names of all of them."""

    dsn: str
    template: str
    name: str
    _free: list[str] = field(default_factory=list)
    _fresh: dict[str, Any] = field(default_factory=dict)

    def take(self) -> str:
        """The URL of a database with the schema and no rows, under a name that no test had before."""
        return database_url(self.dsn, asyncio.run(self._take()))

    def give_back(self, url: str) -> None:
        """No test uses the database any more, whoever is still connected to it."""
        asyncio.run(self._give_back(urlsplit(url).path.removeprefix("/")))

    def close(self) -> None:
        """Drop what is kept."""
        for name in self._free:
            asyncio.run(self._drop(name))

    async def _take(self) -> str:
        name = f"{self.name}_{next(_numbers)}"
        connection = await asyncpg.connect(self.dsn, timeout=10)
        try:
            if self._free:
                await connection.execute(f"ALTER DATABASE {self._free.pop()} RENAME TO {name}")
            else:
                await connection.execute(f"CREATE DATABASE {name} TEMPLATE {self.template} STRATEGY file_copy")
        finally:
            await connection.close()
        if not self._fresh:
            self._fresh = await self._seen(name)
        return name

    async def _give_back(self, name: str) -> None:
        if await self._is_emptied(name):
            self._free.append(name)
        else:
            await self._drop(name)

    async def _drop(self, name: str) -> None:
        connection = await asyncpg.connect(self.dsn, timeout=10)
        try:
            await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        finally:
            await connection.close()

    async def _seen(self, name: str) -> dict[str, Any]:
        connection = await asyncpg.connect(database_url(self.dsn, name), timeout=10)
        try:
            return {
                "shape": await connection.fetchval(SHAPE),
                "filled": {row["name"]: await _rows(connection, row["name"]) for row in await connection.fetch(TABLES)},
                "sequences": {row["name"]: row["last_value"] for row in await connection.fetch(SEQUENCES)},
            }
        finally:
            await connection.close()

    async def _is_emptied(self, name: str) -> bool:
        """Whether the database is as it was when it was made."""
        try:
            connection = await asyncpg.connect(database_url(self.dsn, name), timeout=10)
        except (OSError, asyncpg.PostgresError, TimeoutError):
            return False
        try:
            await connection.execute("SET lock_timeout = '2s'; SET statement_timeout = '10s'; SET session_replication_role = replica")
            await connection.fetchval(OTHERS, name)
            return await self._is_as_it_was(connection)
        except asyncpg.PostgresError:
            return False
        finally:
            await connection.close()

    async def _is_as_it_was(self, connection: asyncpg.Connection) -> bool:
        if await connection.fetchval(SHAPE) != self._fresh["shape"]:
            return False
        tables = await connection.fetch(TABLES)
        if sum(row["bytes"] for row in tables) > LARGEST_BYTES:
            return False
        for table in (row["name"] for row in tables):
            if table not in self._fresh["filled"]:
                await connection.execute(f"DELETE FROM {table}")
        for table, rows in self._fresh["filled"].items():
            if await _rows(connection, table) != rows:
                return False
        for row in await connection.fetch(SEQUENCES):
            before = self._fresh["sequences"][row["name"]]
            if row["last_value"] != before:
                await connection.execute("SELECT setval($1, $2, $3)", row["name"], before or 1, before is not None)
        return True


async def _rows(connection: asyncpg.Connection, table: str) -> str:
    return await connection.fetchval(f"SELECT md5(string_agg(t::text, ' ' ORDER BY t::text)) FROM {table} t")
