"""What holds for all tests."""

import os
import tempfile

import pytest
from hypothesis import settings

from tests.cluster import SHARED

# A busy machine is no failure. CI looks at the same examples each time; people's machines look for new ones.
settings.register_profile("people", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "people")

# Counter pages of processes that tests kill wait in shared memory for an heir that never comes: they go with the run.
_shared_memory = tempfile.TemporaryDirectory(prefix="turnout-test-", dir="/dev/shm")
os.environ["TURNOUT_INTERNAL_SHARED_MEMORY"] = _shared_memory.name

# What the processes of a run make once for all of them; whoever started the others removes it.
_shared = None
if SHARED not in os.environ:
    _shared = tempfile.TemporaryDirectory(prefix="turnout-test-")
    os.environ[SHARED] = _shared.name


def pytest_sessionfinish() -> None:
    _shared_memory.cleanup()
    if _shared is not None:
        _shared.cleanup()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever the order: the one test that takes minutes begins first, so that nobody waits for it in the end."""
    items.sort(key=lambda item: item.get_closest_marker("chaos") is None)
