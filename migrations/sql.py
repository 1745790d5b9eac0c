"""Running a revision's SQL text, statement by statement (the driver prepares one statement at a time)."""

import time
from collections.abc import Iterator
from typing import Final

from alembic import op
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from tracker.errors import StoreUnavailable

LOCK_WAIT_MS: Final = 200  # whoever writes queues behind a waiting ALTER TABLE, so this is what it may cost them
LOCK_TRIES: Final = 120
LOCK_PAUSE_S: Final = 0.3
LOCK_NOT_AVAILABLE: Final = "55P03"


def statements(text: str) -> Iterator[str]:
    """The statements of `text`: separated by `;` at a line's end, but not inside a `$$` body."""
    pending = ""
    for piece in text.split(";\n"):
        pending += piece
        if pending.count("$$") % 2:
            pending += ";\n"
            continue
        if pending.strip():
            yield pending.strip().removesuffix(";")
        pending = ""


def execute(text: str) -> None:
    """Run every statement of `text` in the revision's transaction."""
    connection = op.get_bind()
    for statement in statements(text):
        connection.exec_driver_sql(statement)


def execute_briefly(text: str) -> None:
    """Run every statement of `text` in a transaction of its own that waits for no lock long enough to hold up writers.

    What came before is committed, and an interrupted revision begins anew: each statement must do no harm when it is repeated, and
    be done in an instant once it has its locks. StoreUnavailable when one cannot have them for a minute.
    """
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        connection.exec_driver_sql(f"SET lock_timeout = {LOCK_WAIT_MS}")
        for statement in statements(text):
            _insist(connection, statement)
        connection.exec_driver_sql("RESET lock_timeout")


def _insist(connection: Connection, statement: str) -> None:
    for _ in range(LOCK_TRIES):
        try:
            connection.exec_driver_sql(statement)
        except DBAPIError as exc:
            if getattr(exc.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                raise
        else:
            return
        time.sleep(LOCK_PAUSE_S)
    raise StoreUnavailable(
        f"a table is in use by long transactions (see pg_stat_activity), so this could not be run: {' '.join(statement.split())[:100]}…; "
        "what is done is done; when they have ended, run again: turnout db upgrade"
    )


def execute_alongside(text: str) -> None:
    """Run every statement of `text` in a transaction of its own, however long it takes: only for what lets others read and write.

    What came before is committed; each statement must do no harm when it is repeated.
    """
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        for statement in statements(text):
            connection.exec_driver_sql(statement)


def make_index(name: str, on: str, *, unique: bool = False) -> None:
    """Make an index on a table that is written meanwhile. One that an interrupted upgrade left unfinished is made anew."""
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        unfinished = f"SELECT 1 FROM pg_index WHERE indexrelid = to_regclass('{name}') AND NOT indisvalid"
        if connection.exec_driver_sql(unfinished).scalar():
            connection.exec_driver_sql(f"DROP INDEX CONCURRENTLY {name}")
        connection.exec_driver_sql(f"CREATE {'UNIQUE ' if unique else ''}INDEX CONCURRENTLY IF NOT EXISTS {name} ON {on}")
