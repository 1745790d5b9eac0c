"""What holds for all tests."""

import os

from hypothesis import settings

# A busy machine is no failure. CI looks at the same examples each time; people's machines look for new ones.
settings.register_profile("people", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "people")
