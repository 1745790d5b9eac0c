"""Logging: JSON lines on stderr, one object a line."""

import logging
import sys
from datetime import UTC, datetime
from typing import Any

import orjson

from tracker.settings import Settings

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}
QUIET = ("asyncio", "uvicorn.access", "alembic", "sqlalchemy")  # of these warnings only


class JsonFormatter(logging.Formatter):
    """`at`, `level`, `event`, `logger`, what `extra` gave, and `error` with the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """One line. Never raises: what has no JSON form is shown by `repr`."""
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
        }
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return orjson.dumps(line, repr, orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS).decode("utf-8", "replace")


def set_up(settings: Settings) -> None:
    """Send all logging of this process to stderr as JSON, from LOG_LEVEL up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    logging.captureWarnings(capture=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
