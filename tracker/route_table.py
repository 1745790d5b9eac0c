"""How the settings become the reading side of the route table, with the platform profiles it reads by."""

import logging
from pathlib import Path

from tracker.adapters.lmdb_routes import RouteTable
from tracker.platforms.loader import Shelf
from tracker.settings import Settings

log = logging.getLogger(__name__)


def profiles(settings: Settings) -> Shelf:
    """The platform profiles of this installation. A broken one is a warning, the others go on."""
    shelf = Shelf(Path(settings.platforms_dir) if settings.platforms_dir else None)
    for problem in shelf.problems:
        log.warning("platforms.refused", extra={"file": problem.file, "line": problem.line, "reason": problem.reason})
    return shelf


def route_table(settings: Settings) -> RouteTable:
    """The table of this host, with the platform profiles by which it reads old URLs."""
    return RouteTable(settings.directory.routes, fallback=settings.fallback_url or None, platforms=profiles(settings))
