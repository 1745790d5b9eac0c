"""Running a revision's SQL text, statement by statement (the driver prepares one statement at a time)."""

from collections.abc import Iterator

from alembic import op


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
