"""`turnout explain URL`: which rule resolves a URL, step by step, and where the visitor would land. Records nothing."""

import sys
import time

import orjson

from tracker.domain.explanation import as_dict, explanation
from tracker.route_table import route_table
from tracker.settings import Settings


def explain(settings: Settings, url: str, as_json: bool, platform: str | None = None, source: str | None = None) -> int:
    """Print how `url` is resolved on this host. Exit code 0; a URL that leads nowhere is an answer, not an error."""
    table = route_table(settings)
    table.refresh()
    try:
        found = explanation(table, url, time.time_ns() // 1_000_000, platform=platform, source=source)
    finally:
        table.close()
    numbered = "\n".join(f"{number}. {step}" for number, step in enumerate(found.steps, 1))
    sys.stdout.write((orjson.dumps(as_dict(found)).decode() if as_json else numbered) + "\n")
    return 0
