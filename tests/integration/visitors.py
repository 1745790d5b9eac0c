"""A browser that carries the tracker's cookie, and a tracker that may sign it."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from tracker.adapters.lmdb_route_store import Position, RouteStore
from tracker.data_dir import DataDir
from tracker.domain.routes import CampaignRoute, Installation

SECRET = "5e" * 32
SCRIPT = Path(__file__).parents[2] / "tracker" / "api" / "turnout.js"
PAGE = Path(__file__).with_name("shop_page.js")
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="turnout.js is run in node, which is not on this machine")


def publish_installation(data_dir: Path, secret: str = SECRET, campaigns: Sequence[CampaignRoute] = ()) -> None:
    """What the route publisher writes of an installation; no tokens, so that PostgreSQL is asked for these."""
    path = DataDir.at(str(data_dir)).routes
    path.parent.mkdir(parents=True, exist_ok=True)
    store = RouteStore(path)
    store.apply([Installation(visitor_secret=secret), *campaigns], [], Position("tests", 1))
    store.close()


def browse(*pages: dict[str, Any]) -> list[dict[str, Any]]:
    """What the script does on pages that one browser opens one after the other."""
    assert NODE is not None
    asked = json.dumps({"script": SCRIPT.read_text(), "pages": pages})
    done = subprocess.run([NODE, str(PAGE)], input=asked, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def cookie_of(answer: httpx.Response) -> tuple[str, dict[str, str]]:
    """The value of the cookie that an answer sets, and its attributes."""
    first, *attributes = answer.headers["set-cookie"].split("; ")
    name, _, value = first.partition("=")
    assert name == "turnout_visitor"
    return value, {key: text for key, _, text in (attribute.partition("=") for attribute in attributes)}
