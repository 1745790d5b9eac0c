"""The database schema: bring it up to date, and tell where it stands. Used by the CLI, `turnout up` and the tests."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from tracker.adapters import partitions

CONNECT_TIMEOUT_S = 10.0


def _config(dsn: str) -> Config:
    import migrations

    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    config.attributes["dsn"] = dsn
    return config


def upgrade(dsn: str) -> None:
    """Apply all missing revisions and make the days of `clicks` around today, so that the first click finds its partition.

    Safe to run twice and from two places at once. Must not run inside an event loop.
    """
    command.upgrade(_config(dsn), "head")
    asyncio.run(_make_days(dsn))


async def _make_days(dsn: str) -> None:
    connection = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S)
    try:
        await partitions.ensure(connection, datetime.now(UTC).date())
    finally:
        await connection.close()


def newest() -> str:
    """The revision this code expects."""
    head = ScriptDirectory.from_config(_config("")).get_current_head()
    if head is None:
        raise RuntimeError("the package carries no schema revisions")
    return head
