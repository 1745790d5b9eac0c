"""What holds for all tests."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine is no failure. CI looks at the same examples each time; people's machines look for new ones.
settings.register_profile("people", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "people")


@pytest.fixture(scope="session", autouse=True)
def _no_counter_page_stays_in_shared_memory():
    """Processes that tests kill leave their page for an heir, and the folder it belongs to goes with the test."""
    mine = f"turnout-{os.getuid()}-*"
    before = set(Path("/dev/shm").glob(mine))
    yield
    for page in set(Path("/dev/shm").glob(mine)) - before:
        page.unlink(missing_ok=True)
