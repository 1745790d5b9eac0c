"""What holds for all tests."""

import os
import tempfile

from hypothesis import settings

# A busy machine is no failure. CI looks at the same examples each time; people's machines look for new ones.
settings.register_profile("people", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "people")

# Counter pages of processes that tests kill wait in shared memory for an heir that never comes: they go with the run.
_shared_memory = tempfile.TemporaryDirectory(prefix="turnout-test-", dir="/dev/shm")
os.environ["TURNOUT_INTERNAL_SHARED_MEMORY"] = _shared_memory.name


def pytest_sessionfinish() -> None:
    _shared_memory.cleanup()
