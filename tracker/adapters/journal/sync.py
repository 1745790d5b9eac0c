"""What a power cut must not take."""

import os
from pathlib import Path


def sync_directory(directory: Path) -> None:
    """Names made, changed or removed in the directory are on disk. OSError when the disk does not let us. Blocks."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
