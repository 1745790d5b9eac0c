"""Log files as lines: plain, gzip or Zstandard, told by their first bytes and not by their names; streamed in constant memory."""

import stat
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

import zstandard

from tracker.errors import RejectedInput

STDIN: Final = "-"
READ_BYTES: Final = 262_144
GZIP_MAGIC: Final = b"\x1f\x8b"
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
SKIPPABLE_MAGIC: Final = b"\x2a\x4d\x18"  # of a Zstandard frame without data, behind a first byte 0x50 to 0x5f; pzstd begins with one
BOM: Final = b"\xef\xbb\xbf"
_GZIP_WINDOW: Final = 31  # zlib's word for "with a gzip header"
# A kilobyte becomes 32 MB at the very most: that bounds the memory, whatever the file holds.
_ZSTD_SLICE_BYTES: Final = 1024


class LogFile:
    """The lines of one file, or of stdin when `path` is `-`.

    `size_bytes` is the file's size, None for what has none. `read_bytes` is how much of it was read so far, compressed as it is.
    `problem` says afterwards why the lines ended too early; `""`: they are all.
    """

    def __init__(self, path: str) -> None:
        """Opens and closes the file once, if that does not use it up. RejectedInput: it cannot be read."""
        self.path = path
        self.size_bytes: int | None = None
        self.read_bytes = 0
        self.problem = ""
        if path == STDIN:
            return
        try:
            found = Path(path).stat()
            if stat.S_ISFIFO(found.st_mode) or stat.S_ISCHR(found.st_mode):
                return
            with Path(path).open("rb"):
                self.size_bytes = found.st_size
        except (OSError, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "that is no path"
            raise RejectedInput("invalid_file", f"{path} cannot be read: {reason}") from exc

    def lines(self, max_bytes: int) -> Iterator[bytes]:
        """Each line without its end; of a line longer than `max_bytes` its first `max_bytes + 1`. Never raises for what the file holds."""
        try:
            if self.path == STDIN:
                yield from lines_of(self._chunks(sys.stdin.buffer), max_bytes)
                return
            with Path(self.path).open("rb") as file:
                yield from lines_of(self._chunks(file), max_bytes)
        except OSError as exc:
            self.problem = f"{self.path}: reading failed after {self.read_bytes} bytes: {exc.strerror}; the lines before count"

    def _chunks(self, file: BinaryIO) -> Iterator[bytes]:
        """The bytes of the file, decompressed."""
        raw = self._raw(file)
        first = next(raw, b"")
        whole = _again(first, raw)
        if first.startswith(GZIP_MAGIC):
            yield from self._gunzipped(whole)
        elif first.startswith(ZSTD_MAGIC) or (first[1:4] == SKIPPABLE_MAGIC and first[0] & 0xF0 == 0x50):
            yield from self._unzstandard(whole)
        else:
            yield from whole

    def _raw(self, file: BinaryIO) -> Iterator[bytes]:
        while chunk := file.read(READ_BYTES):
            self.read_bytes += len(chunk)
            yield chunk

    def _gunzipped(self, raw: Iterable[bytes]) -> Iterator[bytes]:
        """All members one after the other; zeros between and behind them are padding."""
        member, is_inside = zlib.decompressobj(_GZIP_WINDOW), False
        for chunk in raw:
            data = chunk
            while data:
                if not is_inside:
                    data = data.lstrip(b"\0")
                    member = zlib.decompressobj(_GZIP_WINDOW)
                    is_inside = bool(data)
                try:
                    text = member.decompress(data, READ_BYTES)
                except zlib.error as exc:
                    self._damaged("gzip", str(exc))
                    return
                if text:
                    yield text
                is_inside = is_inside and not member.eof
                data = member.unused_data if member.eof else member.unconsumed_tail
        if is_inside:
            yield member.flush()
            self._truncated("gzip")

    def _unzstandard(self, raw: Iterable[bytes]) -> Iterator[bytes]:
        """All frames one after the other."""
        decompressor = zstandard.ZstdDecompressor()
        frame, is_inside = decompressor.decompressobj(), False
        for data in _slices(raw, _ZSTD_SLICE_BYTES):
            rest = data
            while rest:
                if not is_inside:
                    frame, is_inside = decompressor.decompressobj(), True
                try:
                    text = frame.decompress(rest)
                except zstandard.ZstdError as exc:
                    self._damaged("Zstandard", str(exc))
                    return
                yield from _slices((text,), READ_BYTES)
                is_inside = not frame.eof
                rest = frame.unused_data if frame.eof else b""
        if is_inside:
            self._truncated("Zstandard")

    def _damaged(self, form: str, reason: str) -> None:
        self.problem = f"{self.path}: the {form} data are damaged near byte {self.read_bytes} ({reason}); the lines before count"

    def _truncated(self, form: str) -> None:
        self.problem = f"{self.path}: the {form} data end in the middle, the file is cut off; the lines before count"


def lines_of(chunks: Iterable[bytes], max_bytes: int) -> Iterator[bytes]:
    """Lines without `\\n` or `\\r\\n`, and without the mark of UTF-8 in front; see `LogFile.lines`."""
    room = max_bytes + 1
    is_first, rest = True, bytearray()
    for chunk in chunks:
        begun, *others = chunk.split(b"\n")
        rest += begun[: room - len(rest)]
        for piece in others:
            yield _bare(bytes(rest), is_first=is_first)
            is_first, rest = False, bytearray(piece[:room])
    if rest:
        yield _bare(bytes(rest), is_first=is_first)


def _bare(line: bytes, *, is_first: bool) -> bytes:
    return (line.removeprefix(BOM) if is_first else line).removesuffix(b"\r")


def _again(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest


def _slices(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    for chunk in chunks:
        for start in range(0, len(chunk), size):
            yield chunk[start : start + size]
