"""Named crash points: `TURNOUT_INTERNAL_CRASH_AT=click_writer.before_commit:3` kills the process with SIGKILL the third time it gets there.

For tests only; without the variable a crash point costs one comparison.
"""

import os
import signal

_POINT, _, _COUNT = os.environ.get("TURNOUT_INTERNAL_CRASH_AT", "").partition(":")
_left = [int(_COUNT or 1)]


def crash_at(point: str) -> None:
    """Die here, as `kill -9` would have it, when the environment names this point."""
    if point == _POINT:
        _left[0] -= 1
        if _left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
