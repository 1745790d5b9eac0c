"""A number for each writer process on a machine, the same after a restart: a stable consumer name and rollup slot."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SLOTS = 1024  # of smallint's 32768; far more writers than any machine has cores


@contextmanager
def held_slot(directory: Path) -> Iterator[int]:
    """The least free slot of `directory`, held by `flock` until the end of the block or of the process, however that ends."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for slot in range(SLOTS):
        descriptor = os.open(directory / f"slot-{slot}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            continue
        try:
            yield slot
        finally:
            os.close(descriptor)
        return
    raise RuntimeError(f"all {SLOTS} writer slots of {directory} are held")
