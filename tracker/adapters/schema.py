"""The database schema: bring it up to date, and tell where it stands. Used by the CLI, `turnout up` and the tests."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory


def _config(dsn: str) -> Config:
    import migrations

    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    config.attributes["dsn"] = dsn
    return config


def upgrade(dsn: str) -> None:
    """Apply all missing revisions; safe to run twice and from two places at once. Must not run inside an event loop."""
    command.upgrade(_config(dsn), "head")


def newest() -> str:
    """The revision this code expects."""
    head = ScriptDirectory.from_config(_config("")).get_current_head()
    if head is None:
        raise RuntimeError("the package carries no schema revisions")
    return head
