"""Journal segments: append-only files of frames (tracker.wire) behind a header that names their kind, node and boot.

A damaged or unfinished tail yields the clean prefix before it, never an exception and never a wrong record.
"""

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from tracker import wire
from tracker.domain.intervals import SeqSet
from tracker.errors import CorruptData

MAGIC = b"TURNOUTJ"
VERSION = 1
KINDS = ("clicks", "conversions")
_FIXED = struct.Struct("<8sHBB16s")
_CRC = struct.Struct("<I")
SUFFIX = ".seg"
_CHUNK_BYTES = wire.FRAME_MAX_BYTES + wire.FRAME.size  # one read always holds the next frame whole


@dataclass(frozen=True, slots=True)
class Header:
    """Who wrote a segment. `node` is at most 64 bytes, `boot` 16."""

    kind: str
    node: str
    boot: bytes

    def encode(self) -> bytes:
        name = self.node.encode()
        head = _FIXED.pack(MAGIC, VERSION, KINDS.index(self.kind), len(name), self.boot) + name
        return head + _CRC.pack(zlib.crc32(head))

    @classmethod
    def read(cls, data: bytes) -> tuple["Header", int]:
        """The header at the front of `data` and its length. CorruptData when it is none."""
        if len(data) < _FIXED.size:
            raise CorruptData("segment: header is cut off")
        magic, version, kind, name_length, boot = _FIXED.unpack_from(data)
        end = _FIXED.size + name_length
        if magic != MAGIC or version != VERSION or kind >= len(KINDS) or len(data) < end + _CRC.size:
            raise CorruptData("segment: not a journal segment of this version")
        if _CRC.unpack_from(data, end)[0] != zlib.crc32(data[:end]):
            raise CorruptData("segment: header checksum is wrong")
        return cls(KINDS[kind], data[_FIXED.size : end].decode(errors="replace"), boot), end + _CRC.size


def file_name(boot: bytes, number: int) -> str:
    """The boot's `number`-th segment; sorts by boot, then by number."""
    return f"{boot.hex()}-{number:010d}{SUFFIX}"


@dataclass(frozen=True, slots=True)
class Stored:
    """One batch read back: its frame is byte for byte what was written."""

    seq: int
    records: int
    accepted: int
    frame: bytes


class SegmentReader:
    """The frames of one segment file, found as far as they are written; `extend` finds what was appended since.

    Seqs mostly ascend, but a segment begun after a refusal also holds earlier batches. Holds no descriptor between calls.
    """

    def __init__(self, path: Path) -> None:
        """CorruptData when the header cannot be read, OSError when the file cannot."""
        self.path = path
        with path.open("rb") as file:
            self.header, self.good_bytes = Header.read(file.read(512))
        self._places: dict[int, tuple[int, int]] = {}
        self.records = self._seen_bytes = 0
        self.extend()

    def extend(self) -> None:
        """Look for further frames behind the last good one, if the file has grown since the last look."""
        with self.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= self._seen_bytes:
                return
            self._seen_bytes = size
            while self.good_bytes < size:
                file.seek(self.good_bytes)
                if not self._scan(file.read(_CHUNK_BYTES)):
                    return

    def _scan(self, chunk: bytes) -> bool:
        base, stop = self.good_bytes, 0
        for frame in wire.scan(chunk):
            self._places[frame.seq] = (base + frame.start, frame.stop - frame.start)
            self.records += frame.records
            stop = frame.stop
        self.good_bytes += stop
        return stop > 0

    def __len__(self) -> int:
        return len(self._places)

    def seqs(self) -> SeqSet:
        """The seqs of the good frames."""
        return SeqSet((seq, seq + 1) for seq in self._places)

    def damaged_bytes(self) -> int:
        """Bytes behind the last good frame. While the segment is being written this may be a frame in the making."""
        return max(0, self.path.stat().st_size - self.good_bytes)

    def read_run(self, seq: int, stop_seq: int, max_bytes: int) -> list[Stored]:
        """Consecutive batches from `seq` on, below `stop_seq`: none when `seq` is not here, else one and then up to `max_bytes`.

        CorruptData when the disk no longer gives what was written.
        """
        run: list[Stored] = []
        taken = 0
        with self.path.open("rb") as file:
            while seq < stop_seq and seq in self._places:
                start, length = self._places[seq]
                if run and taken + length > max_bytes:
                    break
                file.seek(start)
                run.append(self._check(seq, file.read(length)))
                taken, seq = taken + length, seq + 1
        return run

    def _check(self, seq: int, frame: bytes) -> Stored:
        found = next(wire.scan(frame), None)
        if found is None or found.seq != seq:
            raise CorruptData(f"segment {self.path.name}: batch {seq} can no longer be read")
        return Stored(seq, found.records, found.accepted, frame)


def quarantine_tail(reader: SegmentReader) -> tuple[int, bool]:
    """Copy the bytes behind the clean prefix aside (`.damaged`) and cut them off: how many there were, and whether they were more than
    a torn or empty end. Only for segments nobody writes. OSError when the disk does not let us; nothing is cut then.
    """
    if reader.damaged_bytes() == 0:
        return 0, False
    with reader.path.open("r+b") as file:
        file.seek(reader.good_bytes)
        tail = file.read()
        is_junk = bool(tail.strip(b"\0"))
        if is_junk:
            reader.path.with_suffix(".damaged").write_bytes(tail)
        file.truncate(reader.good_bytes)
    return len(tail), is_junk
