"""The disk of the journals: a small file system of its own, so that it can be filled or frozen without harm to anybody else."""

import asyncio
import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

from loadtests.chaos.processes import HERE, Workplace

SIZE_MB = 384
SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2  # linux/fs.h: FS_IOC_SHUTDOWN = _IOR('X', 125, __u32); EXT4_GOING_FLAGS_NOLOGFLUSH
NEEDS_ROOT = "needs root: the journals must lie on a small file system of their own"


class Disk:
    """`kind`: `ext4` (loop device: can be filled and frozen), `tmpfs` (can be filled), or empty (neither), with `reason`."""

    def __init__(self, place: Workplace, path: Path) -> None:
        self._place, self.path = place, path
        self.kind, self.reason = "", NEEDS_ROOT
        self._is_cut = False

    def mount(self) -> None:
        """Mount the best there is at the path, else leave the directory as it is."""
        self.path.mkdir(parents=True, exist_ok=True)
        if os.getuid() != 0:
            return
        with self._image.open("wb") as file:
            file.truncate(SIZE_MB * 1024**2)
        if shutil.which("mkfs.ext4") and shutil.which("fsfreeze") and self._try(
            ["mkfs.ext4", "-q", "-F", "-m", "0", str(self._image)], self._mount_command
        ):  # fmt: skip
            self.kind, self.reason = "ext4", ""
        elif self._try(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(self.path)]):
            self.kind, self.reason = "tmpfs", "no loop device or mkfs.ext4 here; tmpfs cannot be frozen"
        else:
            self.reason = "this root may not mount"
        if self.kind:
            self._place.mounted(self.path)

    @property
    def _image(self) -> Path:
        return self._place.root / "journal.img"

    @property
    def _mount_command(self) -> list[str]:
        return ["mount", "-o", "loop", str(self._image), str(self.path)]

    def _try(self, *commands: list[str]) -> bool:
        return all(subprocess.run(command, capture_output=True, check=False).returncode == 0 for command in commands)

    @property
    def filler(self) -> Path:
        """The file that takes all space."""
        return self.path / "filler"

    def fill(self) -> int:
        """Take all space there is; how many bytes that was. OSError when there is still room."""
        with self.filler.open("ab", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        position = file.seek(0, os.SEEK_END)
                        os.posix_fallocate(file.fileno(), position, size)
        if self.free_bytes() >= 4096:
            raise OSError(f"{self.path} did not become full")
        return self.filler.stat().st_size

    def top_up(self) -> None:
        """Take again what was set free since."""
        with contextlib.suppress(OSError):
            self.fill()

    def free_bytes(self) -> int:
        """What files can have; ext4 holds some blocks back, for itself."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def empty(self) -> None:
        """Give the space back."""
        self.filler.unlink(missing_ok=True)

    def cut_power(self) -> None:
        """The file system ends at once, as in a power cut: what no fsync asked for is gone. Nobody can write until `mount_again`."""
        directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(directory, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
            self._is_cut = True
        finally:
            os.close(directory)

    def mount_again(self) -> None:
        """What a machine does after a cut: the file system's own journal is replayed. OSError when somebody still holds it."""
        if not self._is_cut:
            return
        self._is_cut = False
        if not self._try(["umount", str(self.path)], self._mount_command):
            raise OSError(f"{self.path} could not be mounted again")

    async def freeze(self, seconds: float) -> "Freeze":
        """Freeze for at most 5 s; thaws by itself."""
        command = [sys.executable, "-SE", str(HERE / "freezer.py"), str(self.path), str(seconds)]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL, start_new_session=True, cwd="/"
        )
        assert process.stdout is not None
        return Freeze(process, await process.stdout.readline() == b"frozen\n")


class Freeze:
    """A freeze that is going on."""

    def __init__(self, process: asyncio.subprocess.Process, is_frozen: bool) -> None:
        self._process, self.is_frozen = process, is_frozen

    async def over(self) -> None:
        """Wait until the disk is thawed."""
        await self._process.wait()
