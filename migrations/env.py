"""Alembic's entry point. The connection string comes from `tracker.adapters.schema`, which is the only caller."""

import asyncio
import time

import asyncpg
from alembic import context
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

UPGRADE_LOCK = 0x7475726E  # "turn": two installers at once wait for one another
LOOK_EVERY_S = 0.1


def _run(connection: Connection) -> None:
    _wait_for_others(connection)
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


def _wait_for_others(connection: Connection) -> None:
    """Wait while another upgrades, without a transaction: an index that the other makes beside its writers waits for all of those."""
    while not connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({UPGRADE_LOCK})").scalar():
        connection.commit()
        time.sleep(LOOK_EVERY_S)
    connection.commit()


async def _online() -> None:
    dsn = context.config.attributes["dsn"]
    engine = create_async_engine("postgresql+asyncpg://", poolclass=NullPool, async_creator=lambda: asyncpg.connect(dsn, timeout=10))
    async with engine.connect() as connection:
        await connection.run_sync(_run)
    await engine.dispose()


asyncio.run(_online())
